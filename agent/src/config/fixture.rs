//! Objects for tests.
use std::fmt::Write as _;

use certagent_core::config::{self, Config, Settings, Source};

const POOLS: &str =
    "//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools";

/// The objects that differ in what these fields say.
pub(crate) struct Objects {
    pub(crate) algorithm: &'static str,
    pub(crate) validity: i64,
    pub(crate) window: i64,
    pub(crate) workloads: &'static [&'static str],
}

impl Default for Objects {
    fn default() -> Self {
        let algorithm = "ecdsa:\n      curve: P256";
        Self {
            algorithm,
            validity: 3600,
            window: 50,
            workloads: &["a", "b"],
        }
    }
}

impl Objects {
    pub(crate) fn yaml(&self) -> String {
        let Self {
            algorithm,
            validity,
            window,
            workloads,
        } = self;
        let mut text = format!(
            "\
apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata:
  name: default
spec:
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: {POOLS}/issuing-pool
  keyAlgorithm:
    {algorithm}
  validityDurationSeconds: {validity}
  rotationWindowPercentage: {window}
---
apiVersion: security.cloud.google.com/v1
kind: TrustConfig
metadata:
  name: default
spec:
  trustStores:
  - trustDomain: example.org
    trustAnchors:
    - certificateAuthorityServiceURI: {POOLS}/root-pool
"
        );
        for name in *workloads {
            write!(
                text,
                "\
---
apiVersion: certagent.dev/v1alpha1
kind: Workload
metadata:
  name: {name}
spec:
  namespace: default
  serviceAccount: {name}
  volume:
    path: volumes/{name}
"
            )
            .unwrap();
        }
        text
    }

    pub(crate) fn config(&self) -> Config {
        let source = Source {
            name: "objects.yaml".to_owned(),
            text: self.yaml(),
        };
        let loaded = config::load(&[source], &Settings::default());
        loaded
            .config
            .unwrap_or_else(|| panic!("{:?}", loaded.problems))
    }
}
