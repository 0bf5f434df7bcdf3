//! A state directory that cannot be used, or that is damaged.
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    program::{certagent, run},
    site::{Site, supply},
    volumes::{files, nobody},
};

#[test]
fn a_state_directory_that_cannot_be_used_is_named_with_what_to_do() {
    let site = Site::new();
    let file = site.path().join("file");
    fs::write(&file, "mine").unwrap();
    let open = site.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let orphan = site.path().join("none/state");
    for (path, expected) in [
        (&file, "is not a directory; give another with --state-dir"),
        (&open, "can be written by others (mode 777); chmod 700 it"),
        (&orphan, "its parent does not exist; make that first"),
    ] {
        let ended = run(&mut with_state(&site, path)).expect(1);
        let ended = ended.says(&[expected, &path.display().to_string()]);
        assert!(ended.stderr.contains("state directory"), "{ended:#?}");
        assert_eq!(
            fs::read_dir(site.volume()).unwrap().count(),
            0,
            "{}",
            path.display()
        );
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    assert_eq!(site.sold(), [""; 0]);
}

#[test]
fn a_state_directory_that_must_not_be_written_is_named_with_the_user() {
    let site = Site::new();
    let (mut command, agent) = nobody(&site, "run");
    let state = site.path().join("closed");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o555)).unwrap();
    command.arg("--allow-disk");
    site.tell(&mut command, &state);
    run(&mut supply(command, &site.volume())).expect(1).says(&[
        &format!("the agent, uid {agent}, must not write {}", state.display()),
        "permission denied",
        "or another with --state-dir",
    ]);
}

#[test]
fn a_state_directory_that_another_agent_holds_is_refused() {
    let site = Site::new();
    let mut first = site.start();
    first.wait_for(&["issued", "serial="]);
    let other = site.path().join("other-volume");
    fs::create_dir(&other).unwrap();
    run(&mut supply(site.agent(), &other)).expect(1).says(&[
        "the state directory",
        "is held by another running agent",
        "give each its own with --state-dir",
    ]);
    first.terminate().expect(0);
}

#[test]
fn a_corrupt_record_is_set_aside_and_the_certificate_stays() {
    for (name, garbage) in [
        ("torn", &b"{\"record\": {\"version\": 1, "[..]),
        ("empty", b""),
        ("not text", &[0xff; 64]),
        (
            "another version",
            br#"{"record": {"version": 99}, "checksum": ""}"#,
        ),
    ] {
        let site = Site::new();
        site.provide();
        let before = files(&site.volume());
        let record = record(&site);
        fs::write(&record, garbage).unwrap();

        let ended = site.provide();
        assert!(ended.stderr.contains("record.json"), "{name}: {ended:#?}");
        assert_eq!(files(&site.volume()), before, "{name}");
        assert_eq!(site.sold().len(), 1, "{name}: nothing is bought");
        assert!(
            record.with_extension("json.corrupt").is_file(),
            "{name}: a person may look at it"
        );
    }
}

#[test]
fn a_record_that_lies_is_found_by_its_checksum() {
    let site = Site::new();
    site.provide();
    let record = record(&site);
    let text = fs::read_to_string(&record).unwrap();
    let lie = text.replace("\"validitySeconds\": 3600", "\"validitySeconds\": 60");
    assert_ne!(text, lie);
    fs::write(&record, lie).unwrap();
    site.provide()
        .says(&["its checksum is wrong", "is set aside"]);
    assert_eq!(site.sold().len(), 1);
}

#[test]
fn the_last_good_configuration_is_used_while_the_files_have_errors_and_survives_a_restart() {
    let site = Site::new();
    site.provide();
    let before = files(&site.volume());
    site.write("certificates.yaml", "apiVersion: nonsense\n");
    let mut agent = site.start();
    agent.wait_for(&[
        "THE CONFIGURATION HAS ERRORS",
        "the errors above say what to correct",
    ]);
    agent.terminate().expect(0).says(&["certificates.yaml"]);
    assert_eq!(files(&site.volume()), before);
    // Who asks for one look at the configuration is told, not served by an earlier one.
    run(&mut site.once())
        .expect(1)
        .says(&["--once uses no earlier one", "certificates.yaml"]);
    assert_eq!(files(&site.volume()), before);

    // A damaged copy is no copy: then the errors themselves are what is told.
    fs::write(
        site.state_dir().join("last-good.json"),
        "{\"schemaVersion\": 1",
    )
    .unwrap();
    run(&mut site.once())
        .expect(1)
        .says(&["the configuration cannot be used", "certificates.yaml"]);
    assert_eq!(files(&site.volume()), before);
}

#[test]
fn a_corrupt_last_good_configuration_is_no_trouble_while_the_files_are_good() {
    let site = Site::new();
    site.provide();
    for garbage in [&b"{"[..], b"", &[0xff; 10]] {
        fs::write(site.state_dir().join("last-good.json"), garbage).unwrap();
        site.provide();
    }
    assert_eq!(site.sold().len(), 1);
}

fn with_state(site: &Site, state: &Path) -> std::process::Command {
    let mut command = certagent("run --allow-disk");
    site.tell(&mut command, state);
    supply(command, &site.volume())
}

/// The one record of a site.
fn record(site: &Site) -> PathBuf {
    let mut volumes = fs::read_dir(site.state_dir().join("volumes")).unwrap();
    let record = volumes.next().unwrap().unwrap().path().join("record.json");
    assert!(record.is_file() && volumes.next().is_none());
    record
}
