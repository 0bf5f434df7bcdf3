//! What is wrong with a configuration, and where.

use std::fmt;

use serde::Serialize;

use super::rule::Rule;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is not used.
    Error,
    /// The configuration is used; somebody should look at this.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong in one place of one file. Its `Display` is one line without a line end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether the configuration can be used in spite of it.
    pub severity: Severity,
    /// The rule that is broken.
    #[serde(skip)]
    pub rule: Rule,
    /// The name of the [`Source`](super::Source); empty if the problem belongs to no single one.
    pub file: String,
    /// Line, from 1; 0 when unknown.
    pub line: u32,
    /// Column in characters, from 1; 0 when unknown.
    pub column: u32,
    /// Kind and name, for example `TrustConfig/default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The field's path, for example `spec.keyAlgorithm.rsa.modulusSize`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong, why, and what to do.
    pub message: String,
    /// The values that would be right, where they can be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
}

impl Problem {
    /// Whether this problem keeps the configuration from being used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: ", self.severity)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.allowed {
            Some(allowed) => write!(f, " (allowed: {allowed})"),
            None => Ok(()),
        }
    }
}

/// A problem of one field of an object, before anybody knows which file the object came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// See [`Problem::severity`].
    pub severity: Severity,
    /// See [`Problem::rule`].
    pub rule: Rule,
    /// See [`Problem::field`].
    pub field: String,
    /// See [`Problem::message`].
    pub message: String,
    /// See [`Problem::allowed`].
    pub allowed: Option<String>,
}

impl FieldProblem {
    pub(super) fn error(rule: Rule, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule,
            field: field.into(),
            message: message.into(),
            allowed: None,
        }
    }

    pub(super) fn warning(
        rule: Rule,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(rule, field, message)
        }
    }

    pub(super) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }
}

/// A value that was read together with what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<T> {
    /// The meaning; none if there is an error among the problems.
    pub value: Option<T>,
    /// Everything found, warnings included.
    pub problems: Vec<FieldProblem>,
}

impl<T> Checked<T> {
    pub(super) fn new(value: Option<T>, problems: Vec<FieldProblem>) -> Self {
        let failed = problems.iter().any(|one| one.severity == Severity::Error);
        Self {
            value: value.filter(|_| !failed),
            problems,
        }
    }
}

/// The value as somebody typed it, short and harmless enough for a message.
///
/// A text with a private key in it is never shown.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", crate::pool::shorten(text))
}

/// The known name that was probably meant.
pub(super) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if typed.len() > LONGEST {
        return None;
    }
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&typed, &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean …?`, or nothing.
pub(super) fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, known).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
