//! The two objects as Google's guide writes them, comments included.

use std::fmt::Write as _;

use certagent_svid::TrustDomain;

use crate::algorithm::KeyAlgorithm;
use crate::pool::CaPoolName;

/// What differs from one pair of objects to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuideParams {
    /// The pool that issues.
    pub issuing_pool: CaPoolName,
    /// The pools to ask when the first cannot issue.
    pub fallback_pools: Vec<CaPoolName>,
    /// The pools whose roots are trusted. An empty list makes an object that is refused.
    pub root_pools: Vec<CaPoolName>,
    /// The workloads' trust domain.
    pub trust_domain: TrustDomain,
    /// The kind of keys.
    pub algorithm: KeyAlgorithm,
    /// How long certificates are valid, in seconds.
    pub validity_seconds: u64,
    /// The share of the validity that remains when renewal starts, in percent.
    pub rotation_window_percentage: u8,
}

/// The `WorkloadCertificateConfig`, as YAML.
pub fn render_workload_certificate_config(params: &GuideParams) -> String {
    let GuideParams {
        issuing_pool,
        validity_seconds,
        rotation_window_percentage,
        ..
    } = params;
    let mut fallbacks = String::new();
    if !params.fallback_pools.is_empty() {
        fallbacks.push_str("      fallbackURIs:\n");
        push_lines(&mut fallbacks, "      - ", &params.fallback_pools);
    }
    let algorithm = match (
        params.algorithm.rsa_modulus_bits(),
        params.algorithm.ecdsa_curve(),
    ) {
        (Some(bits), _) => format!("rsa:\n      modulusSize: {bits}"),
        (None, curve) => format!("ecdsa:\n      curve: {}", curve.unwrap_or_default()),
    };
    format!(
        "\
apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata:
  name: default
spec:
  # Required. The CA service that issues your certificates.
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: {issuing_pool}
{fallbacks}
  # Required. The key algorithm to use. Choice of RSA or ECDSA.
  #
  # To maximize compatibility with various TLS stacks, your workloads
  # should use keys of the same family as your root and subordinate CAs.
  #
  # To use RSA, specify configuration such as:
  #   keyAlgorithm:
  #     rsa:
  #       modulusSize: 4096
  #
  # Currently, the only supported ECDSA curves are \"P256\" and \"P384\", and the only
  # supported RSA modulus sizes are 2048, 3072 and 4096.
  keyAlgorithm:
    {algorithm}

  # Optional. Validity duration of issued certificates, in seconds.
  #
  # Defaults to 86400 (1 day) if not specified.
  validityDurationSeconds: {validity_seconds}

  # Optional. Try to start rotating the certificate once this
  # percentage of validityDurationSeconds is remaining.
  #
  # Defaults to 50 if not specified.
  rotationWindowPercentage: {rotation_window_percentage}
"
    )
}

/// The `TrustConfig`, as YAML.
pub fn render_trust_config(params: &GuideParams) -> String {
    let trust_domain = &params.trust_domain;
    let mut anchors = String::new();
    push_lines(
        &mut anchors,
        "    - certificateAuthorityServiceURI: ",
        &params.root_pools,
    );
    format!(
        "\
apiVersion: security.cloud.google.com/v1
kind: TrustConfig
metadata:
  name: default
spec:
  # You must include a trustStores entry for the trust domain that
  # your cluster is enrolled in.
  trustStores:
  - trustDomain: {trust_domain}
    # Trust identities in this trustDomain if they appear in a certificate
    # that chains up to this root CA.
    trustAnchors:
{anchors}"
    )
}

fn push_lines(text: &mut String, start: &str, pools: &[CaPoolName]) {
    for pool in pools {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{start}{pool}");
    }
}
