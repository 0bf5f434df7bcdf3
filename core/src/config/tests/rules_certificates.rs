//! The rules of `WorkloadCertificateConfig`, each broken alone.

use super::*;

const SERVICE: &str = "spec.certificateAuthorityConfig.certificateAuthorityServiceConfig";

#[test]
fn each_rule_of_the_key_algorithm_is_one_error_at_its_place() {
    const RSA: &str = "    rsa:\n      modulusSize: 4096";
    check(
        &[
            (
                RSA,
                "    rsa:\n      modulusSize: »1024",
                "spec.keyAlgorithm.rsa.modulusSize",
                "(allowed: 2048, 3072, 4096)",
            ),
            (
                RSA,
                "    rsa:\n      modulusSize: »\"4096\"",
                "spec.keyAlgorithm.rsa.modulusSize",
                "remove the quotes",
            ),
            (
                RSA,
                "    »rsa: {}",
                "spec.keyAlgorithm.rsa.modulusSize",
                "required",
            ),
            (
                RSA,
                "    rsa: »4096",
                "spec.keyAlgorithm.rsa",
                "expected a map, found the number 4096 (allowed: a map with modulusSize)",
            ),
            (
                RSA,
                "    ecdsa:\n      curve: »P521",
                "spec.keyAlgorithm.ecdsa.curve",
                "(allowed: P256, P384)",
            ),
            (
                RSA,
                "    ecdsa:\n      curve: »p256",
                "spec.keyAlgorithm.ecdsa.curve",
                "(allowed: P256, P384)",
            ),
            (
                RSA,
                "    »ecdsa: {}",
                "spec.keyAlgorithm.ecdsa.curve",
                "required",
            ),
            (
                "  keyAlgorithm:\n    rsa:",
                "  »keyAlgorithm:\n    ecdsa: {curve: P256}\n    rsa:",
                "spec.keyAlgorithm",
                "both given",
            ),
            (
                "  keyAlgorithm:\n    rsa:\n      modulusSize: 4096",
                "  »keyAlgorithm: {}",
                "spec.keyAlgorithm",
                "exactly one",
            ),
            (
                "  keyAlgorithm:\n    rsa:\n      modulusSize: 4096",
                "  »keyAlgorithm:",
                "spec.keyAlgorithm",
                "required",
            ),
            (
                "  keyAlgorithm:\n    rsa:\n      modulusSize: 4096",
                "  keyAlgorithm: »rsa-4096",
                "spec.keyAlgorithm",
                "expected a map",
            ),
            (
                RSA,
                "    »ed25519: {}",
                "spec.keyAlgorithm.ed25519",
                "no such field (allowed: rsa, ecdsa)",
            ),
            (
                RSA,
                "    »rsaa: {modulusSize: 4096}",
                "spec.keyAlgorithm.rsaa",
                "did you mean rsa?",
            ),
        ],
        Severity::Error,
    );
}

#[test]
fn each_rule_of_the_times_is_one_error_at_its_place() {
    const PERCENT: &str = "spec.rotationWindowPercentage";
    const VALIDITY: &str = "spec.validityDurationSeconds";
    check(
        &[
            (
                "Percentage: 50",
                "Percentage: »0",
                PERCENT,
                "only after it has expired (allowed: 1 to 99)",
            ),
            (
                "Percentage: 50",
                "Percentage: »100",
                PERCENT,
                "renewed all the time",
            ),
            (
                "Percentage: 50",
                "Percentage: »-1",
                PERCENT,
                "(allowed: 1 to 99)",
            ),
            (
                "Percentage: 50",
                "Percentage: »300",
                PERCENT,
                "(allowed: 1 to 99)",
            ),
            (
                "Percentage: 50",
                "Percentage: »50%",
                PERCENT,
                "expected a whole number, found the text \"50%\"",
            ),
            (
                "Percentage: 50",
                "Percentage: »0.5",
                PERCENT,
                "expected a whole number, found the number 0.5",
            ),
            (
                "Percentage: 50",
                "Percentage: »050",
                PERCENT,
                "without leading zeros",
            ),
            ("Seconds: 86400", "Seconds: »59", VALIDITY, "too short"),
            ("Seconds: 86400", "Seconds: »0", VALIDITY, "too short"),
            (
                "Seconds: 86400",
                "Seconds: »-9223372036854775808",
                VALIDITY,
                "too short",
            ),
            (
                "Seconds: 86400",
                "Seconds: »315360001",
                VALIDITY,
                "(10 years)",
            ),
            (
                "Seconds: 86400",
                "Seconds: »9223372036854775807",
                VALIDITY,
                "(10 years)",
            ),
            (
                "Seconds: 86400",
                "Seconds: »99999999999999999999",
                VALIDITY,
                "expected a whole number",
            ),
            (
                "Seconds: 86400",
                "Seconds: »24h",
                VALIDITY,
                "expected a whole number",
            ),
            (
                "Seconds: 86400\n  rotationWindowPercentage: 50",
                "Seconds: 90\n  rotationWindowPercentage: »11",
                PERCENT,
                "11% of 90 s leaves 9.90 s",
            ),
            (
                "spec:\n  certificateAuthorityConfig",
                "spec:\n  trustDomain: »demo-project.svc.id.goog\n  certificateAuthorityConfig",
                "spec.trustDomain",
                "v1alpha1 only",
            ),
        ],
        Severity::Error,
    );
}

