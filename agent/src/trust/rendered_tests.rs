use certagent_core::config::TrustPolicy;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::json;

use super::*;

fn certificate(name: &str, is_ca: bool) -> String {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "literals read better without &"
)]
fn read(stores: Value) -> Result<Option<TrustPolicy>, RenderedError> {
    parse(Some(
        &json!({"conditions": [], "renderedTrustStores": stores}),
    ))
}

#[test]
fn the_roots_of_each_trust_domain_are_read_and_never_put_together() {
    let (a, b, c) = (
        certificate("a", true),
        certificate("b", true),
        certificate("c", true),
    );
    let stores = json!([
        {"trustDomain": "one.example", "trustAnchors": [
            {"pemCertificates": [a, b]}, {"pemCertificates": []}, {},
        ]},
        {"trustDomain": "two.example", "trustAnchors": [{"pemCertificates": [c]}]},
        {"trustDomain": "empty.example", "trustAnchors": []},
    ]);
    let policy = read(stores).unwrap().unwrap();
    let trust = Trust::rendered(&policy, Distrust::default());
    let domain = |name| TrustDomain::new(name).unwrap();
    let subjects = |name| -> Vec<String> {
        let bundle = trust.issuing_bundle(&domain(name)).unwrap();
        let mut names: Vec<_> = bundle
            .roots()
            .iter()
            .map(Certificate::subject_text)
            .collect();
        names.sort();
        names
    };
    assert_eq!(subjects("one.example"), ["CN=a", "CN=b"]);
    assert_eq!(subjects("two.example"), ["CN=c"]);
    assert!(trust.bundle(&domain("empty.example")).is_none());
    let trouble = trust.trouble(&domain("empty.example"));
    assert!(
        trouble.contains("no rendered roots of empty.example"),
        "{trouble}"
    );
    assert!(!trust.keeps_published(&domain("one.example")));
}

#[test]
fn nothing_rendered_is_nothing_and_no_error() {
    assert_eq!(parse(None), Ok(None));
    assert_eq!(parse(Some(&json!({"conditions": []}))), Ok(None));
    assert_eq!(read(json!([])), Ok(None));
}

#[test]
fn what_the_controller_would_not_write_is_refused_whole() {
    let root = certificate("a", true);
    let store = |domain: &str, pem: &str| json!({"trustDomain": domain, "trustAnchors": [{"pemCertificates": [pem]}]});
    let refused = |stores| read(stores).unwrap_err();
    assert!(matches!(refused(json!({})), RenderedError::Form(_)));
    assert!(matches!(
        refused(json!([{"trustDomain": 1}])),
        RenderedError::Form(_)
    ));
    for domain in ["", "a b", "a?b"] {
        let error = refused(json!([store(domain, &root)]));
        assert_eq!(error, RenderedError::TrustDomain(domain.to_owned()));
    }
    let twice = refused(json!([
        store("a.example", &root),
        store("a.example", &root)
    ]));
    assert_eq!(twice, RenderedError::TrustDomain("a.example".to_owned()));
    let broken = refused(json!([store(
        "a.example",
        "-----BEGIN CERTIFICATE-----\nAAAA\n"
    )]));
    assert!(matches!(broken, RenderedError::Root { .. }), "{broken}");
    let leaf = refused(json!([store("a.example", &certificate("leaf", false))]));
    assert!(matches!(leaf, RenderedError::NotCa { .. }), "{leaf}");
    let many: Vec<_> = (0..=MAX_STORES)
        .map(|number| store(&format!("d{number}.example"), &root))
        .collect();
    assert_eq!(refused(many.into()), RenderedError::TooLarge);
}

#[test]
fn a_distrusted_root_is_in_no_bundle_though_it_is_rendered() {
    let (a, b) = (certificate("a", true), certificate("b", true));
    let stores =
        json!([{"trustDomain": "one.example", "trustAnchors": [{"pemCertificates": [a, b]}]}]);
    let policy = read(stores).unwrap().unwrap();
    let roots = Certificate::parse_pem_list(a.as_bytes()).unwrap();
    let distrust: Distrust = [super::super::Fingerprint::of(&roots[0])]
        .into_iter()
        .collect();
    let (renderer, trust) = RenderedTrust::new(&policy, distrust);
    let domain = TrustDomain::new("one.example").unwrap();
    let count = || trust.borrow().bundle(&domain).unwrap().roots().len();
    assert_eq!(count(), 1);
    renderer.take(&policy);
    assert_eq!(count(), 1);
    assert!(!trust.has_changed().unwrap());
    let other = json!([{"trustDomain": "one.example", "trustAnchors": [
        {"pemCertificates": [b, certificate("c", true)]},
    ]}]);
    renderer.take(&read(other).unwrap().unwrap());
    assert_eq!(count(), 2);
    assert!(trust.has_changed().unwrap());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(domain in ".{0,40}", pem in ".{0,200}") {
        let stores = json!([{"trustDomain": domain, "trustAnchors": [{"pemCertificates": [pem]}]}]);
        let _outcome = read(stores);
    }
}
