//! Configuration files that cannot be used: by `validate` and by `run`.
use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde_json::Value;
use snapbox::{assert_data_eq, file};

use crate::{
    program::{certagent, run},
    site::Site,
    volumes::files,
};

/// What can be wrong with a file, by the name of the file.
fn bad_files() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("empty.yaml", Vec::new()),
        ("only-comments.yaml", text("# nothing\n---\n# at all\n")),
        (
            "wrong-version.yaml",
            text("apiVersion: v1\nkind: TrustConfig\nmetadata:\n  name: default\n"),
        ),
        (
            "wrong-kind.yaml",
            text("apiVersion: security.cloud.google.com/v1\nkind: TrustConfigs\n"),
        ),
        (
            "tab.yaml",
            text(
                "apiVersion: security.cloud.google.com/v1\nkind: TrustConfig\nmetadata:\n\tname: default\n",
            ),
        ),
        ("bomb.yaml", bomb()),
        ("deep.yaml", [b"a: ".to_vec(), vec![b'['; 100_000]].concat()),
        ("documents.yaml", b"---\n# nothing\n".repeat(20_000)),
        ("huge.yaml", vec![b'#'; 1024 * 1024 + 1]),
        ("latin-1.yaml", b"name: \xe9t\xe9\n".to_vec()),
        ("no-yaml.yaml", text("}{ this is no YAML: [\n")),
        ("null-bytes.yaml", vec![0; 4096]),
    ]
}

/// A billion laughs.
fn bomb() -> Vec<u8> {
    let mut text = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for (before, name) in ('a'..='h').zip('b'..='i') {
        let nine = vec![format!("*{before}"); 9].join(", ");
        writeln!(text, "{name}: &{name} [{nine}]").unwrap();
    }
    text.into_bytes()
}

#[test]
fn validate_says_of_each_bad_file_what_is_wrong_where_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for (name, bytes) in bad_files() {
        fs::write(dir.path().join(name), bytes).unwrap();
        let ended = run(validate(name).current_dir(&dir)).expect(1);
        assert_eq!(ended.stderr, "");
        write!(said, "$ certagent validate {name}\n{}\n", ended.stdout).unwrap();
    }
    fs::create_dir(dir.path().join("without-files")).unwrap();
    for line in [
        "none.yaml",
        "without-files",
        "none.yaml without-files wrong-kind.yaml",
    ] {
        let ended = run(validate(line).current_dir(&dir)).expect(1);
        write!(said, "$ certagent validate {line}\n{}\n", ended.stdout).unwrap();
    }
    assert_data_eq!(said, file!["../../../testdata/cli/validate-bad-files.txt"]);
}

#[test]
fn run_refuses_each_bad_file_and_leaves_a_valid_credential_alone() {
    let site = Site::new();
    site.provide();
    let before = files(&site.volume());
    for (name, bytes) in bad_files() {
        // Without a last good configuration to fall back on.
        fs::write(site.state_dir().join("last-good.json"), "").unwrap();
        fs::write(site.config_dir().join(name), bytes).unwrap();
        let ended = run(&mut site.once());
        let is_harmless = ["empty.yaml", "only-comments.yaml"].contains(&name);
        if is_harmless {
            ended.expect(0);
        } else {
            ended
                .expect(1)
                .says(&["the configuration cannot be used", name]);
        }
        fs::remove_file(site.config_dir().join(name)).unwrap();
        assert_eq!(files(&site.volume()), before, "{name}");
    }
    assert_eq!(site.sold().len(), 1);
}

#[test]
fn run_without_a_configuration_names_the_path() {
    let site = Site::new();
    let mut command =
        certagent("run --allow-disk --state-dir state --config none.yaml --ca-endpoint");
    command.arg(site.endpoint()).current_dir(site.path());
    run(&mut command)
        .expect(1)
        .says(&["none.yaml", "no such file or directory", "check the path"]);
    fs::create_dir(site.path().join("nothing")).unwrap();
    let mut command =
        certagent("run --allow-disk --state-dir state --config nothing --ca-endpoint");
    command.arg(site.endpoint()).current_dir(site.path());
    run(&mut command).expect(1).says(&[
        "nothing",
        "no file whose name ends in .yaml",
        "put the objects there",
    ]);
}

#[test]
fn validate_says_in_json_what_it_says_in_text_and_the_guides_objects_are_good() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let said = run(validate("guide").current_dir(&testdata)).expect(0);
    assert_eq!(
        said.stdout,
        "OK: WorkloadCertificateConfig/default, TrustConfig/default, 0 workloads\n"
    );
    let said = run(validate("guide --output json").current_dir(&testdata)).expect(0);
    let json: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (&json["schemaVersion"], &json["valid"]),
        (&1.into(), &true.into())
    );

    let bad = testdata.join("config");
    let text = run(validate("many-problems.yaml").current_dir(&bad))
        .expect(1)
        .stdout;
    let said = run(validate("many-problems.yaml --output json").current_dir(&bad)).expect(1);
    assert_data_eq!(
        said.stdout.clone(),
        file!["../../../testdata/cli/validate.json"]
    );
    let json: Value = serde_json::from_str(&said.stdout).unwrap();
    for problem in json["problems"].as_array().unwrap() {
        assert!(
            text.contains(problem["message"].as_str().unwrap()),
            "{problem} not in {text}"
        );
    }
}

fn validate(arguments: &str) -> Command {
    certagent(&format!("validate {arguments}"))
}
