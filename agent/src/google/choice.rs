//! Who the agent shall be to Google.
use certagent_core::request::SubjectMode;

use super::{ExchangeOptions, IdentityMode};
use crate::cas::Endpoint;

/// Whose identity calls are made with, and what that needs.
#[derive(Clone, Debug)]
pub enum IdentityChoice {
    /// Nobody's: for an emulator that does not ask.
    None,
    /// The agent's own, for every workload.
    Direct,
    /// Each workload's own: its token is exchanged.
    Reflected(Box<ExchangeOptions>),
}

impl IdentityMode {
    /// Who puts the names into certificates.
    pub fn subject_mode(self) -> SubjectMode {
        match self {
            Self::None | Self::Direct => SubjectMode::Default,
            Self::Reflected => SubjectMode::ReflectedSpiffe,
        }
    }
}

impl IdentityChoice {
    /// The choice without what it needs.
    pub fn mode(&self) -> IdentityMode {
        match self {
            Self::None => IdentityMode::None,
            Self::Direct => IdentityMode::Direct,
            Self::Reflected(_) => IdentityMode::Reflected,
        }
    }

    /// The token services that our own client asks.
    pub fn endpoints(&self) -> Vec<&Endpoint> {
        match self {
            Self::None | Self::Direct => Vec::new(),
            Self::Reflected(options) => {
                let impersonate = options.impersonate.as_ref().map(|one| &one.iamcredentials);
                std::iter::once(&options.sts).chain(impersonate).collect()
            }
        }
    }
}
