//! The five kinds of key that a certificate may be asked for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A key algorithm with its size: what `spec.keyAlgorithm` can say, and nothing else.
///
/// Text form (command line, JSON, records): `ecdsa-p256`, `ecdsa-p384`, `rsa-2048`, `rsa-3072`,
/// `rsa-4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// ECDSA on the curve P-256.
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// ECDSA on the curve P-384.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    /// RSA with a modulus of 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

impl KeyAlgorithm {
    /// Every algorithm, in the order of the text forms above.
    pub const ALL: [Self; 5] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// The text form, for example `rsa-4096`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// The bits of the RSA modulus (`keyAlgorithm.rsa.modulusSize`); none for ECDSA.
    pub const fn rsa_modulus_bits(self) -> Option<u16> {
        match self {
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            Self::EcdsaP256 | Self::EcdsaP384 => None,
        }
    }

    /// The curve as `keyAlgorithm.ecdsa.curve` writes it; none for RSA.
    pub const fn ecdsa_curve(self) -> Option<&'static str> {
        match self {
            Self::EcdsaP256 => Some("P256"),
            Self::EcdsaP384 => Some("P384"),
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => None,
        }
    }

    /// The algorithm with this RSA modulus, if it is one of 2048, 3072 and 4096.
    pub fn from_rsa_modulus_bits(bits: i64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|one| one.rsa_modulus_bits().map(i64::from) == Some(bits))
    }

    /// The algorithm with this curve, if it is exactly `P256` or `P384`.
    pub fn from_ecdsa_curve(curve: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|one| one.ecdsa_curve() == Some(curve))
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = UnknownKeyAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or(UnknownKeyAlgorithm)
    }
}

/// A text that names no [`KeyAlgorithm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such key algorithm; use ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072 or rsa-4096")]
pub struct UnknownKeyAlgorithm;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_form_reads_back_and_serde_writes_the_same() {
        for one in KeyAlgorithm::ALL {
            assert_eq!(one.to_string().parse(), Ok(one));
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
    }

    #[test]
    fn every_algorithm_is_either_rsa_or_ecdsa_and_found_by_its_parameter() {
        for one in KeyAlgorithm::ALL {
            let by_modulus = one
                .rsa_modulus_bits()
                .and_then(|b| KeyAlgorithm::from_rsa_modulus_bits(b.into()));
            let by_curve = one.ecdsa_curve().and_then(KeyAlgorithm::from_ecdsa_curve);
            assert_eq!(
                [by_modulus, by_curve]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>(),
                [one]
            );
        }
    }

    #[test]
    fn near_misses_are_refused_with_the_right_names() {
        for text in ["", "RSA-2048", "rsa2048", "rsa-1024", "ecdsa-p521", "P256"] {
            let error = text.parse::<KeyAlgorithm>().unwrap_err();
            assert!(error.to_string().contains("ecdsa-p256"));
        }
        assert_eq!(KeyAlgorithm::from_rsa_modulus_bits(1024), None);
        assert_eq!(KeyAlgorithm::from_ecdsa_curve("p256"), None);
    }
}
