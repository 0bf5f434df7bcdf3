//! Who the agent shall be to Google.
use std::{collections::BTreeMap, ffi::OsString, sync::Arc};

use certagent_core::request::SubjectMode;

use super::{Exchange, ExchangeOptions, Identity, IdentityMode, SubjectTokens};
use crate::{
    cas::{Endpoint, Roots},
    clock::SharedClock,
};

/// Whose identity calls are made with, and what that needs.
#[derive(Clone, Debug)]
pub enum IdentityChoice {
    /// Nobody's: for an emulator that does not ask.
    None,
    /// The agent's own, for every workload, as this environment says where to find it.
    Direct(Environment),
    /// Each workload's own: its token is exchanged.
    Reflected(Box<ExchangeOptions>),
}

/// The environment variables that say where the agent's own identity is found: names of files and
/// of a host, no secrets.
#[derive(Clone, Debug)]
pub enum Environment {
    /// Those of this process.
    Process,
    /// These and no others.
    Given(BTreeMap<String, OsString>),
}

impl Environment {
    fn variable(&self, name: &str) -> Option<OsString> {
        match self {
            Self::Process => std::env::var_os(name),
            Self::Given(variables) => variables.get(name).cloned(),
        }
    }
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
            Self::Direct(_) => IdentityMode::Direct,
            Self::Reflected(_) => IdentityMode::Reflected,
        }
    }

    /// The token services that our own client asks.
    pub fn endpoints(&self) -> Vec<&Endpoint> {
        match self {
            Self::None | Self::Direct(_) => Vec::new(),
            Self::Reflected(options) => {
                let impersonate = options.impersonate.as_ref().map(|one| &one.iamcredentials);
                std::iter::once(&options.sts).chain(impersonate).collect()
            }
        }
    }

    /// The identity that was chosen. `roots` are those of token services, `workloads` the
    /// workloads' own.
    ///
    /// # Errors
    /// When a credentials file cannot be used, or no client can be made.
    pub fn identity(
        &self,
        roots: &Roots,
        clock: &SharedClock,
        workloads: SubjectTokens,
    ) -> anyhow::Result<Identity> {
        Ok(match self {
            Self::None => Identity::Anonymous,
            Self::Direct(environment) => {
                Identity::ambient(|name| environment.variable(name), roots, Arc::clone(clock))?
            }
            Self::Reflected(options) => {
                Identity::Reflected(Exchange::new(options, roots, Arc::clone(clock), workloads)?)
            }
        })
    }
}
