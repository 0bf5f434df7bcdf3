use super::*;

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    labels.iter().map(pair).collect()
}

#[test]
fn what_is_absent_or_labelled_by_us_is_no_hindrance() {
    let ours = labels(&[OURS, ("app.kubernetes.io/managed-by", "Helm")]);
    let objects = vec![("one".to_owned(), None), ("two".to_owned(), Some(ours))];
    assert_eq!(judge(objects), Verdict::Ours);
}

#[test]
fn what_somebody_else_installed_is_named_with_the_ways_out() {
    let objects = vec![
        ("CustomResourceDefinition a".to_owned(), Some(labels(&[]))),
        (
            "CustomResourceDefinition b".to_owned(),
            Some(labels(&[OURS])),
        ),
        ("CSIDriver c".to_owned(), Some(labels(&[(OURS.0, "gke")]))),
    ];
    let Verdict::Foreign(foreign) = judge(objects) else {
        panic!("foreign objects were taken for ours");
    };
    let text = foreign.to_string();
    for part in [
        "CustomResourceDefinition a and CSIDriver c",
        "--adopt-foreign-objects",
        "--driver-name",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
