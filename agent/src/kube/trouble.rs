//! What is wrong between the agent and the API server, in words.
use std::time::Duration;

use kube::runtime::watcher;

use super::client::chain;

/// An answer that says the watched place has changed too much meanwhile: it is read anew.
const GONE: u16 = 410;

/// The API server gets so long for one answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The answer to one call, or why there is none.
pub(crate) async fn answer<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Trouble> {
    within(call).await?.map_err(|error| Trouble::from(&error))
}

/// The same for whoever looks at the answer's status.
pub(crate) async fn within<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, kube::Error>, Trouble> {
    tokio::time::timeout(DEADLINE, call)
        .await
        .map_err(|_elapsed| {
            let seconds = DEADLINE.as_secs();
            Trouble::Unreachable(format!("no answer in {seconds} s"))
        })
}

/// Why an object cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No answer, or one that says nothing about the object.
    Unreachable(String),
    /// The API server refuses.
    Forbidden(String),
    /// The API server does not know the kind.
    UnknownKind,
}

impl Trouble {
    /// None for what leaves the object as it is known: a watch that breaks begins anew by itself,
    /// and whether it has is not told. Where it lasts, the object is read anew, which fails aloud.
    pub(crate) fn of(error: &watcher::Error) -> Option<Self> {
        match error {
            watcher::Error::InitialListFailed(error) => Self::of_call(error),
            watcher::Error::NoResourceVersion => Some(Self::Unreachable(error.to_string())),
            watcher::Error::WatchStartFailed(_)
            | watcher::Error::WatchError(_)
            | watcher::Error::WatchFailed(_) => {
                tracing::debug!(%error, "a watch broke and begins anew");
                None
            }
        }
    }

    fn of_call(error: &kube::Error) -> Option<Self> {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            other => Some(Self::Unreachable(chain(other))),
        }
    }

    fn of_status(status: &kube::core::Status) -> Option<Self> {
        match status.code {
            GONE => None,
            401 | 403 => Some(Self::Forbidden(status.message.clone())),
            404 => Some(Self::UnknownKind),
            code => Some(Self::Unreachable(format!("{code} {}", status.message))),
        }
    }

    /// What it means for `object`, of a kind that `manifest` brings into the cluster.
    pub(crate) fn explain(&self, object: &str, manifest: &str) -> String {
        match self {
            Self::Unreachable(why) => {
                format!("the API server cannot be reached, so {object} is not known: {why}")
            }
            Self::Forbidden(why) => format!(
                "the API server does not let this process read {object}: {why}; apply the RBAC \
                rules of deploy/node.yaml, and for the controller of deploy/controller.yaml"
            ),
            Self::UnknownKind => format!(
                "the API server does not know the kind of {object}; apply deploy/{manifest}"
            ),
        }
    }

    /// What it means for writing `object`.
    pub(crate) fn explain_write(&self, object: &str) -> String {
        match self {
            Self::Unreachable(why) => {
                format!("{object} cannot be written, and is tried again: {why}")
            }
            Self::Forbidden(why) => format!(
                "the API server does not let this process read or write {object}: {why}; apply \
                the RBAC rules of deploy/controller.yaml"
            ),
            Self::UnknownKind => format!(
                "{object} cannot be written because the API server does not know the kind; apply \
                deploy/crds.yaml"
            ),
        }
    }
}

impl From<&kube::Error> for Trouble {
    fn from(error: &kube::Error) -> Self {
        Self::of_call(error).unwrap_or_else(|| Self::Unreachable(chain(error)))
    }
}
