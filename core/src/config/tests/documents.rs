//! YAML itself: syntax, bounds, and what kubectl prints.

use super::*;
use crate::config::{MAX_BYTES, MAX_DEPTH, MAX_DOCUMENTS, MAX_NODES};

fn problem_at(text: &str) -> String {
    let (text, line, column) = marked(text);
    let loaded = load_text(&text);
    let problem = only_problem(&loaded);
    assert_eq!((problem.line, problem.column), (line, column), "{problem}");
    problem.message.clone()
}

#[test]
fn a_tab_is_named_at_its_place() {
    for text in [
        "spec:\n»\tname: x\n",
        "spec:\n  a: 1\n »\tb: 2\n",
        "a:\n  - b\n»\t- c\n",
    ] {
        let message = problem_at(text);
        assert!(
            message.contains("a tab in the indentation"),
            "{text:?}: {message}"
        );
    }
}

#[test]
fn syntax_that_is_broken_or_not_read_is_one_problem_at_its_place() {
    for (text, expected) in [
        ("a: »[1, 2\n", "cannot be read from here on"),
        ("a: b»: c\n", "cannot be read from here on"),
        ("a: \"b\n»", "cannot be read from here on"),
        ("a: &x 1\nb: »*x\n", "aliases (*name) are not read here"),
        ("a: »*x\n", "aliases (*name) are not read here"),
        (
            "a: !secret »x\n",
            "tags such as \"!secret\" are not read here",
        ),
        ("? »[a]\n: b\n", "a list or map cannot be a key"),
        ("»- a\n- b\n", "found a list"),
        ("»just text\n", "found the text \"just text\""),
        (
            "»a: 1\n",
            "an object has apiVersion, kind, metadata and spec",
        ),
    ] {
        let message = problem_at(text);
        assert!(message.contains(expected), "{text:?}: {message}");
    }
}

#[test]
fn a_key_that_is_twice_in_a_map_names_both_places() {
    let (text, line, column) = marked(&edited(
        "  rotationWindow",
        "  »validityDurationSeconds: 60\n  rotationWindow",
    ));
    let loaded = load_text(&text);
    let problem = only_problem(&loaded);
    assert_eq!((problem.line, problem.column), (line, column));
    assert_eq!(
        problem.field.as_deref(),
        Some("spec.validityDurationSeconds")
    );
    assert_eq!(
        problem.object.as_deref(),
        Some("WorkloadCertificateConfig/default")
    );
    assert!(
        problem
            .message
            .contains("the first time at line 14, column 3"),
        "{problem}"
    );
}

#[test]
fn a_broken_document_hides_neither_others_nor_other_files() {
    let broken = "a: [\n---\nkind: »Wokload\n---\nb: [\n";
    let (broken, ..) = marked(broken);
    let sources = [
        source("a.yaml", &broken),
        source("b.yaml", &edited("50", "500")),
    ];
    let problems = load(&sources, &Settings::default()).problems;
    let places: Vec<_> = problems
        .iter()
        .map(|one| (one.file.as_str(), one.line))
        .collect();
    assert_eq!(
        places,
        [("a.yaml", 1), ("a.yaml", 3), ("a.yaml", 5), ("b.yaml", 15)]
    );
}

#[test]
fn comments_empty_documents_windows_line_ends_and_a_byte_order_mark_do_no_harm() {
    let text = format!("\u{feff}# first\n---\n---\n{GOOD}---\n# last\n").replace('\n', "\r\n");
    assert_eq!(load_text(&text).problems, []);
}

#[test]
fn what_kubectl_prints_is_read() {
    let metadata = "name: default
  uid: 0b5f3b0e-0000-4000-8000-000000000000
  resourceVersion: \"12\"
  generation: 3
  creationTimestamp: \"2026-01-01T00:00:00Z\"
  labels: {app.kubernetes.io/name: x}
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {\"a\":1}
  managedFields:
  - apiVersion: security.cloud.google.com/v1
    fieldsV1:
      f:spec:
        .: {}
        f:keyAlgorithm: {}
status:
  conditions:
  - type: Ready
    observedGeneration: 3";
    let text = edited("name: default", metadata);
    assert_eq!(load_text(&text).problems, []);
    let items: String = text
        .split("---\n")
        .map(|one| indented(one, 2).replacen("  ", "- ", 1))
        .collect();
    let list = format!("apiVersion: v1\nkind: List\nmetadata: {{}}\nitems:\n{items}");
    assert_eq!(load_text(&list).problems, []);
}

#[test]
fn a_source_is_bounded_in_bytes_documents_depth_and_values() {
    let deep = format!("a: {}", "[".repeat(MAX_DEPTH + 1));
    for (text, expected) in [
        (" ".repeat(MAX_BYTES + 1), "1048577 bytes"),
        (
            "---\n".repeat(MAX_DOCUMENTS + 1),
            "more than 10000 documents",
        ),
        (deep, "nested deeper than 32 levels"),
        (
            format!("[{}]", "a,".repeat(MAX_NODES)),
            "more than 100000 values",
        ),
    ] {
        let loaded = load_text(&text);
        let problem = only_problem(&loaded);
        assert!(problem.message.contains(expected), "{problem}");
    }
}

#[test]
fn no_more_than_a_hundred_problems_of_a_source_are_shown_and_the_others_counted() {
    let problems = load_text(&"kind: Wokload\n---\n".repeat(150)).problems;
    assert_eq!(problems.len(), 101);
    assert!(
        problems[100].message.contains("50 more problems"),
        "{}",
        problems[100]
    );
}
