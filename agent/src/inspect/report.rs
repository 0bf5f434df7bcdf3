//! What an inspection found, and what it adds up to.
use std::{collections::BTreeMap, fmt::Debug};

use jiff::Timestamp;
use serde::Serialize;

use super::text::{self, clean};

/// The version of the JSON form. It rises when a field changes its meaning or goes away.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// What the checks add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Every check that matters passed.
    Healthy,
    /// What was looked at works; something will, or may, go wrong later.
    Warning,
    /// What was looked at does not work.
    Problem,
    /// No check failed, but one that matters could not run.
    Unknown,
}

impl Verdict {
    /// The word on the first line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Warning => "WARNING",
            Self::Problem => "PROBLEM",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The exit code: 0 healthy or warning, 1 problem, 2 could not check.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Healthy | Self::Warning => 0,
            Self::Problem => 1,
            Self::Unknown => 2,
        }
    }
}

/// What one check found. The text says it in one sentence, and never holds anything of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Passed(String),
    Failed(String),
    Warned(String),
    Skipped(Skip, String),
}

/// Why a check did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    /// There is nothing to check, and need not be; or it would only have warned.
    Minor,
    /// Another check comes first, and did not pass.
    Depends,
    /// Something that matters could not be seen.
    Unable,
}

impl Finding {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::Failed(_) => "failed",
            Self::Warned(_) => "warned",
            Self::Skipped(..) => "skipped",
        }
    }

    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Passed(detail)
            | Self::Failed(detail)
            | Self::Warned(detail)
            | Self::Skipped(_, detail) => detail,
        }
    }

    /// What depends on this check cannot run.
    pub(super) fn blocks(&self) -> bool {
        matches!(
            self,
            Self::Failed(_) | Self::Skipped(Skip::Depends | Skip::Unable, _)
        )
    }
}

/// A check that ran, or the reason why it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check<I> {
    pub(super) id: I,
    pub(super) finding: Finding,
}

/// The checks of one kind of subject, in the order in which they depend on each other.
pub(crate) trait CheckName: Copy + Debug + Ord + Serialize + 'static {
    /// All of them, in order.
    const ALL: &'static [Self];

    /// The name in both forms of the report.
    fn as_str(self) -> &'static str;

    /// The checks without which this one cannot run.
    fn needs(self) -> &'static [Self];

    /// It has no place in the report where it found nothing: most subjects have nothing of the kind.
    fn is_told_if_found_only(self) -> bool {
        false
    }
}

/// What the checks of one subject found so far.
#[derive(Debug)]
pub(super) struct Findings<I>(BTreeMap<I, Finding>);

impl<I: CheckName> Findings<I> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn record(&mut self, id: I, finding: Finding) {
        self.0.insert(id, finding);
    }

    pub(super) fn passed(&mut self, id: I, detail: &str) {
        self.record(id, Finding::Passed(clean(detail)));
    }

    pub(super) fn failed(&mut self, id: I, detail: &str) {
        self.record(id, Finding::Failed(clean(detail)));
    }

    pub(super) fn warned(&mut self, id: I, detail: &str) {
        self.record(id, Finding::Warned(clean(detail)));
    }

    pub(super) fn skipped(&mut self, id: I, why: Skip, detail: &str) {
        self.record(id, Finding::Skipped(why, clean(detail)));
    }

    /// The check did not pass, so that what depends on it cannot run.
    pub(super) fn blocks(&self, id: I) -> bool {
        self.0.get(&id).is_some_and(Finding::blocks)
    }

    /// Every check, in order. Those that found nothing waited for another.
    pub(super) fn finish(mut self) -> Vec<Check<I>> {
        let mut checks: Vec<Check<I>> = Vec::new();
        for &id in I::ALL {
            if id.is_told_if_found_only() && !self.0.contains_key(&id) {
                continue;
            }
            let finding = self.0.remove(&id).unwrap_or_else(|| {
                let first = checks
                    .iter()
                    .find(|check| id.needs().contains(&check.id) && check.finding.blocks());
                let first = first.map_or("another check", |check| check.id.as_str());
                Finding::Skipped(Skip::Depends, format!("waits for {first}"))
            });
            checks.push(Check { id, finding });
        }
        checks
    }
}

/// The verdict, and the one check that is its cause.
fn verdict<I>(checks: &[Check<I>]) -> (Verdict, Option<&Check<I>>) {
    let first = |wanted: fn(&Finding) -> bool| checks.iter().find(|check| wanted(&check.finding));
    if let Some(failed) = first(|finding| matches!(finding, Finding::Failed(_))) {
        (Verdict::Problem, Some(failed))
    } else if let Some(unable) = first(|f| matches!(f, Finding::Skipped(Skip::Unable, _))) {
        (Verdict::Unknown, Some(unable))
    } else if let Some(warned) = first(|finding| matches!(finding, Finding::Warned(_))) {
        (Verdict::Warning, Some(warned))
    } else {
        (Verdict::Healthy, None)
    }
}

/// Something to do next: a shell line, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NextStep {
    pub(super) why: String,
    pub(super) command: String,
}

