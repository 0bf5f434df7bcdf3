//! The guide's own objects.

use super::*;
use crate::algorithm::KeyAlgorithm;
use crate::config::{
    GuideParams, TrustConfigSpec, WorkloadCertificateConfigSpec, render_trust_config,
    render_workload_certificate_config,
};

const CERTIFICATES: &str =
    include_str!("../../../../testdata/guide/WorkloadCertificateConfig.yaml");
const TRUST: &str = include_str!("../../../../testdata/guide/TrustConfig.yaml");

pub(super) fn pool(location: &str, id: &str) -> crate::pool::CaPoolName {
    format!("//privateca.googleapis.com/projects/demo-project/locations/{location}/caPools/{id}")
        .parse()
        .unwrap()
}

pub(super) fn params() -> GuideParams {
    GuideParams {
        issuing_pool: pool("us-central1", "issuing-pool"),
        fallback_pools: Vec::new(),
        root_pools: vec![pool("us-central1", "root-pool")],
        trust_domain: "demo-project.svc.id.goog".parse().unwrap(),
        algorithm: KeyAlgorithm::Rsa4096,
        validity_seconds: 86_400,
        rotation_window_percentage: 50,
    }
}

#[test]
fn the_guides_files_load_without_any_problem() {
    let sources = [
        source("certificates.yaml", CERTIFICATES),
        source("trust.yaml", TRUST),
    ];
    let loaded = load(&sources, &Settings::default());
    assert_eq!(loaded.problems, []);
    assert!(loaded.config.unwrap().workloads.is_empty());
}

#[test]
fn what_is_rendered_is_the_guides_text() {
    assert_eq!(render_workload_certificate_config(&params()), CERTIFICATES);
    assert_eq!(render_trust_config(&params()), TRUST);
}

#[test]
fn what_is_rendered_reads_back_for_every_algorithm() {
    for algorithm in KeyAlgorithm::ALL {
        let params = GuideParams {
            algorithm,
            validity_seconds: 60,
            fallback_pools: vec![pool("us-east1", "a"), pool("us-west1", "b")],
            root_pools: vec![
                pool("us-central1", "root"),
                pool("us-central1", "next-root"),
            ],
            ..params()
        };
        let sources = [
            source("a", &render_workload_certificate_config(&params)),
            source("b", &render_trust_config(&params)),
        ];
        let loaded = load(&sources, &Settings::default());
        assert_eq!(loaded.problems, []);
        let config = loaded.config.unwrap();
        assert_eq!(config.certificates.algorithm, algorithm);
        assert_eq!(config.certificates.validity.as_secs(), 60);
        assert_eq!(config.certificates.pools.len(), 3);
        assert_eq!(config.trust.stores[&params.trust_domain].len(), 2);
    }
}

#[test]
fn the_structs_have_the_field_names_of_the_cluster() {
    let spec = serde_json::json!({
        "trustDomain": "t.example",
        "certificateAuthorityConfig": {
            "certificateAuthorityServiceConfig": {"endpointURI": "e", "fallbackURIs": ["f"]},
            "meshCAConfig": {},
        },
        "keyAlgorithm": {"rsa": {"modulusSize": 4096}, "ecdsa": {"curve": "P256"}},
        "validityDurationSeconds": 86400,
        "rotationWindowPercentage": 50,
    });
    let read: WorkloadCertificateConfigSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), spec);
    let spec = serde_json::json!({"trustStores": [{
        "trustDomain": "t.example",
        "trustAnchors": [
            {"certificateAuthorityServiceURI": "p"},
            {"pemCertificate": "c"},
            {"spiffeTrustBundleEndpoint": "b"},
        ],
    }]});
    let read: TrustConfigSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), spec);
}
