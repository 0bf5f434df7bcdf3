//! The rules of `TrustConfig`, each broken alone.

use super::*;
use crate::config::TrustAnchor;

const ANCHOR: &str = "    - certificateAuthorityServiceURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/root-pool";

#[test]
fn each_rule_of_the_trust_stores_is_one_error_at_its_place() {
    const STORE: &str = "  - trustDomain: demo-project.svc.id.goog";
    const DOMAIN: &str = "spec.trustStores[0].trustDomain";
    const FIRST: &str = "spec.trustStores[0].trustAnchors[0]";
    const PEM: &str = "spec.trustStores[0].trustAnchors[0].pemCertificate";
    check(
        &[
            (
                STORE,
                "  - trustDomain: »spiffe://demo-project.svc.id.goog",
                DOMAIN,
                "without spiffe://",
            ),
            (
                STORE,
                "  - trustDomain: »Demo-project.svc.id.goog",
                DOMAIN,
                "lower case: demo-project.svc.id.goog",
            ),
            (
                STORE,
                "  - trustDomain: »a domain",
                DOMAIN,
                "\"a domain\" is not a trust domain",
            ),
            (
                "  - trustDomain: demo-project.svc.id.goog\n    trust",
                "  - »trust",
                DOMAIN,
                "required",
            ),
            (
                STORE,
                "  - »trustDomian: demo-project.svc.id.goog",
                "spec.trustStores[0].trustDomian",
                "did you mean trustDomain?",
            ),
            (
                "---\napiVersion: certagent.dev",
                "  - trustDomain: »demo-project.svc.id.goog\n    trustAnchors:\n    - certificateAuthorityServiceURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/root-pool\n---\napiVersion: certagent.dev",
                "spec.trustStores[1].trustDomain",
                "already in spec.trustStores[0].trustDomain",
            ),
            (ANCHOR, "    - »{}", FIRST, "exactly one of its forms"),
            (ANCHOR, "    - »//privateca", FIRST, "expected a map"),
            (
                ANCHOR,
                "    - certificateAuthorityServiceURI: »projects/p",
                "spec.trustStores[0].trustAnchors[0].certificateAuthorityServiceURI",
                "write //privateca.googleapis.com/projects/p",
            ),
            (
                ANCHOR,
                "    - pemCertificate: »MIIB",
                PEM,
                "no certificate here",
            ),
            (
                ANCHOR,
                "    - pemCertificate: »\"-----BEGIN PRIVATE KEY-----\\nMIIEv\"",
                PEM,
                "contains a private key",
            ),
            (
                ANCHOR,
                "    - »pemCertificate: x\n      spiffeTrustBundleEndpoint: https://example.com/",
                FIRST,
                "more than one",
            ),
            (
                "    trustAnchors:\n    - certificateAuthorityServiceURI: //privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/root-pool",
                "    »trustAnchors: []",
                "spec.trustStores[0].trustAnchors",
                "at least one anchor",
            ),
        ],
        Severity::Error,
    );
}

#[test]
fn each_rule_of_a_bundle_endpoint_is_one_error_at_its_place() {
    const BUNDLE: &str = "spec.trustStores[0].trustAnchors[0].spiffeTrustBundleEndpoint";
    check(
        &[
            (
                ANCHOR,
                "    - spiffeTrustBundleEndpoint: »http://example.com/bundle",
                BUNDLE,
                "not an https:// URL",
            ),
            (
                ANCHOR,
                "    - spiffeTrustBundleEndpoint: »https:example.com/bundle",
                BUNDLE,
                "(allowed: a URL such as https://partner.example/bundle.json)",
            ),
            (
                ANCHOR,
                "    - spiffeTrustBundleEndpoint: »https://example.com:bundle",
                BUNDLE,
                "not a URL: invalid port number",
            ),
            (
                ANCHOR,
                "    - spiffeTrustBundleEndpoint: »https://me:secret@example.com/",
                BUNDLE,
                "has a user name or a password",
            ),
            (
                ANCHOR,
                "    - spiffeTrustBundleEndpoint: »https://example.com/#bundle",
                BUNDLE,
                "has a fragment",
            ),
        ],
        Severity::Error,
    );
}

#[test]
fn a_pem_anchor_is_exactly_one_ca_certificate_and_is_never_shown() {
    let (ca, leaf) = (certificate(true), certificate(false));
    for (pem, message) in [
        (leaf, "not a CA's certificate"),
        (format!("{ca}{ca}"), "there are 2 certificates"),
        (ca.replace("MII", "MIJ"), "cannot be read"),
        (
            format!("{ca}-----BEGIN EC PRIVATE KEY-----\nSECRET\n-----END EC PRIVATE KEY-----\n"),
            "private key",
        ),
    ] {
        let text = edited(
            ANCHOR,
            &format!("    - pemCertificate: |\n{}", indented(&pem, 8)),
        );
        let loaded = load_text(&text);
        let shown = only_problem(&loaded).to_string();
        assert!(shown.contains(message), "{shown}");
        assert!(
            !shown.contains("MII") && !shown.contains("SECRET"),
            "{shown}"
        );
    }
    let text = edited(
        ANCHOR,
        &format!("    - pemCertificate: |\n{}", indented(&ca, 8)),
    );
    assert_eq!(load_text(&text).problems, []);
}

#[test]
fn a_bundle_endpoint_is_an_anchor_and_a_bad_one_is_never_shown() {
    let with = |url: &str| {
        let anchor = format!("    - spiffeTrustBundleEndpoint: {url}");
        load_text(&edited(ANCHOR, &anchor))
    };
    let loaded = with("https://partner.example:8443/bundle.json");
    assert_eq!(loaded.problems, []);
    let trust = loaded.config.unwrap().trust;
    let anchors: Vec<_> = trust.stores.values().flatten().collect();
    let endpoint = "https://partner.example:8443/bundle.json".parse().unwrap();
    assert_eq!(anchors, [&TrustAnchor::Endpoint(endpoint)]);

    for url in ["https://me:SECRET@example.com/", "http://SECRET.example/"] {
        let shown = only_problem(&with(url)).to_string();
        assert!(!shown.contains("SECRET"), "{shown}");
    }
    let long = format!("https://example.com/{}", "a".repeat(3000));
    let shown = only_problem(&with(&long)).to_string();
    assert!(shown.contains("3020 bytes") && shown.len() < 400, "{shown}");
}
