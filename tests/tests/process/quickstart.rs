//! `certagent quickstart`.
use std::{fs, path::Path, process::Command};

use certagent_svid::PublicKeyKind;
use rustix::process::Signal;

use crate::{
    program::{Ended, Program, certagent, run},
    secrets::Keys,
    site::read_valid,
};

const CERTIFICATES: &str = "certagent-quickstart/config/WorkloadCertificateConfig.yaml";
const VOLUME: &str = "certagent-quickstart/volume";

#[test]
fn a_second_start_continues_where_the_first_one_was() {
    let dir = tempfile::tempdir().unwrap();
    // Ten minutes, so that a slow machine renews nothing in between.
    let mut first = Program::start(&mut quickstart(dir.path(), "--validity 10m"));
    first.wait_for(&["issued", "serial="]);
    first.send(Signal::INT);
    let said = first.end().expect(0).stdout;
    for text in [
        "certagent inspect",
        "openssl x509 -in",
        "WorkloadCertificateConfig.yaml    # takes effect at the next renewal",
        "Ended. The certificate was rotated 0 times.",
        "Start again with: certagent quickstart --dir",
    ] {
        assert!(said.contains(text), "no {text:?} in {said}");
    }
    let serial = serial(dir.path());

    let second = run(&mut quickstart(dir.path(), "--for 3s")).expect(0);
    assert!(!second.stderr.contains("issued"), "{second:#?}");
    assert_eq!(
        self::serial(dir.path()),
        serial,
        "the certificate is still good"
    );
    Keys::below(dir.path()).assert_absent(&(second.stdout + &second.stderr));
}

#[test]
fn for_ends_it_by_itself_with_a_valid_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(&mut quickstart(dir.path(), "--for 3s"))
        .expect(0)
        .says(&["issued"]);
    assert!(ended.stdout.contains("Ended."), "{ended:#?}");
    assert_healthy(dir.path());
}

#[test]
fn sigterm_ends_it_with_0_and_leaves_a_whole_volume() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start(&mut quickstart(dir.path(), ""));
    program.wait_for(&["issued", "serial="]);
    program.terminate().expect(0);
    assert_healthy(dir.path());
}

#[test]
fn an_edit_takes_effect_at_the_next_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--lift-minimums --validity 10s --rotation-window 90";
    let mut program = Program::start(&mut quickstart(dir.path(), flags));
    program.wait_for(&["issued", "ECDSA P-256"]);
    let file = dir.path().join(CERTIFICATES);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("curve: P256", "curve: P384")).unwrap();
    program.wait_for(&["the configuration changed", "ecdsa-p256 -> ecdsa-p384"]);
    program.wait_for(&["renewed", "ECDSA P-384"]);

    // A bad edit is told once and changes nothing.
    fs::write(&file, "kind: [").unwrap();
    program.wait_for(&["the new configuration has errors, so the one before it stays active"]);
    program.wait_for(&["renewed", "ECDSA P-384"]);
    let ended = program.terminate().expect(0);
    assert_eq!(
        ended.stderr.matches("has errors, so").count(),
        1,
        "{ended:#?}"
    );
}

#[test]
fn flags_are_written_into_the_objects() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--key-algorithm ecdsa-p384 --validity 5m --rotation-window 40";
    let mut program = Program::start(&mut quickstart(dir.path(), flags));
    program.wait_for(&["issued", "ECDSA P-384"]);
    program.terminate().expect(0);
    let text = fs::read_to_string(dir.path().join(CERTIFICATES)).unwrap();
    for line in [
        "curve: P384",
        "validityDurationSeconds: 300",
        "rotationWindowPercentage: 40",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
    let kind = read_valid(&dir.path().join(VOLUME)).key().kind();
    assert_eq!(kind, PublicKeyKind::EcP384);

    // Given again, they change what is there, and the file as it was is kept.
    let mut program = Program::start(&mut quickstart(dir.path(), "--rotation-window 60"));
    program.wait_for(&["The flags changed"]);
    program.wait_for(&["Ctrl-C ends it"]);
    program.terminate().expect(0);
    let before = dir.path().join(CERTIFICATES).with_extension("yaml.before");
    assert_eq!(fs::read_to_string(before).unwrap(), text);
}

#[test]
fn a_directory_that_is_not_its_own_and_flags_that_break_a_rule_are_wrong_command_lines() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let mut here = certagent("quickstart --dir .");
    run(here.current_dir(&dir))
        .expect(64)
        .says(&["is not empty", "choose another directory with --dir"]);
    let mut file = certagent("quickstart --dir thesis.tex");
    run(file.current_dir(&dir))
        .expect(1)
        .says(&["cannot use thesis.tex", "--dir"]);
    for (flags, expected) in [
        ("--rotation-window 0", "0 is not in 1..=99"),
        ("--rotation-window 100", "100 is not in 1..=99"),
        ("--validity 10s", "--validity: "),
    ] {
        run(&mut quickstart(dir.path(), flags))
            .expect(64)
            .says(&[expected]);
    }
    assert!(!dir.path().join(CERTIFICATES).exists());
}

fn quickstart(dir: &Path, flags: &str) -> Command {
    let mut command = certagent(&format!("quickstart {flags}"));
    command.current_dir(dir);
    command
}

fn serial(dir: &Path) -> String {
    read_valid(&dir.join(VOLUME)).chain().leaf().serial_hex()
}

/// What its own last lines say to try.
fn assert_healthy(dir: &Path) -> Ended {
    let mut inspect = certagent(&format!("inspect {VOLUME}"));
    let ended = run(inspect.current_dir(dir)).expect(0);
    assert!(ended.stdout.starts_with("HEALTHY"), "{ended:#?}");
    ended
}
