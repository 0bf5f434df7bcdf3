//! `certagent validate`: everything that is wrong with configuration files.
use anyhow::Result;
use certagent_core::config::{Config, Problem, Settings};
use serde::Serialize;

use crate::{
    cli::{Exit, Output, ValidateArgs, print},
    config::{ConfigFiles, Found},
    google::IdentityMode,
    kube::Kind,
};

/// Of the JSON output; rises when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

/// Reads the files, prints the result, and says by the exit code whether they can be used.
pub(super) fn run(args: ValidateArgs) -> Result<Exit> {
    let settings = Settings {
        lift_minimums: args.lift_minimums,
        trust_domain: args.trust_domain,
        subject_mode: args.identity.map(IdentityMode::subject_mode),
        workload: None,
    };
    let found = ConfigFiles::new(args.paths, settings).load();
    print::stdout(&match args.output {
        Output::Text => text(&found),
        Output::Json => json(&found)?,
    })?;
    Ok(if found.config.is_some() {
        Exit::Ok
    } else {
        Exit::Problem
    })
}

/// One line per problem, then one line that sums up.
fn text(found: &Found) -> String {
    let mut text = String::new();
    for problem in &found.problems {
        push_line(&mut text, &problem.to_string());
    }
    let (errors, warnings) = counts(&found.problems);
    let warnings_text = count(warnings, "warning");
    let sum = match &found.config {
        Some(config) if warnings == 0 => format!("OK: {}", objects(config).join(", ")),
        Some(config) => format!("OK: {} ({warnings_text})", objects(config).join(", ")),
        None => {
            let files = count(found.sources.len(), "file");
            format!("{}, {warnings_text} in {files}", count(errors, "error"))
        }
    };
    push_line(&mut text, &sum);
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn objects(config: &Config) -> Vec<String> {
    vec![
        Kind::Certificates.object(),
        Kind::Trust.object(),
        count(config.workloads.len(), "workload"),
    ]
}

fn counts(problems: &[Problem]) -> (usize, usize) {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    (errors, problems.len() - errors)
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u32,
    valid: bool,
    errors: usize,
    warnings: usize,
    files: Vec<&'a str>,
    workloads: Vec<&'a str>,
    problems: &'a [Problem],
}

fn json(found: &Found) -> Result<String> {
    let (errors, warnings) = counts(&found.problems);
    let workloads = found.config.iter().flat_map(|config| &config.workloads);
    let report = Report {
        schema_version: SCHEMA_VERSION,
        valid: found.config.is_some(),
        errors,
        warnings,
        files: found
            .sources
            .iter()
            .map(|source| source.name.as_str())
            .collect(),
        workloads: workloads.map(|workload| workload.name.as_str()).collect(),
        problems: &found.problems,
    };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use tempfile::TempDir;

    use super::*;

    const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata");

    fn load(path: PathBuf) -> Found {
        ConfigFiles::new(vec![path], Settings::default()).load()
    }

    #[test]
    fn the_guides_objects_are_good_and_named() {
        let found = load(format!("{TESTDATA}/guide").into());
        assert_eq!(
            text(&found),
            "OK: WorkloadCertificateConfig/default, TrustConfig/default, 0 workloads\n"
        );
    }

    #[test]
    fn every_problem_is_one_line_with_its_place_and_the_last_line_sums_up() {
        let dir = TempDir::new().unwrap();
        let bad = "\
apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata:
  name: default
spec:
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/a
  keyAlgorithm:
    rsa:
      modulusSize: 1024
  rotationWindowPercentage: 5
";
        fs::write(dir.path().join("bad.yaml"), bad).unwrap();
        let found = load(dir.path().join("bad.yaml"));
        let file = dir.path().join("bad.yaml").display().to_string();
        let text = text(&found).replace(&file, "bad.yaml");
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("bad.yaml:11:20: error: ")
                    && line.contains("spec.keyAlgorithm.rsa.modulusSize: ")
                    && line.contains("(allowed: 2048, 3072, 4096)")),
            "{text}"
        );
        assert!(
            lines
                .iter()
                .any(|line| line.contains("there is no TrustConfig")),
            "{text}"
        );
        assert_eq!(
            lines.last(),
            Some(&"2 errors, 1 warning in 1 file"),
            "{text}"
        );

        let json: serde_json::Value = serde_json::from_str(&json(&found).unwrap()).unwrap();
        assert_eq!(json["schemaVersion"], 1);
        assert_eq!(json["valid"], false);
        assert_eq!((&json["errors"], &json["warnings"]), (&2.into(), &1.into()));
        let problems = json["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 3);
        assert!(
            problems
                .iter()
                .any(|problem| problem["line"] == 11 && problem["column"] == 20)
        );
    }
}
