//! A pod's own token, as kubelet brings it to a driver with each publish. It is in memory only.
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::{
    Token,
    subject::{self, Fault, Subject},
};

/// The token that a pod has now, if any. Clones are the same place: whoever gets a new token puts
/// it in, and the exchange takes it out. Two that were made apart are never equal.
#[derive(Clone)]
pub struct PodToken(Arc<Place>);

struct Place {
    name: String,
    namespace: String,
    service_account: String,
    subject: Mutex<Option<Subject>>,
}

/// Why a token of a pod is of no use. The one before it, if any, stays. No part of the token is in
/// the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token of {name}: {fault}")]
pub struct PodTokenError {
    /// Whose token it would be, for people.
    pub name: String,
    /// What is wrong.
    pub fault: PodTokenFault,
}

/// What is wrong with a token of a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PodTokenFault {
    /// There is none.
    #[error(
        "it is not known yet: kubelet brings it with its next publish, within 60 to 90 s; check tokenRequests and requiresRepublish of the CSIDriver object if it does not"
    )]
    Unknown,
    /// It is something else.
    #[error(
        "what came is no token of three parts with dots in between (a JWT); kubelet sends one for each audience in tokenRequests of the CSIDriver object"
    )]
    NotAToken,
    /// Its time is over.
    #[error(
        "it expired {seconds} s ago, at {at}; kubelet brings a new one with its next publish, within 60 to 90 s, if the CSIDriver object has requiresRepublish: true; check that, and this machine's clock"
    )]
    Expired {
        /// When.
        at: Timestamp,
        /// How long ago that is.
        seconds: i64,
    },
    /// It is of somebody else.
    #[error(
        "it is of {found}, not of {expected}; kubelet sends the token of the pod's own service account, so check that nobody else calls the driver's socket"
    )]
    OtherWorkload {
        /// Whose token it is by its own account.
        found: String,
        /// Whose it should be.
        expected: String,
    },
}

impl PodToken {
    /// A place for the tokens of one service account. `name` says for people which pod it is, such
    /// as `pod default/web-1`.
    pub fn new(name: String, namespace: String, service_account: String) -> Self {
        Self(Arc::new(Place {
            name,
            namespace,
            service_account,
            subject: Mutex::default(),
        }))
    }

    /// Which pod it is.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Takes a newer token. It must be a JWT of the pod's service account that has not expired, by
    /// its own account: nobody checked it, and the token service will.
    ///
    /// # Errors
    /// When it is anything else; the token before it then stays in use.
    pub fn set(&self, token: &Token, now: Timestamp) -> Result<(), PodTokenError> {
        let parsed = subject::parse(token.expose(), now).map_err(|fault| match fault {
            Fault::Expired { at, seconds } => PodTokenFault::Expired { at, seconds },
            Fault::File(_) | Fault::Empty | Fault::NotAToken => PodTokenFault::NotAToken,
        });
        let subject = parsed.map_err(|fault| self.error(fault))?;
        let Place {
            namespace,
            service_account,
            ..
        } = &*self.0;
        let expected = format!("system:serviceaccount:{namespace}:{service_account}");
        if subject.claims.subject.as_ref() != Some(&expected) {
            let found = subject.claims.subject.as_deref().unwrap_or("nobody");
            return Err(self.error(PodTokenFault::OtherWorkload {
                found: found.to_owned(),
                expected,
            }));
        }
        *self.lock() = Some(subject);
        Ok(())
    }

    /// The token to show now.
    pub(super) fn subject(&self, now: Timestamp) -> Result<Subject, PodTokenError> {
        let subject = self.lock().clone();
        let subject = subject.ok_or_else(|| self.error(PodTokenFault::Unknown))?;
        match subject.claims.expired(now) {
            None => Ok(subject),
            Some((at, seconds)) => Err(self.error(PodTokenFault::Expired { at, seconds })),
        }
    }

    /// Namespace and service account, which every token taken here has.
    pub(super) fn workload(&self) -> (String, String) {
        let place = &*self.0;
        (place.namespace.clone(), place.service_account.clone())
    }

    /// Nobody else has this place any more.
    pub(super) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn error(&self, fault: PodTokenFault) -> PodTokenError {
        PodTokenError {
            name: self.0.name.clone(),
            fault,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Subject>> {
        self.0
            .subject
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for PodToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PodToken {}

impl Hash for PodToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for PodToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodToken({})", self.0.name)
    }
}

#[cfg(test)]
#[path = "pod_token_tests.rs"]
mod tests;
