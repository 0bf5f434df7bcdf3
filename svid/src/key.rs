//! A private key: PKCS#8, zeroised when dropped, never printed, never cloned.
#![expect(
    clippy::map_err_ignore,
    reason = "what a parser says of a key may hold a part of it"
)]
use std::fmt;

use pkcs8::{
    EncodePublicKey as _, PrivateKeyInfoRef, SecretDocument,
    der::{Decode as _, Encode as _, pem::PemLabel as _},
    spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef},
};
use zeroize::Zeroizing;

use crate::{Certificate, PublicKeyKind};

/// The largest text that is read as a key, in bytes: an RSA-4096 key has 3.3 kB, and a credential
/// bundle carries a chain behind it.
pub const MAX_PEM_BYTES: usize = 64 * 1024;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A private key of one of the families that certagent makes, as PKCS#8.
///
/// The DER is zeroised on drop. The copies inside a signing library are that library's own.
pub struct PrivateKey {
    pkcs8: SecretDocument,
    public_key: Vec<u8>,
    kind: PublicKeyKind,
}

/// Why bytes are not a private key that workloads can use. Never says anything of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no key in the text.
    #[error("there is no line \"{BEGIN}\"")]
    Missing,
    /// The key has another PEM form than PKCS#8.
    #[error(
        "the key is in the form \"{label}\"{}; many TLS stacks read only PKCS#8 (\"{BEGIN}\"): convert it with \"openssl pkey -in KEY -out private_key.pem\"",
        password(label)
    )]
    NotPkcs8 {
        /// The label of the PEM block.
        label: &'static str,
    },
    /// The text is larger than [`MAX_PEM_BYTES`].
    #[error("the text has {bytes} bytes; a private key's file has at most {MAX_PEM_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The PEM or DER is broken.
    #[error("the private key does not parse as PKCS#8")]
    Broken,
    /// The key is of a family that certagent does not make.
    #[error("the private key is neither ECDSA P-256, ECDSA P-384 nor RSA")]
    Family,
}

impl PrivateKey {
    /// Takes PKCS#8 DER (`PrivateKeyInfo`, version 1 or 2). The argument is zeroised.
    pub fn from_pkcs8_der(der: &Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        SecretDocument::try_from(der.as_slice())
            .map_err(|_| KeyError::Broken)
            .and_then(Self::from_document)
    }

    /// Reads the first `PRIVATE KEY` block of a PEM text, which may hold certificates too.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(KeyError::TooLarge { bytes: pem.len() });
        }
        let text = std::str::from_utf8(pem).map_err(|_| KeyError::Broken)?;
        let Some(start) = text.find(BEGIN) else {
            return Err(match other_form(text) {
                Some(label) => KeyError::NotPkcs8 { label },
                None => KeyError::Missing,
            });
        };
        let block = text.get(start..).unwrap_or_default();
        let end = block.find(END).ok_or(KeyError::Broken)? + END.len();
        let block = block.get(..end).unwrap_or_default();
        let (label, document) = SecretDocument::from_pem(block).map_err(|_| KeyError::Broken)?;
        PrivateKeyInfoRef::validate_pem_label(label).map_err(|_| KeyError::Broken)?;
        Self::from_document(document)
    }

    fn from_document(pkcs8: SecretDocument) -> Result<Self, KeyError> {
        let public_key = public_key(pkcs8.as_bytes())?;
        let kind = crate::certificate::spki_kind(&public_key);
        Ok(Self {
            pkcs8,
            public_key,
            kind,
        })
    }

    /// The key as PKCS#8 DER.
    pub fn pkcs8_der(&self) -> &[u8] {
        self.pkcs8.as_bytes()
    }

    /// The key as PEM, beginning with exactly `-----BEGIN PRIVATE KEY-----`, LF line ends.
    pub fn to_pem(&self) -> Zeroizing<String> {
        // The label is a constant that the encoder accepts, and the length is bounded.
        self.pkcs8
            .to_pem(PrivateKeyInfoRef::PEM_LABEL, pkcs8::LineEnding::LF)
            .unwrap_or_default()
    }

    /// Its public half: DER of the `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Its family and size.
    pub fn kind(&self) -> PublicKeyKind {
        self.kind
    }

    /// The certificate is for this key.
    pub fn fits(&self, certificate: &Certificate) -> bool {
        self.public_key == certificate.public_key()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What is said of a form that has one: nobody is there to type it.
fn password(label: &str) -> &'static str {
    if label.starts_with("ENCRYPTED") {
        ", so it has a password, which openssl takes off"
    } else {
        ""
    }
}

fn other_form(text: &str) -> Option<&'static str> {
    [
        "EC PRIVATE KEY",
        "RSA PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
    ]
    .into_iter()
    .find(|label| text.contains(&format!("-----BEGIN {label}-----")))
}

/// The `SubjectPublicKeyInfo` that belongs to a PKCS#8 key, computed from the private half: what a
/// file says about its own public half is not believed.
fn public_key(pkcs8: &[u8]) -> Result<Vec<u8>, KeyError> {
    let info = PrivateKeyInfoRef::from_der(pkcs8).map_err(|_| KeyError::Broken)?;
    if info.algorithm.oid == pkcs1::ALGORITHM_OID {
        return rsa_public_key(info.private_key.as_bytes());
    }
    let curve = info.algorithm.parameters_oid().map(|oid| oid.to_string());
    let sec1 = || {
        sec1::EcPrivateKey::from_der(info.private_key.as_bytes())
            .map_err(|_broken| KeyError::Broken)
    };
    let document = match curve.as_deref() {
        Ok("1.2.840.10045.3.1.7") => p256::SecretKey::from_slice(sec1()?.private_key)
            .map_err(|_broken| KeyError::Broken)?
            .public_key()
            .to_public_key_der(),
        Ok("1.3.132.0.34") => p384::SecretKey::from_slice(sec1()?.private_key)
            .map_err(|_broken| KeyError::Broken)?
            .public_key()
            .to_public_key_der(),
        _ => return Err(KeyError::Family),
    };
    let document = document.map_err(|_broken| KeyError::Broken)?;
    // The file may also say what its public half is. The key that disagrees with itself is broken.
    match sec1()?.public_key {
        Some(said) if !document.as_bytes().ends_with(said) => Err(KeyError::Broken),
        _ => Ok(document.as_bytes().to_vec()),
    }
}

fn rsa_public_key(pkcs1: &[u8]) -> Result<Vec<u8>, KeyError> {
    let key = pkcs1::RsaPrivateKeyRef::from_der(pkcs1).map_err(|_| KeyError::Broken)?;
    let public = key.public_key().to_der().map_err(|_| KeyError::Broken)?;
    SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef {
            oid: pkcs1::ALGORITHM_OID,
            parameters: Some(pkcs8::der::asn1::AnyRef::NULL),
        },
        subject_public_key: pkcs8::der::asn1::BitStringRef::from_bytes(&public)
            .map_err(|_| KeyError::Broken)?,
    }
    .to_der()
    .map_err(|_| KeyError::Broken)
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