#[test]
fn each_rule_of_the_issuing_pools_is_one_error_at_its_place() {
    let field = |name: &str| format!("{SERVICE}.{name}");
    let rows: [(&str, &str, String, &str); 7] = [
        (
            "endpointURI: //",
            "endpointURI: »",
            field("endpointURI"),
            "the leading `//` is missing",
        ),
        (
            "endpointURI: //",
            "»endpointUri: //",
            field("endpointUri"),
            "did you mean endpointURI?",
        ),
        (
            "- //privateca.googleapis.com/projects/demo-project/locations/us-east1",
            "- »//privateca.googleapis.com/projects/demo-project/locations/us-central1",
            field("fallbackURIs[0]"),
            "already in",
        ),
        (
            "- //",
            "- »///",
            field("fallbackURIs[0]"),
            "the service is `",
        ),
        (
            "fallbackURIs:\n      - ",
            "fallbackURIs: »",
            field("fallbackURIs"),
            "expected a list",
        ),
        (
            "    certificateAuthorityServiceConfig:",
            "    »meshCAConfig: {}\n    certificateAuthorityServiceConfig:",
            "spec.certificateAuthorityConfig.meshCAConfig".to_owned(),
            "Mesh CA was discontinued; use certificateAuthorityServiceConfig",
        ),
        (
            "    certificateAuthorityServiceConfig:\n      endpointURI",
            "    »certificateAuthorityServiceConfig:\n      # endpointURI",
            field("endpointURI"),
            "required",
        ),
    ];
    for (from, to, field, message) in rows {
        let (text, line, column) = marked(&edited(from, to));
        let loaded = load_text(&text);
        let problem = only_problem(&loaded);
        assert_eq!(problem.field.as_deref(), Some(field.as_str()), "{problem}");
        assert_eq!((problem.line, problem.column), (line, column), "{problem}");
        assert!(problem.message.contains(message), "{problem}");
    }
}

#[test]
fn bounds_themselves_are_fine() {
    for (from, to) in [
        ("Percentage: 50", "Percentage: 10"),
        ("Percentage: 50", "Percentage: 99"),
        ("86400\n", "60\n"),
        ("86400\n", "315360000\n"),
        ("modulusSize: 4096", "modulusSize: 2048"),
        (
            "    path: volume",
            "    path: volume\n    keyMode: 0600\n    fileMode: 0o444\n    owner: 0\n    group: \"1000\"",
        ),
    ] {
        assert_eq!(load_text(&edited(from, to)).problems, [], "{to}");
    }
}

#[test]
fn the_setting_for_tests_lifts_the_minimums_but_not_the_sense() {
    let settings = Settings {
        lift_minimums: true,
        ..Settings::default()
    };
    for (seconds, percent, is_good) in [
        (1, 1, true),
        (3, 50, true),
        (59, 5, true),
        (0, 50, false),
        (3, 0, false),
        (3, 100, false),
    ] {
        let times = format!("{seconds}\n  rotationWindowPercentage: {percent}");
        let text = edited("86400\n  rotationWindowPercentage: 50", &times);
        let loaded = load(&[source("all.yaml", &text)], &settings);
        assert_eq!(loaded.config.is_some(), is_good, "{seconds} {percent}");
        assert_eq!(loaded.problems.is_empty(), is_good, "{seconds} {percent}");
    }
}
