//! The objects of a cluster as sources of a configuration, and back into a status.
use std::collections::BTreeMap;

use certagent_core::{
    config::{Source, is_own_annotation},
    spread_rotation::ROTATE_AFTER,
};
use kube::{ResourceExt as _, api::DynamicObject};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::kube::{GROUP, Kind, OBJECT_NAME, VERSION, schema::LastGood};

/// A status that is larger is not written: it would take the place that the object needs.
const LARGEST: usize = 256 * 1024;

/// Which object, and which form of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) uid: String,
    pub(super) generation: i64,
}

/// The object as a file would have it, without what only the API server writes.
pub(super) fn source(kind: Kind, there: &DynamicObject) -> Source {
    let metadata = &there.metadata;
    let stamp = metadata.uid.clone().zip(metadata.generation);
    let stamp = stamp.map(|(uid, generation)| Stamp { uid, generation });
    let mut text = text(kind, stamp.as_ref(), there.data.get("spec"));
    let ours = there.annotations().iter();
    let ours: BTreeMap<_, _> = ours.filter(|(name, _)| is_own_annotation(name)).collect();
    if !ours.is_empty() {
        text["metadata"]["annotations"] = json!(ours);
        text["metadata"]["managedFields"] = writers(there);
    }
    Source {
        name: name(kind, metadata.generation),
        text: text.to_string(),
    }
}

fn name(kind: Kind, generation: Option<i64>) -> String {
    let generation = generation.map_or_else(String::new, |one| format!(" (generation {one})"));
    format!("{}{generation}", kind.object())
}

/// With a stamp it is known later which object, and which form of it, is in force.
fn text(kind: Kind, stamp: Option<&Stamp>, spec: Option<&Value>) -> Value {
    let mut text = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind.name(),
        "metadata": {"name": OBJECT_NAME},
    });
    if let Some(stamp) = stamp {
        text["metadata"]["uid"] = stamp.uid.as_str().into();
        text["metadata"]["generation"] = stamp.generation.into();
    }
    if let Some(spec) = spec {
        text["spec"] = spec.clone();
    }
    text
}

/// Who has put the annotation there, as far as it says when.
fn writers(there: &DynamicObject) -> Value {
    let name = format!("f:{ROTATE_AFTER}");
    let annotations = json!({"f:metadata": {"f:annotations": {name.as_str(): {}}}});
    let writers = there.managed_fields().iter().filter_map(|writer| {
        let fields = &writer.fields_v1.as_ref()?.0;
        fields["f:metadata"]["f:annotations"].get(&name)?;
        Some(json!({"time": writer.time.as_ref()?.0, "fieldsV1": annotations}))
    });
    writers.collect()
}

/// Sources of a cluster are JSON, and an earlier version kept them without what is asked for here.
pub(super) fn stamp(source: &Source) -> Option<Stamp> {
    let object: Value = serde_json::from_str(&source.text).ok()?;
    let metadata = object.get("metadata")?;
    Some(Stamp {
        uid: metadata.get("uid")?.as_str()?.to_owned(),
        generation: metadata.get("generation")?.as_i64()?,
    })
}

pub(super) fn kind(source: &Source) -> Option<Kind> {
    let object: Value = serde_json::from_str(&source.text).ok()?;
    kind_of(object.get("kind")?.as_str()?)
}

fn kind_of(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// The form of the good objects in a status: both, so that each of the two objects is enough. None
/// of sources that are no objects of a cluster, or too large.
pub(super) fn to_status(good: &[Source]) -> Option<Value> {
    let objects: Option<Vec<LastGood>> = good.iter().map(last_good).collect();
    let objects = objects.filter(|objects| objects.len() == Kind::ALL.len())?;
    let form = serde_json::to_value(objects).ok()?;
    (form.to_string().len() <= LARGEST).then_some(form)
}

fn last_good(source: &Source) -> Option<LastGood> {
    let Stamp { uid, generation } = stamp(source)?;
    let object: Value = serde_json::from_str(&source.text).ok()?;
    Some(LastGood {
        kind: kind(source)?.name().to_owned(),
        uid,
        generation,
        spec: object.get("spec")?.clone(),
    })
}

/// The objects that a status keeps; none if it keeps none in that form.
pub(super) fn from_status(status: &Value) -> Option<Vec<Source>> {
    let kept = Vec::<LastGood>::deserialize(status.get("lastGood")?).ok()?;
    let source = |kept: LastGood| {
        let kind = kind_of(&kept.kind)?;
        let LastGood {
            uid,
            generation,
            spec,
            ..
        } = kept;
        let stamp = Stamp { uid, generation };
        Some(Source {
            name: name(kind, Some(generation)),
            text: text(kind, Some(&stamp), Some(&spec)).to_string(),
        })
    };
    let sources: Option<Vec<Source>> = kept.into_iter().map(source).collect();
    sources.filter(|sources| sources.len() == Kind::ALL.len())
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
