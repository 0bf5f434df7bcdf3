//! No private key may be in anything that the program says.
use std::{fmt::Write as _, fs, path::Path};

use certagent_svid::PrivateKey;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// How PKCS#8 begins, in base64: whatever the key is, it is found by this.
const BEGINNINGS: [&str; 4] = [
    "PRIVATE KEY-----",
    "MIGHAgEAMBMGByqGSM49",
    "MIG2AgEAMBAGByqGSM49",
    "ADANBgkqhkiG9w0BAQEFAASC",
];

/// Checks a text for any key.
#[track_caller]
pub(crate) fn assert_no_key_in(text: &str) {
    for beginning in BEGINNINGS {
        assert!(
            !text.contains(beginning),
            "a private key was printed ({beginning})"
        );
    }
}

/// The keys that are in the files below a directory.
pub(crate) struct Keys(Vec<PrivateKey>);

impl Keys {
    /// Finds them, in PEM files and in JSON that has PEM in it.
    pub(crate) fn below(directory: &Path) -> Self {
        let mut keys = Vec::new();
        find(directory, &mut keys);
        assert!(!keys.is_empty(), "no key below {}", directory.display());
        Self(keys)
    }

    /// Checks that none of them is in `text`: as base64, as hex, or as a list of numbers.
    #[track_caller]
    pub(crate) fn assert_absent(&self, text: &str) {
        assert_no_key_in(text);
        let lowercase = text.to_lowercase();
        for key in &self.0 {
            let pem = key.to_pem();
            for line in pem.lines().filter(|line| !line.starts_with('-')).skip(1) {
                assert!(!text.contains(line), "a private key was printed in base64");
            }
            // Past the algorithm, which is no secret: the middle of all that is.
            let der = key.pkcs8_der();
            let secret = &der[36..52];
            let hex = certagent_svid::certificate::hex(secret);
            assert!(
                !lowercase.contains(&hex),
                "a private key was printed in hex"
            );
            let mut list = String::new();
            for byte in secret {
                write!(list, "{byte}, ").expect("a string");
            }
            assert!(
                !text.contains(&list),
                "a private key was printed as numbers"
            );
        }
    }
}

fn find(directory: &Path, keys: &mut Vec<PrivateKey>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            find(&path, keys);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let text = text.replace("\\n", "\n");
            for part in text.split(BEGIN).skip(1) {
                let body = part.split(END).next().expect("an end");
                let pem = format!("{BEGIN}{body}{END}\n");
                keys.push(PrivateKey::from_pem(pem.as_bytes()).expect("a key"));
            }
        }
    }
}
