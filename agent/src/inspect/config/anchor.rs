//! The trust anchors: where a trust domain's roots come from, and whether they come.
use certagent_core::{config::TrustAnchor, pool::CaPoolName};
use certagent_svid::{Certificate, TrustDomain};
use jiff::Timestamp;
use serde::Serialize;

use super::super::{
    pool::Trouble,
    report::{self, CheckName, Finding, Findings, NextStep, Skip, Subject},
    roots::{self, Root},
    text::{clean, count},
};
use crate::trust::{Source, SourceError, Trust};

/// One anchor of one trust domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor;

/// The outcome of inspecting an anchor.
pub(super) type Report = report::Report<Anchor>;

impl Subject for Anchor {
    type Id = CheckId;
    type Evidence = Evidence;

    const NAME: &'static str = "anchor";

    fn summary(report: &Report) -> String {
        match report.cause.as_ref().map(|cause| cause.id) {
            None => "the anchor gives its roots",
            Some(CheckId::Source) => "the anchor gives no roots",
            Some(CheckId::RootsValidity) => "a root has ended, or soon will",
        }
        .to_owned()
    }

    fn evidence(report: &Report) -> Vec<(&'static str, String)> {
        let mut lines = vec![("domain", report.evidence.trust_domain.clone())];
        lines.extend(roots::lines(&report.evidence.roots));
        lines
    }
}

/// The checks, in the order in which they depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckId {
    /// The anchor gives roots.
    Source,
    /// They stay valid for a while.
    RootsValidity,
}

impl CheckName for CheckId {
    const ALL: &'static [Self] = &[Self::Source, Self::RootsValidity];

    fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::RootsValidity => "roots-validity",
        }
    }

    fn needs(self) -> &'static [Self] {
        match self {
            Self::Source => &[],
            Self::RootsValidity => &[Self::Source],
        }
    }
}

/// What is known of an anchor.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence {
    trust_domain: String,
    roots: Vec<Root>,
}

/// Judges one anchor after its roots were asked for.
pub(super) fn judge(
    trust_domain: &TrustDomain,
    anchor: &TrustAnchor,
    trust: &Trust,
    now: Timestamp,
) -> Report {
    match anchor {
        TrustAnchor::Pem(root) => {
            let name = format!("the pemCertificate \"{}\"", root.subject_text());
            let known = Ok(std::slice::from_ref(root));
            sum_up(trust_domain, &name, known, now, Vec::new)
        }
        TrustAnchor::Pool(pool) => {
            let known = match trust.sources().get(pool) {
                Some(Source {
                    error: Some(error), ..
                }) => Err(failure(error)),
                Some(source) => Ok(source.roots.as_slice()),
                None => Err(Finding::Skipped(Skip::Unable, "not asked".to_owned())),
            };
            sum_up(trust_domain, &pool.to_string(), known, now, || steps(pool))
        }
    }
}

fn sum_up(
    trust_domain: &TrustDomain,
    name: &str,
    known: Result<&[Certificate], Finding>,
    now: Timestamp,
    steps: impl FnOnce() -> Vec<NextStep>,
) -> Report {
    let mut checks = Findings::new();
    let mut evidence = Evidence {
        trust_domain: trust_domain.to_string(),
        roots: Vec::new(),
    };
    match known {
        Ok(roots) => {
            checks.passed(CheckId::Source, &count(roots.len(), "root"));
            checks.record(CheckId::RootsValidity, roots::validity(roots, now));
            evidence.roots = roots.iter().map(Root::of).collect();
        }
        Err(finding) => checks.record(CheckId::Source, finding),
    }
    Report::new(name, now, checks.finish(), evidence, |_, _| steps())
}

fn failure(error: &SourceError) -> Finding {
    let detail = clean(&error.to_string());
    let SourceError::Call(call) = error else {
        return Finding::Failed(detail);
    };
    match Trouble::of(call) {
        Trouble::Endpoint | Trouble::Away | Trouble::NoToken { .. } => {
            let detail = format!("{} at {}: {}", call.call, call.pool, call.reason);
            Finding::Skipped(Skip::Unable, clean(&detail))
        }
        _ => Finding::Failed(detail),
    }
}

fn steps(pool: &CaPoolName) -> Vec<NextStep> {
    vec![NextStep::new(
        "what is the matter with that pool?",
        &format!("certagent inspect pool {pool}"),
    )]
}
