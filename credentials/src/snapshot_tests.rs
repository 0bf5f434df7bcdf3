use super::*;
use crate::fixture::{Credential, ID, NOW, credential};
use crate::read;

fn parse(credential: &Credential) -> Result<Snapshot, ReadError> {
    let dir = tempfile::tempdir().unwrap();
    credential.write(dir.path());
    read(dir.path())
}

/// As [`parse`], where key and chain are in two files only.
fn parse_two(credential: &Credential) -> Result<Snapshot, ReadError> {
    without(credential, &[layout::CREDENTIAL_BUNDLE])
}

fn without(credential: &Credential, names: &[&str]) -> Result<Snapshot, ReadError> {
    let dir = tempfile::tempdir().unwrap();
    credential.write(dir.path());
    for name in names {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    read(dir.path())
}

#[test]
fn a_whole_credential_is_read_and_verifies_to_its_own_roots() {
    let snapshot = parse(&credential()).unwrap();
    assert_eq!(snapshot.spiffe_id().to_string(), ID);
    assert_eq!(
        (snapshot.generation(), snapshot.layout()),
        (None, &Layout::Plain)
    );
    assert_eq!(snapshot.roots().len(), 1);
    assert_eq!(snapshot.bundles().unwrap().len(), 1);
    assert!(snapshot.key().fits(snapshot.chain().leaf()));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let path = snapshot.verify(algorithms, NOW.parse().unwrap()).unwrap();
    assert_eq!(path.root(), &snapshot.roots()[0]);
    assert_eq!(snapshot.bundle().roots(), snapshot.roots());
    let late = "2026-12-02T00:00:00Z".parse().unwrap();
    assert!(matches!(
        snapshot.verify(algorithms, late),
        Err(VerifyError::Expired { .. })
    ));
}

#[test]
fn the_three_files_of_gke_are_a_credential() {
    let names = [layout::TRUST_BUNDLES, layout::CREDENTIAL_BUNDLE];
    let snapshot = without(&credential(), &names).unwrap();
    assert!(snapshot.bundles().is_none());
}

#[test]
fn the_roots_may_stand_in_the_bundle_map_only() {
    let names = [layout::CA_CERTIFICATES, layout::CREDENTIAL_BUNDLE];
    assert_eq!(without(&credential(), &names).unwrap().roots().len(), 1);
    let names = [layout::CA_CERTIFICATES, layout::TRUST_BUNDLES];
    let error = without(&credential(), &names).unwrap_err();
    assert!(error.to_string().contains("ca_certificates.pem"), "{error}");
}

#[test]
fn a_missing_key_or_chain_names_its_file() {
    for name in [layout::CERTIFICATES, layout::PRIVATE_KEY] {
        let names = [name, layout::CREDENTIAL_BUNDLE];
        let error = without(&credential(), &names).unwrap_err();
        assert!(
            matches!(
                &error,
                ReadError::File {
                    problem: FileProblem::Missing,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_key_of_another_generation_is_refused() {
    let bent = Credential {
        key: credential().key,
        ..credential()
    };
    let error = parse_two(&bent).unwrap_err();
    assert!(matches!(error, ReadError::KeyMismatch { .. }), "{error}");
}

#[test]
fn a_key_that_is_none_is_refused_without_being_shown() {
    let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    let error = parse_two(&Credential {
        key: secret.to_owned(),
        ..credential()
    })
    .unwrap_err();
    assert!(matches!(error, ReadError::Key { .. }), "{error}");
    assert!(!format!("{error:?} {error}").contains("c2VjcmV0"));
}

#[test]
fn certificates_that_are_no_chain_of_a_workload_are_refused() {
    let good = credential();
    let empty = Credential {
        certificates: String::new(),
        ..good.clone()
    };
    assert!(matches!(parse_two(&empty), Err(ReadError::Chain { .. })));
    let root = Credential {
        certificates: good.roots.clone(),
        ..good
    };
    assert!(matches!(parse_two(&root), Err(ReadError::Leaf { .. })));
}

#[test]
fn roots_that_are_missing_broken_or_no_ca_are_refused() {
    let good = credential();
    let with = |roots: &str| {
        parse(&Credential {
            roots: roots.to_owned(),
            ..good.clone()
        })
    };
    assert!(matches!(with(""), Err(ReadError::NoRoots { .. })));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(with(broken), Err(ReadError::Roots { .. })));
    assert!(matches!(
        with(&good.certificates),
        Err(ReadError::RootNotCa { .. })
    ));
    assert!(matches!(
        with(&credential().roots),
        Err(ReadError::BundlesDiffer { .. })
    ));
}

#[test]
fn a_bundle_map_that_does_not_parse_is_refused() {
    let error = parse(&Credential {
        bundles: "{}".to_owned(),
        ..credential()
    })
    .unwrap_err();
    assert!(matches!(error, ReadError::Bundles { .. }), "{error}");
}

#[test]
fn debug_of_a_snapshot_shows_no_key() {
    let credential = credential();
    let text = format!("{:?}", parse(&credential).unwrap());
    let secret = credential.key.lines().nth(1).unwrap();
    assert!(
        text.contains(ID.rsplit('/').next().unwrap()) && !text.contains(secret),
        "{text}"
    );
}
