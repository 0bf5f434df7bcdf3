//! Public keys that verify tokens: JSON Web Key Sets (RFC 7517) and PEM.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::PublicKeyData as _;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::encoding::{pem, single_pem};
use crate::request::{KeyKind, SubjectKey, bit_length};

/// The most keys of one set, far more than any issuer rotates through.
const MAX_KEYS: usize = 64;
/// Longest member of a key in base64: an RSA modulus of 8192 bits and some.
const MAX_MEMBER: usize = 2048;

/// A set of public keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Jwks {
    /// The keys. Those of a kind or for a use that verifies no token here are left out.
    pub keys: Vec<Jwk>,
}

/// One public key. Members that this emulator does not use are ignored, as RFC 7517 asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(
    missing_docs,
    reason = "the members of RFC 7517 and RFC 7518 by their own names"
)]
pub struct Jwk {
    pub kty: String,
    pub kid: Option<String>,
    pub alg: Option<String>,
    #[serde(rename = "use")]
    pub key_use: Option<String>,
    pub n: Option<String>,
    pub e: Option<String>,
    pub crv: Option<String>,
    pub x: Option<String>,
    pub y: Option<String>,
    /// Only to refuse it: the secret member of every kind of private key but the symmetric one.
    d: Option<Private>,
    /// Only to refuse it: the symmetric key.
    k: Option<Private>,
}

/// Stands for a secret that was read over and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Private;

impl<'de> Deserialize<'de> for Private {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The signature algorithms of tokens (RFC 7518), all asymmetric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwsAlgorithm {
    Rs256,
    Es256,
    Es384,
}

impl JwsAlgorithm {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            _ => None,
        }
    }
}

/// A key that verifies the signatures of one algorithm.
#[derive(Clone, Debug)]
pub(crate) struct VerifyingKey {
    kid: Option<String>,
    algorithm: JwsAlgorithm,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    RsaParts {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A DER SPKI, or the uncompressed point of an elliptic curve.
    Encoded(Vec<u8>),
}

impl VerifyingKey {
    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(crate) fn algorithm(&self) -> JwsAlgorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match &self.material {
            Material::RsaParts { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            Material::Encoded(bytes) => {
                let algorithm: &dyn VerificationAlgorithm = match self.algorithm {
                    JwsAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                    JwsAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
                    JwsAlgorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
                };
                algorithm.verify_sig(bytes, message, signature)
            }
        };
        outcome.is_ok()
    }

    /// From PEM: `PUBLIC KEY`, `RSA PUBLIC KEY`, or a `CERTIFICATE`, of which only the key is used.
    pub(super) fn from_pem(text: &str) -> Result<Self, String> {
        let expected = "write one PEM block: PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE";
        let (label, content) =
            single_pem(text.trim_ascii_start().as_bytes()).ok_or_else(|| expected.to_owned())?;
        let spki = match label.as_str() {
            "CERTIFICATE" => {
                let (_, certificate) = X509Certificate::from_der(&content)
                    .map_err(|_error| "the certificate cannot be parsed".to_owned())?;
                pem("PUBLIC KEY", certificate.public_key().raw)
            }
            "PUBLIC KEY" | "RSA PUBLIC KEY" => pem(&label, &content),
            label if label.contains("PRIVATE") => {
                return Err("this is a private key; write only its public part".to_owned());
            }
            _ => return Err(expected.to_owned()),
        };
        let key = SubjectKey::from_pem(spki.as_bytes()).map_err(|_error| {
            "the key is none of RSA, ECDSA on P-256 and ECDSA on P-384".to_owned()
        })?;
        let algorithm = match key.kind() {
            KeyKind::Rsa { bits } => {
                check_rsa(bits)?;
                JwsAlgorithm::Rs256
            }
            KeyKind::EcdsaP256 => JwsAlgorithm::Es256,
            KeyKind::EcdsaP384 => JwsAlgorithm::Es384,
        };
        Ok(Self {
            kid: None,
            algorithm,
            material: Material::Encoded(key.spki().subject_public_key_info()),
        })
    }
}

fn check_rsa(bits: u64) -> Result<(), String> {
    if (2048..=8192).contains(&bits) {
        Ok(())
    } else {
        Err(format!(
            "the RSA key has {bits} bits; 2048 to 8192 can be used"
        ))
    }
}

impl Jwks {
    /// The keys that can verify tokens. An error is a field within the set, and the problem.
    pub(super) fn verifying_keys(&self) -> Result<Vec<VerifyingKey>, (String, String)> {
        if self.keys.len() > MAX_KEYS {
            return Err(("keys".to_owned(), format!("more than {MAX_KEYS} keys")));
        }
        let mut keys = Vec::new();
        for (index, jwk) in self.keys.iter().enumerate() {
            let at = |problem| (format!("keys[{index}]"), problem);
            keys.extend(jwk.verifying_key().map_err(at)?);
        }
        if keys.is_empty() {
            let problem = "no key that can verify RS256, ES256 or ES384; paste the issuer's JWKS";
            return Err(("keys".to_owned(), problem.to_owned()));
        }
        Ok(keys)
    }
}

impl Jwk {
    /// None for a kind of key, an algorithm or a use that has nothing to do with the tokens here.
    fn verifying_key(&self) -> Result<Option<VerifyingKey>, String> {
        if self.d.is_some() || self.k.is_some() {
            return Err("this is a private key; write only its public part".to_owned());
        }
        if self
            .key_use
            .as_deref()
            .is_some_and(|key_use| key_use != "sig")
        {
            return Ok(None);
        }
        let (algorithm, material) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let n = member("n", self.n.as_deref())?;
                let e = member("e", self.e.as_deref())?;
                check_rsa(bit_length(&n))?;
                (JwsAlgorithm::Rs256, Material::RsaParts { n, e })
            }
            ("EC", Some("P-256")) => (JwsAlgorithm::Es256, self.point(32)?),
            ("EC", Some("P-384")) => (JwsAlgorithm::Es384, self.point(48)?),
            _ => return Ok(None),
        };
        let named = self.alg.as_deref().map(JwsAlgorithm::from_name);
        if named.is_some_and(|named| named != Some(algorithm)) {
            return Ok(None);
        }
        Ok(Some(VerifyingKey {
            kid: self.kid.clone(),
            algorithm,
            material,
        }))
    }

    /// The uncompressed point of coordinates that are `size` bytes long.
    fn point(&self, size: usize) -> Result<Material, String> {
        let mut point = vec![4];
        for (name, value) in [("x", &self.x), ("y", &self.y)] {
            let coordinate = member(name, value.as_deref())?;
            if coordinate.len() != size {
                return Err(format!("{name:?} is not {size} bytes long"));
            }
            point.extend(coordinate);
        }
        Ok(Material::Encoded(point))
    }
}

fn member(name: &str, value: Option<&str>) -> Result<Vec<u8>, String> {
    let value = value.ok_or_else(|| format!("{name:?} is missing"))?;
    if value.len() > MAX_MEMBER {
        return Err(format!("{name:?} is too long"));
    }
    URL_SAFE_NO_PAD
        .decode(value)
        .map_err(|_error| format!("{name:?} is not base64url without padding"))
}
