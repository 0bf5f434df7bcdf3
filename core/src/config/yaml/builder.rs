//! From the parser's events to one located tree.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, ScalarStyle, Span};

use super::{MAX_DEPTH, YamlProblem, location, too_deep};
use crate::config::problem::quote;
use crate::config::tree::{Entry, Location, Node, Value, join};

const MAX_KEY_BYTES: usize = 1024;
const MAX_DUPLICATES: usize = 50;

/// Puts events together to a tree.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    problems: Vec<YamlProblem>,
}

/// A list or map whose end has not been seen.
enum Open {
    Seq(Location, Vec<Node>),
    Map {
        location: Location,
        entries: Vec<Entry>,
        key: Option<Key>,
        seen: HashMap<String, Location>,
    },
}

struct Key {
    text: String,
    location: Location,
    is_duplicate: bool,
}

impl Builder {
    pub(super) fn finish(self) -> (Option<Node>, Vec<YamlProblem>) {
        (
            self.root.filter(|root| root.value != Value::Null),
            self.problems,
        )
    }

    pub(super) fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlProblem> {
        let at = location(&span.start);
        match event {
            Event::Alias(_) | Event::UnresolvedAlias(_) => Err(YamlProblem::new(
                at,
                "aliases (*name) are not read here; write the value out",
            )),
            Event::Scalar(text, style, _, tag) => {
                let is_text = style != ScalarStyle::Plain
                    || tag.as_deref().and_then(|tag| tag.core_suffix()) == Some("str");
                if let Some(other) = tag.filter(|tag| tag.core_suffix() != Some("str")) {
                    let message = format!(
                        "tags such as {} are not read here; remove it",
                        quote(&other.original())
                    );
                    return Err(YamlProblem::new(at, message));
                }
                self.scalar(at, text, is_text)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if self.expects_key() {
                    return Err(YamlProblem::new(at, "a list or map cannot be a key here"));
                }
                if self.open.len() >= MAX_DEPTH {
                    return Err(too_deep(at));
                }
                self.open
                    .push(if matches!(event, Event::SequenceStart(..)) {
                        Open::Seq(at, Vec::new())
                    } else {
                        Open::Map {
                            location: at,
                            entries: Vec::new(),
                            key: None,
                            seen: HashMap::new(),
                        }
                    });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                match self.open.pop() {
                    Some(Open::Seq(location, items)) => {
                        self.place(Node {
                            location,
                            value: Value::Seq(items),
                        });
                    }
                    Some(Open::Map {
                        location, entries, ..
                    }) => {
                        self.place(Node {
                            location,
                            value: Value::Map(entries),
                        });
                    }
                    None => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        at: Location,
        text: Cow<'_, str>,
        is_text: bool,
    ) -> Result<(), YamlProblem> {
        let Some(Open::Map {
            key: key @ None,
            seen,
            ..
        }) = self.open.last_mut()
        else {
            self.place(Node {
                location: at,
                value: scalar_value(text, is_text),
            });
            return Ok(());
        };
        if text.len() > MAX_KEY_BYTES {
            return Err(YamlProblem::new(
                at,
                format!("a key longer than {MAX_KEY_BYTES} bytes"),
            ));
        }
        let text = text.into_owned();
        let first = seen.get(&text).copied();
        *key = Some(Key {
            text: text.clone(),
            location: at,
            is_duplicate: first.is_some(),
        });
        match first {
            None => {
                seen.insert(text, at);
                Ok(())
            }
            Some(first) => self.duplicate(&text, at, first),
        }
    }

    fn duplicate(&mut self, key: &str, at: Location, first: Location) -> Result<(), YamlProblem> {
        if self.problems.len() >= MAX_DUPLICATES {
            let message = format!("more than {MAX_DUPLICATES} keys are here twice");
            return Err(YamlProblem::new(at, message));
        }
        let message = format!(
            "{} is here twice, the first time at line {}, column {}; keep one",
            quote(key),
            first.line,
            first.column
        );
        let field = Some(join(&self.path(), key));
        self.problems.push(YamlProblem {
            location: at,
            field,
            message,
        });
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Seq(_, items)) => items.push(node),
            Some(Open::Map { entries, key, .. }) => {
                if let Some(Key {
                    text,
                    location,
                    is_duplicate: false,
                }) = key.take()
                {
                    entries.push(Entry {
                        key: text,
                        location,
                        node,
                    });
                }
            }
        }
    }

    /// The path of the innermost open list or map.
    fn path(&self) -> String {
        let mut path = String::new();
        for one in self.open.split_last().map_or(&[][..], |(_, outer)| outer) {
            match one {
                Open::Seq(_, items) => path = format!("{path}[{}]", items.len()),
                Open::Map { key: Some(key), .. } => path = join(&path, &key.text),
                Open::Map { key: None, .. } => {}
            }
        }
        path
    }
}

/// YAML 1.2's core schema, which is what Kubernetes' tools write.
fn scalar_value(text: Cow<'_, str>, is_text: bool) -> Value {
    if is_text {
        return Value::String(text.into_owned());
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        other if is_int(other) => Value::Int(text.into_owned()),
        other if is_float(other) => Value::Float(text.into_owned()),
        _ => Value::String(text.into_owned()),
    }
}

fn is_int(text: &str) -> bool {
    let all = |digits: &str, fits: fn(&u8) -> bool| {
        !digits.is_empty() && digits.as_bytes().iter().all(fits)
    };
    if let Some(octal) = text.strip_prefix("0o") {
        return all(octal, |b| (b'0'..=b'7').contains(b));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return all(hex, u8::is_ascii_hexdigit);
    }
    all(
        text.strip_prefix(['-', '+']).unwrap_or(text),
        u8::is_ascii_digit,
    )
}

fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        && text.parse::<f64>().is_ok()
}
