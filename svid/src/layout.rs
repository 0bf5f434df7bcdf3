//! The names in a credential directory.
//!
//! The three PEM names are GKE's; `trust_bundles.json` and `credential-bundle.pem` are those of
//! GKE's managed workload identities; `..data` is Kubernetes' `AtomicWriter`.
use jiff::Timestamp;

/// Leaf, then intermediates; no root.
pub const CERTIFICATES: &str = "certificates.pem";
/// The private key, PKCS#8.
pub const PRIVATE_KEY: &str = "private_key.pem";
/// The roots of the workload's own trust domain.
pub const CA_CERTIFICATES: &str = "ca_certificates.pem";
/// The SPIFFE bundle map of every configured trust domain.
pub const TRUST_BUNDLES: &str = "trust_bundles.json";
/// Key, then chain, in one file: consistent for any reader.
pub const CREDENTIAL_BUNDLE: &str = "credential-bundle.pem";
/// All five, in the order in which they are written.
pub const FILES: [&str; 5] = [
    CERTIFICATES,
    PRIVATE_KEY,
    CA_CERTIFICATES,
    TRUST_BUNDLES,
    CREDENTIAL_BUNDLE,
];

/// The link that a rename swaps to the newest generation.
pub const DATA: &str = "..data";
/// The link's name before the rename.
pub const DATA_TMP: &str = "..data_tmp";

/// A file with a private key in it.
pub fn holds_key(name: &str) -> bool {
    name == PRIVATE_KEY || name == CREDENTIAL_BUNDLE
}

/// The directory name of a generation made at `now` (UTC, nanoseconds, as kubelet names them).
pub fn generation_name(now: Timestamp) -> String {
    now.strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string()
}

/// `name` is a generation's directory, as [`generation_name`] or kubelet writes them.
pub fn is_generation(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("..") else {
        return false;
    };
    let Some((stamp, suffix)) = rest.split_once('.') else {
        return false;
    };
    let parts: Vec<&str> = stamp.split('_').collect();
    parts.len() == 6
        && parts.iter().zip([4, 2, 2, 2, 2, 2]).all(|(part, length)| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit())
        })
        && !suffix.is_empty()
        && suffix.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_named_after_its_moment_and_recognised() {
        let now: Timestamp = "2026-11-21T01:23:45.123456789Z".parse().unwrap();
        assert_eq!(generation_name(now), "..2026_11_21_01_23_45.123456789");
        assert!(is_generation(&generation_name(now)));
        assert!(is_generation(&generation_name(Timestamp::UNIX_EPOCH)));
        assert!(is_generation("..2026_11_21_01_23_45.1234"));
    }

    #[test]
    fn nothing_else_is_taken_for_a_generation() {
        for name in [
            "..data",
            "..data_tmp",
            "..",
            ".",
            "2026_11_21_01_23_45.1",
            "..2026_11_21_01_23_45.",
            "..2026_11_21_01_23.1",
            "..2026_11_21_01_23_45.1x",
            "..x026_11_21_01_23_45.1",
        ] {
            assert!(!is_generation(name), "{name}");
        }
    }
}
