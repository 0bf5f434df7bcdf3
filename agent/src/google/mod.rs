//! Who we are to Google: the access token that a call carries.
pub mod ambient;
mod answer;
pub mod audience;
mod choice;
mod credentials;
pub mod exchange;
mod impersonation;
mod members;
mod metadata;
mod pod_token;
mod scrub;
mod sts;
mod subject;
#[cfg(test)]
pub(crate) mod token_lab;

use std::{ffi::OsString, fmt, path::Path, sync::Arc, time::Duration};

use certagent_core::request::SubjectMode;
use reqwest::header::{HeaderValue, InvalidHeaderValue};
use zeroize::Zeroizing;

use crate::{
    cas::{Endpoint, Roots},
    clock::SharedClock,
};
use ambient::Ambient;

pub use audience::{Audience, AudienceError, ServiceAccount, ServiceAccountError};
pub use choice::{Environment, IdentityChoice};
pub use exchange::{Exchange, ExchangeOptions, Impersonate, SubjectTokens};
pub use pod_token::{PodToken, PodTokenError, PodTokenFault};

/// Google's Security Token Service.
pub(crate) const STS: &str = "https://sts.googleapis.com";

/// Google's IAM Service Account Credentials API.
pub(crate) const IAM_CREDENTIALS: &str = "https://iamcredentials.googleapis.com";

/// What tokens are good for: CA Service has no narrower scope.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Whose identity a call is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The agent's own.
    #[default]
    Agent,
    /// A workload's: its own token is exchanged for one of Google's.
    Workload(SubjectToken),
}

impl Caller {
    /// Who puts the name into a certificate that is asked for with this identity.
    pub fn subject_mode(&self) -> SubjectMode {
        match self {
            Self::Agent => SubjectMode::Default,
            Self::Workload(_) => SubjectMode::ReflectedSpiffe,
        }
    }
}

/// Where a workload's own token comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubjectToken {
    /// A file that somebody keeps fresh, such as a projected service account token.
    File(Arc<Path>),
    /// What kubelet brings with each publish of a pod's volume.
    Pod(PodToken),
}

impl fmt::Display for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the token in {}", path.display()),
            Self::Pod(pod) => write!(f, "the token of {}", pod.name()),
        }
    }
}

/// The ways to be somebody at Google, as `--identity` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum IdentityMode {
    /// Nobody: for an emulator that does not ask
    None,
    /// The agent's own identity, for every workload: credentials as Google's clients find them
    Direct,
    /// Each workload's own identity
    Reflected,
}

impl IdentityMode {
    /// What is right for an endpoint unless somebody says otherwise. A token of Google's is never
    /// sent to a port of this machine, where anybody may listen, unless somebody says so.
    pub fn default_for(endpoint: &Endpoint) -> Self {
        if endpoint.is_https() {
            Self::Direct
        } else {
            Self::None
        }
    }
}

/// Gives the tokens that calls carry. Clones share what they know.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Nobody: an emulator that does not ask.
    Anonymous,
    /// The agent's own, the same for every caller.
    Ambient(Arc<Ambient>),
    /// Each workload's own: its token is exchanged.
    Reflected(Exchange),
    /// Always this token.
    #[cfg(test)]
    Given(Token),
}

impl Identity {
    /// The agent's own identity, found in the environment as `variable` gives it. `roots` are those
    /// of services that make tokens of service accounts.
    pub fn ambient(
        variable: impl Fn(&str) -> Option<OsString>,
        roots: &Roots,
        clock: SharedClock,
    ) -> Result<Self, IdentityError> {
        let ambient = Ambient::find(variable, roots, clock)?;
        Ok(Self::Ambient(Arc::new(ambient)))
    }

