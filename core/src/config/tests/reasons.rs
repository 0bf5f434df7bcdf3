//! Every rule by name, each broken alone: the names are the reasons of conditions in a cluster.

use super::*;
use crate::config::Rule;

/// One text for each rule in which it alone is broken.
fn broken(rule: Rule) -> String {
    const RSA: &str = "    rsa:\n      modulusSize: 4096";
    const CA: &str = "  certificateAuthorityConfig:\n    certificateAuthorityServiceConfig:";
    const ANCHOR: &str = "certificateAuthorityServiceURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/root-pool";
    const DOMAIN: &str = "  - trustDomain: demo-project.svc.id.goog\n";
    const VALIDITY: &str = "validityDurationSeconds: 86400";
    const WINDOW: &str = "rotationWindowPercentage: 50";
    let stores = GOOD.find("  - trustDomain").unwrap();
    let stores_end = GOOD.find("---\napiVersion: certagent").unwrap();
    match rule {
        Rule::Unreadable => edited(
            WINDOW,
            "rotationWindowPercentage: 50\n  rotationWindowPercentage: 50",
        ),
        Rule::InvalidObject => edited("  name: default", "  name: other"),
        Rule::DuplicateObject => {
            let trust = GOOD.find("---").unwrap();
            format!("{GOOD}{}", &GOOD[trust..stores_end])
        }
        Rule::MissingObject => GOOD[..GOOD.find("---").unwrap()].to_owned(),
        Rule::MissingSpec => {
            let spec = GOOD.find("spec:").unwrap();
            format!("{}{}", &GOOD[..spec], &GOOD[GOOD.find("---").unwrap()..])
        }
        Rule::UnknownField => edited(WINDOW, "rotationWindowPercentages: 50"),
        Rule::WrongType => edited(WINDOW, "rotationWindowPercentage: \"50\""),
        Rule::InvalidCertificateAuthority => edited(
            CA,
            "  certificateAuthorityConfig:\n    meshCAConfig: {}\n    certificateAuthorityServiceConfig:",
        ),
        Rule::InvalidEndpointURI => edited(
            "/locations/us-central1/caPools/issuing-pool",
            "/caPools/issuing-pool",
        ),
        Rule::InvalidFallbackURI => edited(
            "/locations/us-east1/caPools/issuing-pool",
            "/caPools/issuing-pool",
        ),
        Rule::DuplicatePool => edited("us-east1", "us-central1"),
        Rule::InvalidKeyAlgorithm => edited(RSA, "    ecdsa:\n      curve: P521"),
        Rule::InvalidValidity => edited(VALIDITY, "validityDurationSeconds: 59"),
        Rule::InvalidRotationWindow => edited(WINDOW, "rotationWindowPercentage: 100"),
        Rule::RotationWindowTooShort => edited(
            &format!("{VALIDITY}\n  {WINDOW}"),
            "validityDurationSeconds: 60\n  rotationWindowPercentage: 10",
        ),
        Rule::RotationWindowShort => edited(WINDOW, "rotationWindowPercentage: 5"),
        Rule::TrustDomainConflict => edited(
            VALIDITY,
            &format!("trustDomain: demo-project.svc.id.goog\n  {VALIDITY}"),
        ),
        Rule::InvalidTrustDomain => edited(DOMAIN, "  - trustDomain: Demo\n"),
        Rule::MissingTrustDomain => edited(
            "  serviceAccount: server-sa",
            "  trustDomain: other\n  serviceAccount: server-sa",
        ),
        Rule::MissingTrustStore => {
            let (before, after) = (&GOOD[..stores], &GOOD[stores_end..]);
            format!("{} []\n{after}", before.trim_end())
        }
        Rule::DuplicateTrustDomain => {
            let store = &GOOD[stores..stores_end];
            GOOD.replacen(store, &store.repeat(2), 1)
        }
        Rule::MissingTrustAnchor => edited(
            &format!("trustAnchors:\n    - {ANCHOR}"),
            "trustAnchors: []",
        ),
        Rule::InvalidTrustAnchor => edited(ANCHOR, "{}"),
        Rule::InvalidAnchorURI => edited(ANCHOR, "certificateAuthorityServiceURI: root-pool"),
        Rule::InvalidAnchorCertificate => {
            let pem = format!("pemCertificate: |\n{}", indented(&certificate(false), 8));
            edited(&format!("{ANCHOR}\n"), &pem)
        }
        Rule::InvalidAnchorEndpoint => {
            edited(ANCHOR, "spiffeTrustBundleEndpoint: http://partner.example")
        }
        Rule::InvalidWorkload => edited("namespace: default", "namespace: Default"),
        Rule::InvalidRotateAfter => edited(
            "metadata:\n  name: default\nspec:\n  certificateAuthorityConfig",
            "metadata:\n  name: default\n  annotations: {certagent.dev/rotate-after: now}\nspec:\n  certificateAuthorityConfig",
        ),
        Rule::UnknownAnnotation => edited(
            "metadata:\n  name: default\nspec:\n  certificateAuthorityConfig",
            "metadata:\n  name: default\n  annotations: {certagent.dev/rotate-befor: x}\nspec:\n  certificateAuthorityConfig",
        ),
        Rule::TooManyProblems => edited(
            WINDOW,
            &(0..101).fold(String::new(), |all, n| format!("{all}x{n}: 1\n  ")),
        ),
    }
}

const ALL: [Rule; 30] = [
    Rule::Unreadable,
    Rule::InvalidObject,
    Rule::DuplicateObject,
    Rule::MissingObject,
    Rule::MissingSpec,
    Rule::UnknownField,
    Rule::WrongType,
    Rule::InvalidCertificateAuthority,
    Rule::InvalidEndpointURI,
    Rule::InvalidFallbackURI,
    Rule::DuplicatePool,
    Rule::InvalidKeyAlgorithm,
    Rule::InvalidValidity,
    Rule::InvalidRotationWindow,
    Rule::RotationWindowTooShort,
    Rule::RotationWindowShort,
    Rule::TrustDomainConflict,
    Rule::InvalidTrustDomain,
    Rule::MissingTrustDomain,
    Rule::MissingTrustStore,
    Rule::DuplicateTrustDomain,
    Rule::MissingTrustAnchor,
    Rule::InvalidTrustAnchor,
    Rule::InvalidAnchorURI,
    Rule::InvalidAnchorCertificate,
    Rule::InvalidAnchorEndpoint,
    Rule::InvalidRotateAfter,
    Rule::UnknownAnnotation,
    Rule::InvalidWorkload,
    Rule::TooManyProblems,
];

#[test]
fn every_rule_has_a_name_of_its_own_and_a_text_in_which_it_alone_is_broken() {
    assert_eq!(Rule::TooManyProblems as usize + 1, ALL.len());
    for (index, rule) in ALL.into_iter().enumerate() {
        assert_eq!(rule as usize, index);
        assert_eq!(rule.as_str(), format!("{rule:?}"));
        let documented = include_str!("../../../../docs/conditions.md");
        assert!(documented.contains(&format!("`{rule:?}`")), "{rule:?}");
        let loaded = load_text(&broken(rule));
        let found: Vec<_> = loaded.problems.iter().map(|problem| problem.rule).collect();
        if rule == Rule::TooManyProblems {
            assert_eq!((found.last(), found.len()), (Some(&rule), 101));
        } else {
            assert_eq!(found, [rule], "{}", lines(&loaded.problems));
        }
    }
}
