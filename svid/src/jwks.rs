//! One trust domain's bundle as a JWK set: what a SPIFFE bundle endpoint serves.
//!
//! Source: the SPIFFE Trust Domain and Bundle standard, section 4: keys of an unknown type or use
//! are passed over; an X.509 root is the one certificate in its `x5c`. Whose bundle it is does not
//! stand in it: the reader knows that from its own configuration.
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Certificate, PublicKeyKind,
    bundle_map::{KeyProblem, certificate},
};

/// The largest set that is read, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The most roots that are taken from one set.
pub const MAX_ROOTS: usize = 64;

/// What a bundle endpoint said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedBundle {
    /// The roots for X.509-SVIDs, as they stand there; never empty, CA certificates all.
    pub roots: Vec<Certificate>,
    /// `spiffe_sequence`: rises with each change.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint`: how often to look again. From outside and without any bound.
    pub refresh_hint: Option<Duration>,
    /// How many keys were passed over: for JWTs, or of a use or type that is unknown here.
    pub passed_over: usize,
}

/// Why a text is no bundle with X.509 roots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// The text is larger than [`MAX_BYTES`].
    #[error("the bundle has {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not JSON of the right shape.
    #[error("the bundle is not the JSON that the SPIFFE standard asks for: {0}")]
    Json(#[from] serde_json::Error),
    /// A key for X.509-SVIDs breaks the standard.
    #[error("key {position} {problem}")]
    Key {
        /// Which key, counted from 1.
        position: usize,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// More roots than [`MAX_ROOTS`].
    #[error("the bundle has more than {MAX_ROOTS} roots")]
    TooMany,
    /// No key is a root for X.509-SVIDs.
    #[error("the bundle has no root for X.509-SVIDs ({passed_over} keys are for something else)")]
    Empty {
        /// How many keys there are for other things.
        passed_over: usize,
    },
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    spiffe_sequence: Option<u64>,
    #[serde(default)]
    spiffe_refresh_hint: Option<u64>,
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct X5c {
    #[serde(default)]
    x5c: Vec<String>,
}

/// Reads a bundle. One root that cannot be read makes the whole bundle unusable: half of a bundle
/// would refuse peers that are good.
pub fn parse(json: &[u8]) -> Result<ServedBundle, JwksError> {
    if json.len() > MAX_BYTES {
        return Err(JwksError::TooLarge { bytes: json.len() });
    }
    let document: Document = serde_json::from_slice(json)?;
    let (mut roots, mut passed_over) = (Vec::new(), 0);
    for (index, key) in document.keys.into_iter().enumerate() {
        match root(key).map_err(|error| error.at(index + 1))? {
            Some(_) if roots.len() == MAX_ROOTS => return Err(JwksError::TooMany),
            Some(root) => roots.push(root),
            None => passed_over += 1,
        }
    }
    if roots.is_empty() {
        return Err(JwksError::Empty { passed_over });
    }
    Ok(ServedBundle {
        roots,
        sequence: document.spiffe_sequence,
        refresh_hint: document.spiffe_refresh_hint.map(Duration::from_secs),
        passed_over,
    })
}

enum BadKey {
    Json(serde_json::Error),
    Problem(KeyProblem),
}

impl BadKey {
    fn at(self, position: usize) -> JwksError {
        match self {
            Self::Json(error) => JwksError::Json(error),
            Self::Problem(problem) => JwksError::Key { position, problem },
        }
    }
}

fn root(key: Value) -> Result<Option<Certificate>, BadKey> {
    let text = |name| key.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("use") != "x509-svid" || !matches!(text("kty"), "RSA" | "EC") {
        return Ok(None);
    }
    let X5c { x5c } = serde_json::from_value(key).map_err(BadKey::Json)?;
    let root = certificate(&x5c).map_err(BadKey::Problem)?;
    // A curve that the bundle map has no name for is a type that is unknown here.
    Ok(Some(root).filter(|root| root.public_key_kind() != PublicKeyKind::Other))
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