impl NextStep {
    pub(super) fn new(why: &str, command: &str) -> Self {
        Self {
            why: why.to_owned(),
            command: command.to_owned(),
        }
    }
}

/// What an inspection looks at.
pub(crate) trait Subject: Sized {
    /// Its checks.
    type Id: CheckName;
    /// What is known of it, whatever the verdict.
    type Evidence: Serialize;

    /// The field of the JSON form that says which one it is.
    const NAME: &'static str;

    /// What is the matter, in a few words; not asked if the verdict is unknown.
    fn summary(report: &Report<Self>) -> String;

    /// What a check that could not run means, where that says more than its name.
    fn unseen(_: Self::Id) -> Option<&'static str> {
        None
    }

    /// The evidence in lines, each with a name.
    fn evidence(report: &Report<Self>) -> Vec<(&'static str, String)>;
}

/// The outcome of one inspection.
#[derive(Clone, Debug)]
pub(crate) struct Report<S: Subject> {
    /// Which one was looked at.
    pub(super) subject: String,
    pub(super) checked_at: Timestamp,
    pub(super) verdict: Verdict,
    pub(super) cause: Option<Check<S::Id>>,
    pub(super) next_steps: Vec<NextStep>,
    pub(super) checks: Vec<Check<S::Id>>,
    pub(super) evidence: S::Evidence,
}

impl<S: Subject> Report<S> {
    /// Sums up. `next` gives the next steps for a cause.
    pub(super) fn new(
        subject: &str,
        checked_at: Timestamp,
        checks: Vec<Check<S::Id>>,
        evidence: S::Evidence,
        next: impl FnOnce(&Check<S::Id>, &S::Evidence) -> Vec<NextStep>,
    ) -> Self {
        let (verdict, cause) = verdict(&checks);
        let next_steps = cause
            .map(|cause| next(cause, &evidence))
            .unwrap_or_default();
        Self {
            subject: clean(subject),
            checked_at,
            verdict,
            cause: cause.cloned(),
            next_steps,
            checks,
            evidence,
        }
    }

    /// What the checks add up to.
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The process' exit code: see [`Verdict::exit_code`].
    pub(crate) fn exit_code(&self) -> u8 {
        self.verdict.exit_code()
    }

    /// The first line's phrase: what is the matter, in a few words.
    pub(crate) fn summary(&self) -> String {
        match &self.cause {
            Some(cause) if self.verdict == Verdict::Unknown => {
                let name = cause.id.as_str();
                let told = S::unseen(cause.id).map(str::to_owned);
                told.unwrap_or_else(|| format!("the check {name} could not run"))
            }
            _ => S::summary(self),
        }
    }

    /// The one cause of a verdict that is not healthy: which check, and what it found.
    pub(crate) fn cause(&self) -> Option<(S::Id, &str)> {
        self.cause
            .as_ref()
            .map(|check| (check.id, check.finding.detail()))
    }

    /// The report for people.
    pub(crate) fn to_text(&self) -> String {
        text::render(self)
    }

    /// The report for programs: one JSON object with a `schemaVersion`.
    pub(crate) fn to_json(&self) -> String {
        to_json(&Whole {
            schema_version: SCHEMA_VERSION,
            report: self.json(),
        })
    }

    pub(super) fn json(&self) -> JsonReport<'_, S> {
        let checks = self.checks.iter().map(|check| JsonCheck {
            id: check.id,
            outcome: check.finding.outcome(),
            detail: check.finding.detail(),
        });
        let cause = self
            .cause()
            .map(|(check, message)| JsonCause { check, message });
        JsonReport {
            subject: BTreeMap::from([(S::NAME, self.subject.as_str())]),
            checked_at: self.checked_at,
            verdict: self.verdict,
            exit_code: self.exit_code(),
            summary: self.summary(),
            cause,
            next_steps: &self.next_steps,
            checks: checks.collect(),
            evidence: &self.evidence,
        }
    }
}

/// The JSON text of a report.
pub(super) fn to_json(report: &impl Serialize) -> String {
    // Strings, numbers and lists of them: nothing that the encoder refuses.
    let mut json = serde_json::to_string_pretty(report).unwrap_or_default();
    json.push('\n');
    json
}

/// A report with its version in front.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whole<R> {
    pub(super) schema_version: u32,
    #[serde(flatten)]
    pub(super) report: R,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", bound = "")]
pub(super) struct JsonReport<'a, S: Subject> {
    #[serde(flatten)]
    subject: BTreeMap<&'static str, &'a str>,
    checked_at: Timestamp,
    verdict: Verdict,
    exit_code: u8,
    summary: String,
    cause: Option<JsonCause<'a, S::Id>>,
    next_steps: &'a [NextStep],
    checks: Vec<JsonCheck<'a, S::Id>>,
    evidence: &'a S::Evidence,
}

#[derive(Serialize)]
struct JsonCause<'a, I> {
    check: I,
    message: &'a str,
}

#[derive(Serialize)]
struct JsonCheck<'a, I> {
    id: I,
    outcome: &'a str,
    detail: &'a str,
}
