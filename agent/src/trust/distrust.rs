//! The emergency switch: roots that are dropped at once, whoever still names them.
use std::{collections::BTreeSet, fmt, str::FromStr};

use certagent_svid::{Certificate, certificate::hex};

/// The SHA-256 of a certificate's DER, as `openssl x509 -noout -fingerprint -sha256` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is no [`Fingerprint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// It has something else than hex digits, and colons between bytes.
    #[error(
        "a SHA-256 is written in hex, with or without colons; `openssl x509 -in root.pem -noout -fingerprint -sha256` prints it"
    )]
    NotHex,
    /// It is of another length.
    #[error(
        "a SHA-256 has 64 hex digits, and here are {digits}; `openssl x509 -in root.pem -noout -fingerprint -sha256` prints it"
    )]
    Length {
        /// How many there are.
        digits: usize,
    },
}

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &Certificate) -> Self {
        Self(certificate.fingerprint())
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Vec<char> = text.trim().chars().filter(|c| *c != ':').collect();
        if digits.is_empty() || !digits.iter().all(char::is_ascii_hexdigit) {
            return Err(FingerprintError::NotHex);
        }
        let nibbles = digits.iter().filter_map(|c| c.to_digit(16));
        let nibbles: Vec<u8> = nibbles.filter_map(|n| u8::try_from(n).ok()).collect();
        let bytes: Vec<u8> = nibbles
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble))
            .collect();
        match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) if digits.len() == 64 => Ok(Self(bytes)),
            _ => Err(FingerprintError::Length {
                digits: digits.len(),
            }),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The roots that are in no bundle, wherever they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distrust(BTreeSet<Fingerprint>);

impl Distrust {
    /// The switch is used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This root is one of them.
    pub fn has(&self, root: &Certificate) -> bool {
        !self.0.is_empty() && self.0.contains(&Fingerprint::of(root))
    }

    /// The fingerprints, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Fingerprint> {
        self.0.iter()
    }
}

impl FromIterator<Fingerprint> for Distrust {
    fn from_iter<I: IntoIterator<Item = Fingerprint>>(fingerprints: I) -> Self {
        Self(fingerprints.into_iter().collect())
    }
}

/// A root for a message: its subject and what it is distrusted by.
pub(super) fn describe(root: &Certificate) -> String {
    format!(
        "\"{}\" (SHA-256 {})",
        root.subject_text(),
        Fingerprint::of(root)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_tools_print_it() {
        let plain = "00ff".repeat(16);
        let colons = plain
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
            .collect::<Vec<_>>()
            .join(":");
        for text in [
            &plain,
            &colons,
            &plain.to_uppercase(),
            &format!(" {plain}\n"),
        ] {
            let read: Fingerprint = text.parse().unwrap();
            assert_eq!(read.to_string(), plain);
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_command_that_prints_one() {
        for (text, expected) in [
            ("", "in hex"),
            ("::", "in hex"),
            ("zz", "in hex"),
            ("sha256 Fingerprint=00", "in hex"),
            ("ab", "here are 2"),
            // SHA-1.
            (&"a".repeat(40), "here are 40"),
            (&"a".repeat(63), "here are 63"),
            (&"a".repeat(65), "here are 65"),
            (&"a".repeat(66), "here are 66"),
        ] {
            let message = text.parse::<Fingerprint>().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(message.contains("openssl x509"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back(text in "[0-9a-fA-F:]{60,100}|\\PC{0,80}") {
            if let Ok(fingerprint) = text.parse::<Fingerprint>() {
                prop_assert_eq!(fingerprint.to_string().parse::<Fingerprint>(), Ok(fingerprint));
            }
        }
    }
}
