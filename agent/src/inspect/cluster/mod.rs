//! What a person may read in a cluster, for the inspections that begin there.
//!
//! Every read has its [`Permission`], so that one that is refused is told as what is missing, and
//! the others go on.
mod controller;
mod objects;
mod requests;

use ::kube::Client;

use super::{report::NextStep, text::shell_word};
use crate::kube::{Trouble, answer};

pub(super) use controller::{Controller, Deployed, Led, Works};
pub(super) use objects::{ConfigObject, Ready};
pub(super) use requests::{Request, Requests, State};

#[cfg(test)]
pub(super) use requests::Reason;

/// The namespace of everything that `deploy/` runs.
pub(super) const NAMESPACE: &str = "certagent-system";

/// The label of the drivers' pods.
pub(super) const DRIVER_LABEL: &str = "app.kubernetes.io/name=certagent-node";

/// What changes by itself is not a problem before it has lasted so long.
pub(super) const SETTLING: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);

/// What one read needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permission {
    verb: &'static str,
    /// As kubectl names it, with its group.
    resource: &'static str,
    namespace: Option<String>,
}

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unseen {
    pub(super) text: String,
    /// What is missing; none if the API server gave no answer.
    pub(super) missing: Option<Permission>,
}

/// What the API server says, or why it is not known.
pub(super) type Seen<T> = Result<T, Unseen>;

impl Permission {
    pub(super) const fn of(verb: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            resource,
            namespace: None,
        }
    }

    pub(super) fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The answer to a call that needs it.
    pub(super) async fn ask<T>(
        self,
        call: impl Future<Output = Result<T, ::kube::Error>>,
    ) -> Seen<T> {
        answer(call).await.map_err(|trouble| self.unseen(trouble))
    }

    pub(super) fn unseen(self, trouble: Trouble) -> Unseen {
        match trouble {
            Trouble::Forbidden(why) => Unseen {
                text: format!("this user may not {self}: {why}"),
                missing: Some(self),
            },
            Trouble::Unreachable(why) => Unseen {
                text: format!("the API server did not let us {self}: {why}"),
                missing: None,
            },
            Trouble::UnknownKind => Unseen {
                text: format!("the API server does not know {}", self.resource),
                missing: None,
            },
        }
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in the namespace {namespace}"),
            None => Ok(()),
        }
    }
}

impl Unseen {
    /// What ends it.
    pub(super) fn step(&self) -> NextStep {
        let Some(missing) = &self.missing else {
            return NextStep::new("does the API server answer?", "kubectl get --raw /readyz");
        };
        let namespace = missing.namespace.as_deref();
        let namespace = namespace.map_or_else(String::new, |namespace| {
            format!(" --namespace {}", shell_word(namespace))
        });
        NextStep::new(
            "may this user? again as somebody who may, with --kubeconfig",
            &format!(
                "kubectl auth can-i {} {}{namespace}",
                missing.verb, missing.resource
            ),
        )
    }
}

/// A step in the namespace of driver and controller.
pub(super) fn system(why: &str, what: &str) -> NextStep {
    NextStep::new(why, &format!("kubectl --namespace {NAMESPACE} {what}"))
}

/// What to do about a controller that does not work.
pub(super) fn controller_steps(is_missing: bool) -> Vec<NextStep> {
    if is_missing {
        return vec![NextStep::new(
            "the controller",
            "kubectl apply -f deploy/controller.yaml",
        )];
    }
    vec![
        system(
            "its pods with their events",
            "describe pods --selector app.kubernetes.io/name=certagent-controller",
        ),
        controller_log(None),
    ]
}

/// The log of the controller, or what it says of one thing.
pub(super) fn controller_log(about: Option<&str>) -> NextStep {
    let about = about.map_or_else(String::new, |about| {
        format!(" | grep --fixed-strings -- {}", shell_word(about))
    });
    system(
        "what does the controller's log say?",
        &format!("logs --selector app.kubernetes.io/name=certagent-controller --tail=-1{about}"),
    )
}

/// The version of an API server that answers; none if it keeps that to itself.
pub(super) async fn version(client: &Client) -> Result<Option<String>, String> {
    match answer(client.apiserver_version()).await {
        Ok(version) => Ok(Some(version.git_version)),
        // What else it refuses is told one by one.
        Err(Trouble::Forbidden(_)) => Ok(None),
        Err(trouble) => Err(trouble.explain("the cluster", "node.yaml")),
    }
}

#[cfg(test)]
pub(super) mod lab;
#[cfg(test)]
mod tests;
