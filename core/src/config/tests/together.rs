//! Several objects, and the configuration they make.

use std::time::Duration;

use super::*;
use crate::algorithm::KeyAlgorithm;
use crate::config::{OwnerRef, Severity, TrustAnchor, WorkloadSpec, WorkloadVolumeSpec};
use crate::request::SubjectMode;

const SECOND_STORE: &str = "  - trustDomain: other.example
    trustAnchors:
    - certificateAuthorityServiceURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/other
---
apiVersion: certagent.dev";

fn two_stores() -> String {
    edited("---\napiVersion: certagent.dev", SECOND_STORE)
}

fn flag(domain: &str) -> Settings {
    Settings {
        trust_domain: Some(domain.parse().unwrap()),
        ..Settings::default()
    }
}

fn domain_of_the_workload(text: &str, settings: &Settings) -> String {
    let loaded = load(&[source("all.yaml", text)], settings);
    let config = loaded
        .config
        .unwrap_or_else(|| panic!("{}", lines(&loaded.problems)));
    config.workloads[0].trust_domain.to_string()
}

#[test]
fn the_whole_of_a_good_configuration_is_understood() {
    let config = load_text(GOOD).config.unwrap();
    let pools: Vec<_> = config
        .certificates
        .pools
        .iter()
        .map(crate::pool::CaPoolName::location)
        .collect();
    assert_eq!(pools, ["us-central1", "us-east1"]);
    assert_eq!(config.certificates.algorithm, KeyAlgorithm::Rsa4096);
    assert_eq!(config.certificates.validity, Duration::from_hours(24));
    assert_eq!(config.certificates.rotation_window_percentage, 50);
    let anchors = &config.trust.stores[&"demo-project.svc.id.goog".parse().unwrap()];
    assert!(matches!(anchors.as_slice(), [TrustAnchor::Pool(pool)] if pool.id() == "root-pool"));
    let workload = &config.workloads[0];
    assert_eq!(workload.name, "server");
    assert_eq!(workload.source, "all.yaml");
    assert_eq!(workload.trust_domain.as_str(), "demo-project.svc.id.goog");
    assert_eq!(
        (
            workload.namespace.as_str(),
            workload.service_account.as_str()
        ),
        ("default", "server-sa")
    );
    let volume = &workload.volume;
    assert_eq!((volume.path.as_str(), volume.allow_disk), ("volume", false));
    assert_eq!(
        (volume.directory_mode, volume.key_mode, volume.file_mode),
        (0o755, 0o640, 0o644)
    );
    assert_eq!((&volume.owner, &volume.group), (&None, &None));
}

/// The objects with this text in the metadata of the first.
fn with_metadata(text: &str) -> Loaded {
    load_text(&GOOD.replacen("  name: default\n", &format!("  name: default\n{text}"), 1))
}

#[test]
fn a_spread_rotation_is_asked_for_by_an_annotation() {
    let asked = |text: &str| {
        let loaded = with_metadata(text);
        assert_eq!(loaded.problems, []);
        loaded.config.unwrap().spread_rotation
    };
    assert_eq!(asked(""), None);
    assert_eq!(asked("  annotations: {example.org/other: x}\n"), None);
    let plain = "  annotations:\n    certagent.dev/rotate-after: 2026-11-30T10:00:00Z\n";
    let rotation = asked(plain).unwrap();
    assert_eq!(rotation.from(), "2026-11-30T10:00:00Z".parse().unwrap());
    // The API server knows who wrote what when; the newest counts.
    let writer = |time: &str, name: &str| {
        format!(
            "  - time: {time}\n    fieldsV1: {{f:metadata: {{f:annotations: {{f:certagent.dev/{name}: {{}}}}}}}}\n"
        )
    };
    let writers = [
        writer("2026-11-30T12:00:00Z", "rotate-after"),
        writer("2026-11-30T11:00:00Z", "rotate-after"),
        writer("2026-11-30T13:00:00Z", "other"),
    ];
    let text = format!("{plain}  managedFields:\n{}", writers.concat());
    let rotation = asked(&text).unwrap();
    assert_eq!(rotation.from(), "2026-11-30T12:00:00Z".parse().unwrap());
    let before = rotation.issued_before();
    assert_eq!(before, "2026-11-30T10:00:00Z".parse().unwrap());
}

