use serde_json::{Value, json};

use super::*;

const DRIVER: &str = "workloadcertificates.security.cloud.google.com";

fn spec() -> Value {
    json!({
        "podInfoOnMount": true,
        "volumeLifecycleModes": ["Ephemeral"],
        "requiresRepublish": true,
        "tokenRequests": [{"audience": "other"}, {"audience": "pool"}],
    })
}

fn with(field: &str, value: &Value) -> DriverObject {
    let mut spec = spec();
    spec[field] = value.clone();
    judge(&spec, &Tokens::For("pool".to_owned()))
}

fn judge(spec: &Value, tokens: &Tokens) -> DriverObject {
    let object = json!({"metadata": {"name": DRIVER}, "spec": spec});
    let object: CSIDriver = serde_json::from_value(object).unwrap();
    DriverObject::judge(Some(&object), DRIVER, tokens)
}

#[test]
fn an_object_with_all_that_is_needed_is_right() {
    assert_eq!(with("attachRequired", &json!(false)), DriverObject::Right);
}

#[test]
fn what_is_missing_is_named_with_the_manifest_that_brings_it() {
    for (field, value, lacks) in [
        ("podInfoOnMount", json!(false), "podInfoOnMount: true"),
        ("podInfoOnMount", Value::Null, "podInfoOnMount: true"),
        ("volumeLifecycleModes", json!(["Persistent"]), "Ephemeral"),
        ("volumeLifecycleModes", Value::Null, "Ephemeral"),
        ("tokenRequests", json!([{"audience": ""}]), "\"pool\""),
        ("tokenRequests", Value::Null, "\"pool\""),
        ("requiresRepublish", json!(false), "requiresRepublish: true"),
    ] {
        let DriverObject::Wrong { message } = with(field, &value) else {
            panic!("{field} {value}");
        };
        assert!(message.contains(lacks), "{message}");
        assert!(message.contains(DRIVER), "{message}");
        assert!(
            message.ends_with("apply deploy/csidriver-reflected.yaml"),
            "{message}"
        );
    }
}

#[test]
fn tokens_matter_only_to_a_driver_that_needs_them() {
    let spec = json!({"podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"]});
    assert_eq!(judge(&spec, &Tokens::NotNeeded), DriverObject::Right);
    let wrong = judge(&json!({}), &Tokens::NotNeeded);
    assert!(
        wrong
            .problem()
            .unwrap()
            .ends_with("apply deploy/csidriver.yaml")
    );
}

#[test]
fn no_object_is_told_with_what_to_apply() {
    let missing = DriverObject::judge(None, DRIVER, &Tokens::NotNeeded);
    assert!(matches!(missing, DriverObject::Missing { .. }));
    assert!(
        missing
            .problem()
            .unwrap()
            .ends_with("apply deploy/csidriver.yaml")
    );
}
