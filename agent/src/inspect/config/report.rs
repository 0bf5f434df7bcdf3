//! One verdict over a configuration, the pools that it issues from, and its trust anchors.
use jiff::Timestamp;
use serde::Serialize;

use super::{
    super::{
        pool,
        report::{
            CheckName as _, JsonReport, NextStep, Report, SCHEMA_VERSION, Subject, Verdict, Whole,
            to_json,
        },
        text,
    },
    anchor::{self, Anchor},
    configuration::{self, Configuration},
};

/// The outcome of inspecting a configuration with all that it names.
#[derive(Clone, Debug)]
pub(crate) struct ConfigReport {
    pub(super) checked_at: Timestamp,
    pub(super) configuration: configuration::Report,
    /// The issuing pool, then the fallbacks. Empty if the configuration cannot be used.
    pub(super) pools: Vec<pool::Report>,
    /// By trust domain.
    pub(super) anchors: Vec<anchor::Report>,
}

/// One report of several.
trait Section {
    fn verdict(&self) -> Verdict;
    /// What it is about, of its kind.
    fn title(&self) -> String;
    fn summary(&self) -> String;
    fn cause(&self) -> Option<(&'static str, &str)>;
    fn next_steps(&self) -> &[NextStep];
    /// The lines, without the cause if that was `told` already.
    fn body(&self, text: &mut String, told: bool);
}

impl<S: Subject> Section for Report<S> {
    fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn title(&self) -> String {
        format!("{} {}", S::NAME, self.subject)
    }

    fn summary(&self) -> String {
        self.summary()
    }

    fn cause(&self) -> Option<(&'static str, &str)> {
        let (id, detail) = self.cause()?;
        Some((id.as_str(), detail))
    }

    fn next_steps(&self) -> &[NextStep] {
        &self.next_steps
    }

    fn body(&self, text: &mut String, told: bool) {
        text::body(text, self, self.cause.as_ref().filter(|_| told));
    }
}

impl ConfigReport {
    fn sections(&self) -> Vec<&dyn Section> {
        let mut sections: Vec<&dyn Section> = vec![&self.configuration];
        sections.extend(self.pools.iter().map(|one| one as &dyn Section));
        sections.extend(self.anchors.iter().map(|one| one as &dyn Section));
        sections
    }

    /// The first of the worst sections, and its place: what it says is what the whole says.
    fn worst(&self) -> (usize, &dyn Section) {
        let sections = self.sections();
        let verdict = self.verdict();
        let worst = sections
            .iter()
            .position(|section| section.verdict() == verdict)
            .unwrap_or_default();
        (
            worst,
            sections.get(worst).copied().unwrap_or(&self.configuration),
        )
    }

    /// What the checks of all sections add up to.
    pub(crate) fn verdict(&self) -> Verdict {
        let sections = self.sections();
        [Verdict::Problem, Verdict::Unknown, Verdict::Warning]
            .into_iter()
            .find(|verdict| sections.iter().any(|section| section.verdict() == *verdict))
            .unwrap_or(Verdict::Healthy)
    }

    /// The process' exit code: see [`Verdict::exit_code`].
    pub(crate) fn exit_code(&self) -> u8 {
        self.verdict().exit_code()
    }

    /// The first line's phrase: what is the matter, in a few words.
    pub(crate) fn summary(&self) -> String {
        match self.verdict() {
            Verdict::Healthy => "the pools would issue, and their roots are trusted".to_owned(),
            _ => self.worst().1.summary(),
        }
    }

    /// The report for people.
    pub(crate) fn to_text(&self) -> String {
        let mut out = text::headline(self.verdict(), &self.summary());
        let (place, worst) = self.worst();
        if let Some((check, detail)) = worst.cause() {
            text::cause(&mut out, &format!("{}, {check}", worst.title()), detail);
        }
        text::next_steps(&mut out, worst.next_steps());
        for (index, section) in self.sections().into_iter().enumerate() {
            let (verdict, title) = (section.verdict().as_str(), section.title());
            out.extend(["\n", verdict, " ", &title, "\n"]);
            section.body(&mut out, index == place);
        }
        out
    }

    /// The report for programs: one JSON object with a `schemaVersion`.
    pub(crate) fn to_json(&self) -> String {
        let (_, worst) = self.worst();
        let title = worst.title();
        let cause = worst.cause().map(|(check, message)| JsonCause {
            section: &title,
            check,
            message,
        });
        let report = JsonConfig {
            checked_at: self.checked_at,
            verdict: self.verdict(),
            exit_code: self.exit_code(),
            summary: self.summary(),
            cause,
            next_steps: worst.next_steps(),
            configuration: self.configuration.json(),
            pools: self.pools.iter().map(Report::json).collect(),
            anchors: self.anchors.iter().map(Report::json).collect(),
        };
        to_json(&Whole {
            schema_version: SCHEMA_VERSION,
            report,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonConfig<'a> {
    checked_at: Timestamp,
    verdict: Verdict,
    exit_code: u8,
    summary: String,
    cause: Option<JsonCause<'a>>,
    next_steps: &'a [NextStep],
    configuration: JsonReport<'a, Configuration>,
    pools: Vec<JsonReport<'a, pool::Pool>>,
    anchors: Vec<JsonReport<'a, Anchor>>,
}

#[derive(Serialize)]
struct JsonCause<'a> {
    /// The kind and the name of what it is about.
    section: &'a str,
    check: &'static str,
    message: &'a str,
}
