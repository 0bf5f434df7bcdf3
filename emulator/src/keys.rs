//! The keys of CAs.

use std::fmt;
use std::sync::Arc;

use rcgen::{KeyPair, PublicKeyData, RsaKeySize, SignatureAlgorithm, SigningKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::scalars::NameOrNumber;

/// Kind of a CA's key, and with it of its signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NameOrNumber")]
pub enum CaKey {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "EC_P256_SHA256")]
    EcP256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "EC_P384_SHA384")]
    EcP384,
    /// RSA with 2048 bits, PKCS#1 v1.5 with SHA-256.
    #[serde(rename = "RSA_PKCS1_2048_SHA256")]
    Rsa2048,
    /// RSA with 3072 bits, PKCS#1 v1.5 with SHA-256.
    #[serde(rename = "RSA_PKCS1_3072_SHA256")]
    Rsa3072,
    /// RSA with 4096 bits, PKCS#1 v1.5 with SHA-256.
    #[serde(rename = "RSA_PKCS1_4096_SHA256")]
    Rsa4096,
}

impl TryFrom<NameOrNumber> for CaKey {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        // By their numbers in the API.
        let known = [
            ("SIGN_HASH_ALGORITHM_UNSPECIFIED", None),
            ("RSA_PSS_2048_SHA256", None),
            ("RSA_PSS_3072_SHA256", None),
            ("RSA_PSS_4096_SHA256", None),
            ("EC_P256_SHA256", Some(Self::EcP256)),
            ("EC_P384_SHA384", Some(Self::EcP384)),
            ("RSA_PKCS1_2048_SHA256", Some(Self::Rsa2048)),
            ("RSA_PKCS1_3072_SHA256", Some(Self::Rsa3072)),
            ("RSA_PKCS1_4096_SHA256", Some(Self::Rsa4096)),
        ];
        value.pick(&known)?.ok_or_else(|| {
            "keySpec.algorithm must be one of EC_P256_SHA256, EC_P384_SHA384 and \
             RSA_PKCS1_{2048,3072,4096}_SHA256; RSA_PSS is not supported by this emulator"
                .to_owned()
        })
    }
}

/// A CA's private key: shared by those who sign with it, wiped when the last one goes.
#[derive(Clone)]
pub(crate) struct CaKeyPair(Arc<Zeroizing<KeyPair>>);

impl CaKeyPair {
    /// A new key. RSA takes up to seconds.
    pub(crate) fn generate(kind: CaKey) -> Result<Self, rcgen::Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        let pair = match kind {
            CaKey::EcP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            CaKey::EcP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            CaKey::Rsa2048 => rsa(RsaKeySize::_2048),
            CaKey::Rsa3072 => rsa(RsaKeySize::_3072),
            CaKey::Rsa4096 => rsa(RsaKeySize::_4096),
        };
        pair.map(Self::from)
    }

    /// A key as [`pem`](Self::pem) wrote it.
    pub(crate) fn from_pem(text: &str) -> Result<Self, rcgen::Error> {
        KeyPair::from_pem(text).map(Self::from)
    }

    /// PKCS#8 in PEM.
    pub(crate) fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }
}

impl From<KeyPair> for CaKeyPair {
    fn from(pair: KeyPair) -> Self {
        Self(Arc::new(Zeroizing::new(pair)))
    }
}

impl PublicKeyData for CaKeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&**self.0)
    }
}

impl SigningKey for CaKeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl fmt::Debug for CaKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaKeyPair")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn algorithms_come_by_name_or_by_the_apis_number() {
        let read = |value| serde_json::from_value::<CaKey>(value);
        for (name, number, key) in [
            ("EC_P256_SHA256", 4, CaKey::EcP256),
            ("EC_P384_SHA384", 5, CaKey::EcP384),
            ("RSA_PKCS1_2048_SHA256", 6, CaKey::Rsa2048),
            ("RSA_PKCS1_3072_SHA256", 7, CaKey::Rsa3072),
            ("RSA_PKCS1_4096_SHA256", 8, CaKey::Rsa4096),
        ] {
            assert_eq!(read(json!(name)).unwrap(), key);
            assert_eq!(read(json!(number)).unwrap(), key);
            assert_eq!(serde_json::to_value(key).unwrap(), json!(name));
        }
        for bad in [json!(0), json!(1), json!("RSA_PSS_2048_SHA256")] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("RSA_PSS is not supported"), "{error}");
        }
        assert!(read(json!("EC_P521")).is_err());
        assert!(read(json!(9)).is_err());
    }

    #[test]
    fn a_key_never_prints_itself() {
        let key = CaKeyPair::generate(CaKey::EcP256).unwrap();
        assert_eq!(format!("{key:?}"), "CaKeyPair");
        let back = CaKeyPair::from_pem(&key.pem()).unwrap();
        assert_eq!(back.der_bytes(), key.der_bytes());
    }
}
