//! A4: the request is one sound PKCS#10 request (RFC 2986), signed by the key that it is for.
use base64::{Engine as _, engine::general_purpose::STANDARD};
use certagent_svid::verify::Algorithms;
use pkcs8::der::{Decode as _, Tag, TagNumber, asn1::ObjectIdentifier};

use super::{
    denial::{Denial, NOT_OURS, Reason},
    der::{self, Element},
};

/// The most bytes of PEM that are read; a request for RSA-4096 has about 1,800.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";
const ATTRIBUTES: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(0),
};

/// The parts of a request. Nothing of it is checked but its form.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    /// The bytes that are signed.
    signed: &'a [u8],
    /// The subject's relative distinguished names.
    pub(super) subject: Vec<Element<'a>>,
    /// The public key, `SubjectPublicKeyInfo`.
    pub(super) public_key: Element<'a>,
    /// The attributes.
    pub(super) attributes: Vec<Element<'a>>,
    /// The `AlgorithmIdentifier` of the signature.
    signature_algorithm: Element<'a>,
    signature: &'a [u8],
}

/// The DER in the one PEM block. Stricter than the API server, which reads the first block and
/// passes over what surrounds it.
pub(super) fn decode_pem(pem: &[u8]) -> Result<Vec<u8>, Denial> {
    size(pem)?; // A4
    let text = std::str::from_utf8(pem).map_err(|_not_text| bad("is not text"))?;
    let text = text.trim_ascii();
    let inner = text
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .ok_or_else(|| {
            bad(format!(
                "has to be one PEM block, from \"{BEGIN}\" to \"{END}\", with nothing around it"
            ))
        })?;
    if inner.contains("-----") {
        return Err(bad("holds more than one PEM block; one is allowed"));
    }
    let base64: Vec<u8> = inner
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    STANDARD
        .decode(base64)
        .map_err(|_reason| bad("is a PEM block whose content is not base64"))
}

fn size(pem: &[u8]) -> Result<(), Denial> {
    if pem.len() <= MAX_REQUEST_BYTES {
        return Ok(());
    }
    Err(bad(format!(
        "has {} bytes; at most {MAX_REQUEST_BYTES} are read",
        pem.len()
    )))
}

/// Takes a request apart.
pub(super) fn parse(der: &[u8]) -> Result<Request<'_>, Denial> {
    let broken = || bad("is not a PKCS#10 certificate request in DER");
    let (request, rest) = der::first(der).ok_or_else(broken)?;
    nothing_follows(rest)?; // A4
    let [info, signature_algorithm, signature] = request.sequence().ok_or_else(broken)?;
    let [version, subject, public_key, attributes] = info.sequence().ok_or_else(broken)?;
    version_1(&version)?; // A4
    Ok(Request {
        signed: info.whole,
        subject: subject.inside(Tag::Sequence).ok_or_else(broken)?,
        public_key,
        attributes: attributes.inside(ATTRIBUTES).ok_or_else(broken)?,
        signature_algorithm,
        signature: signature.bit_string().ok_or_else(broken)?,
    })
}

fn nothing_follows(rest: &[u8]) -> Result<(), Denial> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(bad(format!(
        "holds something behind the certificate request in its PEM block ({} bytes)",
        rest.len()
    )))
}

/// RFC 2986 numbers its only version 0.
fn version_1(version: &Element<'_>) -> Result<(), Denial> {
    if version.tag == Tag::Integer && version.value == [0] {
        return Ok(());
    }
    Err(bad("is a certificate request of another version than 1"))
}

/// The signature is made with a hash that nobody can forge.
pub(super) fn signature_algorithm(request: &Request<'_>) -> Result<(), Denial> {
    let oid = object_identifier(&request.signature_algorithm)?;
    if SIGNATURES.contains(&oid) {
        return Ok(());
    }
    let name = OTHER_SIGNATURES
        .iter()
        .find(|(other, _)| *other == oid)
        .map_or_else(
            || format!("the algorithm {oid}"),
            |(_, name)| (*name).to_owned(),
        );
    Err(bad(format!(
        "is signed with {name}; allowed are ECDSA and RSA (PKCS #1 v1.5) with SHA-256, SHA-384 or \
         SHA-512"
    )))
}

fn object_identifier(algorithm: &Element<'_>) -> Result<ObjectIdentifier, Denial> {
    algorithm
        .inside(Tag::Sequence)
        .and_then(|parts| ObjectIdentifier::from_der(parts.first()?.whole).ok())
        .ok_or_else(|| bad("names no signature algorithm"))
}

/// The requester holds the private key: the request's signature verifies with its public key.
pub(super) fn signature(request: &Request<'_>, algorithms: Algorithms<'_>) -> Result<(), Denial> {
    let verified = request
        .public_key
        .sequence()
        .is_some_and(|[algorithm, key]| {
            algorithms
                .iter()
                .filter(|one| one.public_key_alg_id().as_ref() == algorithm.value)
                .filter(|one| one.signature_alg_id().as_ref() == request.signature_algorithm.value)
                .any(|one| {
                    key.bit_string().is_some_and(|key| {
                        one.verify_signature(key, request.signed, request.signature)
                            .is_ok()
                    })
                })
        });
    if verified {
        return Ok(());
    }
    Err(bad(
        "carries a signature that its own public key does not verify: it was changed on the way, \
         or whoever made it does not hold the private key",
    ))
}

/// A denial by A4: what is wrong with `spec.request`.
pub(super) fn bad(what: impl AsRef<str>) -> Denial {
    Denial::new(
        Reason::BadRequest,
        format!("spec.request {}. {NOT_OURS}", what.as_ref()),
    )
}

const SIGNATURES: [ObjectIdentifier; 6] = [
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"),
];

/// What somebody may try instead.
const OTHER_SIGNATURES: [(ObjectIdentifier, &str); 5] = [
    (
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"),
        "RSA and MD5",
    ),
    (
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
        "RSA and SHA-1",
    ),
    (
        ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
        "ECDSA and SHA-1",
    ),
    (
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"),
        "RSA-PSS",
    ),
    (ObjectIdentifier::new_unwrap("1.3.101.112"), "Ed25519"),
];
