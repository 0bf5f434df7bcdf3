mod documents;
mod guide;
mod properties;
mod reasons;
mod rules_certificates;
mod rules_trust;
mod rules_workload;
mod together;

use super::{Loaded, Problem, Settings, Severity, Source, load};

/// Three good objects; the tests break one thing at a time.
const GOOD: &str = "\
apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata:
  name: default
spec:
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/issuing-pool
      fallbackURIs:
      - //privateca.googleapis.com/projects/demo-project/locations/us-east1/caPools/issuing-pool
  keyAlgorithm:
    rsa:
      modulusSize: 4096
  validityDurationSeconds: 86400
  rotationWindowPercentage: 50
---
apiVersion: security.cloud.google.com/v1
kind: TrustConfig
metadata:
  name: default
spec:
  trustStores:
  - trustDomain: demo-project.svc.id.goog
    trustAnchors:
    - certificateAuthorityServiceURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/root-pool
---
apiVersion: certagent.dev/v1alpha1
kind: Workload
metadata:
  name: server
spec:
  namespace: default
  serviceAccount: server-sa
  volume:
    path: volume
";

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn load_text(text: &str) -> Loaded {
    load(&[source("all.yaml", text)], &Settings::default())
}

/// [`GOOD`] with one passage replaced.
fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the good text has no {from:?}");
    GOOD.replacen(from, to, 1)
}

/// The text without its mark `»`, and the line and column that the mark stands for.
fn marked(text: &str) -> (String, u32, u32) {
    let (before, after) = text.split_once('»').expect("a mark");
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (
        format!("{before}{after}"),
        u32::try_from(line).unwrap(),
        u32::try_from(column).unwrap(),
    )
}

fn only_problem(loaded: &Loaded) -> &Problem {
    match loaded.problems.as_slice() {
        [one] => one,
        other => panic!("expected exactly one problem, found {other:#?}"),
    }
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect::<Vec<_>>()
        .concat()
}

/// A certificate in PEM: a CA's or a leaf.
fn certificate(is_ca: bool) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    if is_ca {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    params.self_signed(&key).unwrap().pem()
}

fn indented(text: &str, spaces: usize) -> String {
    text.lines()
        .map(|line| format!("{}{line}\n", " ".repeat(spaces)))
        .collect::<Vec<_>>()
        .concat()
}

/// (passage of the good text, its replacement with a mark, field, part of the message)
type Row = (&'static str, &'static str, &'static str, &'static str);

/// Breaks one rule after the other: one problem each, at the field, at the place of the mark `»`.
fn check(rows: &[Row], severity: Severity) {
    for (from, to, field, message) in rows {
        let (text, line, column) = marked(&edited(from, to));
        let loaded = load_text(&text);
        let problem = only_problem(&loaded);
        let shown = problem.to_string();
        assert_eq!(problem.field.as_deref(), Some(*field), "{shown}");
        assert_eq!((problem.line, problem.column), (line, column), "{shown}");
        assert_eq!(problem.severity, severity, "{shown}");
        assert!(shown.contains(message), "no {message:?} in: {shown}");
        assert_eq!(
            loaded.config.is_some(),
            severity == Severity::Warning,
            "{shown}"
        );
    }
}
