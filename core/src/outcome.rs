//! What a failed attempt at CA Service means, and what is allowed next: one pure table.
//!
//! The rule behind it: a request whose fate is unknown may have been carried out, so only the
//! same ids may be sent again; another pool may be asked only when it is certain that this one
//! sold nothing, or when the budget for finding out is spent.
use std::time::Duration;

/// A pool that asks for more patience than this counts as refusing.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What is known about an attempt that brought no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt<'a> {
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
    /// We may not; a permission is missing, or we are not known.
    Denied,
    /// `ALREADY_EXISTS`: our own ids were carried out before.
    Exists,
    /// The request itself is wrong: no repetition makes it right.
    Invalid,
    /// The pool refused for certain: not there, not ready, too busy for long.
    Refused,
    /// Nobody knows whether a certificate was sold.
    Unknown,
    /// No connection: nothing was sold, but nothing is known of the pool either.
    Unreachable,
}

/// What may be done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same pool with the same ids, until the budget is spent.
    SamePool,
    /// The next pool at once, with a new key. After the last pool: wait.
    NextPool,
    /// Get the certificate that the ids name, and adopt it if the key is ours.
    Adopt,
    /// Nothing but a change of the cause helps; ask again slowly.
    Wait,
}

impl Class {
    /// Classifies an attempt.
    pub fn of(attempt: Attempt<'_>) -> Self {
        let (http, status, retry_after) = match attempt {
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

    /// What is allowed next.
    pub fn next(self) -> Next {
        match self {
            Self::Denied | Self::Refused => Next::NextPool,
            Self::Exists => Next::Adopt,
            Self::Invalid => Next::Wait,
            Self::Busy | Self::Unknown | Self::Unreachable => Next::SamePool,
        }
    }

    /// The name under which metrics and logs count it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Denied => "denied",
            Self::Exists => "exists",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(http: u16, status: &str) -> Class {
        Class::of(Attempt::Answer {
            http,
            status: Some(status),
            retry_after: None,
        })
    }

    #[test]
    fn every_canonical_status_has_its_class() {
        for (http, status, class) in [
            (400, "INVALID_ARGUMENT", Class::Invalid),
            (400, "OUT_OF_RANGE", Class::Invalid),
            (400, "FAILED_PRECONDITION", Class::Refused),
            (412, "FAILED_PRECONDITION", Class::Refused),
            (401, "UNAUTHENTICATED", Class::Denied),
            (403, "PERMISSION_DENIED", Class::Denied),
            (404, "NOT_FOUND", Class::Refused),
            (409, "ALREADY_EXISTS", Class::Exists),
            (409, "ABORTED", Class::Unknown),
            (429, "RESOURCE_EXHAUSTED", Class::Busy),
            (499, "CANCELLED", Class::Unknown),
            (500, "INTERNAL", Class::Unknown),
            (501, "UNIMPLEMENTED", Class::Refused),
            (503, "UNAVAILABLE", Class::Unknown),
            (504, "DEADLINE_EXCEEDED", Class::Unknown),
        ] {
            assert_eq!(answer(http, status), class, "{http} {status}");
        }
    }

    #[test]
    fn a_pool_that_is_busy_for_long_counts_as_refusing() {
        let busy = |seconds| {
            Class::of(Attempt::Answer {
                http: 429,
                status: Some("RESOURCE_EXHAUSTED"),
                retry_after: Some(Duration::from_secs(seconds)),
            })
        };
        assert_eq!(busy(30), Class::Busy);
        assert_eq!(busy(31), Class::Refused);
    }

    #[test]
    fn another_pool_is_asked_only_when_this_one_sold_nothing_for_certain() {
        for http in 100..=999 {
            let class = Class::of(Attempt::Answer {
                http,
                status: None,
                retry_after: None,
            });
            if class.next() == Next::NextPool {
                assert!(
                    matches!(http, 300..=399 | 401 | 403 | 404 | 412 | 501),
                    "{http} must not move on to another pool"
                );
            }
        }
        assert_eq!(Class::of(Attempt::NoAnswer).next(), Next::SamePool);
        assert_eq!(Class::of(Attempt::NotSent).next(), Next::SamePool);
    }
}
