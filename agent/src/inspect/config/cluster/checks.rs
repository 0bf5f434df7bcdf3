//! The checks of a cluster's configuration: what the facts mean.
use certagent_core::config::{Problem, TrustAnchor, TrustPolicy};
use certagent_svid::Certificate;
use jiff::Timestamp;

use super::{
    super::super::{
        cluster::{ConfigObject, Request, Works},
        report::{Findings, Skip},
        roots::{self, Root},
        text::{clean, count, relative},
    },
    Cluster, ClusterWanted, Facts,
    report::{Check, CheckId, Evidence, Object, Rotation},
    rotation,
    tally::{self, Firsts, Tally},
};
use crate::{kube::Kind, trust::rendered};

type Checks = Findings<CheckId>;

/// Checks everything.
pub(super) fn run(wanted: &ClusterWanted, facts: &Facts, now: Timestamp) -> (Vec<Check>, Evidence) {
    let mut checks = Findings::new();
    let mut evidence = Evidence::default();
    match &facts.cluster {
        Err(reason) => checks.skipped(CheckId::ApiServer, Skip::Unable, reason),
        Ok(cluster) => {
            let version = cluster.version.as_deref().map(clean);
            let detail = version.as_ref().map_or_else(
                || "it answers".to_owned(),
                |version| format!("Kubernetes {version}"),
            );
            checks.passed(CheckId::ApiServer, &detail);
            evidence.kubernetes = version;
            told(&mut evidence, cluster);
            objects(&mut checks, cluster);
            if !checks.blocks(CheckId::Objects) {
                rotation(&mut checks, &mut evidence, cluster, now);
            }
            if wanted.by_controller {
                controller(&mut checks, cluster, now);
                if !checks.blocks(CheckId::Objects) {
                    ready(&mut checks, cluster);
                }
                rendered(&mut checks, &mut evidence, cluster, now);
                requests(&mut checks, &mut evidence, cluster, now);
            } else {
                without_controller(&mut checks);
            }
        }
    }
    (checks.finish(), evidence)
}

/// What is known whatever it means.
fn told(evidence: &mut Evidence, cluster: &Cluster) {
    for (kind, object) in known(cluster) {
        evidence.pools.extend(object.pools.iter().cloned());
        evidence.objects.push(Object {
            kind: kind.name(),
            generation: object.generation,
            ready: object.ready.clone(),
        });
    }
    let found = cluster.found.as_ref().ok();
    evidence.problems = found.map_or_else(Vec::new, |found| found.problems.clone());
    evidence.deployment = cluster.controller.deployed.as_ref().ok().copied().flatten();
    evidence.lease = cluster.controller.led.as_ref().ok().cloned().flatten();
}

/// The objects that are there.
fn known(cluster: &Cluster) -> impl Iterator<Item = (Kind, &ConfigObject)> {
    let objects = Kind::ALL.into_iter().zip(&cluster.objects);
    objects.filter_map(|(kind, object)| Some((kind, object.as_ref().ok()?.as_ref()?)))
}

/// Who gets certificates by itself needs no controller.
fn without_controller(checks: &mut Checks) {
    let why = "with --identity the drivers ask the CA by themselves";
    for id in [
        CheckId::Controller,
        CheckId::Ready,
        CheckId::RenderedRoots,
        CheckId::RootsValidity,
        CheckId::OtherNodes,
        CheckId::Approvals,
        CheckId::Signatures,
        CheckId::Refusals,
    ] {
        checks.skipped(id, Skip::Minor, why);
    }
}

fn objects(checks: &mut Checks, cluster: &Cluster) {
    let id = CheckId::Objects;
    if let Some(unseen) = cluster.objects.iter().find_map(|one| one.as_ref().err()) {
        return checks.skipped(id, Skip::Unable, &unseen.text);
    }
    let found = match &cluster.found {
        Ok(found) => found,
        Err(reason) => return checks.skipped(id, Skip::Unable, reason),
    };
    let of = |wanted: bool| -> Vec<&Problem> {
        let problems = found.problems.iter();
        problems.filter(|one| one.is_error() == wanted).collect()
    };
    let (errors, warnings) = (of(true), of(false));
    match (errors.first(), warnings.first()) {
        (Some(first), _) => checks.failed(id, &with_more(first, errors.len())),
        (None, Some(first)) => checks.warned(id, &with_more(first, warnings.len())),
        (None, None) => checks.passed(id, "both objects are there and mean something"),
    }
}

fn with_more(first: &Problem, all: usize) -> String {
    match all.saturating_sub(1) {
        0 => first.to_string(),
        more => format!("{first} (and {more} more)"),
    }
}

fn controller(checks: &mut Checks, cluster: &Cluster, now: Timestamp) {
    let id = CheckId::Controller;
    match cluster.controller.works(now) {
        Works::Yes(detail) => checks.passed(id, &detail),
        Works::No(why) => {
            let detail = format!("nobody approves and signs requests, or renders roots; {why}");
            checks.failed(id, &detail);
        }
        Works::Unseen(unseen) => checks.skipped(id, Skip::Unable, &unseen.text),
    }
}

