//! Names of DNS. The two kinds of Kubernetes are valid segments of a SPIFFE ID's path, too.

/// Whether `text` is an RFC 1123 label, as names of namespaces are.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Whether `text` is an RFC 1123 subdomain, as names of most Kubernetes objects are.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

/// Whether `text` is the DNS name of a host as certificates have it (RFC 1035, RFC 5280): labels of
/// 1 to 63 letters, digits and `-`, 253 in all, in lower case, and no IP address.
pub(crate) fn is_host_name(text: &str) -> bool {
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 253
        && text.split('.').all(is_label)
        && !text.rsplit('.').next().is_some_and(is_number)
}

// Kubernetes bounds a subdomain only as a whole: a part of it may be longer than a label.
fn is_part(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_labels_and_is_no_address() {
        let long = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(61),
        ]
        .join(".");
        for good in [
            "localhost",
            "db.example.com",
            "1.a",
            "xn--bcher-kva.example",
            &long,
        ] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in [
            "",
            "10.0.0.1",
            "1",
            "a.",
            ".a",
            "a..b",
            "a_b.c",
            "A.b",
            "*.a.b",
            "-a.b",
            "a b",
            "::1",
            &format!("{long}d"),
            &format!("{}.b", "a".repeat(64)),
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_label_has_1_to_63_characters_and_a_subdomain_is_bounded_only_as_a_whole() {
        for good in ["a", "0", "a-b", &"a".repeat(63)] {
            assert!(is_label(good) && is_subdomain(good), "{good}");
        }
        for bad in [
            "", "-a", "a-", "A", "a_b", "a/b", "a b", "a\n", "ä", "..", ".a", "a.",
        ] {
            assert!(!is_label(bad) && !is_subdomain(bad), "{bad:?}");
        }
        assert!(!is_label("a.b") && is_subdomain("a.b"));
        assert!(!is_label(&"a".repeat(64)) && is_subdomain(&"a".repeat(253)));
        assert!(!is_subdomain(&"a".repeat(254)));
    }
}
