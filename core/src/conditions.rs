//! The conditions of an object in a cluster: what is said of it, and how that follows from what
//! was said before.
//!
//! [`judge`] says what the rules mean for an object; [`follow`] puts a statement among the
//! conditions that are there. What only a cluster can know is said by whoever asked it.
//!
//! Source of the form: `metav1.Condition`, as the two objects of the group
//! `security.cloud.google.com` have it.
use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::config::Problem;

/// The type of the one condition that everybody waits for: the object is good and in force, and
/// what it names can be used.
pub const READY: &str = "Ready";

/// The type of the condition that is there only while something should be looked at. It never
/// keeps an object from being [`READY`].
pub const WARNING: &str = "Warning";

/// The reason of an object that is [`READY`].
pub const CONFIG_READY: &str = "ConfigReady";

/// The longest message, in bytes. An API server takes 32768.
pub const LONGEST_MESSAGE: usize = 4096;

/// Whether it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is.
    True,
    /// It is not.
    False,
}

impl Status {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
        }
    }
}

/// One statement about an object, to become a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is about.
    pub r#type: &'static str,
    /// Whether it is so.
    pub status: Status,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in words; at most [`LONGEST_MESSAGE`] bytes.
    pub message: String,
    /// The `metadata.generation` that was looked at.
    pub observed_generation: i64,
}

impl Statement {
    /// The object, of this kind, is good and in force.
    pub fn ready(kind: &str, generation: i64) -> Self {
        Self {
            r#type: READY,
            status: Status::True,
            reason: CONFIG_READY,
            message: bounded(format!("{kind} is ready")),
            observed_generation: generation,
        }
    }

    /// It is not.
    pub fn not_ready(reason: &'static str, message: String, generation: i64) -> Self {
        Self {
            r#type: READY,
            status: Status::False,
            reason,
            message: bounded(message),
            observed_generation: generation,
        }
    }

    /// Something should be looked at.
    pub fn warning(reason: &'static str, message: String, generation: i64) -> Self {
        Self {
            r#type: WARNING,
            status: Status::True,
            reason,
            message: bounded(message),
            observed_generation: generation,
        }
    }
}

/// Which form of an object is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InForce {
    /// None: there was no good one yet.
    #[default]
    Nothing,
    /// The object as it is now.
    This,
    /// An earlier generation of the same object.
    Generation(i64),
    /// One of which no more is known than that it was good: an object that is gone, for example.
    Earlier,
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing is in force, so no certificates are issued"),
            Self::This => f.write_str("it stays in force"),
            Self::Generation(generation) => write!(f, "generation {generation} stays in force"),
            Self::Earlier => f.write_str("the last good configuration stays in force"),
        }
    }
}

/// What the rules say of an object: why it is not ready, if it breaks one, and what should be
/// looked at besides.
pub fn judge(problems: &[Problem], in_force: InForce, generation: i64) -> Vec<Statement> {
    let mut said = Vec::new();
    let (errors, warnings): (Vec<_>, Vec<_>) =
        problems.iter().partition(|problem| problem.is_error());
    if let Some(first) = errors.first() {
        let end = format!("Correct the object and apply it again; until then {in_force}");
        let message = with_end(&lines(&errors), &end);
        said.push(Statement::not_ready(
            first.rule.as_str(),
            message,
            generation,
        ));
    }
    if let Some(first) = warnings.first() {
        let reason = first.rule.as_str();
        said.push(Statement::warning(reason, lines(&warnings), generation));
    }
    said
}

/// The conditions after these statements, or none if they say nothing new.
///
/// `lastTransitionTime` is `now` where `status` is another than before. The types in `retracted`
/// are taken out. Everything else stays as it is, also what is not known here.
pub fn follow(
    old: &[Value],
    said: &[Statement],
    retracted: &[&str],
    now: Timestamp,
) -> Option<Vec<Value>> {
    let is_retracted = |one: &Value| type_of(one).is_some_and(|r#type| retracted.contains(&r#type));
    let mut new: Vec<Value> = old
        .iter()
        .filter(|one| !is_retracted(one))
        .cloned()
        .collect();
    for statement in said {
        let place = new
            .iter_mut()
            .find(|one| type_of(one) == Some(statement.r#type));
        if let Some(Value::Object(condition)) = place {
            say(condition, statement, now);
        } else {
            let mut condition = Map::new();
            say(&mut condition, statement, now);
            new.push(Value::Object(condition));
        }
    }
    (new != old).then_some(new)
}

/// Status and reason of the condition of a type, if it is there.
pub fn told<'a>(conditions: &'a [Value], r#type: &str) -> Option<(&'a str, &'a str)> {
    let one = conditions.iter().find(|one| type_of(one) == Some(r#type))?;
    let text = |field: &str| one.get(field).and_then(Value::as_str).unwrap_or_default();
    Some((text("status"), text("reason")))
}

fn say(condition: &mut Map<String, Value>, statement: &Statement, now: Timestamp) {
    let Statement {
        r#type,
        status,
        reason,
        message,
        observed_generation,
    } = statement;
    let is_text = |field: &str| condition.get(field).and_then(Value::as_str);
    let is_same = is_text("status") == Some(status.as_str())
        && is_text("lastTransitionTime").is_some_and(|time| !time.is_empty());
    if !is_same {
        // Whole seconds, as Kubernetes writes and reads them.
        let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        condition.insert("lastTransitionTime".to_owned(), time.into());
    }
    for (field, value) in [
        ("type", Value::from(*r#type)),
        ("status", status.as_str().into()),
        ("reason", (*reason).into()),
        ("message", message.as_str().into()),
        ("observedGeneration", (*observed_generation).into()),
    ] {
        condition.insert(field.to_owned(), value);
    }
}

fn type_of(condition: &Value) -> Option<&str> {
    condition.get("type")?.as_str()
}

/// The problems, one a line: of the object that they are told at no more has to be said.
fn lines(problems: &[&Problem]) -> String {
    let line = |problem: &&Problem| {
        let field = problem.field.as_ref();
        let field = field.map_or_else(String::new, |field| format!("{field}: "));
        let allowed = problem.allowed.as_ref();
        let allowed = allowed.map_or_else(String::new, |one| format!(" (allowed: {one})"));
        format!("{field}{}{allowed}", problem.message)
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The text, cut so that `end` still fits behind it.
pub fn with_end(text: &str, end: &str) -> String {
    let room = LONGEST_MESSAGE.saturating_sub(end.len() + 1);
    bounded(format!("{}\n{end}", cut(text, room)))
}

fn bounded(message: String) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message;
    }
    cut(&message, LONGEST_MESSAGE)
}

fn cut(text: &str, most: usize) -> String {
    const MORE: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let most = most.saturating_sub(MORE.len());
    let end = (0..=most)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    format!("{}{MORE}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
