//! Reading the fields of a JSON object, with errors that name the field and what it may be.

use serde_json::{Map, Value, json};

use crate::errors::ApiError;
use crate::json::parse_json;

/// How much of a wrong value an error shows, in characters.
const SHOWN: usize = 60;

/// The fields of one object that were not read yet, and the names that were asked for.
#[derive(Debug)]
pub(super) struct Fields {
    /// Where the object stands, for example `rules[2].`; empty for the body itself.
    path: String,
    left: Map<String, Value>,
    known: Vec<String>,
}

impl Fields {
    /// The fields of a body; an empty body has none.
    pub(super) fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        Self::of_value(String::new(), parse_json(body)?)
    }

    /// The fields of `value`, which stands at `path`.
    pub(super) fn of_value(path: String, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(left) => Ok(Self {
                path,
                left,
                known: Vec::new(),
            }),
            other => {
                let place = path.strip_suffix('.').unwrap_or("the body");
                Err(error(
                    place,
                    &format!("{} is no JSON object", shown(&other)),
                ))
            }
        }
    }

    /// The value of a field, if it is given.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.known.push(name.to_owned());
        self.left.remove(name)
    }

    /// A whole number of the range, both ends included.
    pub(super) fn number(
        &mut self,
        name: &str,
        (least, most): (u64, u64),
    ) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(
                name,
                &value,
                &format!("write a whole number from {least} to {most}"),
            )),
        }
    }

    /// Printable ASCII of 1 to `most` characters.
    pub(super) fn text(&mut self, name: &str, most: usize) -> Result<Option<String>, ApiError> {
        let is_printable = |c: char| c == ' ' || c.is_ascii_graphic();
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text))
                if (1..=most).contains(&text.len()) && text.chars().all(is_printable) =>
            {
                Ok(Some(text))
            }
            Some(value) => Err(self.wrong(
                name,
                &value,
                &format!("write 1 to {most} printable ASCII characters"),
            )),
        }
    }

    /// One of the words.
    pub(super) fn word<'a>(
        &mut self,
        name: &str,
        words: &[&'a str],
    ) -> Result<Option<&'a str>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let word = words.iter().find(|word| value == **word);
        match word {
            Some(word) => Ok(Some(word)),
            None => Err(self.wrong(name, &value, &format!("allowed are {}", words.join(", ")))),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(value) => Err(self.wrong(name, &value, "write true or false")),
        }
    }

    /// Refuses what nobody asked for.
    pub(super) fn end(self) -> Result<(), ApiError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(error(
                &format!("{}{}", self.path, cut(name)),
                &format!("unknown field; allowed are {}", self.known.join(", ")),
            )),
        }
    }

    /// An error about the field `name`.
    pub(super) fn error(&self, name: &str, what: &str) -> ApiError {
        error(&format!("{}{name}", self.path), what)
    }

    fn wrong(&self, name: &str, value: &Value, allowed: &str) -> ApiError {
        self.error(name, &format!("{} is not allowed; {allowed}", shown(value)))
    }
}

/// An error that names the field in its message and, as Google's APIs do, among its details.
pub(super) fn error(field: &str, what: &str) -> ApiError {
    let mut error = ApiError::invalid(format!("{field}: {what}."));
    error.details.push(json!({
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{ "field": field, "description": what }],
    }));
    error
}

/// A value from outside, cut.
pub(super) fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(SHOWN).map(printable).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}
