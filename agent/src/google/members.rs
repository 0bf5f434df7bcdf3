//! What a credentials file says, checked before anybody is asked.
//!
//! Google's library may end the process where an answer of an impersonation surprises it (it
//! unwraps the rest of a token's life, and a clock that is ahead makes that negative). So it is
//! given the source credentials alone, and the impersonations are ours.
use reqwest::Url;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::Value;

use super::impersonation::Target;
use crate::cas::{Endpoint, error::printable};

/// The types of files, by the member `type`, with the texts that each needs.
const KINDS: [(Kind, &str, &[&str]); 4] = [
    (
        Kind::ServiceAccount,
        "service_account",
        &[
            "client_email",
            "private_key_id",
            "private_key",
            "project_id",
        ],
    ),
    (
        Kind::External,
        "external_account",
        &["audience", "subject_token_type", "token_url"],
    ),
    (
        Kind::Impersonated,
        "impersonated_service_account",
        &[IMPERSONATION_URL],
    ),
    (
        Kind::User,
        "authorized_user",
        &["client_id", "client_secret", "refresh_token"],
    ),
];

const IMPERSONATION_URL: &str = "service_account_impersonation_url";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ServiceAccount,
    External,
    Impersonated,
    User,
}

/// What is wrong with a file, in words without any secret, and what to do about it unless the file
/// itself is to be replaced.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) next: Option<&'static str>,
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self { what, next: None }
    }
}

/// Credentials that give a token by themselves, and who is impersonated with it.
pub(super) struct Members {
    pub(super) source: Source,
    /// The source's own members, with nothing to impersonate in them.
    pub(super) json: Value,
    /// In the order in which one token makes the next.
    pub(super) targets: Vec<Target>,
}

/// Who gives the first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    ServiceAccount,
    External,
    User,
}

impl Members {
    pub(super) fn of(json: Value) -> Result<Self, Fault> {
        let kind = checked(&json)?;
        let mut targets: Vec<Target> = target(&json)?.into_iter().collect();
        let (kind, mut json) = if kind == Kind::Impersonated {
            let Some(source) = json.get("source_credentials") else {
                let what = "no \"source_credentials\", by which it impersonates";
                return Err(what.to_owned().into());
            };
            let within = |fault: Fault| Fault {
                what: format!("in \"source_credentials\": {}", fault.what),
                ..fault
            };
            let kind = checked(source).map_err(within)?;
            // The innermost comes first.
            targets.splice(0..0, target(source).map_err(within)?);
            (kind, source.clone())
        } else {
            (kind, json)
        };
        if let Some(members) = json.as_object_mut() {
            members.remove(IMPERSONATION_URL);
        }
        let source = match kind {
            Kind::ServiceAccount => Source::ServiceAccount,
            Kind::External => Source::External,
            Kind::User => Source::User,
            Kind::Impersonated => {
                return Err(Fault {
                    what: "its \"source_credentials\" impersonate, too".to_owned(),
                    next: Some("name the accounts in between in \"delegates\""),
                });
            }
        };
        Ok(Self {
            source,
            json,
            targets,
        })
    }
}

/// The type of credentials, if they have what it needs.
fn checked(json: &Value) -> Result<Kind, Fault> {
    let named = json.get("type").and_then(Value::as_str);
    let Some(named) = named else {
        let what = "no member \"type\", so these are no credentials of Google's";
        return Err(what.to_owned().into());
    };
    let Some((kind, _, needed)) = KINDS.iter().find(|(_, name, _)| *name == named) else {
        let known = KINDS.map(|(_, name, _)| name).join(", ");
        let named = printable(named, 40);
        return Err(format!("the type \"{named}\" is none that is known ({known})").into());
    };
    for name in *needed {
        if !json.get(*name).is_some_and(Value::is_string) {
            return Err(format!("no text \"{name}\", which {named} has").into());
        }
    }
    if let Some(name) = insecure(json) {
        return Err(format!(
            "\"{name}\" is neither https nor on this machine, and what is sent there could be read on the way"
        )
        .into());
    }
    match kind {
        Kind::ServiceAccount if !has_rsa_key(json) => {
            let what = "\"private_key\" is not an RSA key as PKCS#8 PEM";
            return Err(what.to_owned().into());
        }
        Kind::External => fetched(json)?,
        _ => {}
    }
    Ok(*kind)
}

/// Where the token comes from that is exchanged: nobody's programs are run for it.
fn fetched(json: &Value) -> Result<(), Fault> {
    let has = |name| {
        let source = json.get("credential_source");
        source
            .and_then(|source| source.get(name))
            .is_some_and(|there| !there.is_null())
    };
    if has("executable") {
        return Err(Fault {
            what: "\"credential_source\" names an executable, and executables are not run"
                .to_owned(),
            next: Some(
                "have that program write its token to a file, and name the file as \"file\" in \
                 \"credential_source\"",
            ),
        });
    }
    if !["file", "url", "environment_id"].into_iter().any(has) {
        let what = "\"credential_source\" has neither a \"file\" nor a \"url\" nor an \"environment_id\" (AWS)";
        return Err(what.to_owned().into());
    }
    Ok(())
}

/// Whom the credentials impersonate.
fn target(json: &Value) -> Result<Option<Target>, Fault> {
    let text = match json.get(IMPERSONATION_URL) {
        None | Some(Value::Null) => return Ok(None),
        Some(url) => url.as_str().unwrap_or_default(),
    };
    let Some(mut target) = Target::of_url(text) else {
        return Err(format!(
            "\"{IMPERSONATION_URL}\" is not like https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/ACCOUNT:generateAccessToken"
        )
        .into());
    };
    match json.get("delegates") {
        None | Some(Value::Null) => {}
        Some(delegates) => {
            target.delegates = serde_json::from_value(delegates.clone())
                .map_err(|_error| "\"delegates\" is no list of texts".to_owned())
                .map_err(Fault::from)?;
        }
    }
    let charged = json.pointer("/source_credentials/quota_project_id");
    target.quota_project = charged.and_then(Value::as_str).map(str::to_owned);
    Ok(Some(target))
}

/// The member that would have a token or an assertion sent over a network in the clear.
/// `credential_source` only fetches, and often from a plain address.
fn insecure(json: &Value) -> Option<&'static str> {
    const SENT_TO: [&str; 4] = [
        "token_url",
        "token_uri",
        "token_info_url",
        IMPERSONATION_URL,
    ];
    let is_safe = |text: &str| {
        let origin = Url::parse(text).map(|url| url.origin().ascii_serialization());
        origin.is_ok_and(|origin| Endpoint::parse(&origin).is_ok())
    };
    SENT_TO.into_iter().find(|name| {
        json.get(name)
            .and_then(Value::as_str)
            .is_some_and(|text| !is_safe(text))
    })
}

fn has_rsa_key(json: &Value) -> bool {
    let pem = json
        .get("private_key")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Ok(key) = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    rustls::crypto::aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(PrivateKeyDer::Pkcs8(key))
        .is_ok_and(|key| {
            key.choose_scheme(&[rustls::SignatureScheme::RSA_PKCS1_SHA256])
                .is_some()
        })
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
