use std::time::Duration;

use certagent_core::{
    algorithm::KeyAlgorithm,
    names::SubjectNames,
    plan::IssuePlan,
    request::{RequestForm, SubjectMode},
};

use super::*;
use crate::volume::fixture::{at, key, names};

fn request(key: &PrivateKey, second: i64) -> PreparedRequest {
    let plan = IssuePlan {
        spiffe_id: "spiffe://example.org/ns/shop/sa/cart".try_into().unwrap(),
        algorithm: KeyAlgorithm::EcdsaP256,
        validity: Duration::from_secs(86_400),
        rotation_window_percentage: 50,
        subject_mode: SubjectMode::Default,
        names: SubjectNames::default(),
    };
    let pool =
        "//privateca.googleapis.com/projects/my-project/locations/us-central1/caPools/issuing"
            .parse()
            .unwrap();
    let csr = "-----BEGIN CERTIFICATE REQUEST-----\n\"quoted\" \u{e9}\n";
    PreparedRequest::new(
        plan,
        pool,
        RequestForm::Config,
        key.public_key(),
        csr,
        at(second),
    )
}

fn pending(root: &tempfile::TempDir) -> Pending {
    Pending::new(root.path().join("pending"), true)
}

fn reason(pending: &Pending) -> Incomplete {
    match pending.load() {
        Err(PendingError::Incomplete { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pending_request_comes_back_byte_for_byte_with_its_key() {
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    assert!(pending.load().unwrap().is_none());
    let key = key();
    let request = request(&key, 0);
    pending.save(&key, &request).unwrap();
    let (loaded_key, loaded) = pending.load().unwrap().unwrap();
    assert_eq!(loaded.body.as_bytes(), request.body.as_bytes());
    assert_eq!(loaded, request);
    assert_eq!(loaded_key.pkcs8_der(), key.pkcs8_der());
    assert_eq!(
        names(&root.path().join("pending")),
        ["key.pem", "request.json"]
    );
}

#[test]
fn a_request_of_a_version_that_knew_one_subject_mode_reads_with_its_checksum() {
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    let key = key();
    pending.save(&key, &request(&key, 0)).unwrap();
    let text = std::fs::read_to_string(pending.path.join(REQUEST)).unwrap();
    assert!(!text.contains("subject_mode"), "{text}");
    let reflected = PreparedRequest {
        plan: request(&key, 0)
            .plan
            .with_subject_mode(SubjectMode::ReflectedSpiffe),
        ..request(&key, 0)
    };
    pending.update(&reflected).unwrap();
    assert_eq!(pending.load().unwrap().unwrap().1, reflected);
}

#[test]
fn a_key_without_its_request_is_nothing() {
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    let key = key();
    pending.save(&key, &request(&key, 0)).unwrap();
    std::fs::remove_file(pending.path.join(REQUEST)).unwrap();
    assert!(pending.load().unwrap().is_none());
}

#[test]
fn a_new_request_replaces_the_old_one_together_with_its_key() {
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    let (old, new) = (key(), key());
    pending.save(&old, &request(&old, 0)).unwrap();
    pending.save(&new, &request(&new, 1)).unwrap();
    let (loaded_key, loaded) = pending.load().unwrap().unwrap();
    assert_eq!(loaded_key.public_key(), new.public_key());
    assert_eq!(loaded, request(&new, 1));
}

#[test]
fn an_update_keeps_the_key() {
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    let key = key();
    assert!(
        pending.update(&request(&key, 0)).is_err(),
        "there is no key yet"
    );
    pending.save(&key, &request(&key, 0)).unwrap();
    let changed = PreparedRequest {
        created_at: at(999),
        ..request(&key, 0)
    };
    pending.update(&changed).unwrap();
    let (loaded_key, loaded) = pending.load().unwrap().unwrap();
    assert_eq!(loaded, changed);
    assert_eq!(loaded_key.public_key(), key.public_key());
}

#[test]
fn what_is_cleared_is_gone_and_clearing_nothing_is_no_error() {
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    pending.clear().unwrap();
    let key = key();
    pending.save(&key, &request(&key, 0)).unwrap();
    pending.clear().unwrap();
    assert!(pending.load().unwrap().is_none());
    assert!(names(&pending.path).is_empty());
}

#[test]
fn a_torn_or_mixed_request_is_incomplete_and_says_how() {
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    let key = key();
    let (key_path, request_path) = (pending.path.join(KEY), pending.path.join(REQUEST));
    pending.save(&key, &request(&key, 0)).unwrap();

    std::fs::write(
        &key_path,
        *crate::volume::fixture::key()
            .to_pem()
            .as_bytes()
            .first_chunk::<9>()
            .unwrap(),
    )
    .unwrap();
    assert!(matches!(reason(&pending), Incomplete::Key(_)));
    std::fs::write(&key_path, crate::volume::fixture::key().to_pem().as_bytes()).unwrap();
    assert!(matches!(reason(&pending), Incomplete::OtherKey));
    std::fs::remove_file(&key_path).unwrap();
    assert!(matches!(reason(&pending), Incomplete::NoKey));

    pending.save(&key, &request(&key, 0)).unwrap();
    let text = std::fs::read_to_string(&request_path).unwrap();
    for end in 0..text.len() - 1 {
        if text.is_char_boundary(end) {
            std::fs::write(&request_path, &text[..end]).unwrap();
            assert!(
                matches!(reason(&pending), Incomplete::Request(_)),
                "cut at {end}"
            );
        }
    }
    std::fs::write(&request_path, text.replace("2026-11-21", "2026-11-22")).unwrap();
    assert!(matches!(reason(&pending), Incomplete::Checksum));
}

#[test]
fn key_and_request_are_for_the_agent_only_and_no_error_shows_the_key() {
    use std::os::unix::fs::MetadataExt as _;
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    let key = key();
    pending.save(&key, &request(&key, 0)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&pending.path), 0o700);
    assert_eq!(mode(&pending.path.join(KEY)), 0o600);
    assert_eq!(mode(&pending.path.join(REQUEST)), 0o600);
    let secret = key.to_pem().lines().nth(1).unwrap().to_owned();
    let request = std::fs::read_to_string(pending.path.join(REQUEST)).unwrap();
    assert!(!request.contains(&secret));
    let bent = key.to_pem().replace("-----END", "-----FIN");
    std::fs::write(pending.path.join(KEY), bent).unwrap();
    let error = pending.load().unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&secret));
}

#[test]
fn whoever_only_looks_sees_the_request_and_needs_no_key() {
    let root = tempfile::tempdir().unwrap();
    let pending = pending(&root);
    assert!(pending.peek().unwrap().is_none());
    let key = key();
    pending.save(&key, &request(&key, 0)).unwrap();
    std::fs::remove_file(pending.path.join(KEY)).unwrap();
    assert_eq!(pending.peek().unwrap(), Some(request(&key, 0)));
    std::fs::write(pending.path.join(REQUEST), "{").unwrap();
    let error = pending.peek().unwrap_err();
    assert!(matches!(error, PendingError::Incomplete { .. }), "{error}");
}
