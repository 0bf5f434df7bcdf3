//! A workload's own token, as somebody else keeps it fresh, in a file or by hand.
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Token;
use crate::{
    cas::error::printable,
    small_file::{self, SmallFileError},
};

/// The largest token that is read, in bytes. A projected service account token has about 1 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Longest claim that is kept, in characters. The longest subject of Kubernetes has 339.
const LONGEST_CLAIM: usize = 400;

/// A token that may be shown to the token service.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) token: Token,
    /// SHA-256 of the token: whether it is another one than before.
    pub(super) digest: [u8; 32],
    pub(super) claims: Claims,
}

/// What a token says of itself. Nobody checked it: it serves messages, and saves hopeless calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// `iss`.
    pub(super) issuer: Option<String>,
    /// `sub`.
    pub(super) subject: Option<String>,
    /// `aud`, for people.
    pub(super) audience: Option<String>,
    /// `exp`.
    pub(super) expires_at: Option<Timestamp>,
}

impl Claims {
    /// Namespace and service account, if it is a token of Kubernetes.
    pub(super) fn workload(&self) -> Option<(&str, &str)> {
        let names = self
            .subject
            .as_deref()?
            .strip_prefix("system:serviceaccount:")?;
        names.split_once(':')
    }

    /// When it expired, and how many seconds ago; none if it is still good.
    pub(super) fn expired(&self, now: Timestamp) -> Option<(Timestamp, i64)> {
        let at = self.expires_at.filter(|at| *at <= now)?;
        Some((at, now.duration_since(at).as_secs()))
    }
}

/// Why a file holds no token that may be shown.
#[derive(Debug, thiserror::Error)]
#[error("the token file {}: {fault}", path.display())]
pub(super) struct SubjectError {
    path: PathBuf,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "{0}; check tokenFile, and that whoever keeps the token fresh has written it for the agent to read"
    )]
    File(SmallFileError),
    #[error("it is empty; check that whoever keeps the token fresh can get one")]
    Empty,
    #[error(
        "it holds no token: one line of three parts with dots in between (a JWT), such as a projected service account token; check tokenFile"
    )]
    NotAToken,
    #[error(
        "its token expired {seconds} s ago, at {at}; check that whoever keeps it fresh still runs, and this machine's clock"
    )]
    Expired { at: Timestamp, seconds: i64 },
}

/// Reads the token in a file. It must not have expired by its own account.
pub(super) fn read(path: &Path, now: Timestamp) -> Result<Subject, SubjectError> {
    let failed = |fault| SubjectError {
        path: path.to_owned(),
        fault,
    };
    let bytes = small_file::read(path, MAX_TOKEN_BYTES)
        .map(Zeroizing::new)
        .map_err(|error| failed(Fault::File(error)))?;
    let text = str::from_utf8(&bytes).map_err(|_not_text| failed(Fault::NotAToken))?;
    parse(text, now).map_err(failed)
}

/// A token that was read; it must not have expired by its own account.
pub(super) fn parse(text: &str, now: Timestamp) -> Result<Subject, Fault> {
    let text = text.trim();
    if text.len() > MAX_TOKEN_BYTES {
        return Err(Fault::NotAToken);
    }
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    let claims = claims(text).ok_or(Fault::NotAToken)?;
    if let Some((at, seconds)) = claims.expired(now) {
        return Err(Fault::Expired { at, seconds });
    }
    Ok(Subject {
        token: Token::new(text.to_owned()),
        digest: Sha256::digest(text).into(),
        claims,
    })
}

/// What a token in the compact form of RFC 7519 says; none if it has another form.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if parts.next().is_some() || signature.is_empty() || !signature.bytes().all(is_part) {
        return None;
    }
    let decode = |part| Some(Zeroizing::new(URL_SAFE_NO_PAD.decode(part).ok()?));
    serde_json::from_slice::<Header>(&decode(header)?).ok()?;
    let payload: Payload = serde_json::from_slice(&decode(payload)?).ok()?;
    let shown = |text: Option<String>| text.map(|text| printable(&text, LONGEST_CLAIM));
    Some(Claims {
        issuer: shown(payload.iss.as_ref().and_then(text)),
        subject: shown(payload.sub.as_ref().and_then(text)),
        audience: shown(payload.aud.as_ref().and_then(texts)),
        expires_at: payload.exp.as_ref().and_then(moment),
    })
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "alg")]
    _algorithm: String,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Payload {
    iss: Option<Value>,
    sub: Option<Value>,
    aud: Option<Value>,
    exp: Option<Value>,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// `aud` is a text or a list of texts.
fn texts(value: &Value) -> Option<String> {
    let Value::Array(items) = value else {
        return text(value);
    };
    let items: Vec<_> = items.iter().filter_map(Value::as_str).take(10).collect();
    Some(items.join(", "))
}

/// A `NumericDate`: seconds since 1970, maybe with decimals.
fn moment(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_i64().or_else(|| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the decimals do not matter, and what is out of bounds is no moment"
        )]
        let whole = value.as_f64().map(|seconds| seconds as i64);
        whole
    });
    Timestamp::from_second(seconds?).ok()
}

#[cfg(test)]
#[path = "subject_tests.rs"]
pub(super) mod tests;
