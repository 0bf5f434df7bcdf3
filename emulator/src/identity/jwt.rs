//! Signed tokens (RFC 7519) in compact form, read and verified. What time it is and who may have
//! issued a token is the business of those who ask.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::jwk::{JwsAlgorithm, VerifyingKey};
use super::text::excerpt;

/// The longest token that is looked at, in bytes.
pub(crate) const MAX_TOKEN: usize = 16 * 1024;
/// How far ahead an issuer's clock may be.
pub(super) const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// A token whose signature nobody has looked at yet.
pub(crate) struct Jwt<'a> {
    header: Header,
    /// What the token says, true or not.
    pub(crate) claims: Claims,
    message: &'a str,
    signature: Vec<u8>,
}

/// The claims that matter here.
#[derive(Clone, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: Option<String>,
    #[serde(default)]
    pub(crate) aud: Audiences,
    pub(crate) exp: NumericDate,
    pub(crate) iat: NumericDate,
    pub(crate) nbf: Option<NumericDate>,
    #[serde(default)]
    pub(crate) scope: String,
}

/// `aud`: one string or a list of them.
#[derive(Clone, Default)]
pub(crate) struct Audiences(pub(crate) Vec<String>);

/// Seconds since 1970, fractions cut off.
#[derive(Clone, Copy)]
pub(crate) struct NumericDate(pub(crate) i64);

/// Why a token is not believed. Says nothing of its signature, and of its content only the
/// beginnings of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    #[error("the token is longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("the token is no signed JWT: {0}")]
    Malformed(&'static str),
    #[error("the token is signed with \"{0}\"; RS256, ES256 and ES384 are taken")]
    Algorithm(String),
    #[error("no configured key has the key id \"{0}\" of the token")]
    UnknownKey(String),
    #[error("no configured key is of the kind that the token is signed with")]
    NoKey,
    #[error("the signature of the token does not verify")]
    Signature,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart. Nothing in it is proven by that.
    pub(crate) fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN {
            return Err(JwtError::TooLong);
        }
        let (message, signature) = token
            .rsplit_once('.')
            .ok_or(JwtError::Malformed("it does not have three parts"))?;
        let (header, claims) = message
            .split_once('.')
            .filter(|(_, claims)| !claims.contains('.'))
            .ok_or(JwtError::Malformed("it does not have three parts"))?;
        let header: Header = part(header, "its header cannot be read")?;
        if header.crit.is_some() || header.b64.is_some() {
            let problem = "its header asks for an extension that is unknown here";
            return Err(JwtError::Malformed(problem));
        }
        Ok(Self {
            header,
            claims: part(claims, "its claims (iss, aud, iat, exp) cannot be read")?,
            message,
            signature: bytes(signature, "its signature cannot be read")?,
        })
    }

    /// Whether one of `keys` signed the token. The algorithm is the key's and never the token's
    /// choice: a public key is not taken for a secret, and no token goes unsigned.
    pub(crate) fn verify(&self, keys: &[VerifyingKey]) -> Result<(), JwtError> {
        let algorithm = JwsAlgorithm::from_name(&self.header.alg)
            .ok_or_else(|| JwtError::Algorithm(excerpt(&self.header.alg)))?;
        let by_id = |key: &&VerifyingKey| match (&self.header.kid, key.kid()) {
            // A key without an id may be any.
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let mut named = keys.iter().filter(by_id).peekable();
        if named.peek().is_none() {
            let kid = self.header.kid.as_deref().unwrap_or_default();
            return Err(JwtError::UnknownKey(excerpt(kid)));
        }
        let mut fitting = named.filter(|key| key.algorithm() == algorithm).peekable();
        if fitting.peek().is_none() {
            return Err(JwtError::NoKey);
        }
        if fitting.any(|key| key.verifies(self.message.as_bytes(), &self.signature)) {
            Ok(())
        } else {
            Err(JwtError::Signature)
        }
    }
}

impl Claims {
    /// Whether the token's time is over at `now`.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.exp.0 <= now.as_second()
    }

    /// Whether the token's time has not begun at `now`.
    pub(crate) fn is_early(&self, now: Timestamp) -> bool {
        let latest = now.as_second().saturating_add(SKEW.as_secs());
        self.iat.0 > latest || self.nbf.is_some_and(|nbf| nbf.0 > latest)
    }

    /// How long the token is to live from its issue, in seconds.
    pub(crate) fn lifetime(&self) -> i64 {
        self.exp.0.saturating_sub(self.iat.0)
    }
}

fn bytes(part: &str, problem: &'static str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_error| JwtError::Malformed(problem))
}

fn part<T: DeserializeOwned>(part: &str, problem: &'static str) -> Result<T, JwtError> {
    serde_json::from_slice(&bytes(part, problem)?).map_err(|_error| JwtError::Malformed(problem))
}

impl<'de> Deserialize<'de> for Audiences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        // Google's Rust library writes a null beside a scope.
        Ok(Self(match Option::deserialize(deserializer)? {
            None => Vec::new(),
            Some(Form::One(audience)) => vec![audience],
            Some(Form::Many(audiences)) => audiences,
        }))
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = number.as_i64().or_else(|| {
            let seconds = number.as_f64()?;
            SignedDuration::try_from_secs_f64(seconds)
                .ok()
                .map(|span| span.as_secs())
        });
        whole
            .map(Self)
            .ok_or_else(|| D::Error::custom("a date is a number of seconds since 1970"))
    }
}
