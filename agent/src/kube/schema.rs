//! The definitions of the two kinds, as `deploy/crds.yaml` has them.
//!
//! The `spec` is what `certagent_core::config` reads; the `status` is here. Only what an API server
//! has to know is said: the rules proper are in `certagent_core::config::validate`.
use certagent_core::config::{TrustConfigSpec, WorkloadCertificateConfigSpec};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{GROUP, Kind, OURS, VERSION};

/// The `status` of a `WorkloadCertificateConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadCertificateConfigStatus {
    /// What the controller says about the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Both objects as they were when they were good last: what is used while one is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub last_good: Vec<LastGood>,
}

/// The `status` of a `TrustConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustConfigStatus {
    /// What the controller says about the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Both objects as they were when they were good last: what is used while one is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub last_good: Vec<LastGood>,
    /// The roots that the trust stores stand for. The controller fetches them, because nodes need
    /// not be able to reach where they come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["trustDomain"])
    )]
    pub rendered_trust_stores: Vec<RenderedTrustStore>,
}

/// One statement about an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, such as `Ready`.
    pub r#type: String,
    /// Whether it is so: `True`, `False` or `Unknown`.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when, as RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The `metadata.generation` that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// One of the two objects, as it was when both were good last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastGood {
    /// Its kind.
    pub kind: String,
    /// Its `metadata.uid`: an object of the same name may be another one.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its `spec`.
    #[schemars(schema_with = "any_object")]
    pub spec: Value,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// The roots of one trust domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RenderedTrustStore {
    /// The trust domain.
    pub trust_domain: String,
    /// Its roots; the controller puts those of all anchors into one item.
    #[serde(default)]
    pub trust_anchors: Vec<RenderedTrustAnchor>,
}

/// The roots of one anchor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RenderedTrustAnchor {
    /// Certificates in PEM.
    #[serde(default)]
    pub pem_certificates: Vec<String>,
}

/// Both definitions.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    let certificates = (
        "How the workloads' certificates are issued; only the object named default counts.",
        structural::<WorkloadCertificateConfigSpec>(),
        structural::<WorkloadCertificateConfigStatus>(),
    );
    let trust = (
        "Whose certificates the workloads trust; only the object named default counts.",
        structural::<TrustConfigSpec>(),
        structural::<TrustConfigStatus>(),
    );
    Kind::ALL
        .into_iter()
        .zip([certificates, trust])
        .map(|(kind, (description, spec, status))| {
            serde_json::from_value(definition(kind, description, &spec, &status))
        })
        .collect()
}

fn definition(kind: Kind, description: &str, spec: &Value, status: &Value) -> Value {
    let singular = kind.name().to_lowercase();
    let (label, ours) = OURS;
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.definition(), "labels": {label: ours}},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind.name(),
                "listKind": format!("{}List", kind.name()),
                "plural": kind.plural(),
                "singular": singular,
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {
                        "name": "Ready",
                        "type": "string",
                        "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status",
                    },
                    {
                        "name": "Age",
                        "type": "date",
                        "jsonPath": ".metadata.creationTimestamp",
                    },
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": description,
                    "required": ["spec"],
                    "x-kubernetes-validations": [{
                        "rule": "self.metadata.name == 'default'",
                        "message": "only the object named default counts",
                    }],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": status,
                    },
                }},
            }],
        },
    })
}

/// The schema of a type in the form that Kubernetes calls structural: without references, and with
/// exactly one type at each place.
fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .with_transform(simplify)
        .into_generator()
        .into_root_schema_for::<T>();
    schema.remove("title");
    schema.to_value()
}

/// An API server drops `null` by itself, so a field that may be absent needs no word about it.
fn simplify(schema: &mut Schema) {
    transform_subschemas(&mut simplify, schema);
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = object.get("type") {
        let real = types.iter().find(|one| *one != "null").cloned();
        object.extend(real.map(|real| ("type".to_owned(), real)));
    }
    if let Some(Value::Array(choices)) = object.remove("anyOf") {
        let real = choices.into_iter().find(|one| one["type"] != "null");
        if let Some(Value::Object(real)) = real {
            merge(object, real);
        }
    }
    let says_nothing =
        |default: &Value| default.is_null() || *default == json!([]) || *default == json!("");
    if object.get("default").is_some_and(says_nothing) {
        object.remove("default");
    }
}

/// What is said at the field itself comes first.
fn merge(object: &mut Map<String, Value>, real: Map<String, Value>) {
    for (key, value) in real {
        object.entry(key).or_insert(value);
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
