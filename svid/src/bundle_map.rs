//! The SPIFFE bundle map: the trust bundles of several domains as JSON.
//!
//! Source: the SPIFFE Trust Domain and Bundle standard, section 5, and what its readers in gRPC
//! demand of it: `use` is `x509-svid`, no `kid`, exactly one certificate in `x5c`, and the key's
//! own parameters beside it (RFC 7517).
use std::collections::BTreeMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use pkcs8::der::Decode as _;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use spiffe::TrustDomain;

use crate::{Certificate, CertificateError, PublicKeyKind, TrustBundle, TrustBundles};

/// The largest map that is read, in bytes.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Why a text is not a bundle map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleMapError {
    /// The text is larger than [`MAX_BYTES`].
    #[error("the bundle map has {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not JSON of the right shape.
    #[error("the bundle map is not the JSON that the SPIFFE standard asks for: {reason}")]
    Json {
        /// What is wrong, and where.
        reason: String,
        /// The line, counted from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A name is not a trust domain.
    #[error("\"{name}\" is not the name of a trust domain")]
    TrustDomain {
        /// The name.
        name: String,
    },
    /// A key breaks the standard.
    #[error("key {position} of {trust_domain} {problem}")]
    Key {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// Which key, counted from 1.
        position: usize,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// A root's key is of a family that the format has no place for here.
    #[error(
        "the root \"{subject}\" of {trust_domain} has a key that is neither RSA nor ECDSA P-256 or P-384"
    )]
    Family {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// The root.
        subject: String,
    },
}

impl From<serde_json::Error> for BundleMapError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json {
            // It quotes what stands there, which may be a key in a wrong place.
            reason: printable(&error.to_string()),
            line: error.line(),
            column: error.column(),
        }
    }
}

/// What is wrong with a key of a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyProblem {
    /// `x5c` holds no or several certificates.
    #[error("must have exactly one certificate in \"x5c\", and has {0}")]
    Count(usize),
    /// `x5c` is not base64.
    #[error("has an \"x5c\" that is not base64")]
    Base64,
    /// `x5c` is not a certificate.
    #[error("has an \"x5c\" that is not a certificate: {0}")]
    Certificate(CertificateError),
    /// `x5c` is a certificate, but of no CA.
    #[error("is a certificate that is no CA")]
    NotCa,
}

#[derive(Serialize, Deserialize)]
struct Map {
    trust_domains: Domains,
}

#[derive(Serialize)]
struct Domains(BTreeMap<String, Bundle>);

#[derive(Serialize, Deserialize)]
struct Bundle {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spiffe_sequence: Option<u64>,
    keys: Vec<Key>,
}

#[derive(Serialize, Deserialize)]
struct Key {
    #[serde(default)]
    kty: String,
    #[serde(default, rename = "use")]
    purpose: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default)]
    x5c: Vec<String>,
}

/// Writes the map. `sequence` gives each domain's `spiffe_sequence`, which must rise when, and
/// only when, its roots change.
pub fn render(
    bundles: &TrustBundles,
    sequence: impl Fn(&TrustDomain) -> u64,
) -> Result<String, BundleMapError> {
    let mut domains = BTreeMap::new();
    for bundle in bundles.iter() {
        let keys = bundle
            .roots()
            .iter()
            .map(|root| key(bundle, root))
            .collect::<Result<_, _>>()?;
        let spiffe_sequence = Some(sequence(bundle.trust_domain()));
        domains.insert(
            bundle.trust_domain().to_string(),
            Bundle {
                spiffe_sequence,
                keys,
            },
        );
    }
    let mut text = serde_json::to_string_pretty(&Map {
        trust_domains: Domains(domains),
    })?;
    text.push('\n');
    Ok(text)
}

/// Reads a map. Keys that are not for X.509-SVIDs are passed over, and those of a kind that is not known and
/// without a certificate; a
/// domain named twice is refused, as is any other key that is not exactly one CA certificate.
pub fn parse(json: &[u8]) -> Result<TrustBundles, BundleMapError> {
    Ok(parse_with_sequences(json)?.0)
}

/// Reads a map, and each domain's `spiffe_sequence` where it has one.
pub fn parse_with_sequences(
    json: &[u8],
) -> Result<(TrustBundles, BTreeMap<TrustDomain, u64>), BundleMapError> {
    if json.len() > MAX_BYTES {
        return Err(BundleMapError::TooLarge { bytes: json.len() });
    }
    let map: Map = serde_json::from_slice(json)?;
    let mut bundles = TrustBundles::default();
    let mut sequences = BTreeMap::new();
    for (name, bundle) in map.trust_domains.0 {
        let trust_domain = trust_domain(&name)?;
        let mut roots = Vec::new();
        for (index, key) in bundle.keys.iter().enumerate() {
            match root(key) {
                Ok(Some(root)) => roots.push(root),
                Ok(None) => {}
                Err(problem) => {
                    return Err(BundleMapError::Key {
                        trust_domain,
                        position: index + 1,
                        problem,
                    });
                }
            }
        }
        if let Some(sequence) = bundle.spiffe_sequence {
            sequences.insert(trust_domain.clone(), sequence);
        }
        bundles.insert(TrustBundle::new(trust_domain, roots));
    }
    Ok((bundles, sequences))
}

