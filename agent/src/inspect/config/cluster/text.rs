//! The report of a cluster's configuration as people read it.
use std::collections::BTreeMap;

use super::{
    super::super::{report::Finding, roots, text::clean},
    report::{CheckId, Report},
    tally::{self, Tally},
};

/// More problems are counted, not shown.
const MOST_PROBLEMS: usize = 12;

const NO_API_SERVER: &str = "the API server says nothing";

/// What is the matter, in a few words.
pub(super) fn summary(report: &Report) -> &'static str {
    let Some(cause) = &report.cause else {
        return "the configuration is in force, and certificates are signed";
    };
    let failed = matches!(cause.finding, Finding::Failed(_));
    match cause.id {
        CheckId::ApiServer => NO_API_SERVER,
        CheckId::Objects if failed => "the configuration cannot be used",
        CheckId::Objects => "the configuration has a flaw",
        CheckId::Controller => "the controller does not run",
        CheckId::Ready if failed => "the controller cannot use the configuration",
        CheckId::Ready => "the controller has not looked at the configuration yet",
        CheckId::RenderedRoots => "nodes have no roots",
        CheckId::RootsValidity => "a root has ended, or soon will",
        CheckId::OtherNodes => "ALARM: a node asks for another's pod",
        CheckId::Approvals => "requests are not decided",
        CheckId::Signatures => "certificates are not signed",
        CheckId::Refusals => "requests were denied or failed",
        CheckId::Rotation => "not everything was renewed ahead of its time",
    }
}

/// What a check that could not run means.
pub(super) fn unseen(id: CheckId) -> Option<&'static str> {
    match id {
        CheckId::ApiServer => Some(NO_API_SERVER),
        CheckId::Objects => Some("this user may not look at the objects"),
        CheckId::Controller => Some("whether the controller runs is not known"),
        CheckId::OtherNodes => Some("this user may not look at the requests"),
        _ => None,
    }
}

/// What is known, in lines.
pub(super) fn evidence(report: &Report) -> Vec<(&'static str, String)> {
    let evidence = &report.evidence;
    let mut lines = Vec::new();
    let kubernetes = evidence.kubernetes.clone();
    lines.extend(kubernetes.map(|version| ("kubernetes", version)));
    for object in &evidence.objects {
        let generation = object.generation.unwrap_or_default();
        lines.push((
            "object",
            format!("{}, generation {generation}", object.kind),
        ));
        lines.push((
            "",
            match &object.ready {
                Some(ready) => {
                    let observed = ready.observed_generation;
                    let observed =
                        observed.map_or_else(String::new, |one| format!(" (generation {one})"));
                    format!(
                        "Ready {}{observed}: {}: {}",
                        ready.status, ready.reason, ready.message
                    )
                }
                None => "the controller has said nothing of it".to_owned(),
            },
        ));
    }
    let shown = evidence.problems.iter().take(MOST_PROBLEMS);
    lines.extend(shown.map(|problem| ("problem", clean(&problem.to_string()))));
    if let Some(more @ 1..) = evidence.problems.len().checked_sub(MOST_PROBLEMS) {
        lines.push(("", format!("and {more} more")));
    }
    lines.extend(evidence.pools.iter().map(|pool| ("pool", pool.clone())));
    let deployed = evidence.deployment.map(|there| there.to_string());
    let led = evidence.lease.as_ref().map(|led| match &led.holder {
        Some(holder) => format!("{holder} leads"),
        None => "nobody leads".to_owned(),
    });
    let told: Vec<_> = [deployed, led].into_iter().flatten().collect();
    if !told.is_empty() {
        lines.push(("controller", told.join(", ")));
    }
    for (domain, roots) in &evidence.rendered_roots {
        lines.push(("rendered", domain.clone()));
        lines.extend(roots::lines(roots));
    }
    if let Some(tally) = &evidence.requests {
        lines.push(("requests", numbers(tally)));
        for (name, counts) in [
            ("unsigned", &tally.unsigned),
            ("denied", &tally.denied),
            ("failed", &tally.failed),
        ] {
            if !counts.is_empty() {
                lines.push(("", format!("{name}: {}", reasons(counts))));
            }
        }
    }
    if let Some(rotation) = &evidence.rotation {
        lines.push(("rotation", rotation.asked.to_string()));
        let progress = rotation.progress.as_ref();
        lines.extend(progress.map(|progress| ("", progress.to_string())));
    }
    lines
}

fn numbers(tally: &Tally) -> String {
    let more = if tally.is_cut { ", and more" } else { "" };
    format!(
        "{} pending, {} approved and not signed, {} signed{more}; in the last hour {} denied, {} failed",
        tally.pending,
        tally::all(&tally.unsigned),
        tally.signed,
        tally::all(&tally.denied),
        tally::all(&tally.failed)
    )
}

fn reasons(counts: &BTreeMap<String, usize>) -> String {
    let each = counts
        .iter()
        .map(|(reason, number)| format!("{number} {reason}"));
    each.collect::<Vec<_>>().join(", ")
}
