//! What the agent's record says of the files: the names asked for, and the hooks.
use certagent_core::names::SubjectNames;

use super::{
    super::Verdict,
    fixture::{GENERATION, Leaf, NOON, Volume, at, contents, contents_with},
    report::CheckId,
    tests::{expect, hint},
};
use crate::volume::{HookFailure, HookRecord};

#[test]
fn names_are_shown_and_those_that_the_certificate_lacks_are_a_warning() {
    let named = Leaf {
        common_name: Some("app"),
        dns_names: &["db.example.org", "localhost"],
        ..Leaf::default()
    };
    let volume = Volume::swapped(&contents_with(&named, "Test Root", (2036, 1, 1)));
    let mut hint = hint("c0ffee");
    let report = volume.inspect(NOON, Some(&hint));
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    let (text, json) = (report.to_text(), report.to_json());
    for told in [
        "common name",
        "app",
        "DNS names",
        "db.example.org, localhost",
    ] {
        assert!(text.contains(told), "no \"{told}\" in: {text}");
    }
    assert!(json.contains("\"commonName\": \"app\""), "{json}");

    hint.asked_names = Some(SubjectNames {
        common_name: None,
        dns_names: vec!["db.example.com".to_owned()],
    });
    let report = volume.inspect(NOON, Some(&hint));
    expect(&report, Verdict::Warning, CheckId::Names);
    let text = report.to_text();
    let told = "the Workload asks for no commonName and dnsNames db.example.com";
    assert!(text.contains(told), "{text}");

    // What was noted of another certificate says nothing of this one.
    hint.serial = "beef".to_owned();
    assert_eq!(volume.inspect(NOON, Some(&hint)).exit_code(), 0);
}

#[test]
fn a_hook_that_fails_for_this_generation_is_a_warning_and_nothing_is_said_without_hooks() {
    let volume = Volume::swapped(&contents());
    let inspect =
        |hooks: HookRecord| volume.inspect(NOON, Some(&hint("c0ffee").with_hooks(Ok(hooks))));
    let failing = |generation: &str, attempts| HookRecord {
        done: Some("..2026_11_19_12_00_00.000000001".to_owned()),
        failing: Some(HookFailure {
            generation: generation.to_owned(),
            since: at("2026-11-20T12:00:01Z"),
            attempts,
            error: "exec /bin/sh: /bin/sh ended with exit status: 1".to_owned(),
            others: Vec::new(),
        }),
    };
    let report = inspect(failing(GENERATION, 4));
    expect(&report, Verdict::Warning, CheckId::Hooks);
    let text = report.to_text();
    for said in [
        "programs were not told of the certificate",
        "has failed 4 times since 2026-11-20T12:00:01Z",
        "exec /bin/sh: /bin/sh ended with exit status: 1",
        "journalctl",
    ] {
        assert!(text.contains(said), "no {said:?} in {text}");
    }
    let mut two = failing(GENERATION, 1);
    two.failing.as_mut().unwrap().others = vec!["exec /bin/no: it is not there".to_owned()];
    let text = inspect(two).to_text();
    assert!(
        text.contains("2 hooks of onRotate have failed once"),
        "{text}"
    );
    assert!(text.contains("status: 1; exec /bin/no: it is"), "{text}");
    let done = HookRecord {
        done: Some(GENERATION.to_owned()),
        failing: None,
    };
    for good in [
        HookRecord::default(),
        done,
        failing("..2026_11_19_12_00_00.000000001", 1),
    ] {
        assert_eq!(inspect(good).verdict(), Verdict::Healthy);
    }
    let told = |hooks| inspect(hooks).to_json().contains("\"hooks\"");
    assert!(!told(HookRecord::default()) && told(failing(GENERATION, 1)));
}

#[test]
fn what_cannot_be_known_of_the_hooks_is_said() {
    let volume = Volume::swapped(&contents());
    let torn = hint("c0ffee").with_hooks(Err("hooks.json: EOF".to_owned()));
    let report = volume.inspect(NOON, Some(&torn));
    expect(&report, Verdict::Warning, CheckId::Hooks);
    assert!(report.to_text().contains("hooks.json: EOF"));

    let report = volume.inspect(NOON, None);
    assert_eq!(report.verdict(), Verdict::Healthy);
    let text = report.to_text();
    assert!(text.contains("name its --state-dir"), "{text}");
}
