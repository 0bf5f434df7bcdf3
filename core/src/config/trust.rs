//! `TrustConfig`: whose certificates are trusted, as it is typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decode::{At, Decoder};

/// The `spec` of a `TrustConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["trustStores"]))]
pub struct TrustConfigSpec {
    /// One entry per trust domain, the workloads' own included. At least one.
    // The upper bounds keep the cost that an API server reckons for the rule below finite.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub trust_stores: Vec<TrustStoreSpec>,
}

/// What makes a certificate of one trust domain trustworthy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["trustDomain", "trustAnchors"]))]
pub struct TrustStoreSpec {
    /// The trust domain's name. Required, and in one entry only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// The roots. At least one.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub trust_anchors: Vec<TrustAnchorSpec>,
}

/// One source of roots: exactly one of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.certificateAuthorityServiceURI) ? 1 : 0) \
             + (has(self.pemCertificate) ? 1 : 0) \
             + (has(self.spiffeTrustBundleEndpoint) ? 1 : 0) == 1",
    "message": "exactly one of certificateAuthorityServiceURI, pemCertificate and \
                spiffeTrustBundleEndpoint must be set",
}]))]
pub struct TrustAnchorSpec {
    /// A pool of CA Service, whose root certificates are fetched and trusted.
    #[serde(
        default,
        rename = "certificateAuthorityServiceURI",
        skip_serializing_if = "Option::is_none"
    )]
    pub certificate_authority_service_uri: Option<String>,
    /// One CA certificate in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem_certificate: Option<String>,
    /// An HTTPS endpoint that serves a SPIFFE trust bundle, whose X.509 roots are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_trust_bundle_endpoint: Option<String>,
}

/// Reads a `spec`; what is wrong with its form goes to the decoder.
pub(super) fn decode(decoder: &mut Decoder, at: At<'_>) -> TrustConfigSpec {
    let stores = decoder
        .map(at, &["trustStores"])
        .and_then(|fields| fields.get("trustStores"));
    let stores = stores.and_then(|at| decoder.list(&at)).unwrap_or_default();
    TrustConfigSpec {
        trust_stores: stores.into_iter().map(|at| store(decoder, at)).collect(),
    }
}

fn store(decoder: &mut Decoder, at: At<'_>) -> TrustStoreSpec {
    let Some(fields) = decoder.map(at, &["trustDomain", "trustAnchors"]) else {
        return TrustStoreSpec::default();
    };
    let trust_domain = fields.get("trustDomain").and_then(|at| decoder.string(&at));
    let anchors = fields
        .get("trustAnchors")
        .and_then(|at| decoder.list(&at))
        .unwrap_or_default();
    TrustStoreSpec {
        trust_domain,
        trust_anchors: anchors.into_iter().map(|at| anchor(decoder, at)).collect(),
    }
}

fn anchor(decoder: &mut Decoder, at: At<'_>) -> TrustAnchorSpec {
    let known = [
        "certificateAuthorityServiceURI",
        "pemCertificate",
        "spiffeTrustBundleEndpoint",
    ];
    let Some(fields) = decoder.map(at, &known) else {
        return TrustAnchorSpec::default();
    };
    let mut text = |name| fields.get(name).and_then(|at| decoder.string(&at));
    TrustAnchorSpec {
        certificate_authority_service_uri: text("certificateAuthorityServiceURI"),
        pem_certificate: text("pemCertificate"),
        spiffe_trust_bundle_endpoint: text("spiffeTrustBundleEndpoint"),
    }
}
