use proptest::prelude::*;

use super::*;
use crate::volume::fixture::{at, names};

pub(in crate::volume) fn record() -> Record {
    let roots = Sequence {
        sequence: 7,
        roots: "ab".repeat(32),
    };
    Record {
        version: Record::VERSION,
        volume: "/run/volume".to_owned(),
        spiffe_id: "spiffe://example.org/ns/shop/sa/cart".to_owned(),
        issued_at: at(0),
        validity_seconds: 86_400,
        rotation_window_percentage: 50,
        serial: "0123456789abcdef".to_owned(),
        pool: Some(
            "//privateca.googleapis.com/projects/my-project/locations/us-central1/caPools/issuing"
                .to_owned(),
        ),
        sequences: [("example.org".to_owned(), roots)].into(),
        pod: None,
        asked_names: None,
    }
}

#[test]
fn a_record_comes_back_as_it_was_saved() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Record::load(directory.path()).unwrap().is_none());
    for record in [
        record(),
        Record {
            pool: None,
            sequences: BTreeMap::new(),
            ..record()
        },
        Record {
            pod: Some(PodRecord {
                uid: "0d6f".to_owned(),
                name: "cart-1".to_owned(),
                namespace: "shop".to_owned(),
                service_account: "cart".to_owned(),
                fs_group: Some(2000),
            }),
            asked_names: Some(SubjectNames::default()),
            ..record()
        },
    ] {
        record.save(directory.path(), true).unwrap();
        assert_eq!(Record::load(directory.path()).unwrap(), Some(record));
    }
    assert_eq!(names(directory.path()), ["record.json"]);
}

#[test]
fn a_record_of_another_version_is_told_from_a_corrupt_one() {
    let directory = tempfile::tempdir().unwrap();
    let text = r#"{"record":{"version":2,"new":true},"checksum":"","more":[]}"#;
    std::fs::write(directory.path().join(NAME), text).unwrap();
    let error = Record::load(directory.path()).unwrap_err();
    assert!(
        matches!(error, RecordError::Version { found: 2, .. }),
        "{error}"
    );
}

/// A file as another version writes it: the record's text, and its checksum.
fn written(directory: &Path, record: &str) {
    let raw = RawValue::from_string(record.to_owned()).unwrap();
    let text = format!(
        r#"{{"by":"another","checksum":"{}","record":{record}}}"#,
        checksum(&raw)
    );
    std::fs::write(directory.join(NAME), text).unwrap();
}

#[test]
fn a_record_with_fields_of_a_newer_version_is_read_and_still_checked() {
    let directory = tempfile::tempdir().unwrap();
    let mut newer = serde_json::to_value(record()).unwrap();
    newer["reason"] = "an edit".into();
    newer["sequences"]["example.org"]["since"] = 7.into();
    newer["pod"] = serde_json::json!({ "uid": "u", "name": "n", "namespace": "s",
        "serviceAccount": "a", "node": "x" });
    let newer = newer.to_string();
    written(directory.path(), &newer);
    let read = read_record(directory.path()).unwrap().unwrap();
    let pod = read.pod.clone().unwrap();
    assert_eq!((pod.uid.as_str(), pod.fs_group), ("u", None));
    assert_eq!(Record { pod: None, ..read }, record());

    let path = directory.path().join(NAME);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("an edit", "an edis")).unwrap();
    let error = read_record(directory.path()).unwrap_err();
    assert!(
        error.to_string().contains("its checksum is wrong"),
        "{error}"
    );
}

#[test]
fn a_record_of_an_older_version_lacks_what_came_later() {
    let directory = tempfile::tempdir().unwrap();
    let mut older = serde_json::to_value(record()).unwrap();
    for later in ["pod", "pool", "askedNames"] {
        older.as_object_mut().unwrap().remove(later);
    }
    written(directory.path(), &older.to_string());
    let read = read_record(directory.path()).unwrap();
    assert_eq!(
        read,
        Some(Record {
            pool: None,
            ..record()
        })
    );
}

#[test]
fn a_record_that_cannot_be_read_is_neither_corrupt_nor_missing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join(NAME)).unwrap();
    let error = Record::load(directory.path()).unwrap_err();
    assert!(matches!(error, RecordError::Unreadable { .. }), "{error}");
}

#[test]
fn a_corrupt_record_is_set_aside_and_never_deleted() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Record::set_aside(directory.path()).unwrap(), None);
    std::fs::write(directory.path().join(NAME), "torn").unwrap();
    let error = Record::load(directory.path()).unwrap_err();
    assert!(
        error.to_string().contains("record.json is corrupt"),
        "{error}"
    );
    let aside = Record::set_aside(directory.path()).unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "torn");
    assert!(Record::load(directory.path()).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_torn_or_bent_record_is_never_taken_for_a_good_one(
        cut in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        record().save(directory.path(), false).unwrap();
        let path = directory.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..cut.index(whole.len())]).unwrap();
        let torn = Record::load(directory.path());
        prop_assert!(matches!(torn, Err(RecordError::Corrupt { .. })), "{torn:?}");
        let mut bent = whole.clone();
        *place.get_mut(&mut bent) = byte;
        std::fs::write(&path, &bent).unwrap();
        match Record::load(directory.path()) {
            // White space around the record may change.
            Ok(loaded) => prop_assert_eq!(loaded, Some(record())),
            Err(error) => prop_assert!(
                matches!(error, RecordError::Corrupt { .. } | RecordError::Version { .. }),
                "{}", error
            ),
        }
    }
}
