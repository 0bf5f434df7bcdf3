use std::{fmt::Write as _, fs, path::Path};

use super::*;

const HEAD: &str = "\
# The two kinds that configure certagent. Made from the types in core/src/config and agent/src/kube/schema.rs;
# CERTAGENT_UPDATE_GOLDEN=1 cargo test -p certagent --lib kube::schema writes it anew.
";

#[test]
fn the_manifest_is_what_the_types_say() {
    let mut actual = HEAD.to_owned();
    for definition in definitions().unwrap() {
        let definition = serde_saphyr::to_string(&definition).unwrap();
        write!(actual, "---\n{definition}").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds.yaml");
    if std::env::var_os("CERTAGENT_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{}", path.display());
}

#[test]
fn every_schema_is_structural() {
    for definition in definitions().unwrap() {
        let version = &definition.spec.versions[0];
        let schema = serde_json::to_value(&version.schema).unwrap();
        let schema = &schema["openAPIV3Schema"];
        check(schema, "");
        let spec = &schema["properties"]["spec"]["properties"];
        assert!(spec.as_object().unwrap().len() <= 4, "{spec}");
        assert_eq!(spec["trustDomain"], Value::Null, "only v1alpha1 has it");
    }
}

fn check(schema: &Value, path: &str) {
    for forbidden in ["$ref", "anyOf", "oneOf", "nullable", "title", "$defs"] {
        assert_eq!(schema.get(forbidden), None, "{path}");
    }
    match schema["type"].as_str() {
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flatten() {
                check(property, &format!("{path}.{name}"));
            }
        }
        Some("array") => check(&schema["items"], &format!("{path}[]")),
        Some("string" | "integer") => {}
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn defaults_and_what_must_be_there_are_said() {
    let certificates = structural::<WorkloadCertificateConfigSpec>();
    assert_eq!(
        certificates["required"],
        json!(["certificateAuthorityConfig", "keyAlgorithm"])
    );
    let properties = &certificates["properties"];
    assert_eq!(properties["validityDurationSeconds"]["default"], 86_400);
    assert_eq!(properties["rotationWindowPercentage"]["default"], 50);
    let curve = &properties["keyAlgorithm"]["properties"]["ecdsa"]["properties"]["curve"];
    assert_eq!(curve["enum"], json!(["P256", "P384"]));
}
