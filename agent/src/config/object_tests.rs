use super::*;

fn good(kind: Kind, generation: i64, spec: &Value) -> Source {
    let object = json!({
        "metadata": {"name": OBJECT_NAME, "uid": format!("{}-uid", kind.plural()), "generation": generation},
        "spec": spec,
        "status": {"conditions": []},
    });
    source(kind, &serde_json::from_value(object).unwrap())
}

fn both() -> [Source; 2] {
    [
        good(Kind::Certificates, 3, &json!({"a": [1, "two"]})),
        good(Kind::Trust, 1, &json!({"b": {}})),
    ]
}

#[test]
fn what_is_kept_in_a_status_is_what_it_was() {
    let form = to_status(&both()).unwrap();
    assert_eq!(
        form,
        json!([
            {"kind": "WorkloadCertificateConfig", "uid": "workloadcertificateconfigs-uid",
                "generation": 3, "spec": {"a": [1, "two"]}},
            {"kind": "TrustConfig", "uid": "trustconfigs-uid", "generation": 1, "spec": {"b": {}}},
        ])
    );
    let status = json!({"conditions": [], "lastGood": form});
    assert_eq!(from_status(&status).unwrap(), both());
}

#[test]
fn an_annotation_is_not_kept() {
    let object = json!({
        "metadata": {"name": OBJECT_NAME, "uid": "u", "generation": 1,
            "annotations": {ROTATE_AFTER: "2026-11-30T10:00:00Z"}},
        "spec": {},
    });
    let [_, trust] = both();
    let asking = source(Kind::Certificates, &serde_json::from_value(object).unwrap());
    assert!(asking.text.contains(ROTATE_AFTER));
    let form = to_status(&[asking, trust]).unwrap();
    assert!(!form.to_string().contains(ROTATE_AFTER), "{form}");
}

#[test]
fn files_one_object_alone_and_what_is_too_large_are_not_kept() {
    let [certificates, trust] = both();
    let file = Source {
        name: "file.yaml".to_owned(),
        text: "kind: TrustConfig\nspec: {}\n".to_owned(),
    };
    assert_eq!(to_status(&[certificates.clone(), file]), None);
    assert_eq!(to_status(&[certificates]), None);
    let large = good(Kind::Certificates, 1, &json!({"a": "x".repeat(LARGEST)}));
    assert_eq!(to_status(&[large, trust]), None);
}

#[test]
fn a_status_that_keeps_nothing_or_something_else_is_passed_over() {
    let item = |kind: &str| json!({"kind": kind, "uid": "u", "generation": 1, "spec": {}});
    for kept in [
        json!(null),
        json!([]),
        json!("text"),
        json!([item("TrustConfig")]),
        json!([item("TrustConfig"), item("Workload")]),
        json!([{"kind": "TrustConfig"}, item("TrustConfig")]),
    ] {
        assert_eq!(from_status(&json!({"lastGood": kept})), None, "{kept}");
    }
    assert_eq!(from_status(&json!({})), None);
}
