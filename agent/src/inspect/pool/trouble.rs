//! What a failed call says about whom.
use crate::cas::{CallError, Reason};

/// Who or what is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inspect) enum Trouble {
    /// Nobody answers, or somebody who is not CA Service.
    Endpoint,
    /// There is no access token.
    NoToken {
        /// Asking again does not help.
        is_permanent: bool,
    },
    /// CA Service does not know who asks.
    Stranger,
    /// It knows who asks, and a permission is missing.
    Denied,
    /// What was asked for is not there.
    Missing,
    /// It says no.
    Refused,
    /// It answers, but not now.
    Away,
}

impl Trouble {
    pub(in crate::inspect) fn of(error: &CallError) -> Self {
        let (http, status) = match &*error.reason {
            Reason::NoToken(error) => {
                return Self::NoToken {
                    is_permanent: error.is_permanent,
                };
            }
            Reason::Unauthenticated { .. } => return Self::Stranger,
            Reason::Unusable { .. } => return Self::Refused,
            Reason::Answer { http, status, .. } => (*http, status.as_deref()),
            _ => return Self::Endpoint,
        };
        match (http, status) {
            (403, _) => Self::Denied,
            // An error without a canonical status is not in CA Service's form.
            (_, None) => Self::Endpoint,
            (404, _) => Self::Missing,
            (408 | 409 | 429 | 499 | 500.., _) => Self::Away,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cas::Call,
        google::{IdentityError, Shown},
    };

    fn trouble(reason: Reason) -> Trouble {
        let pool = "//privateca.googleapis.com/projects/demo-project/locations/l/caPools/p";
        let pool = pool.parse().unwrap();
        Trouble::of(&CallError::new(Call::GetCaPool, &pool, reason, None))
    }

    #[test]
    fn every_failure_has_somebody_to_blame() {
        let answer = |http, status: &str| {
            trouble(Reason::Answer {
                http,
                status: Some(status.to_owned()).filter(|status| !status.is_empty()),
                message: String::new(),
                permission: None,
            })
        };
        for (http, status, expected) in [
            (403, "PERMISSION_DENIED", Trouble::Denied),
            (404, "NOT_FOUND", Trouble::Missing),
            (404, "", Trouble::Endpoint),
            (302, "", Trouble::Endpoint),
            (503, "", Trouble::Endpoint),
            (400, "INVALID_ARGUMENT", Trouble::Refused),
            (400, "FAILED_PRECONDITION", Trouble::Refused),
            (429, "RESOURCE_EXHAUSTED", Trouble::Away),
            (503, "UNAVAILABLE", Trouble::Away),
        ] {
            assert_eq!(answer(http, status), expected, "{http} {status}");
        }
        let detail = String::new;
        for (reason, expected) in [
            (
                Reason::Timeout {
                    endpoint: detail(),
                    after: Duration::ZERO,
                },
                Trouble::Endpoint,
            ),
            (Reason::TooLarge, Trouble::Endpoint),
            (
                Reason::Unauthenticated {
                    shown: Shown::Nobody,
                    message: detail(),
                },
                Trouble::Stranger,
            ),
            (Reason::Unusable { detail: detail() }, Trouble::Refused),
            (
                Reason::NoToken(IdentityError::permanent(detail())),
                Trouble::NoToken { is_permanent: true },
            ),
        ] {
            assert_eq!(trouble(reason), expected);
        }
    }
}
