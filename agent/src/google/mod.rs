//! Who we are to Google: the access token that a call carries.
use std::{fmt, path::Path, sync::Arc, time::Duration};

use zeroize::Zeroizing;

/// Whose identity a call is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The agent's own.
    #[default]
    Agent,
    /// A workload's: its own token is exchanged for one of Google's.
    Workload(SubjectToken),
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
    /// Always this token.
    #[cfg(test)]
    Given(Token),
}

impl Identity {
    /// The token for one call; none where nobody asks for one.
    #[expect(clippy::unused_async, reason = "other identities ask somebody")]
    pub async fn token(&self, _caller: &Caller) -> Result<Option<Token>, IdentityError> {
        match self {
            Self::Anonymous => Ok(None),
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

    /// The text, for the header alone.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
