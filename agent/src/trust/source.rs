//! One source of roots: what is known of it, and when it is asked again.
use std::{fmt, time::Duration};

use certagent_core::{
    bundle_endpoint::BundleEndpoint, config::TrustAnchor, outcome::Class, pool::CaPoolName,
};
use certagent_svid::Certificate;
use jiff::{SignedDuration, Timestamp};

use super::endpoint::EndpointError;
use crate::cas::CallError;

/// How often a source is asked for its roots, if it does not say otherwise itself.
pub const REFRESH: SignedDuration = SignedDuration::from_mins(5);
/// However often a source wants to be asked, there is this much between two calls.
const SHORTEST_REFRESH: SignedDuration = SignedDuration::from_secs(30);
/// However seldom a source wants to be asked, a root that it withdraws is noticed by then.
const LONGEST_REFRESH: SignedDuration = SignedDuration::from_hours(1);
/// The first wait for a source that never answered; it doubles up to [`REFRESH`].
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(5);

/// Which source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceName {
    /// A pool of CA Service.
    Pool(CaPoolName),
    /// A SPIFFE bundle endpoint.
    Endpoint(BundleEndpoint),
}

impl SourceName {
    /// The source that an anchor names; none for one that is a root itself.
    pub(crate) fn of(anchor: &TrustAnchor) -> Option<Self> {
        match anchor {
            TrustAnchor::Pool(pool) => Some(Self::Pool(pool.clone())),
            TrustAnchor::Endpoint(endpoint) => Some(Self::Endpoint(endpoint.clone())),
            TrustAnchor::Pem(_) => None,
        }
    }

    /// What no other source is called, for the state and not for messages.
    pub(super) fn exact(&self) -> String {
        match self {
            Self::Pool(pool) => pool.to_string(),
            Self::Endpoint(endpoint) => endpoint.as_str().to_owned(),
        }
    }

    /// The kind and the name, for a sentence.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Pool(pool) => format!("the CA pool {pool}"),
            Self::Endpoint(endpoint) => format!("the bundle endpoint {endpoint}"),
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(pool) => pool.fmt(f),
            Self::Endpoint(endpoint) => endpoint.fmt(f),
        }
    }
}

/// What is known of one source that a `TrustConfig` names as an anchor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// Its roots by its last good answer; empty before the first.
    pub roots: Vec<Certificate>,
    /// When it last gave a good answer to this process.
    pub last_success: Option<Timestamp>,
    /// Why the last attempt failed; none after a good answer.
    pub error: Option<SourceError>,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// When it is to be asked again; none before the first attempt.
    pub due: Option<Timestamp>,
    /// The highest `spiffe_sequence` that it showed, to this process or an earlier one.
    pub sequence: Option<u64>,
    /// How often it wants to be asked.
    refresh: Option<SignedDuration>,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Not empty.
    pub(super) roots: Vec<Certificate>,
    pub(super) sequence: Option<u64>,
    /// How often to ask, as the source says, without any bound.
    pub(super) refresh_hint: Option<Duration>,
}

/// Why a source gave no roots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The pool has no CA.
    #[error(
        "the CA pool {pool} has no CA and so no root; create one in it, or remove the pool from the TrustConfig"
    )]
    NoRoots {
        /// The pool.
        pool: CaPoolName,
    },
    /// One of its chains ends in something that cannot be a root.
    #[error(
        "the CA pool {pool} gave \"{subject}\" as a root, which is not a CA certificate; look at the CAs of the pool"
    )]
    NotACa {
        /// The pool.
        pool: CaPoolName,
        /// The certificate's subject.
        subject: String,
    },
    /// The bundle endpoint gave no bundle that can be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The bundle endpoint showed an older bundle than before.
    #[error(
        "the bundle endpoint {endpoint} went back from spiffe_sequence {known} to {found}, so what it serves is older than what is known; if its numbers began anew on purpose, take the endpoint out of the TrustConfig and put it back in"
    )]
    WentBack {
        /// The endpoint.
        endpoint: BundleEndpoint,
        /// The highest number so far.
        known: u64,
        /// The number now.
        found: u64,
    },
}

