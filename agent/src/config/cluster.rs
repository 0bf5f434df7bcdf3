//! The configuration follows the cluster's two objects.
use std::{sync::Arc, time::Duration};

use certagent_core::config::{Problem, Settings, Severity, Source};
use futures::{StreamExt as _, stream::select};
use kube::{
    Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ActiveConfig, ConfigState, Found, activation::Activation};
use crate::{
    admin::Metrics,
    kube::{Looked, look},
    volume::StateDir,
};

const GROUP: &str = "security.cloud.google.com";
const VERSION: &str = "v1";
/// Kinds and plurals of the two objects.
const KINDS: [(&str, &str); 2] = [
    ("WorkloadCertificateConfig", "workloadcertificateconfigs"),
    ("TrustConfig", "trustconfigs"),
];
/// An API server that does not answer is waited for so long before an earlier configuration counts.
const PATIENCE: Duration = Duration::from_secs(5);
/// The only name that counts.
const NAME: &str = "default";

/// Follows the two objects of the cluster until `cancel`. Before the first pair without errors
/// there is no active configuration, unless an earlier process kept one.
pub fn follow(
    client: &Client,
    settings: Settings,
    state: Arc<StateDir>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
) -> (watch::Receiver<ConfigState>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(ConfigState::default());
    let [certificates, trust] = KINDS.map(|(kind, plural)| {
        let kind = GroupVersionKind::gvk(GROUP, VERSION, kind);
        look(
            client.clone(),
            &ApiResource::from_gvk_with_plural(&kind, plural),
            NAME,
        )
    });
    let events = select(
        certificates.map(|looked| (0, looked)),
        trust.map(|looked| (1, looked)),
    );
    let mut follower = Follower {
        settings,
        state,
        metrics,
        sender,
        active: None,
        looked: [None, None],
    };
    let follow = async move {
        let mut events = Box::pin(events);
        let mut patience = Box::pin(sleep(PATIENCE));
        let mut is_patient = true;
        loop {
            let (which, looked) = tokio::select! {
                Some(event) = events.next() => event,
                () = &mut patience, if is_patient => {
                    is_patient = false;
                    follower.take();
                    continue;
                }
                else => break,
            };
            if let Some(place) = follower.looked.get_mut(which) {
                // While the API server is away, what was seen last counts.
                if !matches!(
                    (&*place, &looked),
                    (Some(Looked::Found(_)), Looked::Unknown(_))
                ) {
                    *place = Some(looked);
                }
            }
            if !is_patient || follower.looked.iter().all(Option::is_some) {
                follower.take();
            }
        }
    };
    let task = tokio::spawn(async move {
        cancel.run_until_cancelled(follow).await;
    });
    (receiver, task)
}

struct Follower {
    settings: Settings,
    state: Arc<StateDir>,
    metrics: Arc<Metrics>,
    sender: watch::Sender<ConfigState>,
    active: Option<(Activation, watch::Receiver<Arc<ActiveConfig>>)>,
    looked: [Option<Looked>; 2],
}

impl Follower {
    /// Makes what was seen last active, or says why not.
    fn take(&mut self) {
        let found = found(&self.looked, &self.settings);
        let mut problem = None;
        if let Some((activation, _)) = &mut self.active {
            activation.take(found);
        } else {
            let (state, metrics) = (&self.state, Arc::clone(&self.metrics));
            match Activation::start(&self.settings, state, metrics, found) {
                Ok(active) => self.active = Some(active),
                Err(bad) => problem = Some(errors(&bad.problems)),
            }
        }
        let active = self
            .active
            .as_ref()
            .map(|(_, active)| Arc::clone(&active.borrow()));
        let now = ConfigState {
            problem: problem.or_else(|| active.as_ref()?.problem.clone()),
            active,
        };
        if *self.sender.borrow() != now {
            // What is active tells its own changes.
            if let (Some(problem), None) = (&now.problem, &now.active) {
                warn!("there is no configuration yet: {problem}");
            }
            self.sender.send_replace(now);
        }
    }
}

/// All errors in one line.
fn errors(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.is_error());
    let errors: Vec<_> = errors
        .map(|error| error.to_string().trim_start_matches("error: ").to_owned())
        .collect();
    errors.join("; ")
}

/// What both objects say together.
fn found(looked: &[Option<Looked>; 2], settings: &Settings) -> Found {
    let (mut sources, mut troubles) = (Vec::new(), Vec::new());
    for ((kind, _), looked) in KINDS.iter().zip(looked) {
        match looked {
            Some(Looked::Found(object)) => sources.push(source(kind, object)),
            Some(Looked::Missing) => troubles.push(format!(
                "there is no {kind} named {NAME} in the cluster; apply one"
            )),
            Some(Looked::Unknown(reason)) => troubles.push(reason.clone()),
            None => troubles.push(format!(
                "the API server was not asked for {kind}/{NAME} yet"
            )),
        }
    }
    let mut found = Found::check(sources, settings);
    // Where a text that was made of an object has a line and a column, nobody can look there.
    for problem in &mut found.problems {
        (problem.file, problem.line, problem.column) = (String::new(), 0, 0);
    }
    if !troubles.is_empty() {
        found.config = None;
        // What one object lacks without the other is no problem of its own.
        found.problems.retain(|problem| problem.object.is_some());
        found.problems.extend(troubles.into_iter().map(trouble));
    }
    found
}

fn trouble(message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        file: String::new(),
        line: 0,
        column: 0,
        object: None,
        field: None,
        message,
        allowed: None,
    }
}

/// The object as a text: only what a person wrote.
fn source(kind: &str, object: &DynamicObject) -> Source {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let text = serde_json::json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        "metadata": { "name": object.metadata.name },
        "spec": spec,
    });
    Source {
        name: format!("{kind}/{NAME}"),
        text: text.to_string(),
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
