//! What an application gets into its tree with this crate: by feature, name by name.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by a panic, as tests do"
)]
use std::{collections::BTreeSet, process::Command};

/// The normal dependencies of a set of features on Linux, this crate left out.
fn tree(features: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--locked", "--package", "certagent-credentials"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args([
            "--target",
            "x86_64-unknown-linux-gnu",
            "--no-default-features",
        ])
        .args(features)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let names: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "certagent-credentials")
        .map(|name| format!("{name}\n"))
        .collect();
    names.into_iter().collect()
}

fn check(file: &str, features: &[&str]) -> String {
    let there = tree(features);
    snapshot::same(file, &there);
    there
}

#[test]
fn reading_and_reloading_needs_no_tls() {
    let there = check("dependencies-none.txt", &[]);
    assert!(!there.lines().any(|name| name == "rustls"));
}

#[test]
fn rustls_comes_without_a_crypto_provider_and_without_a_runtime() {
    let there = check("dependencies-rustls.txt", &["--features", "rustls"]);
    for name in [
        "aws-lc-rs",
        "graviola",
        "ring",
        "tokio",
        "hyper",
        "kube",
        "reqwest",
        "certagent",
    ] {
        assert!(!there.lines().any(|line| line == name), "{name}");
    }
    assert_eq!(tree(&["--features", "default"]), there, "it is the default");
}

#[test]
fn the_provider_that_comes_by_a_feature_comes_without_a_runtime() {
    let there = check("dependencies-aws-lc-rs.txt", &["--features", "aws-lc-rs"]);
    assert!(!there.lines().any(|line| line == "tokio"));
}

#[test]
fn tonic_comes_without_a_crypto_provider_and_without_a_router() {
    let there = check("dependencies-tonic.txt", &["--features", "tonic"]);
    for name in [
        "aws-lc-rs",
        "graviola",
        "ring",
        "axum",
        "prost",
        "kube",
        "reqwest",
        "certagent",
    ] {
        assert!(!there.lines().any(|line| line == name), "{name}");
    }
}

mod snapshot;