fn ready(checks: &mut Checks, cluster: &Cluster) {
    let id = CheckId::Ready;
    let (mut not, mut unsaid) = (Vec::new(), Vec::new());
    for (kind, object) in known(cluster) {
        let name = kind.object();
        match &object.ready {
            None => unsaid.push(format!(
                "the controller has not said whether it can use {name}"
            )),
            Some(ready) if !ready.is_true() => not.push(format!(
                "{name} is not Ready: {}: {}",
                ready.reason, ready.message
            )),
            Some(ready) if object.is_newer() => {
                let number = |one: Option<i64>| one.unwrap_or_default();
                unsaid.push(format!(
                    "{name} is of generation {}, and the controller has looked at {}",
                    number(object.generation),
                    number(ready.observed_generation)
                ));
            }
            Some(_) => {}
        }
    }
    match (not.first(), unsaid.first()) {
        (Some(problem), _) => checks.failed(id, problem),
        (None, Some(problem)) => checks.warned(id, problem),
        (None, None) => checks.passed(id, "the controller can use both objects as they are now"),
    }
}

/// What is to be renewed ahead of its time.
fn rotation(checks: &mut Checks, evidence: &mut Evidence, cluster: &Cluster, now: Timestamp) {
    let config = cluster.found.as_ref().ok();
    let asked = config
        .and_then(|found| found.config.as_ref())
        .and_then(|config| config.spread_rotation);
    let progress = cluster.rotation.as_ref();
    rotation::judge(checks, asked, progress, now);
    let known = progress.and_then(|progress| progress.as_ref().ok());
    evidence.rotation = asked.map(|asked| Rotation {
        asked,
        progress: known.cloned(),
    });
}

/// What nodes trust.
fn rendered(checks: &mut Checks, evidence: &mut Evidence, cluster: &Cluster, now: Timestamp) {
    let id = CheckId::RenderedRoots;
    let [_, trust] = &cluster.objects;
    let Ok(Some(trust)) = trust else {
        return;
    };
    let rendered = match rendered::parse(trust.status.as_ref()) {
        Ok(Some(rendered)) => rendered,
        Ok(None) => {
            let detail = "the status of TrustConfig/default has no roots yet, so nodes trust nobody \
                          and nothing is signed";
            return checks.failed(id, detail);
        }
        Err(error) => return checks.failed(id, &error.to_string()),
    };
    let roots = all_roots(&rendered);
    for (domain, root) in &roots {
        let told = evidence.rendered_roots.entry(domain.clone()).or_default();
        told.push(Root::of(root));
    }
    let config = cluster.found.as_ref().ok();
    let config = config.and_then(|found| found.config.as_ref());
    let named = config
        .into_iter()
        .flat_map(|config| config.trust.stores.keys());
    let missing: Vec<_> = named
        .filter(|domain| !rendered.stores.contains_key(*domain))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        let domains = count(rendered.stores.len(), "trust domain");
        checks.passed(id, &format!("{} of {domains}", count(roots.len(), "root")));
    } else {
        let detail = format!("no root of {} is rendered", missing.join(", "));
        checks.failed(id, &detail);
    }
    let roots: Vec<Certificate> = roots.into_iter().map(|(_, root)| root.clone()).collect();
    checks.record(CheckId::RootsValidity, roots::validity(&roots, now));
}

fn all_roots(rendered: &TrustPolicy) -> Vec<(String, &Certificate)> {
    let stores = rendered.stores.iter();
    let anchors = stores.flat_map(|(domain, anchors)| anchors.iter().map(move |one| (domain, one)));
    let roots = anchors.filter_map(|(domain, anchor)| match anchor {
        TrustAnchor::Pem(root) => Some((domain.to_string(), root)),
        // What is rendered has none of these.
        TrustAnchor::Pool(_) | TrustAnchor::Endpoint(_) => None,
    });
    roots.collect()
}

fn requests(checks: &mut Checks, evidence: &mut Evidence, cluster: &Cluster, now: Timestamp) {
    let requests = match &cluster.requests {
        Ok(requests) => requests,
        Err(unseen) => {
            return checks.skipped(CheckId::OtherNodes, Skip::Unable, &unseen.text);
        }
    };
    let (tally, firsts) = Tally::of(requests, now);
    let Firsts {
        undecided,
        unsigned,
        refused,
        alarm,
    } = firsts;
    match alarm {
        Some(one) => {
            let detail = format!("somebody may use a node's token: {}", with_reason(one));
            checks.failed(CheckId::OtherNodes, &detail);
        }
        None => checks.passed(CheckId::OtherNodes, "no node asked for another's pod"),
    }
    match undecided {
        Some(one) => {
            let made = one
                .created
                .map(|at| format!(", made {}", relative(at, now)));
            let detail = format!(
                "{} neither approved nor denied; the oldest is {}{}",
                count(tally.pending, "request"),
                one.name,
                made.unwrap_or_default()
            );
            checks.failed(CheckId::Approvals, &detail);
        }
        None => checks.passed(CheckId::Approvals, "no request waits for a decision"),
    }
    match unsigned {
        Some(one) => {
            let detail = format!(
                "{} approved and not signed; the oldest is {}",
                count(tally::all(&tally.unsigned), "request"),
                with_reason(one)
            );
            checks.failed(CheckId::Signatures, &detail);
        }
        None => checks.passed(CheckId::Signatures, "no approved request waits for the CA"),
    }
    match refused {
        Some(one) => {
            let all = tally::all(&tally.denied) + tally::all(&tally.failed);
            let detail = format!(
                "{} denied or failed in the last hour; the newest is {}",
                count(all, "request"),
                with_reason(one)
            );
            checks.warned(CheckId::Refusals, &detail);
        }
        None => checks.passed(
            CheckId::Refusals,
            "no request was denied or failed in the last hour",
        ),
    }
    evidence.requests = Some(tally);
}

fn with_reason(request: &Request) -> String {
    match request.state.reason() {
        Some(reason) => format!("{}: {reason}", request.name),
        None => format!("{}: the controller has not said why", request.name),
    }
}
