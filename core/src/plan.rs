//! What will be asked for: identity, key, lifetime.
use std::time::Duration;

use certagent_svid::{SpiffeId, SpiffeIdError, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::{
    algorithm::KeyAlgorithm,
    config::{CertificatePolicy, TrustPolicy},
    names::SubjectNames,
    request::SubjectMode,
};

/// One certificate to be asked for. It is recorded with the certificate, so that an edit of the
/// configuration never moves the dates of a certificate that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuePlan {
    /// The one URI name.
    #[serde(with = "as_text")]
    pub spiffe_id: SpiffeId,
    /// Kind of the key to be made.
    pub algorithm: KeyAlgorithm,
    /// The lifetime to ask for, whole seconds.
    pub validity: Duration,
    /// The share of the lifetime that remains when renewal may begin, 1 to 99.
    pub rotation_window_percentage: u8,
    /// Who puts the name into the certificate. Left out of what is kept where the request does,
    /// so that requests of older versions read back as they were written.
    #[serde(default, skip_serializing_if = "SubjectMode::is_default")]
    pub subject_mode: SubjectMode,
    /// The names beside the URI name. Left out of what is kept where there are none, as in
    /// requests of older versions.
    #[serde(default, skip_serializing_if = "SubjectNames::is_empty")]
    pub names: SubjectNames,
}

/// Why no certificate may be asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The trust domain has no store in the `TrustConfig`.
    #[error(
        "the TrustConfig has no trustStores entry for the workload's own trust domain {trust_domain}; add one, or correct the trust domain"
    )]
    NoTrustStore {
        /// The workload's trust domain.
        trust_domain: TrustDomain,
    },
    /// There is nobody to ask.
    #[error("the WorkloadCertificateConfig names no CA pool; add one as endpointURI")]
    NoPool,
    /// The name would have to come from a token that the workload does not have.
    #[error(
        "the workload has no tokenFile, and with --identity reflected its certificates are asked for with its own token; name the file"
    )]
    NoTokenFile,
    /// CA Service would ignore the names.
    #[error(
        "the workload has commonName or dnsNames, and with --identity reflected CA Service puts nothing but the token's identity into a certificate; take them out, or use --identity direct"
    )]
    NamesNotReflected,
    /// Namespace and service account make no SPIFFE ID.
    #[error(
        "namespace \"{namespace}\" and service account \"{service_account}\" make no SPIFFE ID: {reason}"
    )]
    Identity {
        /// The workload's namespace.
        namespace: String,
        /// The workload's service account.
        service_account: String,
        /// What the standard forbids.
        reason: SpiffeIdError,
    },
}

/// `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
pub fn workload_id(
    trust_domain: &TrustDomain,
    namespace: &str,
    service_account: &str,
) -> Result<SpiffeId, PlanError> {
    SpiffeId::from_segments(
        trust_domain.clone(),
        &["ns", namespace, "sa", service_account],
    )
    .map_err(|reason| PlanError::Identity {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        reason,
    })
}

/// Namespace and service account of an id that [`workload_id`] could have made.
pub fn workload_names(id: &SpiffeId) -> Option<(&str, &str)> {
    let (namespace, service_account) = id.path().strip_prefix("/ns/")?.split_once("/sa/")?;
    let is_segment = |text: &str| !text.is_empty() && !text.contains('/');
    (is_segment(namespace) && is_segment(service_account)).then_some((namespace, service_account))
}

impl IssuePlan {
    /// The plan for one workload under the active configuration.
    pub fn new(
        policy: &CertificatePolicy,
        trust: &TrustPolicy,
        spiffe_id: SpiffeId,
    ) -> Result<Self, PlanError> {
        let trust_domain = trust_domain(&spiffe_id);
        if let Some(trust_domain) = trust_domain.filter(|own| !trust.stores.contains_key(own)) {
            return Err(PlanError::NoTrustStore { trust_domain });
        }
        Ok(Self {
            spiffe_id,
            algorithm: policy.algorithm,
            validity: policy.validity,
            rotation_window_percentage: policy.rotation_window_percentage,
            subject_mode: SubjectMode::Default,
            names: SubjectNames::default(),
        })
    }

    /// The same plan with these names beside the SPIFFE ID.
    #[must_use]
    pub fn with_names(self, names: SubjectNames) -> Self {
        Self { names, ..self }
    }

    /// The same plan with the name given by somebody else, or by the request again.
    #[must_use]
    pub fn with_subject_mode(self, subject_mode: SubjectMode) -> Self {
        Self {
            subject_mode,
            ..self
        }
    }
}

/// The trust domain of an id. A [`SpiffeId`] has a valid one by construction, which its crate
/// hands out as text only.
pub fn trust_domain(id: &SpiffeId) -> Option<TrustDomain> {
    TrustDomain::new(id.trust_domain_name()).ok()
}

mod as_text {
    use certagent_svid::SpiffeId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        id: &SpiffeId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SpiffeId, D::Error> {
        SpiffeId::new(String::deserialize(d)?).map_err(D::Error::custom)
    }
}
