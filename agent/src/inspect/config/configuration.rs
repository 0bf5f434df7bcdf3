//! The objects themselves: everything that `certagent validate` says.
use std::path::PathBuf;

use certagent_core::config::{Config, Problem};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::{
    report::{self, CheckName, Finding, Findings, NextStep, Subject},
    text::{clean, count, shell_word, span},
};
use crate::config::Found;

/// More problems are counted, not shown to people.
const MOST_PROBLEMS: usize = 12;

/// A configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Configuration;

/// The outcome of reading a configuration.
pub(super) type Report = report::Report<Configuration>;

impl Subject for Configuration {
    type Id = CheckId;
    type Evidence = Evidence;

    const NAME: &'static str = "configuration";

    fn summary(report: &Report) -> String {
        match report.cause.as_ref().map(|cause| &cause.finding) {
            None => "the configuration is good",
            Some(Finding::Failed(_)) => "the configuration cannot be used",
            Some(_) => "the configuration has a flaw",
        }
        .to_owned()
    }

    fn evidence(report: &Report) -> Vec<(&'static str, String)> {
        let evidence = &report.evidence;
        let mut lines = Vec::new();
        if let Some(policy) = &evidence.policy {
            let seconds = |seconds| {
                span(SignedDuration::from_secs(
                    i64::try_from(seconds).unwrap_or(i64::MAX),
                ))
            };
            lines.push(("keys", policy.key_algorithm.to_owned()));
            lines.push((
                "validity",
                format!(
                    "{}, renewed from the last {}% on",
                    seconds(policy.validity_seconds),
                    policy.rotation_window_percentage
                ),
            ));
            let rotation = policy.spread_rotation.clone();
            lines.extend(rotation.map(|rotation| ("rotation", rotation)));
            lines.push(("workloads", policy.workloads.to_string()));
        }
        let shown = evidence.problems.iter().take(MOST_PROBLEMS);
        lines.extend(shown.map(|problem| ("problem", clean(&problem.to_string()))));
        if let Some(more @ 1..) = evidence.problems.len().checked_sub(MOST_PROBLEMS) {
            lines.push(("", format!("and {more} more")));
        }
        lines
    }
}

/// The one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckId {
    /// The files can be read, and mean something.
    Objects,
}

impl CheckName for CheckId {
    const ALL: &'static [Self] = &[Self::Objects];

    fn as_str(self) -> &'static str {
        "objects"
    }

    fn needs(self) -> &'static [Self] {
        &[]
    }
}

/// What the objects say.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence {
    files: Vec<String>,
    problems: Vec<Problem>,
    policy: Option<Policy>,
}

/// How certificates are issued.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    key_algorithm: &'static str,
    validity_seconds: u64,
    rotation_window_percentage: u8,
    /// What is to be renewed ahead of its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    spread_rotation: Option<String>,
    workloads: usize,
}

/// Judges what was found in the files. A configuration that is good may still not be `usable`,
/// for want of an identity to ask for.
pub(super) fn judge(found: &Found, paths: &[PathBuf], usable: bool, now: Timestamp) -> Report {
    let mut checks = Findings::new();
    let (errors, warnings): (Vec<_>, Vec<_>) = found
        .problems
        .iter()
        .partition(|problem| problem.is_error());
    match (errors.first(), warnings.first()) {
        (Some(first), _) => checks.failed(CheckId::Objects, &with_more(first, errors.len())),
        (None, _) if !usable => {
            let detail = "the objects name no identity that could be asked for";
            checks.failed(CheckId::Objects, detail);
        }
        (None, Some(first)) => checks.warned(CheckId::Objects, &with_more(first, warnings.len())),
        (None, None) => {
            let files = count(found.sources.len(), "file");
            checks.passed(CheckId::Objects, &format!("{files} without a problem"));
        }
    }
    let names = found.sources.iter().map(|source| clean(&source.name));
    let evidence = Evidence {
        files: names.collect(),
        problems: found.problems.clone(),
        policy: found.config.as_ref().map(Policy::of),
    };
    let paths: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    let words: Vec<String> = paths.iter().map(|path| shell_word(path)).collect();
    let next = |_: &_, _: &_| {
        vec![NextStep::new(
            "everything that is wrong, again after each edit",
            &format!("certagent validate {}", words.join(" ")),
        )]
    };
    Report::new(&paths.join(" "), now, checks.finish(), evidence, next)
}

fn with_more(first: &Problem, all: usize) -> String {
    match all.saturating_sub(1) {
        0 => first.to_string(),
        more => format!("{first} (and {more} more)"),
    }
}

impl Policy {
    fn of(config: &Config) -> Self {
        let certificates = &config.certificates;
        Self {
            key_algorithm: certificates.algorithm.as_str(),
            validity_seconds: certificates.validity.as_secs(),
            rotation_window_percentage: certificates.rotation_window_percentage,
            spread_rotation: config.spread_rotation.map(|one| one.to_string()),
            workloads: config.workloads.len(),
        }
    }
}