/// Only the standard's own spelling: another one (upper case, a whole SPIFFE ID) could name a
/// domain twice.
fn trust_domain(name: &str) -> Result<TrustDomain, BundleMapError> {
    TrustDomain::new(name)
        .ok()
        .filter(|domain| domain.as_ref() == name)
        .ok_or_else(|| BundleMapError::TrustDomain {
            name: printable(name),
        })
}

fn root(key: &Key) -> Result<Option<Certificate>, KeyProblem> {
    // As the standard wants it (SPIFFE Trust Domain and Bundle, 4.2): what is not known yet must not
    // keep a reader from the rest. Of a kind of key that is not known the certificate speaks, if there
    // is one.
    let is_of_known_kind = matches!(key.kty.as_str(), "EC" | "RSA");
    if key.purpose != "x509-svid" || (!is_of_known_kind && key.x5c.is_empty()) {
        return Ok(None);
    }
    certificate(&key.x5c).map(Some)
}

/// The one CA certificate of an `x5c`.
pub(crate) fn certificate(x5c: &[String]) -> Result<Certificate, KeyProblem> {
    let [encoded] = x5c else {
        return Err(KeyProblem::Count(x5c.len()));
    };
    let der = STANDARD
        .decode(encoded)
        .map_err(|_not_base64| KeyProblem::Base64)?;
    let root = Certificate::from_der(der).map_err(KeyProblem::Certificate)?;
    if root.is_ca() {
        Ok(root)
    } else {
        Err(KeyProblem::NotCa)
    }
}

fn key(bundle: &TrustBundle, root: &Certificate) -> Result<Key, BundleMapError> {
    let family = || BundleMapError::Family {
        trust_domain: bundle.trust_domain().clone(),
        subject: root.subject_text(),
    };
    let info = pkcs8::spki::SubjectPublicKeyInfoRef::from_der(root.public_key())
        .map_err(|_unreadable| family())?;
    let raw = info.subject_public_key.raw_bytes();
    let mut key = Key {
        kty: "EC".to_owned(),
        purpose: "x509-svid".to_owned(),
        crv: None,
        x: None,
        y: None,
        n: None,
        e: None,
        x5c: vec![STANDARD.encode(root.der())],
    };
    let curve = match root.public_key_kind() {
        PublicKeyKind::Rsa(_) => {
            let rsa = pkcs1::RsaPublicKeyRef::from_der(raw).map_err(|_unreadable| family())?;
            "RSA".clone_into(&mut key.kty);
            key.n = Some(URL_SAFE_NO_PAD.encode(rsa.modulus.as_bytes()));
            key.e = Some(URL_SAFE_NO_PAD.encode(rsa.public_exponent.as_bytes()));
            return Ok(key);
        }
        PublicKeyKind::EcP256 => "P-256",
        PublicKeyKind::EcP384 => "P-384",
        PublicKeyKind::Other => return Err(family()),
    };
    // An uncompressed point: 04, x, y.
    let Some((4, point)) = raw.split_first() else {
        return Err(family());
    };
    let (x, y) = point.split_at(point.len() / 2);
    key.crv = Some(curve.to_owned());
    key.x = Some(URL_SAFE_NO_PAD.encode(x));
    key.y = Some(URL_SAFE_NO_PAD.encode(y));
    Ok(key)
}

fn printable(name: &str) -> String {
    if name.contains("PRIVATE KEY") {
        return "(a private key, not shown)".to_owned();
    }
    name.chars()
        .take(255)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

impl<'de> Deserialize<'de> for Domains {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoDuplicates;
        impl<'de> Visitor<'de> for NoDuplicates {
            type Value = BTreeMap<String, Bundle>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of trust domains")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((name, bundle)) = map.next_entry::<String, Bundle>()? {
                    if all.contains_key(&name) {
                        let name = printable(&name);
                        return Err(A::Error::custom(format!("{name} is named twice")));
                    }
                    all.insert(name, bundle);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_map(NoDuplicates).map(Self)
    }
}

#[cfg(test)]
#[path = "bundle_map_tests.rs"]
mod tests;
