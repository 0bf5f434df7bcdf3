//! What a failed attempt at CA Service means, and what is allowed next: one pure table.
//!
//! The rule behind it: a request whose fate is unknown may have been carried out, so only the
//! same ids may be sent again; another pool may be asked only when it is certain that this one
//! sold nothing, or when the budget for finding out is spent. So certificates sold are always
//! those used and those abandoned, and none is abandoned before a budget ran out.
//!
//! [`Class::of`] classifies what came back; [`rule`] says what follows from it.
use std::time::Duration;

/// A pool that asks for more patience than this counts as refusing.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What is known about an attempt that brought no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt<'a> {
    /// There was no access token to send it with: the service was not asked, and another pool
    /// would not be either.
    NoToken {
        /// No repetition helps until somebody changes something.
        is_permanent: bool,
    },
    /// Nothing left this machine: no name, no connection.
    NotSent,
    /// The request may have arrived; no usable answer came back: timeout, reset, nonsense.
    NoAnswer,
    /// The service answered.
    Answer {
        /// HTTP status.
        http: u16,
        /// The canonical status of `google.rpc.Status`, for example `PERMISSION_DENIED`.
        status: Option<&'a str>,
        /// `Retry-After` or `google.rpc.RetryInfo`, the longer of the two.
        retry_after: Option<Duration>,
    },
}

/// The classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Class {
    /// The service is busy and sold nothing: the same pool, later.
    Busy,
    /// Whoever decides about the request itself said no for good: nothing was sold for it, and
    /// nothing will be.
    Declined,
    /// We may not; a permission is missing, or we are not known, also with a fresh token.
    Denied,
    /// `ALREADY_EXISTS`: our own ids were carried out before, on a first sending too, for nobody
    /// else has ids that derive from our key.
    Exists,
    /// The request itself is wrong: no repetition makes it right.
    Invalid,
    /// Our own ids were carried out before, and the certificate cannot be had any more.
    Lost,
    /// There was no access token.
    NoToken {
        /// No repetition helps until somebody changes something.
        is_permanent: bool,
    },
    /// The pool refused for certain: not there, not ready, too busy for long.
    Refused,
    /// Nobody knows whether a certificate was sold.
    Unknown,
    /// No connection: nothing was sold, but nothing is known of the pool either.
    Unreachable,
}

/// What the pool was asked when the attempt failed, and what is known from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sending {
    /// For nothing yet: it was looked at before a request is made.
    Look,
    /// For a certificate, with ids that were certainly not carried out before.
    First,
    /// For a certificate, with ids that may have been carried out by an earlier sending.
    Replay,
}

/// The time that one pool alone is asked while outcomes stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Some of it is left.
    Left,
    /// It is spent, and there is another pool.
    Spent,
    /// It is spent, and there is no other pool.
    SpentAlone,
}

/// What may be done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// The same pool, later; with the same ids if there are any.
    SamePool,
    /// The next pool at once, with a new key. After the last pool: wait.
    NextPool,
    /// Get the certificate that the ids name, and adopt it if the key is ours.
    Adopt,
    /// The same pool, later, with a new key.
    NewKey,
    /// Nothing but a change of the cause helps; ask again, with a new key.
    Wait,
}

/// What becomes of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It stays as it is.
    Kept,
    /// It stays, and from now on it may have been carried out.
    KeptOpen,
    /// It goes: nothing was sold for it.
    Dropped,
    /// It goes, and a certificate may have been sold for it.
    Abandoned,
}

/// How soon it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pace {
    /// By the usual backoff: it may heal by itself.
    Backoff,
    /// Slowly: somebody has to change something.
    Slow,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ruling {
    /// What is done next.
    pub next: Next,
    /// What becomes of the request, if there is one.
    pub fate: Fate,
    /// How soon, where nothing is done at once.
    pub pace: Pace,
}

