//! `certagent inspect pool` and `certagent inspect config`.
use std::{fs, process::Command};

use certagent_core::algorithm::KeyAlgorithm;
use certagent_tests::Lab;
use serde_json::Value;

use crate::{
    program::{Ended, certagent, run},
    site::Site,
};

/// `certagent inspect`, told where the site's CA Service is.
fn inspect(site: &Site, arguments: &str) -> Command {
    let mut command = certagent(&format!("inspect {arguments}"));
    command
        .args(["--ca-endpoint", site.endpoint()])
        .current_dir(site.path());
    command
}

/// All that it says is one JSON object on standard output.
#[track_caller]
fn json(ended: &Ended) -> Value {
    assert_eq!(ended.stderr, "");
    let report: Value = serde_json::from_str(&ended.stdout).expect("one object");
    assert_eq!(report["schemaVersion"], 1);
    assert_eq!(report["exitCode"], ended.code.expect("no signal"));
    report
}

#[test]
fn a_pool_that_issues_is_healthy_by_both_of_its_names_and_sells_nothing() {
    let site = Site::new();
    let uri = Lab::pool("issuing-pool");
    let resource = uri.trim_start_matches("//privateca.googleapis.com/");
    for name in [uri.as_str(), resource] {
        let ended = run(&mut inspect(&site, &format!("pool {name}"))).expect(0);
        assert_eq!(ended.stderr, "");
        assert!(ended.stdout.starts_with("HEALTHY: "), "{}", ended.stdout);
        assert!(ended.stdout.contains(&uri), "{}", ended.stdout);
    }
    let asked =
        format!("pool {uri} --config config --spiffe-id spiffe://a.example/b --output json");
    let report = json(&run(&mut inspect(&site, &asked)).expect(0));
    assert_eq!(report["evidence"]["tier"], "DEVOPS");
    assert_eq!(
        report["evidence"]["asked"]["spiffeId"],
        "spiffe://a.example/b"
    );
    assert_eq!(report["evidence"]["asked"]["validitySeconds"], 3600);
    assert!(site.sold().is_empty());
}

#[test]
fn a_pool_that_is_not_there_is_a_problem_with_one_cause() {
    let site = Site::new();
    let asked = format!("pool {} --output json", Lab::pool("nope"));
    let report = json(&run(&mut inspect(&site, &asked)).expect(1));
    assert_eq!(report["verdict"], "PROBLEM");
    assert_eq!(report["cause"]["check"], "pool");
    let failed = report["checks"].as_array().expect("checks");
    let failed = failed.iter().filter(|check| check["outcome"] == "failed");
    assert_eq!(failed.count(), 1);
}

#[test]
fn an_endpoint_that_is_away_could_not_be_checked() {
    let site = Site::new();
    for subject in [
        format!("pool {}", Lab::pool("issuing-pool")),
        "config config".to_owned(),
    ] {
        let mut command = certagent(&format!(
            "inspect {subject} --ca-endpoint http://127.0.0.1:1"
        ));
        let ended = run(command.current_dir(site.path())).expect(2);
        assert!(ended.stdout.starts_with("UNKNOWN: "), "{}", ended.stdout);
    }
}

#[test]
fn a_configuration_that_works_is_healthy_whatever_else_the_environment_says() {
    let site = Site::new();
    let mut command = inspect(&site, "config config --output json");
    command.env("CERTAGENT_STATE_DIR", "/nowhere");
    let report = json(&run(&mut command).expect(0));
    assert_eq!(report["verdict"], "HEALTHY");
    assert_eq!(report["pools"][0]["verdict"], "HEALTHY");
    assert_eq!(report["anchors"][0]["verdict"], "HEALTHY");
    assert!(site.sold().is_empty());
}

#[test]
fn a_broken_file_is_a_problem_with_its_place() {
    let site = Site::new();
    site.write_objects(KeyAlgorithm::EcdsaP256, 3600);
    site.write("broken.yaml", "apiVersion: v1\nkind: [\n");
    let ended = run(&mut inspect(&site, "config config")).expect(1);
    let place = "config/broken.yaml:";
    assert!(ended.stdout.starts_with("PROBLEM: "), "{}", ended.stdout);
    assert!(ended.stdout.contains(place), "{}", ended.stdout);
    let asked = format!("pool {} --config config", Lab::pool("issuing-pool"));
    run(&mut inspect(&site, &asked))
        .expect(1)
        .says(&["the configuration cannot be used", place]);
}

#[test]
fn directories_with_the_names_of_subjects_are_still_directories() {
    let site = Site::new();
    for name in ["pool", "./config-of-a-workload"] {
        fs::create_dir(site.path().join(name)).expect("a directory");
    }
    for name in ["./pool", "./config-of-a-workload", "config-of-a-workload"] {
        let mut command = certagent(&format!("inspect {name}"));
        let ended = run(command.current_dir(site.path())).expect(1);
        assert!(ended.stdout.contains("certificates"), "{}", ended.stdout);
    }
}

#[test]
fn names_that_are_no_pools_and_ids_that_are_none_are_usage_errors() {
    let pool = Lab::pool("issuing-pool");
    for (line, expected) in [
        ("inspect pool issuing-pool".to_owned(), "caPools/POOL"),
        (format!("inspect pool {pool} --spiffe-id web"), "spiffe://"),
        (
            format!("inspect pool {pool} --ca-endpoint http://192.0.2.1:1"),
            "--ca-endpoint",
        ),
        (
            "inspect pool projects/example.com:abcdef/locations/l-1/caPools/p \
             --ca-endpoint http://127.0.0.1:1"
                .to_owned(),
            "--spiffe-id",
        ),
    ] {
        run(&mut certagent(&line)).expect(64).says(&[expected]);
    }
}

#[test]
fn where_no_cluster_is_known_its_inspections_are_unknown_and_say_how_to_name_one() {
    for subject in ["pod shop/cart", "config --cluster"] {
        let ended = run(&mut certagent(&format!("inspect {subject} --output json"))).expect(2);
        let report = json(&ended);
        assert_eq!(report["verdict"], "UNKNOWN");
        assert_eq!(report["cause"]["check"], "api-server");
        let message = report["cause"]["message"].as_str().unwrap();
        assert!(message.contains("KUBECONFIG"), "{message}");
    }
    // What kubectl would take is taken.
    let mut named = certagent("inspect pod shop/cart");
    let ended = run(named.env("KUBECONFIG", "/nowhere/kubeconfig")).expect(2);
    assert!(ended.stdout.starts_with("UNKNOWN: "), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("/nowhere/kubeconfig"),
        "{}",
        ended.stdout
    );
}
