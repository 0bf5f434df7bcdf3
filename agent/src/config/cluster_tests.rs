use serde_json::{Value, json};

use super::*;

fn object(kind: &str, spec: &Value) -> Looked {
    let object = json!({
        "apiVersion": "security.cloud.google.com/v1",
        "kind": kind,
        "metadata": { "name": "default", "generation": 3, "managedFields": [] },
        "spec": spec,
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    Looked::Found(Box::new(
        serde_json::from_value(object).unwrap(),
    ))
}

fn certificates(validity: i64) -> Looked {
    let pool = "//privateca.googleapis.com/projects/p/locations/l/caPools/issuing";
    object(
        "WorkloadCertificateConfig",
        &json!({
            "certificateAuthorityConfig": {
                "certificateAuthorityServiceConfig": { "endpointURI": pool },
            },
            "keyAlgorithm": { "ecdsa": { "curve": "P256" } },
            "validityDurationSeconds": validity,
            "rotationWindowPercentage": 50,
        }),
    )
}

fn trust() -> Looked {
    let root = "//privateca.googleapis.com/projects/p/locations/l/caPools/root";
    object(
        "TrustConfig",
        &json!({ "trustStores": [{
            "trustDomain": "p.svc.id.goog",
            "trustAnchors": [{ "certificateAuthorityServiceURI": root }],
        }]}),
    )
}

fn texts(looked: &[Option<Looked>; 2]) -> Vec<String> {
    let found = found(looked, &Settings::default());
    assert!(found.config.is_none());
    found.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn both_objects_without_errors_are_a_configuration() {
    let found = found(
        &[Some(certificates(86_400)), Some(trust())],
        &Settings::default(),
    );
    assert_eq!(found.problems, []);
    let config = found.config.unwrap();
    assert_eq!(config.certificates.validity.as_secs(), 86_400);
    assert!(!found.sources[0].text.contains("managedFields"));
    assert!(!found.sources[0].text.contains("conditions"));
}

#[test]
fn what_is_missing_is_told_by_its_name_and_nothing_else_is() {
    assert_eq!(
        texts(&[Some(Looked::Missing), Some(trust())]),
        ["error: there is no WorkloadCertificateConfig named default in the cluster; apply one"]
    );
    let away = Looked::Unknown("the API server is away".to_owned());
    assert_eq!(
        texts(&[Some(away), Some(Looked::Missing)]),
        [
            "error: the API server is away",
            "error: there is no TrustConfig named default in the cluster; apply one"
        ]
    );
    assert_eq!(texts(&[None, None]).len(), 2);
}

#[test]
fn what_is_wrong_with_an_object_is_told_by_its_field_and_not_by_a_line() {
    let texts = texts(&[Some(certificates(-1)), Some(trust())]);
    assert_eq!(texts.len(), 1);
    let begin = "error: WorkloadCertificateConfig/default: spec.validityDurationSeconds: ";
    assert!(texts[0].starts_with(begin), "{}", texts[0]);
}
