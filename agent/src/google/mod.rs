//! Who we are to Google: the access token that a call carries.
use std::{fmt, path::Path, sync::Arc, time::Duration};

use certagent_core::request::SubjectMode;
use reqwest::header::{HeaderValue, InvalidHeaderValue};
use zeroize::Zeroizing;

use crate::cas::Endpoint;

pub mod audience;
pub mod exchange;
mod scrub;
mod sts;
mod subject;
#[cfg(test)]
mod token_lab;

pub use audience::{Audience, AudienceError, ServiceAccount, ServiceAccountError};
pub use exchange::{Exchange, ExchangeOptions, Impersonate, TokenFiles};

/// Who the agent is to Google.
#[derive(Clone, Debug)]
pub enum IdentityChoice {
    /// Nobody: for an emulator that does not ask.
    None,
    /// Whoever it asks for: each workload's own token is exchanged.
    Reflected(Box<ExchangeOptions>),
}

impl IdentityChoice {
    /// Who then puts the names into certificates.
    pub fn subject_mode(&self) -> SubjectMode {
        match self {
            Self::None => SubjectMode::Default,
            Self::Reflected(_) => SubjectMode::ReflectedSpiffe,
        }
    }

    /// The services that are asked, and have to prove who they are.
    pub fn endpoints(&self) -> Vec<&Endpoint> {
        match self {
            Self::None => Vec::new(),
            Self::Reflected(options) => {
                let impersonate = options.impersonate.as_ref().map(|one| &one.iamcredentials);
                std::iter::once(&options.sts).chain(impersonate).collect()
            }
        }
    }
}

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
}

/// Gives the tokens that calls carry. Clones share what they know.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Nobody: an emulator that does not ask.
    Anonymous,
    /// Each workload's own: its token is exchanged.
    Reflected(Exchange),
    /// Always this token.
    #[cfg(test)]
    Given(Token),
}

impl Identity {
    /// The token for one call; none where nobody asks for one.
    pub async fn token(&self, caller: &Caller) -> Result<Option<Token>, IdentityError> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Reflected(exchange) => exchange.token(caller).await.map(Some),
            #[cfg(test)]
            Self::Given(token) => Ok(Some(token.clone())),
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
}

/// An access token. It is wiped when dropped and never printed.
#[derive(Clone)]
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
