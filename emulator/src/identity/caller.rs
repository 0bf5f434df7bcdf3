//! The one who calls.

use std::sync::Arc;

use crate::errors::{ApiError, Code};

/// Somebody with a name in IAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// Every IAM member that means this one, the most exact first; mail addresses in lowercase.
    names: Vec<String>,
    /// Whether it is of Google's own (a user or a service account), not federated.
    is_google: bool,
    spiffe_id: Option<String>,
}

impl Principal {
    pub(super) fn user(email: &str) -> Self {
        Self::google("user", email)
    }

    pub(super) fn service_account(email: &str) -> Self {
        Self::google("serviceAccount", email)
    }

    fn google(kind: &str, email: &str) -> Self {
        Self {
            names: vec![format!("{kind}:{}", email.to_ascii_lowercase())],
            is_google: true,
            spiffe_id: None,
        }
    }

    pub(super) fn federated(names: Vec<String>, spiffe_id: Option<String>) -> Self {
        Self {
            names,
            is_google: false,
            spiffe_id,
        }
    }

    /// The most exact IAM member that means this one.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Whether the IAM member `member` means this one.
    pub(crate) fn is(&self, member: &str) -> bool {
        match member {
            "allUsers" => true,
            "allAuthenticatedUsers" => self.is_google,
            _ => {
                let member = normal(member);
                self.names.contains(&member)
            }
        }
    }

    pub(super) fn is_any(&self, members: &[String]) -> bool {
        members.iter().any(|member| self.is(member))
    }
}

/// The member with its mail address, if it has one, in lowercase.
fn normal(member: &str) -> String {
    match member.split_once(':') {
        // The other forms of `serviceAccount:` hold names of Kubernetes, lowercase by themselves.
        Some((kind @ ("user" | "serviceAccount"), email)) => {
            format!("{kind}:{}", email.to_ascii_lowercase())
        }
        _ => member.to_owned(),
    }
}

/// The one who makes a call, proven.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Nobody is configured, so everybody may do everything.
    Anybody,
    Known {
        principal: Arc<Principal>,
        is_administrator: bool,
    },
}

impl Caller {
    pub(crate) fn anybody() -> Self {
        Self(Kind::Anybody)
    }

    pub(crate) fn known(principal: Arc<Principal>, is_administrator: bool) -> Self {
        Self(Kind::Known {
            principal,
            is_administrator,
        })
    }

    /// Whether every permission is theirs, whatever the policies say.
    pub(crate) fn is_administrator(&self) -> bool {
        match &self.0 {
            Kind::Anybody => true,
            Kind::Known {
                is_administrator, ..
            } => *is_administrator,
        }
    }

    /// Whether the IAM member `member` means the caller.
    pub(crate) fn is(&self, member: &str) -> bool {
        match &self.0 {
            Kind::Anybody => false,
            Kind::Known { principal, .. } => principal.is(member),
        }
    }

    /// The SPIFFE ID that a certificate with `subjectMode: REFLECTED_SPIFFE` gets.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a caller without one.
    pub(crate) fn reflected_id(&self) -> Result<&str, ApiError> {
        let refuse = |reason: String| {
            Err(ApiError::new(
                Code::InvalidArgument,
                format!("subject_mode REFLECTED_SPIFFE: {reason}"),
            ))
        };
        match &self.0 {
            Kind::Anybody => refuse(
                "this emulator knows no identities, so there is none to reflect. Start it with \
                 --identities FILE, where FILE names a provider of workload identities."
                    .to_owned(),
            ),
            Kind::Known { principal, .. } => match &principal.spiffe_id {
                Some(id) => Ok(id),
                None => refuse(format!(
                    "the caller {} has no SPIFFE identity. Call with a token that was exchanged \
                     for a workload's own, and see trustDomain and spiffeId of its provider.",
                    super::text::excerpt(principal.name())
                )),
            },
        }
    }
}
