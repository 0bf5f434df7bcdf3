//! The two kinds of names in Kubernetes. Both are valid segments of a SPIFFE ID's path.

/// Whether `text` is an RFC 1123 label, as names of namespaces are.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Whether `text` is an RFC 1123 subdomain, as names of most Kubernetes objects are.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
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
