//! `WorkloadCertificateConfig`: how certificates are issued, as it is typed.
//!
//! What is said to `schemars` is what an API server checks by itself, in the object's definition.
//! It accepts a little more than [`validate`](super::validate), which has the better words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decode::{At, Decoder};

/// The `spec` of a `WorkloadCertificateConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["certificateAuthorityConfig", "keyAlgorithm"]))]
pub struct WorkloadCertificateConfigSpec {
    /// The trust domain of the workloads. Only in `v1alpha1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub trust_domain: Option<String>,
    /// Who issues the certificates. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority_config: Option<CertificateAuthorityConfig>,
    /// The kind of keys. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<KeyAlgorithmSpec>,
    /// How long a certificate is valid, in seconds; 86400 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 86_400, "minimum" = 1, "maximum" = 315_360_000))]
    pub validity_duration_seconds: Option<i64>,
    /// The share of the validity that remains when renewal starts, in percent; 50 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 50, "minimum" = 1, "maximum" = 99))]
    pub rotation_window_percentage: Option<i64>,
}

/// Who issues the certificates: exactly one of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.certificateAuthorityServiceConfig) != has(self.meshCAConfig)",
    "message": "exactly one issuing configuration must be set: certificateAuthorityServiceConfig",
}]))]
pub struct CertificateAuthorityConfig {
    /// Pools of CA Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority_service_config: Option<CertificateAuthorityServiceConfig>,
    /// Mesh CA, which was discontinued: always refused.
    #[serde(
        default,
        rename = "meshCAConfig",
        skip_serializing_if = "Option::is_none"
    )]
    pub mesh_ca_config: Option<MeshCaConfig>,
}

/// The pools that issue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["endpointURI"]))]
pub struct CertificateAuthorityServiceConfig {
    /// The pool to ask first. Required.
    #[serde(
        default,
        rename = "endpointURI",
        skip_serializing_if = "Option::is_none"
    )]
    pub endpoint_uri: Option<String>,
    /// The pools to ask when the first cannot issue, in this order.
    #[serde(
        default,
        rename = "fallbackURIs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub fallback_uris: Vec<String>,
}

/// An object without fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshCaConfig {}

/// The kind of keys: exactly one of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.rsa) != has(self.ecdsa)",
    "message": "exactly one of rsa and ecdsa must be set",
}]))]
pub struct KeyAlgorithmSpec {
    /// RSA keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rsa: Option<RsaSpec>,
    /// ECDSA keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecdsa: Option<EcdsaSpec>,
}

/// RSA keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["modulusSize"]))]
pub struct RsaSpec {
    /// Bits of the modulus: 2048, 3072 or 4096. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [2048, 3072, 4096]))]
    pub modulus_size: Option<i64>,
}

/// ECDSA keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["curve"]))]
pub struct EcdsaSpec {
    /// The curve: `P256` or `P384`. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["P256", "P384"]))]
    pub curve: Option<String>,
}

/// Reads a `spec`; what is wrong with its form goes to the decoder.
pub(super) fn decode(decoder: &mut Decoder, at: At<'_>) -> WorkloadCertificateConfigSpec {
    let known = [
        "trustDomain",
        "certificateAuthorityConfig",
        "keyAlgorithm",
        "validityDurationSeconds",
        "rotationWindowPercentage",
    ];
    let Some(fields) = decoder.map(at, &known) else {
        return WorkloadCertificateConfigSpec::default();
    };
    WorkloadCertificateConfigSpec {
        trust_domain: fields.get("trustDomain").and_then(|at| decoder.string(&at)),
        certificate_authority_config: fields
            .get("certificateAuthorityConfig")
            .map(|at| authority(decoder, at)),
        key_algorithm: fields
            .get("keyAlgorithm")
            .map(|at| key_algorithm(decoder, at)),
        validity_duration_seconds: fields
            .get("validityDurationSeconds")
            .and_then(|at| decoder.integer(&at)),
        rotation_window_percentage: fields
            .get("rotationWindowPercentage")
            .and_then(|at| decoder.integer(&at)),
    }
}

fn authority(decoder: &mut Decoder, at: At<'_>) -> CertificateAuthorityConfig {
    let known = ["certificateAuthorityServiceConfig", "meshCAConfig"];
    let Some(fields) = decoder.map(at, &known) else {
        return CertificateAuthorityConfig::default();
    };
    CertificateAuthorityConfig {
        certificate_authority_service_config: fields
            .get("certificateAuthorityServiceConfig")
            .map(|at| service(decoder, at)),
        mesh_ca_config: fields.get("meshCAConfig").map(|_| MeshCaConfig {}),
    }
}

fn service(decoder: &mut Decoder, at: At<'_>) -> CertificateAuthorityServiceConfig {
    let Some(fields) = decoder.map(at, &["endpointURI", "fallbackURIs"]) else {
        return CertificateAuthorityServiceConfig::default();
    };
    CertificateAuthorityServiceConfig {
        endpoint_uri: fields.get("endpointURI").and_then(|at| decoder.string(&at)),
        fallback_uris: fields
            .get("fallbackURIs")
            .and_then(|at| decoder.strings(&at))
            .unwrap_or_default(),
    }
}

fn key_algorithm(decoder: &mut Decoder, at: At<'_>) -> KeyAlgorithmSpec {
    let Some(fields) = decoder.map(at, &["rsa", "ecdsa"]) else {
        return KeyAlgorithmSpec::default();
    };
    KeyAlgorithmSpec {
        rsa: fields.get("rsa").map(|at| {
            let fields = decoder.map(at, &["modulusSize"]);
            let size = fields.and_then(|fields| fields.get("modulusSize"));
            RsaSpec {
                modulus_size: size.and_then(|at| decoder.integer(&at)),
            }
        }),
        ecdsa: fields.get("ecdsa").map(|at| {
            let fields = decoder.map(at, &["curve"]);
            let curve = fields.and_then(|fields| fields.get("curve"));
            EcdsaSpec {
                curve: curve.and_then(|at| decoder.string(&at)),
            }
        }),
    }
}