#[test]
fn an_annotation_of_ours_that_nobody_reads_warns() {
    for name in [
        "certagent.dev/Rotate-After",
        "Certagent.dev/rotate-after",
        "certagent.dev/x",
    ] {
        let loaded = with_metadata(&format!(
            "  annotations:\n    {name}: 2026-11-30T10:00:00Z\n"
        ));
        let [problem] = &loaded.problems[..] else {
            panic!("{name}: {}", lines(&loaded.problems));
        };
        assert_eq!((problem.severity, problem.line), (Severity::Warning, 6));
        let is_near = name.to_lowercase().ends_with("rotate-after");
        let meant = problem
            .message
            .contains("did you mean certagent.dev/rotate-after?");
        assert_eq!(meant, is_near, "{problem}");
        assert!(loaded.config.is_some());
    }
}

#[test]
fn a_spread_rotation_that_cannot_be_read_warns_and_the_rest_is_used() {
    for (value, message) in [
        (
            "soon",
            "\"soon\" is not a time, so nothing is renewed ahead of its time",
        ),
        ("2026", "expected a text, found the number 2026"),
    ] {
        let text = format!("  annotations:\n    certagent.dev/rotate-after: {value}\n");
        let loaded = with_metadata(&text);
        assert_eq!(loaded.config.unwrap().spread_rotation, None);
        let [problem] = &loaded.problems[..] else {
            panic!("{}", lines(&loaded.problems));
        };
        assert!(problem.message.contains(message), "{problem}");
        assert_eq!((problem.severity, problem.line), (Severity::Warning, 6));
        let field = "metadata.annotations[certagent.dev/rotate-after]";
        assert_eq!(problem.field.as_deref(), Some(field));
    }
}

#[test]
fn defaults_are_a_day_and_a_half_of_it() {
    let text = edited(
        "  validityDurationSeconds: 86400\n  rotationWindowPercentage: 50\n",
        "",
    );
    assert_eq!(load_text(&text), load_text(GOOD));
}

#[test]
fn every_field_of_a_volume_arrives() {
    let volume = "path: /run/creds
    owner: 1000
    group: app
    directoryMode: \"0750\"
    keyMode: 0400
    fileMode: 0o440
    allowDisk: true";
    let config = load_text(&edited("path: volume", volume)).config.unwrap();
    let volume = &config.workloads[0].volume;
    assert_eq!(volume.owner, Some(OwnerRef::Id(1000)));
    assert_eq!(volume.group, Some(OwnerRef::Name("app".to_owned())));
    assert_eq!(
        (volume.directory_mode, volume.key_mode, volume.file_mode),
        (0o750, 0o400, 0o440)
    );
    assert!(volume.allow_disk);
}

#[test]
fn each_missing_object_is_named_with_the_next_step() {
    for (text, missing) in [
        (
            GOOD.split_once("---\n").unwrap().1,
            "WorkloadCertificateConfig",
        ),
        (GOOD.split_once("---\n").unwrap().0, "TrustConfig"),
    ] {
        let loaded = load_text(text);
        let problem = only_problem(&loaded);
        assert!(
            problem.message.contains(&format!("there is no {missing}")),
            "{problem}"
        );
        assert!(
            problem.to_string().starts_with("all.yaml: error: "),
            "{problem}"
        );
    }
    let problems = load(&[], &Settings::default()).problems;
    assert_eq!(problems.len(), 2);
    assert!(
        problems[0].to_string().starts_with("error: there is no"),
        "{}",
        problems[0]
    );
}

#[test]
fn two_objects_of_one_kind_name_both_places() {
    let sources = [
        source("a.yaml", GOOD),
        source("b.yaml", GOOD.split("---").next().unwrap()),
    ];
    let loaded = load(&sources, &Settings::default());
    let problem = only_problem(&loaded);
    assert_eq!(
        (problem.file.as_str(), problem.line, problem.column),
        ("b.yaml", 1, 1)
    );
    assert!(
        problem.message.contains("one already at a.yaml:1:1"),
        "{problem}"
    );
}

