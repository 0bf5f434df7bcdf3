//! A request for one certificate: all that must stay the same over every retry.
//!
//! CA Service ignores a `requestId` that it has seen, for at least 60 minutes and per location
//! (google/cloud/security/privateca/v1/service.proto). So the ids are derived, not drawn: the same
//! key and pool always give the same ids, and a retry after a lost reply buys nothing twice.
use base64::{Engine as _, engine::general_purpose::STANDARD};
use certagent_svid::certificate::hex;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{algorithm::KeyAlgorithm, plan::IssuePlan, pool::CaPoolName};

/// How long the same ids may be sent again: five minutes less than CA Service's guarantee.
pub const REPLAY_WINDOW: SignedDuration = SignedDuration::from_mins(55);

/// The UUID namespace of our request ids: a constant of this project.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f3d_6c1a_52be_4e0f_9a77_d1c4_5b20_e6a3);

/// The form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestForm {
    /// `config`: nothing but the public key comes from outside the plan. What the guide asks for.
    Config,
    /// `pemCsr`: for a pool that forbids config-based issuance.
    PemCsr,
    /// A `CertificateSigningRequest` of Kubernetes: the body is its PEM CSR, and what CA Service is
    /// asked for is up to the controller that signs it.
    Kubernetes,
}

/// Who decides which name is in a certificate (`SubjectRequestMode` in privateca v1,
/// resources.proto).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SubjectMode {
    /// The request names it.
    #[default]
    Default,
    /// CA Service takes it from the identity of the caller, which must be a workload's own.
    ReflectedSpiffe,
}

impl SubjectMode {
    /// Whether the request names the identity, as it does if nothing else is said.
    pub fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

/// One request, ready to be sent, and sent again byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedRequest {
    /// The pool that is asked.
    pub pool: CaPoolName,
    /// Query parameter `certificateId`: derived from pool and public key.
    pub certificate_id: String,
    /// Query parameter `requestId`: a UUID, derived from pool and public key.
    pub request_id: String,
    /// The exact body: JSON, or the PEM CSR.
    pub body: String,
    /// What the request asks for.
    pub plan: IssuePlan,
    /// When the request was prepared.
    pub created_at: Timestamp,
    /// It was sent, and nobody knows whether a certificate was sold for it.
    pub outcome_unknown: bool,
}

impl PreparedRequest {
    /// Prepares the request for a key, given as `SubjectPublicKeyInfo` and as a PEM CSR signed
    /// by it.
    pub fn new(
        plan: IssuePlan,
        pool: CaPoolName,
        form: RequestForm,
        public_key: &[u8],
        csr_pem: &str,
        now: Timestamp,
    ) -> Self {
        Self::derived(plan, pool, form, public_key, csr_pem, now)
    }

    /// Prepares the request that CA Service is sent for a `CertificateSigningRequest` of a cluster,
    /// with ids derived from the pool and the object's UID: whoever signs that object, and however
    /// often, asks for the same certificate.
    pub fn for_object(
        plan: IssuePlan,
        pool: CaPoolName,
        form: RequestForm,
        uid: &str,
        csr_pem: &str,
        now: Timestamp,
    ) -> Self {
        Self::derived(plan, pool, form, uid.as_bytes(), csr_pem, now)
    }

    fn derived(
        plan: IssuePlan,
        pool: CaPoolName,
        form: RequestForm,
        unique: &[u8],
        csr_pem: &str,
        now: Timestamp,
    ) -> Self {
        let digest = Sha256::new()
            .chain_update(pool.resource_name())
            .chain_update([0])
            .chain_update(unique)
            .finalize();
        Self {
            certificate_id: format!("certagent-{}", hex(&digest[..20])),
            request_id: Uuid::new_v5(&NAMESPACE, &digest).to_string(),
            body: body(&plan, form, csr_pem),
            plan,
            pool,
            created_at: now,
            outcome_unknown: false,
        }
    }

    /// The request may still be sent: CA Service would recognise it. A clock that was stepped
    /// back since makes the request look unborn; then it counts as fresh.
    pub fn may_be_replayed(&self, now: Timestamp) -> bool {
        now.duration_since(self.created_at) < REPLAY_WINDOW
    }
}

/// What is sent.
fn body(plan: &IssuePlan, form: RequestForm, csr_pem: &str) -> String {
    let is_config = match form {
        RequestForm::Config => true,
        RequestForm::PemCsr => false,
        RequestForm::Kubernetes => return csr_pem.to_owned(),
    };
    certificate(plan, is_config, csr_pem).to_string()
}

/// The Certificate resource of the REST API (privateca v1, resources.proto), as JSON.
fn certificate(plan: &IssuePlan, is_config: bool, csr_pem: &str) -> serde_json::Value {
    let lifetime = format!("{}s", plan.validity.as_secs());
    // Names that the service would ignore are not sent.
    let (mut subject, mut names) = (json!({}), json!({}));
    let subject_mode = match plan.subject_mode {
        SubjectMode::Default => {
            names["uris"] = json!([plan.spiffe_id.to_string()]);
            if let Some(name) = &plan.names.common_name {
                subject["commonName"] = json!(name);
            }
            if !plan.names.dns_names.is_empty() {
                names["dnsNames"] = json!(plan.names.dns_names);
            }
            None
        }
        SubjectMode::ReflectedSpiffe => Some("REFLECTED_SPIFFE"),
    };
    let mut body = if is_config {
        json!({
            "lifetime": lifetime,
            "config": {
                "subjectConfig": { "subject": subject, "subjectAltName": names },
                "x509Config": {
                    "keyUsage": {
                        "baseKeyUsage": {
                            "digitalSignature": true,
                            "keyEncipherment": encipherment(plan.algorithm),
                        },
                        "extendedKeyUsage": { "serverAuth": true, "clientAuth": true },
                    },
                    "caOptions": { "isCa": false },
                },
                "publicKey": { "format": "PEM", "key": STANDARD.encode(csr_pem) },
            },
        })
    } else {
        json!({ "lifetime": lifetime, "pemCsr": csr_pem })
    };
    if let Some(mode) = subject_mode {
        body["subjectMode"] = json!(mode);
    }
    body
}

/// RSA keys also carry key encipherment, for the TLS 1.2 suites that ask for it.
pub fn encipherment(algorithm: KeyAlgorithm) -> bool {
    algorithm.rsa_modulus_bits().is_some()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