impl Class {
    /// Classifies an attempt.
    pub fn of(attempt: Attempt<'_>) -> Self {
        let (http, status, retry_after) = match attempt {
            Attempt::NoToken { is_permanent } => return Self::NoToken { is_permanent },
            Attempt::NotSent => return Self::Unreachable,
            Attempt::NoAnswer => return Self::Unknown,
            Attempt::Answer {
                http,
                status,
                retry_after,
            } => (http, status, retry_after),
        };
        match (http, status) {
            (401 | 403, _) => Self::Denied,
            // We follow no redirect, so whoever sent one did not carry the request out.
            (300..=399 | 404 | 412 | 501, _) | (400, Some("FAILED_PRECONDITION")) => Self::Refused,
            (409, Some("ALREADY_EXISTS")) => Self::Exists,
            (429, _) if retry_after.is_some_and(|wait| wait > LONGEST_RETRY_AFTER) => Self::Refused,
            (429, _) => Self::Busy,
            (408 | 409 | 499 | 500..=599, _) => Self::Unknown,
            (400..=498, _) => Self::Invalid,
            _ => Self::Unknown,
        }
    }

    /// How soon it is worth trying again, if nothing else is to be done.
    pub fn pace(self) -> Pace {
        match self {
            Self::Declined
            | Self::Denied
            | Self::Invalid
            | Self::Refused
            | Self::NoToken { is_permanent: true } => Pace::Slow,
            Self::Busy
            | Self::Exists
            | Self::Lost
            | Self::NoToken {
                is_permanent: false,
            }
            | Self::Unknown
            | Self::Unreachable => Pace::Backoff,
        }
    }

    /// The name under which metrics and logs count it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Declined => "declined",
            Self::Denied => "denied",
            Self::Exists => "exists",
            Self::Invalid => "invalid",
            Self::Lost => "lost",
            Self::NoToken { .. } => "no_token",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
        }
    }
}

/// THE TABLE: what follows from a failure of this class.
#[expect(
    clippy::match_same_arms,
    reason = "it is read by class, and classes that end alike do so for different reasons"
)]
pub fn rule(class: Class, sending: Sending, budget: Budget) -> Ruling {
    use Budget::{Left, Spent, SpentAlone};
    use Fate::{Abandoned, Dropped, Kept, KeptOpen};
    use Next::{Adopt, NewKey, NextPool, SamePool, Wait};
    use Sending::{First, Look, Replay};

    let (next, fate) = match (class, sending, budget) {
        // Nothing was sent, and no pool would be better.
        (Class::NoToken { .. }, _, _) => (SamePool, Kept),

        (Class::Exists, First | Replay, _) => (Adopt, Kept),
        (Class::Lost, First | Replay, _) => (NewKey, Abandoned),
        (Class::Declined, _, _) => (NewKey, Dropped),

        (Class::Unknown, First | Replay, Left | SpentAlone) => (SamePool, KeptOpen),
        (Class::Unknown, First | Replay, Spent) => (NextPool, Abandoned),

        // A look buys nothing, whatever comes of it.
        (Class::Unknown | Class::Exists | Class::Lost, Look, Left | SpentAlone)
        | (Class::Busy | Class::Unreachable, _, Left | SpentAlone) => (SamePool, Kept),
        (Class::Unknown | Class::Exists | Class::Lost, Look, Spent)
        | (Class::Busy | Class::Unreachable, Look | First, Spent) => (NextPool, Dropped),
        (Class::Busy | Class::Unreachable, Replay, Spent) => (NextPool, Abandoned),

        (Class::Denied | Class::Refused, Look | First, _) => (NextPool, Dropped),
        (Class::Invalid, Look | First, _) => (Wait, Dropped),
        // That it is refused now does not prove that nothing was sold for it earlier.
        (Class::Denied | Class::Refused | Class::Invalid, Replay, Left)
        | (Class::Denied | Class::Refused, Replay, SpentAlone) => (SamePool, Kept),
        (Class::Denied | Class::Refused, Replay, Spent) => (NextPool, Abandoned),
        (Class::Invalid, Replay, Spent | SpentAlone) => (Wait, Abandoned),
    };
    let pace = match (sending, budget) {
        // What may have been sold is asked for while there is time for it.
        (Replay, Left) if !matches!(class, Class::NoToken { .. } | Class::Declined) => {
            Pace::Backoff
        }
        _ => class.pace(),
    };
    Ruling { next, fate, pace }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
