//! A4: the public key is of one of the five kinds that certificates are issued for.
use pkcs8::der::{
    Decode as _, Tag,
    asn1::{ObjectIdentifier, UintRef},
};

use super::{
    denial::Denial,
    der::{self, Element},
    pkcs10::bad,
};
use crate::algorithm::KeyAlgorithm;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// 65537, the only public exponent that our keys have.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// The kind of a key, given as `SubjectPublicKeyInfo`: any of the five, not only the one that the
/// configuration names now, which may change while requests are under way.
pub(super) fn algorithm(public_key: &Element<'_>) -> Result<KeyAlgorithm, Denial> {
    let broken = || bad("holds a public key that does not parse");
    let [algorithm, key] = public_key.sequence().ok_or_else(broken)?;
    let key = key.bit_string().ok_or_else(broken)?;
    let [oid, parameters] = algorithm
        .sequence()
        .ok_or_else(|| other("of another kind"))?;
    match ObjectIdentifier::from_der(oid.whole) {
        Ok(RSA) if parameters.tag == Tag::Null => rsa(key),
        Ok(EC) => ec(ObjectIdentifier::from_der(parameters.whole).ok(), key),
        _ => Err(other("of another kind")),
    }
}

fn rsa(key: &[u8]) -> Result<KeyAlgorithm, Denial> {
    let broken = || bad("holds an RSA key that does not parse");
    let [modulus, exponent] = der::only(key)
        .and_then(|key| key.sequence())
        .ok_or_else(broken)?;
    let number = |whole| UintRef::from_der(whole).ok();
    let modulus = number(modulus.whole).ok_or_else(broken)?;
    exponent_65537(number(exponent.whole).ok_or_else(broken)?.as_bytes())?; // A4
    let bits = bit_length(modulus.as_bytes());
    i64::try_from(bits)
        .ok()
        .and_then(KeyAlgorithm::from_rsa_modulus_bits)
        .ok_or_else(|| other(&format!("an RSA key of {bits} bits")))
}

fn bit_length(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |byte| byte.leading_zeros());
    (number.len() * 8).saturating_sub(unused as usize)
}

fn exponent_65537(exponent: &[u8]) -> Result<(), Denial> {
    if exponent == EXPONENT {
        return Ok(());
    }
    let shown = match exponent {
        [small] => format!("{small}"),
        _ => format!("a number of {} bits", bit_length(exponent)),
    };
    Err(bad(format!(
        "holds an RSA key whose public exponent is {shown}; it has to be 65537"
    )))
}

fn ec(curve: Option<ObjectIdentifier>, key: &[u8]) -> Result<KeyAlgorithm, Denial> {
    let (algorithm, field_bytes) = match curve {
        Some(P256) => (KeyAlgorithm::EcdsaP256, 32),
        Some(P384) => (KeyAlgorithm::EcdsaP384, 48),
        _ => return Err(other("an ECDSA key on another curve")),
    };
    uncompressed(key, field_bytes)?; // A4
    Ok(algorithm)
}

/// That the point is on the curve is said by the signature, which it verifies.
fn uncompressed(point: &[u8], field_bytes: usize) -> Result<(), Denial> {
    if point.first() == Some(&4) && point.len() == 1 + 2 * field_bytes {
        return Ok(());
    }
    Err(bad("holds an ECDSA key whose point is not uncompressed"))
}

fn other(found: &str) -> Denial {
    bad(format!(
        "is for a key that is {found}; allowed are ECDSA P-256 and P-384, and RSA with 2048, 3072 \
         or 4096 bits"
    ))
}
