//! What to do next about a cluster's configuration: lines to paste into a shell.
use super::{
    super::super::{
        cluster::{self, DRIVER_LABEL, Request, Unseen},
        report::{Finding, NextStep, Skip},
        text::shell_word,
    },
    Facts,
    report::{Check, CheckId, Evidence},
};
use crate::kube::Kind;

/// The next steps for a cause.
pub(super) fn steps(facts: &Facts, cause: &Check, evidence: &Evidence) -> Vec<NextStep> {
    if matches!(cause.finding, Finding::Skipped(Skip::Unable, _))
        && let Some(unseen) = unseen(facts, cause.id)
    {
        return vec![unseen.step()];
    }
    match cause.id {
        CheckId::ApiServer => vec![
            NextStep::new("does the API server answer?", "kubectl get --raw /readyz"),
            NextStep::new(
                "again, by a kubeconfig that works here",
                "certagent inspect config --cluster --kubeconfig FILE",
            ),
        ],
        CheckId::Objects => {
            let mut steps = vec![as_they_are()];
            if evidence.objects.is_empty() {
                steps.push(NextStep::new(
                    "their kinds, if the cluster does not know them",
                    "kubectl apply -f deploy/crds.yaml",
                ));
            }
            steps
        }
        CheckId::Controller => cluster::controller_steps(
            facts
                .cluster
                .as_ref()
                .is_ok_and(|cluster| cluster.controller.is_missing()),
        ),
        CheckId::Ready | CheckId::RenderedRoots | CheckId::RootsValidity => {
            let mut steps = vec![as_they_are()];
            steps.extend(pool(evidence));
            steps.push(cluster::controller_log(None));
            steps
        }
        CheckId::Rotation => vec![cluster::system(
            "what do the drivers say of their renewals?",
            &format!("logs --selector {DRIVER_LABEL} --tail=-1 --prefix"),
        )],
        CheckId::OtherNodes | CheckId::Approvals | CheckId::Signatures | CheckId::Refusals => {
            of_request(facts, cause.id, evidence)
        }
    }
}

fn unseen(facts: &Facts, id: CheckId) -> Option<&Unseen> {
    let cluster = facts.cluster.as_ref().ok()?;
    match id {
        CheckId::Objects => cluster.objects.iter().find_map(|one| one.as_ref().err()),
        CheckId::Controller => cluster.controller.led.as_ref().err(),
        CheckId::OtherNodes => cluster.requests.as_ref().err(),
        _ => None,
    }
}

fn as_they_are() -> NextStep {
    let names = Kind::ALL.map(Kind::definition).join(",");
    NextStep::new(
        "the objects with what the controller says of them",
        &format!("kubectl get {names} --output yaml"),
    )
}

/// The pool may be at fault.
fn pool(evidence: &Evidence) -> Option<NextStep> {
    let pool = evidence.pools.first()?;
    Some(NextStep::new(
        "would the pool issue? with the flags and as the user by which the controller asks",
        &format!("certagent inspect pool {}", shell_word(pool)),
    ))
}

fn of_request(facts: &Facts, id: CheckId, evidence: &Evidence) -> Vec<NextStep> {
    let mut steps = Vec::new();
    let requests = facts
        .cluster
        .as_ref()
        .ok()
        .and_then(|cluster| cluster.requests.as_ref().ok());
    let which = requests.and_then(|requests| {
        // When it was, the check has judged already.
        let mut wanted = requests.all.iter().filter(|one| is_about(id, one));
        match id {
            CheckId::OtherNodes | CheckId::Refusals => wanted.next(),
            _ => wanted.next_back(),
        }
    });
    if let Some(request) = which {
        steps.push(NextStep::new(
            "the request with who made it",
            &format!("kubectl describe csr {}", shell_word(&request.name)),
        ));
        let (namespace, pod) = (namespace(request), request.pod_name.as_deref());
        if let (Some(namespace), Some(pod)) = (namespace, pod) {
            let pod = shell_word(&format!("{namespace}/{pod}"));
            let why = match id {
                CheckId::OtherNodes => "which node it was, and what to do about it",
                _ => "what does its pod wait for?",
            };
            steps.push(NextStep::new(why, &format!("certagent inspect pod {pod}")));
        }
    }
    if id == CheckId::Signatures {
        steps.extend(pool(evidence));
    }
    steps.push(cluster::controller_log(
        which.map(|request| request.name.as_str()),
    ));
    steps
}

fn is_about(id: CheckId, request: &Request) -> bool {
    match id {
        CheckId::OtherNodes => request.is_alarm(),
        CheckId::Approvals => request.state.as_str() == "pending",
        CheckId::Signatures => request.state.as_str() == "unsigned",
        _ => matches!(request.state.as_str(), "denied" | "failed"),
    }
}

/// Of the identity that is asked for.
fn namespace(request: &Request) -> Option<&str> {
    let (_, path) = request.spiffe_id.as_deref()?.split_once("/ns/")?;
    Some(path.split_once('/')?.0)
}
