//! One create request: its query, and its body as an order that can be signed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::errors::ApiError;
use crate::faults::CertificateFault;
use crate::identity::Caller;
use crate::issue::{Authority, Issued, Terms};
use crate::json::{from_body, from_value, parse_json};
use crate::policy::Mode;
use crate::pool::{Tier, is_resource_id};
use crate::request::Asked;
use crate::resources::check_labels;
use crate::scalars::ProtoDuration;
use crate::wire::{CertificateJson, CreateBody, SubjectMode};
use crate::world::Pool;

/// The query parameters of a create request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateQuery {
    /// The certificate's id: required on ENTERPRISE pools, ignored on DEVOPS ones.
    pub certificate_id: Option<String>,
    /// A UUID; a repetition within an hour returns the first certificate.
    pub request_id: Option<String>,
    /// Check and describe, but issue nothing.
    pub validate_only: bool,
    /// Id of the CA that must sign.
    pub issuing_certificate_authority_id: Option<String>,
}

/// What a request orders, after all checks that do not depend on earlier requests.
pub(crate) struct Order {
    asked: Asked,
    lifetime: SignedDuration,
    pem_csr: Option<String>,
    config: Option<Value>,
    labels: BTreeMap<String, String>,
}

impl Order {
    pub(crate) fn parse(pool: &Pool, caller: &Caller, body: &[u8]) -> Result<Self, ApiError> {
        let mut value = parse_json(body)?;
        let body: CreateBody = from_value(&value)?;
        let reflected = match body.subject_mode {
            SubjectMode::Default => None,
            SubjectMode::ReflectedSpiffe => Some(caller.reflected_id()?),
            SubjectMode::RdnSequence => {
                return Err(ApiError::invalid(
                    "subject_mode RDN_SEQUENCE is not supported by this emulator.",
                ));
            }
        };
        if let Some(template) = body.certificate_template {
            return Err(ApiError::not_found(&template));
        }
        if body.requested_not_before_time.is_some() {
            return Err(ApiError::invalid(
                "requested_not_before_time is not allowed by the issuance policy of the CA pool.",
            ));
        }
        let lifetime = body
            .lifetime
            .map(|lifetime| lifetime.0)
            .filter(SignedDuration::is_positive)
            .ok_or_else(|| {
                ApiError::invalid("certificate.lifetime is required and must be positive.")
            })?;
        check_labels(&body.labels)?;
        let (mode, asked) = match (&body.pem_csr, body.config) {
            (Some(csr), None) => (Mode::Csr, Asked::from_csr(csr)?),
            (None, Some(config)) => (Mode::Config, Asked::from_config(config)?),
            _ => {
                return Err(ApiError::invalid(
                    "Exactly one of certificate.pem_csr and certificate.config must be set.",
                ));
            }
        };
        let mut asked = pool.settings.issuance_policy.apply(mode, lifetime, asked)?;
        if let Some(id) = reflected {
            asked.reflect(id)?;
        }
        let config = value.get_mut("config").map(Value::take);
        Ok(Self {
            asked,
            lifetime,
            pem_csr: body.pem_csr,
            config,
            labels: body.labels,
        })
    }

    /// Has `ca` sign it, and describes what was signed; the second value is the serial.
    pub(crate) fn fill(
        self,
        pool: &Pool,
        ca: &Authority,
        certificate_id: Option<&str>,
        now: Timestamp,
        fault: Option<&CertificateFault>,
    ) -> Result<(CertificateJson, String), ApiError> {
        let terms = Terms {
            lifetime: self.lifetime,
            backdate: pool.settings.issuance_policy.backdate(),
            now,
            with_issuer_url: pool.publishes_ca_certs(),
        };
        let Issued {
            leaf,
            chain,
            serial,
            description,
        } = ca.issue(&self.asked, terms, fault)?;
        let id = certificate_id.unwrap_or(&serial);
        let certificate = CertificateJson {
            name: format!("{}/certificates/{id}", pool.name),
            pem_csr: self.pem_csr,
            config: self.config,
            issuer_certificate_authority: ca.name().to_owned(),
            lifetime: ProtoDuration(self.lifetime),
            pem_certificate: Some(leaf),
            pem_certificate_chain: chain,
            certificate_description: description,
            create_time: now,
            update_time: now,
            revocation_details: None,
            labels: self.labels,
        };
        Ok((certificate, serial))
    }
}

/// Whether a create request is one for the caller's own identity, which another permission governs.
/// A body that cannot be read is not; its error comes later.
pub(crate) fn is_for_self(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Mode {
        #[serde(default, rename = "subjectMode")]
        subject_mode: SubjectMode,
    }
    // Read as the order itself is, so that the two never disagree.
    from_body(body).is_ok_and(|mode: Mode| mode.subject_mode == SubjectMode::ReflectedSpiffe)
}

/// The id under which the certificate is kept: none on a DEVOPS pool, which ignores it.
pub(crate) fn check_certificate_id<'a>(
    pool: &Pool,
    query: &'a CreateQuery,
) -> Result<Option<&'a str>, ApiError> {
    match (pool.tier, query.certificate_id.as_deref()) {
        (Tier::Enterprise, None) => Err(ApiError::invalid(
            "certificate_id is required when the CA pool is of tier ENTERPRISE.",
        )),
        (_, Some(id)) if !is_resource_id(id) => Err(ApiError::invalid(format!(
            "certificate_id {id:?} does not match [a-zA-Z0-9_-]{{1,63}}."
        ))),
        (Tier::Devops, _) => Ok(None),
        (Tier::Enterprise, Some(id)) => Ok(Some(id)),
    }
}
