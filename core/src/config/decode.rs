//! From located trees to the plain structs: wrong types and unknown fields, each with its place.

use super::problem::{FieldProblem, did_you_mean, nearest};
use super::rule::Rule;
use super::tree::{Location, Node, Value, is_within, join};

/// A value and the path that leads to it.
#[derive(Clone)]
pub(super) struct At<'n> {
    node: &'n Node,
    path: String,
}

/// A map whose unknown fields have been reported.
pub(super) struct Fields<'n> {
    at: At<'n>,
}

/// Collects what is wrong with the form of one object.
#[derive(Default)]
pub(super) struct Decoder {
    /// Each problem with its place.
    pub(super) problems: Vec<(Location, FieldProblem)>,
    /// Fields about which nothing more is to be said: their problem is in `problems`.
    spoiled: Vec<String>,
}

impl<'n> At<'n> {
    pub(super) fn new(node: &'n Node, path: &str) -> Self {
        Self {
            node,
            path: path.to_owned(),
        }
    }
}

impl<'n> Fields<'n> {
    /// The field `name`, unless it is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<At<'n>> {
        let node = self.at.node.get(name)?;
        Some(At {
            node,
            path: join(&self.at.path, name),
        })
    }
}

impl Decoder {
    /// The value as a map; each field that is not `known` is a problem.
    pub(super) fn map<'n>(&mut self, at: At<'n>, known: &[&str]) -> Option<Fields<'n>> {
        let Value::Map(entries) = &at.node.value else {
            self.wrong_type(&at, "a map", &format!("a map with {}", known.join(", ")));
            return None;
        };
        for entry in entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            let message = format!(
                "there is no such field{}",
                did_you_mean(&entry.key, known.iter().copied())
            );
            let path = join(&at.path, &entry.key);
            if let Some(meant) = nearest(&entry.key, known.iter().copied()) {
                self.spoiled.push(join(&at.path, meant));
            }
            self.spoiled.push(path.clone());
            let problem =
                FieldProblem::error(Rule::UnknownField, path, message).allowed(known.join(", "));
            self.problems.push((entry.location, problem));
        }
        Some(Fields { at })
    }

    /// The items of a list.
    pub(super) fn list<'n>(&mut self, at: &At<'n>) -> Option<Vec<At<'n>>> {
        let Value::Seq(items) = &at.node.value else {
            self.wrong_type(at, "a list", "a list: one item per line, each after `- `");
            return None;
        };
        let item = |(index, node)| At {
            node,
            path: format!("{}[{index}]", at.path),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A list of texts. A wrong item stays as an empty text, so that the others keep their index.
    pub(super) fn strings(&mut self, at: &At<'_>) -> Option<Vec<String>> {
        let items = self.list(at)?;
        Some(
            items
                .into_iter()
                .map(|item| self.string(&item).unwrap_or_default())
                .collect(),
        )
    }

    /// A text.
    pub(super) fn string(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.wrong_type(at, "a text", "a text; put it in quotes");
                None
            }
            _ => {
                self.wrong_type(at, "a text", "a text");
                None
            }
        }
    }

    /// One of a few words, which are told: quotes would not make one of a number.
    pub(super) fn word(&mut self, at: &At<'_>, words: &[&str]) -> Option<String> {
        if let Value::String(text) = &at.node.value {
            return Some(text.clone());
        }
        self.wrong_type(at, "a text", &words.join(", "));
        None
    }

    /// A whole number, written in decimal digits.
    pub(super) fn integer(&mut self, at: &At<'_>) -> Option<i64> {
        match &at.node.value {
            Value::Int(text) => {
                let number = plain_decimal(text);
                if number.is_none() {
                    let allowed = "a whole number in decimal digits, without leading zeros";
                    self.wrong_type(at, "a whole number", allowed);
                }
                number
            }
            Value::String(text) if plain_decimal(text).is_some() => {
                self.wrong_type(at, "a whole number", "a whole number; remove the quotes");
                None
            }
            _ => {
                self.wrong_type(at, "a whole number", "a whole number");
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, at: &At<'_>) -> Option<bool> {
        if let Value::Bool(value) = at.node.value {
            return Some(value);
        }
        self.wrong_type(at, "true or false", "true, false");
        None
    }

    /// A file mode as octal text; see [`super::workload`] for what the text may be.
    ///
    /// A plain number is taken only in a form that every YAML reader and every person takes for
    /// octal.
    pub(super) fn mode(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::String(text) => Some(text.clone()),
            Value::Int(text) if text.starts_with('0') => Some(text.clone()),
            Value::Int(text) => {
                let text = super::problem::quote(text);
                let message = format!(
                    "the number {} could be meant as octal or as decimal, and readers of YAML \
                     differ; write the mode as a text in octal",
                    text.trim_matches('"')
                );
                self.spoil(
                    at,
                    FieldProblem::error(Rule::WrongType, &at.path, message).allowed("\"0640\""),
                );
                None
            }
            _ => {
                self.wrong_type(at, "a file mode", "a text in octal, such as \"0640\"");
                None
            }
        }
    }

    /// A user or group: a name or a number, as text.
    pub(super) fn name_or_number(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::String(text) | Value::Int(text) => Some(text.clone()),
            _ => {
                self.wrong_type(at, "a name or a number", "a name or a number");
                None
            }
        }
    }

    /// Adds what the rules found, without what has a more specific cause already.
    pub(super) fn add(&mut self, root: &Node, found: Vec<FieldProblem>) {
        for problem in found {
            let is_consequence = self.spoiled.iter().any(|spoiled| {
                is_within(&problem.field, spoiled) || is_within(spoiled, &problem.field)
            });
            if !is_consequence {
                self.problems.push((root.locate(&problem.field), problem));
            }
        }
    }

    fn wrong_type(&mut self, at: &At<'_>, expected: &str, allowed: &str) {
        let message = format!("expected {expected}, found {}", at.node.describe());
        let problem = FieldProblem::error(Rule::WrongType, &at.path, message);
        self.spoil(at, problem.allowed(allowed));
    }

    fn spoil(&mut self, at: &At<'_>, problem: FieldProblem) {
        self.spoiled.push(at.path.clone());
        self.problems.push((at.node.location, problem));
    }
}

fn plain_decimal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
    if is_plain { text.parse().ok() } else { None }
}
