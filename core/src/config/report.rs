//! The list of problems as it grows: sorted at the end, and never longer than a person can read.

use super::Source;
use super::problem::{FieldProblem, Problem, Severity};
use super::rule::Rule;
use super::tree::Location;

const MOST_PER_SOURCE: usize = 100;

/// Where an object or a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The index of the source; none for the command line.
    pub(super) source: Option<usize>,
    pub(super) location: Location,
}

impl Place {
    pub(super) const NOWHERE: Self = Self {
        source: None,
        location: Location { line: 0, column: 0 },
    };

    pub(super) fn at(self, location: Location) -> Self {
        Self { location, ..self }
    }
}

/// Collects problems.
pub(super) struct Report<'s> {
    sources: &'s [Source],
    found: Vec<(Place, Problem)>,
    /// For each source, how many were found; the last is for no source.
    counts: Vec<usize>,
    has_errors: bool,
}

impl<'s> Report<'s> {
    pub(super) fn new(sources: &'s [Source]) -> Self {
        let counts = vec![0; sources.len() + 1];
        Self {
            sources,
            found: Vec::new(),
            counts,
            has_errors: false,
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.has_errors
    }

    /// A problem of a whole object or document.
    pub(super) fn error(&mut self, rule: Rule, place: Place, object: Option<&str>, message: &str) {
        let problem = FieldProblem::error(rule, "", message);
        self.push(place, object, problem);
    }

    /// A problem of one field.
    pub(super) fn field(&mut self, place: Place, object: Option<&str>, problem: FieldProblem) {
        self.push(place, object, problem);
    }

    /// Without a field it is of the whole object.
    fn push(&mut self, place: Place, object: Option<&str>, problem: FieldProblem) {
        let FieldProblem {
            severity,
            rule,
            field,
            message,
            allowed,
        } = problem;
        self.has_errors |= severity == Severity::Error;
        let slot = place.source.unwrap_or(self.sources.len());
        let Some(count) = self.counts.get_mut(slot) else {
            return;
        };
        *count += 1;
        if *count > MOST_PER_SOURCE {
            return;
        }
        let problem = Problem {
            severity,
            rule,
            file: self.file(place).to_owned(),
            line: place.location.line,
            column: place.location.column,
            object: object.map(printable),
            field: Some(printable(&field)).filter(|field| !field.is_empty()),
            message: printable(&message),
            allowed,
        };
        self.found.push((place, problem));
    }

    /// `file:line:column`, or what comes closest.
    pub(super) fn show(&self, place: Place) -> String {
        match (self.file(place), place.location) {
            ("", _) => "the command line".to_owned(),
            (file, Location { line: 0, .. }) => file.to_owned(),
            (file, Location { line, column }) => format!("{file}:{line}:{column}"),
        }
    }

    fn file(&self, place: Place) -> &'s str {
        let source = place.source.and_then(|index| self.sources.get(index));
        source.map_or("", |source| source.name.as_str())
    }

    /// All problems in the order in which they are shown.
    pub(super) fn finish(self) -> Vec<Problem> {
        let Self {
            sources,
            mut found,
            counts,
            ..
        } = self;
        for (index, count) in counts.into_iter().enumerate() {
            let Some(more) = count.checked_sub(MOST_PER_SOURCE).filter(|more| *more > 0) else {
                continue;
            };
            let place = Place {
                source: Some(index),
                location: Location::default(),
            };
            let problem = Problem {
                severity: Severity::Error,
                rule: Rule::TooManyProblems,
                file: sources
                    .get(index)
                    .map(|source| source.name.clone())
                    .unwrap_or_default(),
                line: 0,
                column: 0,
                object: None,
                field: None,
                message: format!("{more} more problems here are not shown; solve these first"),
                allowed: None,
            };
            found.push((place, problem));
        }
        found.sort_by_key(|(Place { source, location }, _)| {
            (
                source.unwrap_or(usize::MAX),
                location.line.wrapping_sub(1),
                location.column,
            )
        });
        found.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// The text without anything that could move a terminal's cursor, and without private keys: names
/// of fields are typed by people too.
fn printable(text: &str) -> String {
    if text.contains("PRIVATE KEY") {
        return "(a private key, not shown)".to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => shown.push(c),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}