#[test]
fn two_workloads_share_neither_name_nor_volume() {
    let workload = GOOD.rsplit_once("---\n").unwrap().1;
    let same_name = workload.replace("path: volume", "path: other");
    let same_path = workload
        .replace("name: server", "name: two")
        .replace("path: volume", "path: ./x/../volume/");
    for (second, field, message) in [
        (same_name, "metadata.name", "this name at conf/a.yaml:30:9"),
        (
            same_path,
            "spec.volume.path",
            "already the volume of server at conf/a.yaml:35:11",
        ),
    ] {
        let sources = [source("conf/a.yaml", GOOD), source("conf/b.yaml", &second)];
        let loaded = load(&sources, &Settings::default());
        let problem = only_problem(&loaded);
        assert_eq!(
            (problem.file.as_str(), problem.field.as_deref()),
            ("conf/b.yaml", Some(field))
        );
        assert!(problem.message.contains(message), "{problem}");
    }
    let elsewhere = workload.replace("name: server", "name: two");
    let sources = [source("a/a.yaml", GOOD), source("b/b.yaml", &elsewhere)];
    assert_eq!(load(&sources, &Settings::default()).problems, []);
}

#[test]
fn the_trust_domain_comes_from_flag_then_workload_then_v1alpha1_then_the_only_store() {
    let none = Settings::default();
    assert_eq!(
        domain_of_the_workload(GOOD, &none),
        "demo-project.svc.id.goog"
    );
    let alpha = two_stores()
        .replacen("google.com/v1\n", "google.com/v1alpha1\n", 1)
        .replacen("spec:\n", "spec:\n  trustDomain: other.example\n", 1);
    assert_eq!(domain_of_the_workload(&alpha, &none), "other.example");
    let own = alpha.replace(
        "  namespace:",
        "  trustDomain: demo-project.svc.id.goog\n  namespace:",
    );
    assert_eq!(
        domain_of_the_workload(&own, &none),
        "demo-project.svc.id.goog"
    );
    assert_eq!(
        domain_of_the_workload(&own, &flag("other.example")),
        "other.example"
    );
    assert_eq!(
        domain_of_the_workload(&two_stores(), &flag("other.example")),
        "other.example"
    );
}

#[test]
fn a_trust_domain_that_is_unclear_or_without_store_or_contradictory_is_one_error() {
    let none = Settings::default();
    let own = edited("  namespace:", "  trustDomain: third.example\n  namespace:");
    let alpha = edited("google.com/v1\n", "google.com/v1alpha1\n").replacen(
        "spec:\n",
        "spec:\n  trustDomain: third.example\n",
        1,
    );
    for (text, settings, object, message) in [
        (
            two_stores(),
            none.clone(),
            "Workload/server",
            "not clear which trust domain",
        ),
        (
            own,
            none.clone(),
            "Workload/server",
            "third.example has no trust store",
        ),
        (
            alpha.clone(),
            none,
            "WorkloadCertificateConfig/default",
            "third.example has no trust store",
        ),
        (
            GOOD.to_owned(),
            flag("third.example"),
            "TrustConfig/default",
            "(from --trust-domain)",
        ),
        (
            alpha,
            flag("demo-project.svc.id.goog"),
            "WorkloadCertificateConfig/default",
            "make them the same",
        ),
    ] {
        let loaded = load(&[source("all.yaml", &text)], &settings);
        let problem = only_problem(&loaded);
        assert_eq!(problem.object.as_deref(), Some(object), "{problem}");
        assert!(problem.message.contains(message), "{problem}");
        assert!(problem.line > 0, "{problem}");
        assert!(problem.is_error());
    }
}

