//! How good the credentials are that are in use.
use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::Error;

/// How good the credentials are that are in use, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// The last look at the directory found what is in use, or replaced it.
    Fresh,
    /// The directory cannot be used. What was last read from it is in use, and is still valid.
    #[non_exhaustive]
    Stale {
        /// Since when.
        since: Timestamp,
        /// Why, at the last try.
        error: Arc<Error>,
    },
    /// The certificate in use has ended, so peers refuse it; or a CA in its chain; or the last root of
    /// the own trust domain, so that no peer of it can be verified.
    #[non_exhaustive]
    Expired {
        /// When it ended.
        since: Timestamp,
    },
}

impl Health {
    /// What is in use is valid, though it may be the last of its kind.
    pub fn is_usable(&self) -> bool {
        !matches!(self, Self::Expired { .. })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("fresh"),
            Self::Stale { since, error } => write!(f, "stale since {since}: {error}"),
            Self::Expired { since } => write!(f, "expired since {since}"),
        }
    }
}
