//! What the token service is told: for which pool of identities, and which service account.
use std::{fmt, str::FromStr};

use reqwest::Url;

use crate::cas::error::printable;

/// Longest piece of a refused text that a message repeats.
const LONGEST_QUOTE: usize = 120;

const GKE: &str = "identitynamespace:";
const FEDERATION: &str = "//iam.googleapis.com/";

/// The audience of a token exchange: which workload identity pool, and which of its providers, a
/// workload's own token is shown to.
///
/// Either GKE's, `identitynamespace:POOL:CLUSTER_URL`, or a provider's of workload identity
/// federation (google-auth-library-python, `google/auth/external_account.py`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(String);

/// Why a text is no [`Audience`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" {reason}; write //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER, or on GKE identitynamespace:PROJECT.svc.id.goog:https://container.googleapis.com/v1/projects/PROJECT/locations/LOCATION/clusters/CLUSTER"
)]
pub struct AudienceError {
    text: String,
    reason: &'static str,
}

impl Audience {
    /// Parses one of the two forms. Whether pool and provider exist is the token service's to say.
    pub fn parse(text: &str) -> Result<Self, AudienceError> {
        let text = text.trim();
        let fault = if let Some(rest) = text.strip_prefix(GKE) {
            gke_fault(rest)
        } else if let Some(rest) = text.strip_prefix(FEDERATION) {
            federation_fault(rest)
        } else if text.starts_with("https://iam.googleapis.com/") {
            Some("is how a token names its audience, and the token service wants it without https:")
        } else if text.is_empty() {
            Some("is empty")
        } else {
            Some("is no audience of Google's token service")
        };
        match fault {
            None => Ok(Self(text.to_owned())),
            Some(reason) => Err(AudienceError {
                text: printable(text, LONGEST_QUOTE),
                reason,
            }),
        }
    }

    /// The text, as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with `POOL:CLUSTER_URL`. A pool's name may have a colon itself, as that of a
/// project in a domain has.
fn gke_fault(rest: &str) -> Option<&'static str> {
    let Some((pool, url)) = rest
        .find(":https://")
        .and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)))
    else {
        return Some("has no cluster's URL, beginning with https://, behind the pool");
    };
    if pool.is_empty() || !pool.bytes().all(is_name) {
        return Some("has no workload identity pool's name behind identitynamespace:");
    }
    let is_url = url.bytes().all(|b| b.is_ascii_graphic())
        && Url::parse(url).is_ok_and(|url| {
            url.path().len() > 1
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        });
    (!is_url).then_some("has no cluster's URL behind the pool")
}

/// What is wrong with `projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`.
fn federation_fault(rest: &str) -> Option<&'static str> {
    let parts: Vec<_> = rest.split('/').collect();
    let [
        "projects",
        number,
        "locations",
        "global",
        "workloadIdentityPools",
        pool,
        "providers",
        provider,
    ] = parts.as_slice()
    else {
        return Some("is not the name of a workload identity pool's provider");
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Some("needs the project's number, not its id");
    }
    let is_good = |name: &str| !name.is_empty() && name.bytes().all(is_name);
    (!is_good(pool) || !is_good(provider)).then_some("names no pool or no provider")
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':')
}

impl FromStr for Audience {
    type Err = AudienceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The email address of a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount(String);

/// Why a text is no [`ServiceAccount`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not the email address of a service account; write one like NAME@PROJECT.iam.gserviceaccount.com"
)]
pub struct ServiceAccountError {
    text: String,
}

impl ServiceAccount {
    /// Parses an address that ends in `gserviceaccount.com`. It needs no escaping in a URL.
    pub fn parse(text: &str) -> Result<Self, ServiceAccountError> {
        let text = text.trim();
        let is_word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        };
        let is_good = text.len() <= 254
            && text.split_once('@').is_some_and(|(name, domain)| {
                is_word(name) && is_word(domain) && domain.ends_with(".gserviceaccount.com")
            });
        if is_good {
            Ok(Self(text.to_owned()))
        } else {
            let text = printable(text, LONGEST_QUOTE);
            Err(ServiceAccountError { text })
        }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceAccount {
    type Err = ServiceAccountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLEET: &str = "identitynamespace:demo-project.svc.id.goog:https://gkehub.googleapis.com/projects/demo-project/locations/global/memberships/edge";
    const CLUSTER: &str = "identitynamespace:example.com:demo.svc.id.goog:https://container.googleapis.com/v1/projects/demo/locations/us-central1/clusters/one";
    const PROVIDER: &str = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool-1/providers/k8s";

    #[test]
    fn both_forms_are_taken_as_they_are() {
        for text in [FLEET, CLUSTER, PROVIDER] {
            assert_eq!(Audience::parse(text).unwrap().as_str(), text);
            assert_eq!(
                Audience::parse(&format!(" {text}\n")).unwrap().as_str(),
                text
            );
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason_and_both_forms() {
        for (text, reason) in [
            ("", "is empty"),
            ("demo-project.svc.id.goog", "is no audience"),
            ("identitynamespace:demo.svc.id.goog", "no cluster's URL"),
            (
                "identitynamespace::https://c.example/x",
                "no workload identity pool's name",
            ),
            (
                "identitynamespace:a b:https://c.example/x",
                "no workload identity pool's name",
            ),
            ("identitynamespace:a:http://c.example/x", "no cluster's URL"),
            ("identitynamespace:a:https://c.example", "no cluster's URL"),
            (
                "identitynamespace:a:https://user@c.example/x",
                "no cluster's URL",
            ),
            (
                &PROVIDER.replace("123", "demo-project"),
                "the project's number, not its id",
            ),
            (&PROVIDER.replace("global", "us"), "not the name of"),
            (&PROVIDER.replace("/providers/k8s", ""), "not the name of"),
            (&format!("{PROVIDER}/x"), "not the name of"),
            (&PROVIDER.replace("k8s", ""), "no provider"),
            (&PROVIDER.replace("k8s", "a\u{1b}[2J"), "no provider"),
            (&format!("https:{PROVIDER}"), "without https:"),
        ] {
            let message = Audience::parse(text).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
            assert!(
                message.contains("//iam.googleapis.com/projects/NUMBER")
                    && message.contains("identitynamespace:PROJECT.svc.id.goog:https"),
                "{message}"
            );
            assert!(message.chars().all(|c| !c.is_control()), "{message:?}");
        }
    }

    #[test]
    fn a_service_account_is_an_address_of_google_s_and_nothing_else() {
        for text in [
            "reader@demo-project.iam.gserviceaccount.com",
            "123-compute@developer.gserviceaccount.com",
        ] {
            assert_eq!(ServiceAccount::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "reader",
            "someone@example.com",
            "@demo.iam.gserviceaccount.com",
            "a/b@demo.iam.gserviceaccount.com",
            "a@b@demo.iam.gserviceaccount.com",
            "a:x@demo.iam.gserviceaccount.com",
        ] {
            let message = ServiceAccount::parse(text).unwrap_err().to_string();
            assert!(message.contains("NAME@PROJECT.iam"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,80}", which in 0..3) {
            let text = match which {
                0 => format!("identitynamespace:{text}"),
                1 => format!("//iam.googleapis.com/{text}"),
                _ => text,
            };
            if let Ok(audience) = Audience::parse(&text) {
                prop_assert!(audience.as_str().bytes().all(|b| b.is_ascii_graphic()));
            }
            drop(ServiceAccount::parse(&text));
        }
    }
}