#[test]
fn a_workload_from_flags_stands_in_for_documents_and_never_beside_them() {
    let volume = WorkloadVolumeSpec {
        path: Some("v".to_owned()),
        ..WorkloadVolumeSpec::default()
    };
    let spec = WorkloadSpec {
        namespace: Some("default".to_owned()),
        service_account: Some("web".to_owned()),
        volume: Some(volume),
        ..WorkloadSpec::default()
    };
    let settings = Settings {
        workload: Some(spec.clone()),
        ..Settings::default()
    };
    let objects = source("all.yaml", GOOD.rsplit_once("---\n").unwrap().0);
    let config = load(std::slice::from_ref(&objects), &settings)
        .config
        .unwrap();
    assert_eq!(config.workloads[0].name, crate::config::FLAG_WORKLOAD);
    assert_eq!(config.workloads[0].source, "");

    let loaded = load(&[source("all.yaml", GOOD)], &settings);
    assert!(only_problem(&loaded).message.contains("in all.yaml:30:9"));

    let bad = WorkloadSpec {
        namespace: Some("A".to_owned()),
        ..spec
    };
    let loaded = load(
        &[objects],
        &Settings {
            workload: Some(bad),
            ..Settings::default()
        },
    );
    let shown = only_problem(&loaded).to_string();
    assert!(
        shown.starts_with("error: Workload/command-line: spec.namespace: \"A\""),
        "{shown}"
    );
}

#[test]
fn a_token_file_is_needed_by_every_workload_or_of_no_use() {
    let with_file = edited("  volume:\n", "  tokenFile: token\n  volume:\n");
    let load_as = |text: &str, subject_mode| {
        let settings = Settings {
            subject_mode,
            ..Settings::default()
        };
        load(&[source("all.yaml", text)], &settings)
    };
    for mode in [
        None,
        Some(SubjectMode::Default),
        Some(SubjectMode::ReflectedSpiffe),
    ] {
        let config = load_as(&with_file, mode).config.unwrap();
        assert_eq!(config.workloads[0].token_file.as_deref(), Some("token"));
    }
    assert_eq!(load_as(&with_file, None).problems, []);
    assert_eq!(
        load_as(&with_file, Some(SubjectMode::ReflectedSpiffe)).problems,
        []
    );
    let unused = load_as(&with_file, Some(SubjectMode::Default));
    assert_eq!(
        only_problem(&unused).to_string(),
        "all.yaml:34:14: warning: Workload/server: spec.tokenFile: the file is not used: only \
         with --identity reflected is the CA asked with the workload's own token"
    );

    for mode in [None, Some(SubjectMode::Default)] {
        let loaded = load_as(GOOD, mode);
        assert_eq!(loaded.problems, []);
        assert_eq!(loaded.config.unwrap().workloads[0].token_file, None);
    }
    let missing = load_as(GOOD, Some(SubjectMode::ReflectedSpiffe));
    assert_eq!(missing.config, None);
    assert_eq!(
        only_problem(&missing).to_string(),
        "all.yaml:31:1: error: Workload/server: spec.tokenFile: the field is required with \
         --identity reflected: the workload's own token, which its certificates are asked for \
         with (--token-file on the command line) (allowed: a file, absolute or relative to this \
         file)"
    );
}

#[test]
fn a_file_with_many_problems_reports_all_of_them_in_order() {
    let text = include_str!("../../../../testdata/config/many-problems.yaml");
    let loaded = load(&[source("many-problems.yaml", text)], &Settings::default());
    let expected = include_str!("../../../../testdata/config/many-problems.txt");
    let found = lines(&loaded.problems);
    assert!(found == expected, "found:\n{found}\nexpected:\n{expected}");
    assert_eq!(loaded.config, None);
}

#[test]
fn problems_are_json_with_stable_names() {
    let loaded = load_text(&edited("modulusSize: 4096", "modulusSize: 1024"));
    let json = serde_json::to_value(only_problem(&loaded)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "severity": "error",
            "file": "all.yaml",
            "line": 13,
            "column": 20,
            "object": "WorkloadCertificateConfig/default",
            "field": "spec.keyAlgorithm.rsa.modulusSize",
            "message": "RSA keys of 1024 bits are not made",
            "allowed": "2048, 3072, 4096",
        })
    );
    assert_eq!(only_problem(&loaded).severity, Severity::Error);
}
