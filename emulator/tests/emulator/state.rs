use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use certagent_emulator::{Code, CreateQuery, Emulator, EmulatorError, PoolName, Sold};
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
    assert_eq!(second.stats().total_sold(), 2, "replays are not sold again");
    let issued = create(&second, ISSUING, &request(4), &body()).unwrap();
    verify(&second, &issued, clock.now()).unwrap();
}

/// Sold and replayed, with the serials of what was sold.
fn counts(emulator: &Emulator) -> (BTreeMap<PoolName, u64>, u64, Vec<Sold>) {
    let stats = emulator.stats();
    (stats.sold, stats.replayed, emulator.sold())
}

#[test]
fn what_was_sold_is_counted_over_restarts_also_when_it_is_kept_no_more() {
    let dir = TempDir::new().unwrap();
    let kept = CreateQuery {
        certificate_id: Some("cart".to_owned()),
        ..request(2)
    };
    let mut before = None;
    for restart in 0..3 {
        let (emulator, clock) = build(guide(), Some(dir.path())).unwrap();
        if let Some(before) = before {
            assert_eq!(counts(&emulator), before, "restart {restart}");
        }
        // The first answer is repeated, and forgotten an hour later; the second is not kept at all.
        let first = request(10 + restart);
        for query in [&first, &first, &CreateQuery::default()] {
            create(&emulator, ISSUING, query, &body()).unwrap();
        }
        create(&emulator, ROOT, &kept, &body()).unwrap();
        clock.step(SignedDuration::from_secs(3601));
        create(&emulator, ISSUING, &request(20 + restart), &body()).unwrap();
        before = Some(counts(&emulator));
    }
    let (sold, replayed, last) = before.unwrap();
    assert_eq!(sold.values().copied().collect::<Vec<_>>(), [9, 1]);
    assert_eq!(replayed, 3 + 2, "the kept one was bought once");
    assert_eq!(last.len(), 10);
    assert_eq!(last[0].request_id, Some(uuid(10)));
}

#[test]
fn what_a_killed_process_sold_and_did_not_enter_is_counted_once() {
    let dir = TempDir::new().unwrap();
    let (emulator, _) = build(guide(), Some(dir.path())).unwrap();
    for n in 1..=3 {
        create(&emulator, ISSUING, &request(n), &body()).unwrap();
    }
    let before = counts(&emulator);
    drop(emulator);
    let path = dir.path().join("history.jsonl");
    let whole = fs::read(&path).unwrap();
    let line = whole.len() / 3;
    for cut in [0, 1, 5, whole.len() - line, whole.len() - 1, whole.len()] {
        fs::write(&path, &whole[..cut]).unwrap();
        for _ in 0..2 {
            let (emulator, _) = build(guide(), Some(dir.path())).unwrap();
            let (sold, replayed, mut last) = counts(&emulator);
            last.sort_by(|a, b| a.request_id.cmp(&b.request_id));
            assert_eq!((sold, replayed, last), before, "{cut} bytes");
        }
    }
}

#[test]
fn a_history_that_cannot_be_understood_stops_the_start_and_is_named() {
    let dir = TempDir::new().unwrap();
    let (emulator, _) = build(guide(), Some(dir.path())).unwrap();
    create(&emulator, ISSUING, &request(1), &body()).unwrap();
    drop(emulator);
    let path = dir.path().join("history.jsonl");
    let good = fs::read_to_string(&path).unwrap();
    let (head, rest) = good.split_once('\n').unwrap();
    for (bad, reason) in [
        (rest.to_owned(), "not the JSON"),
        (format!("{head}\n{{}}\n{rest}"), "not the JSON"),
        (format!("{head}\n{head}\n{rest}"), "not the JSON"),
        (format!("{{\"version\":99}}\n{rest}"), "by another version"),
    ] {
        fs::write(&path, &bad).unwrap();
        let error = build(guide(), Some(dir.path())).err().unwrap().to_string();
        assert!(error.contains("history.jsonl"), "{error}");
        assert!(error.contains(reason), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
    fs::write(&path, good).unwrap();
    build(guide(), Some(dir.path())).unwrap();
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
    assert_eq!(mode(&state.join("history.jsonl")), 0o600);
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