    /// The token for one call; none where nobody asks for one.
    pub async fn token(&self, caller: &Caller) -> Result<Option<Token>, IdentityError> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Ambient(ambient) => ambient.token().await.map(Some),
            Self::Reflected(exchange) => exchange.token(caller).await.map(Some),
            #[cfg(test)]
            Self::Given(token) => Ok(Some(token.clone())),
        }
    }

    /// Namespace and service account by the caller's own token, where a certificate would be for
    /// these; none where it has none that says so.
    pub fn workload(&self, caller: &Caller) -> Option<(String, String)> {
        match (self, caller) {
            (Self::Reflected(exchange), Caller::Workload(token)) => exchange.workload(token),
            _ => None,
        }
    }

    /// The service answered 401 to a call with `token`. True if another token may be had, so that
    /// the very same call is worth sending once more.
    pub async fn refused(&self, _caller: &Caller, token: &Token) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Ambient(ambient) => ambient.refused(token).await,
            Self::Reflected(exchange) => {
                exchange.refused(token);
                true
            }
            #[cfg(test)]
            Self::Given(_) => false,
        }
    }

    /// The flags that say so on a command line, but for the workload's token file; none where it
    /// is the agent's own or nobody's.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Reflected(exchange) => exchange.flags(),
            _ => Vec::new(),
        }
    }

    /// Whom a call shows itself as.
    pub fn shown(&self, caller: &Caller) -> Shown {
        match self {
            Self::Anonymous => Shown::Nobody,
            Self::Ambient(ambient) => ambient.shown(),
            Self::Reflected(exchange) => exchange.shown(caller),
            #[cfg(test)]
            Self::Given(_) => Shown::File("a test".to_owned()),
        }
    }
}

/// Whom a call showed itself as, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shown {
    /// Nobody.
    Nobody,
    /// The account of this credentials file.
    File(String),
    /// The service account of this metadata server.
    Metadata(String),
    /// The workload with this token, or whoever may speak for the agent.
    Exchanged(String),
}

impl Shown {
    /// What to do when it is not accepted.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Nobody => "the service wants to know who asks: pass --identity direct",
            Self::File(_) => {
                "check that the key or account behind that file still exists and is enabled, and \
                 the clock of this machine"
            }
            Self::Metadata(_) => {
                "check that the service account of this machine or pod still exists and is \
                 enabled, and has the scope cloud-platform"
            }
            Self::Exchanged(_) => {
                "check that the workload identity pool and its provider still exist and are \
                 enabled, and the clock of this machine"
            }
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("no identity"),
            Self::File(file) => write!(f, "the identity in {file}"),
            Self::Metadata(server) => write!(f, "the identity of {server}"),
            Self::Exchanged(whose) => write!(f, "the exchanged identity of {whose}"),
        }
    }
}

/// Why there is no access token, so that nothing was sent to CA Service.
///
/// The message is complete, and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no access token: {detail}")]
pub struct IdentityError {
    /// What happened, where, and the next step.
    pub detail: String,
    /// No repetition helps until somebody changes something.
    pub is_permanent: bool,
    /// How long whoever gives tokens wants to be left alone.
    pub retry_after: Option<Duration>,
    /// Where to look for the cause.
    pub origin: Origin,
}

/// Where the cause of an [`IdentityError`] is to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// On this machine: the credential that would have been shown.
    Credential,
    /// With the service that it was shown to, at this address, and which refused it.
    Refused(String),
    /// With the service itself, at this address.
    Service(String),
}

impl IdentityError {
    /// One that ends when somebody changes something.
    pub(crate) fn permanent(detail: String) -> Self {
        Self {
            detail,
            is_permanent: true,
            retry_after: None,
            origin: Origin::Credential,
        }
    }

    /// One that may end by itself.
    pub(crate) fn passing(detail: String) -> Self {
        Self {
            detail,
            is_permanent: false,
            retry_after: None,
            origin: Origin::Credential,
        }
    }
}

/// An access token. It is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The header that shows the token. It is marked as a secret.
    pub(crate) fn bearer(&self) -> Result<HeaderValue, InvalidHeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", self.expose()));
        let mut value = HeaderValue::from_str(&text)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The text, for whoever it is meant for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A token of this subject and audience that nobody signed and that does not end.
#[cfg(test)]
pub(crate) fn unsigned_jwt(subject: &str, audience: &str) -> String {
    subject::tests::jwt(&serde_json::json!({ "sub": subject, "aud": audience }))
}
