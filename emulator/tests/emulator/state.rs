use std::fs;
use std::path::{Path, PathBuf};

use certagent_emulator::{Code, CreateQuery, EmulatorError};
use jiff::SignedDuration;
use serde_json::json;
use tempfile::TempDir;

use crate::support::*;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn cas_certificates_and_replays_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    let enterprise = |n| CreateQuery {
        certificate_id: Some("cart".to_owned()),
        ..request(n)
    };
    let (first, _) = build(guide(), Some(dir.path())).unwrap();
    let chains = first.fetch_ca_certs(ISSUING).unwrap();
    let sold = create(&first, ISSUING, &request(1), &body()).unwrap();
    let kept = create(&first, ROOT, &enterprise(2), &body()).unwrap();
    drop(first);

    let (second, clock) = build(guide(), Some(dir.path())).unwrap();
    assert_eq!(second.fetch_ca_certs(ISSUING).unwrap(), chains);
    assert_eq!(
        create(&second, ISSUING, &request(1), &body()).unwrap(),
        sold
    );
    assert_eq!(second.get_certificate(&kept.name).unwrap(), kept);
    let error = create(&second, ROOT, &enterprise(3), &body()).unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists);
    assert_eq!(second.stats().total_sold(), 0, "replays are not sold again");
    let issued = create(&second, ISSUING, &request(4), &body()).unwrap();
    verify(&second, &issued, clock.now()).unwrap();
}

#[test]
fn old_answers_leave_the_disk_and_kept_certificates_stay() {
    let dir = TempDir::new().unwrap();
    let (emulator, clock) = build(guide(), Some(dir.path())).unwrap();
    create(&emulator, ISSUING, &request(1), &body()).unwrap();
    let query = CreateQuery {
        certificate_id: Some("cart".to_owned()),
        ..request(2)
    };
    create(&emulator, ROOT, &query, &body()).unwrap();
    let certificates = dir.path().join("certificates");
    assert_eq!(files(&certificates).len(), 2);
    clock.step(SignedDuration::from_secs(3601));
    create(&emulator, ISSUING, &request(3), &body()).unwrap();
    assert_eq!(
        files(&certificates).len(),
        2,
        "the kept one and the new one"
    );
}

#[test]
fn a_corrupt_state_file_stops_the_start_and_is_named() {
    let dir = TempDir::new().unwrap();
    let (emulator, _) = build(guide(), Some(dir.path())).unwrap();
    create(&emulator, ISSUING, &request(1), &body()).unwrap();
    drop(emulator);
    let mut paths = files(&dir.path().join("cas"));
    paths.extend(files(&dir.path().join("pools")));
    paths.extend(files(&dir.path().join("certificates")));
    assert_eq!(paths.len(), 5);
    for path in paths {
        let good = fs::read(&path).unwrap();
        let mut wrong_version: serde_json::Value = serde_json::from_slice(&good).unwrap();
        wrong_version["version"] = json!(99);
        for bad in [
            &b""[..],
            b"{",
            &good[..good.len() / 2],
            wrong_version.to_string().as_bytes(),
        ] {
            fs::write(&path, bad).unwrap();
            let error = build(guide(), Some(dir.path())).err().unwrap();
            let EmulatorError::StateCorrupt { path: named, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(*named, path);
            assert!(
                error
                    .to_string()
                    .contains("delete the whole state directory"),
                "{error}"
            );
            assert_eq!(fs::read(&path).unwrap(), bad, "nothing was written over it");
        }
        fs::write(&path, good).unwrap();
    }
    build(guide(), Some(dir.path())).unwrap();
}

#[test]
fn a_file_that_went_missing_is_not_made_anew() {
    let dir = TempDir::new().unwrap();
    drop(build(guide(), Some(dir.path())).unwrap());
    let ca = files(&dir.path().join("cas"))
        .into_iter()
        .find(|path| path.to_string_lossy().contains("p.l.root-pool."));
    for (path, problem) in [
        (ca.unwrap(), "it is missing, but its pool names it"),
        (
            dir.path().join("pools/p.l.root-pool.json"),
            "the file of its pool is missing",
        ),
    ] {
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = build(guide(), Some(dir.path())).err().unwrap();
        assert!(error.to_string().contains(problem), "{error}");
        fs::write(&path, content).unwrap();
    }
    build(guide(), Some(dir.path())).unwrap();
}

#[test]
fn a_directory_of_an_older_version_is_refused_in_words() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("cas")).unwrap();
    let old = dir.path().join("cas/p.l.root-pool.json");
    let content =
        r#"{"version": 1, "pool": "projects/p/locations/l/caPools/root-pool", "id": "a"}"#;
    fs::write(&old, content).unwrap();
    let error = build(guide(), Some(dir.path())).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("written by another version"), "{text}");
    assert!(text.contains("delete the whole state directory"), "{text}");
}

#[test]
fn two_emulators_do_not_share_a_state_directory() {
    let dir = TempDir::new().unwrap();
    let (first, _) = build(guide(), Some(dir.path())).unwrap();
    let error = build(guide(), Some(dir.path())).err().unwrap();
    assert!(matches!(error, EmulatorError::StateInUse { .. }), "{error}");
    drop(first);
    build(guide(), Some(dir.path())).unwrap();
}

#[test]
fn a_state_directory_that_is_a_file_is_an_error() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    let error = build(guide(), Some(&path)).err().unwrap();
    assert!(matches!(error, EmulatorError::StateIo { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn state_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let (emulator, _) = build(guide(), Some(&state)).unwrap();
    create(&emulator, ISSUING, &request(1), &body()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for directory in ["cas", "pools", "certificates"] {
        for path in files(&state.join(directory)) {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let mut twice = guide();
    twice.pools.push(twice.pools[1].clone());
    assert!(matches!(
        build(twice, None),
        Err(EmulatorError::DuplicatePool(_))
    ));

    let mut child_first = guide();
    child_first.pools.reverse();
    assert!(matches!(
        build(child_first, None),
        Err(EmulatorError::UnknownParent { .. })
    ));

    let mut grandchild = guide();
    let mut third = grandchild.pools[1].clone();
    third.name = "projects/p/locations/l/caPools/third".parse().unwrap();
    third.ca.parent = Some(grandchild.pools[1].name.clone());
    grandchild.pools.push(third);
    assert!(matches!(
        build(grandchild, None),
        Err(EmulatorError::ParentNotRoot { .. })
    ));

    let mut short = guide();
    short.pools[0].ca.lifetime = SignedDuration::ZERO;
    assert!(matches!(
        build(short, None),
        Err(EmulatorError::CaLifetime(_))
    ));

    let backdate = with_policy(json!({ "backdateDuration": "172801s" }));
    assert!(matches!(
        build(backdate, None),
        Err(EmulatorError::Backdate(_))
    ));
}
