//! `updateMask`: which fields of a resource a change is about.

use serde_json::{Map, Value, json};

use crate::errors::ApiError;
use crate::json::{camel_case, from_value};
use crate::resources::{Labels, check_labels};

/// The most paths that a mask may have, and the most steps of a path.
const MOST: usize = 64;

/// The paths of fields, in lowerCamelCase.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mask {
    paths: Vec<Vec<String>>,
}

impl Mask {
    /// From paths with commas between them, in either form of field names.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let paths: Vec<Vec<String>> = text
            .split(',')
            .map(str::trim)
            .filter(|path| !path.is_empty())
            .map(|path| path.split('.').map(camel_case).collect())
            .collect();
        if paths.is_empty() {
            return Err(ApiError::invalid("update_mask is required."));
        }
        if paths.len() > MOST || paths.iter().any(|path| path.len() > MOST) {
            return Err(ApiError::invalid("update_mask is too long."));
        }
        Ok(Self { paths })
    }

    /// Sets the fields of `target` that the mask names to what they are in `source`; those that
    /// are not there vanish. `*` names all `fields`, and nothing but these and what is in them can
    /// be named.
    pub(crate) fn apply(
        &self,
        target: &mut Value,
        source: &Value,
        fields: &[&str],
    ) -> Result<(), ApiError> {
        for path in &self.paths {
            match path.first().map(String::as_str) {
                Some("*") if path.len() == 1 => {
                    for field in fields {
                        set(target, source, &[(*field).to_owned()]);
                    }
                }
                // The keys of labels are the user's own: they would have to be told apart from dots.
                Some("labels") if path.len() > 1 => {
                    return Err(ApiError::invalid(
                        "update_mask: labels can only be changed as a whole.",
                    ));
                }
                Some(field) if fields.contains(&field) => set(target, source, path),
                _ => {
                    return Err(ApiError::invalid(format!(
                        "update_mask: {:?} cannot be changed; what can is {}.",
                        path.join("."),
                        fields.join(", ")
                    )));
                }
            }
        }
        Ok(())
    }

    /// What becomes of the labels of a resource of which nothing else can be changed.
    pub(crate) fn labels(&self, old: &Labels, source: &Value) -> Result<Labels, ApiError> {
        let mut target = json!({ "labels": old });
        self.apply(&mut target, source, &["labels"])?;
        let labels = target.get("labels").map(from_value).transpose()?;
        let labels = labels.unwrap_or_default();
        check_labels(&labels).map(|()| labels)
    }
}

fn set(target: &mut Value, source: &Value, path: &[String]) {
    let [first, rest @ ..] = path else {
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else {
        return;
    };
    match (source.get(first), rest.is_empty()) {
        (Some(value), true) => {
            fields.insert(first.clone(), value.clone());
        }
        (None, true) => {
            fields.remove(first);
        }
        (value, false) => {
            let below = value.unwrap_or(&Value::Null);
            set(
                fields
                    .entry(first.clone())
                    .or_insert_with(|| Value::Object(Map::new())),
                below,
                rest,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_mask_names_is_changed() {
        let old = json!({ "a": { "bC": 1, "d": 2 }, "labels": { "x": "1" } });
        let new = json!({ "a": { "bC": 5 }, "labels": { "y": "2" } });
        for (mask, expected) in [
            (
                "a.b_c",
                json!({ "a": { "bC": 5, "d": 2 }, "labels": { "x": "1" } }),
            ),
            (
                "a.bC,a.d",
                json!({ "a": { "bC": 5 }, "labels": { "x": "1" } }),
            ),
            ("a", json!({ "a": { "bC": 5 }, "labels": { "x": "1" } })),
            (
                "labels",
                json!({ "a": { "bC": 1, "d": 2 }, "labels": { "y": "2" } }),
            ),
            ("*", new.clone()),
            (
                "a.e.f",
                json!({ "a": { "bC": 1, "d": 2, "e": {} }, "labels": { "x": "1" } }),
            ),
        ] {
            let mut target = old.clone();
            let mask = Mask::parse(mask).unwrap();
            mask.apply(&mut target, &new, &["a", "labels"]).unwrap();
            assert_eq!(target, expected, "{mask:?}");
        }
    }

    #[test]
    fn a_mask_names_what_can_be_changed() {
        for text in ["", " , ", &"a.".repeat(65), &"a,".repeat(65)] {
            assert!(Mask::parse(text).is_err(), "{text}");
        }
        for text in ["tier", "labels.x", "a,name", "*.a"] {
            let mask = Mask::parse(text).unwrap();
            let outcome = mask.apply(&mut json!({}), &json!({}), &["a", "labels"]);
            assert!(outcome.is_err(), "{text}");
        }
    }
}