impl SourceError {
    /// How long whoever was asked wants to be left alone.
    fn retry_after(&self) -> Option<SignedDuration> {
        match self {
            Self::Call(error) => error.retry_after?.try_into().ok(),
            _ => None,
        }
    }

    /// Nobody was asked, because there was no token to show. It comes by itself: with the first
    /// pod of a node, which must not wait for the roots after that.
    fn is_without_a_call(&self) -> bool {
        matches!(self, Self::Call(error) if matches!(error.class, Class::NoToken { .. }))
    }
}

impl Source {
    /// Before the first answer to this process; an earlier one may have seen a sequence number.
    pub(super) fn not_asked(sequence: Option<u64>) -> Self {
        Self {
            sequence,
            ..Self::default()
        }
    }

    /// Takes an answer or a failure. The log hears of it when something begins or ends, not each
    /// time.
    pub(super) fn record(
        &mut self,
        name: &SourceName,
        answer: Result<Answer, SourceError>,
        now: Timestamp,
    ) {
        match answer.and_then(|answer| self.not_older(name, answer)) {
            Ok(answer) => {
                if self.error.is_some() {
                    tracing::info!(source = %name, "the roots of the source are known again");
                }
                if self.last_success.is_some()
                    && answer.sequence.is_some()
                    && answer.sequence == self.sequence
                    && answer.roots != self.roots
                {
                    tracing::warn!(source = %name, sequence = answer.sequence,
                        "the bundle changed and its spiffe_sequence did not, as it must; the newer bundle counts");
                }
                let refresh = answer.refresh_hint.map(clamped);
                *self = Self {
                    roots: answer.roots,
                    last_success: Some(now),
                    due: Some(later(now, refresh.unwrap_or(REFRESH))),
                    // A server that leaves it out for once does not begin anew.
                    sequence: answer.sequence.or(self.sequence),
                    refresh,
                    ..Self::default()
                };
            }
            Err(error) => {
                if self.error.is_none() {
                    let kept = self.roots.len();
                    tracing::warn!(%error, kept, "cannot refresh the roots of a source; roots that are known are kept");
                }
                self.failures = self.failures.saturating_add(1);
                self.due = Some(later(now, self.wait(&error)));
                self.error = Some(error);
            }
        }
    }

    fn not_older(&self, name: &SourceName, answer: Answer) -> Result<Answer, SourceError> {
        match (name, self.sequence, answer.sequence) {
            (SourceName::Endpoint(endpoint), Some(known), Some(found)) if found < known => {
                let endpoint = endpoint.clone();
                Err(SourceError::WentBack {
                    endpoint,
                    known,
                    found,
                })
            }
            _ => Ok(answer),
        }
    }

    /// It is to be asked at `now`. A moment too far ahead was set before the clock was set back.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let asked = self.error.as_ref().and_then(SourceError::retry_after);
        let usual = self.refresh.unwrap_or(REFRESH).max(REFRESH);
        let longest = usual.max(asked.unwrap_or_default());
        self.due
            .is_none_or(|due| due <= now || due > later(now, longest))
    }

    /// How long to wait after the failures so far, and for as long as was asked for. A source whose
    /// roots are known is not urgent.
    fn wait(&self, error: &SourceError) -> SignedDuration {
        let asked = error.retry_after().unwrap_or_default();
        self.usual_wait(error).max(asked)
    }

    fn usual_wait(&self, error: &SourceError) -> SignedDuration {
        if self.last_success.is_none() && error.is_without_a_call() {
            return FIRST_WAIT;
        }
        let first = if self.last_success.is_some() {
            self.refresh.unwrap_or(REFRESH)
        } else {
            FIRST_WAIT
        };
        let doubled = 2_i32.saturating_pow(self.failures.saturating_sub(1));
        first.saturating_mul(doubled).min(REFRESH)
    }
}

fn clamped(hint: Duration) -> SignedDuration {
    SignedDuration::try_from(hint)
        .unwrap_or(LONGEST_REFRESH)
        .clamp(SHORTEST_REFRESH, LONGEST_REFRESH)
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "source_tests.rs"]
mod tests;
