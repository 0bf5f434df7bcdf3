//! What is asked for by annotations of an object, beside its `spec`.
use jiff::Timestamp;

use super::{
    decode::Decoder,
    problem::{FieldProblem, did_you_mean, quote},
    rule::Rule,
    tree::{Node, Value},
};
use crate::spread_rotation::{ALLOWED, ROTATE_AFTER, SpreadRotation};

/// An annotation of this name is meant for us, however it is spelt.
pub fn is_own_annotation(name: &str) -> bool {
    name.to_lowercase().starts_with("certagent.dev/")
}

/// The spread rotation that the object asks for. What cannot be read is told and left out: an
/// annotation never keeps a `spec` from being used.
pub(super) fn spread_rotation(decoder: &mut Decoder, root: &Node) -> Option<SpreadRotation> {
    let metadata = root.get("metadata")?;
    let asked = metadata.get("annotations")?.get(ROTATE_AFTER)?;
    let read = match text(asked) {
        Some(text) => SpreadRotation::parse(text, written_at(metadata)).map_err(|e| e.to_string()),
        None => Err(format!("expected a text, found {}", asked.describe())),
    };
    read.map_err(|message| {
        let field = format!("metadata.annotations[{ROTATE_AFTER}]");
        let message = format!("{message}, so nothing is renewed ahead of its time");
        let problem = FieldProblem::warning(Rule::InvalidRotateAfter, field, message);
        let problem = problem.allowed(ALLOWED);
        decoder.problems.push((asked.location, problem));
    })
    .ok()
}

/// Annotations that look as if they were read, and are not: `known` is what this kind has.
pub(super) fn unknown(decoder: &mut Decoder, root: &Node, known: &[&str]) {
    let annotations = root.get("metadata").and_then(|it| it.get("annotations"));
    let Some(Value::Map(entries)) = annotations.map(|it| &it.value) else {
        return;
    };
    for entry in entries {
        if !is_own_annotation(&entry.key) || known.contains(&entry.key.as_str()) {
            continue;
        }
        let meant = did_you_mean(&entry.key, known.iter().copied());
        let message = format!("no annotation of this name is read here{meant}");
        let field = format!(
            "metadata.annotations[{}]",
            quote(&entry.key).trim_matches('"')
        );
        let problem = FieldProblem::warning(Rule::UnknownAnnotation, field, message);
        decoder.problems.push((entry.location, problem));
    }
}

/// When the annotation was put there, as an API server notes it for whoever manages the field.
fn written_at(metadata: &Node) -> Option<Timestamp> {
    let Value::Seq(managers) = &metadata.get("managedFields")?.value else {
        return None;
    };
    let times = managers.iter().filter_map(|manager| {
        let fields = manager.get("fieldsV1")?.get("f:metadata")?;
        fields
            .get("f:annotations")?
            .get(&format!("f:{ROTATE_AFTER}"))?;
        text(manager.get("time")?)?.parse().ok()
    });
    times.max()
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
