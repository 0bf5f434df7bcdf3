//! CAs: made, activated, enabled, disabled, deleted and brought back.
//!
//! ```text
//! create SELF_SIGNED ──────────────────────────> STAGED ──enable──> ENABLED
//! create SUBORDINATE ─> AWAITING_ ──activate───────┘ └──disable─┐    │  ↑ enable
//!                       USER_ACTIVATION                         ↓    ↓  │
//! delete: all but ENABLED ─> DELETED ──undelete──────────────> DISABLED
//! ```

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, IsCa};
use serde_json::{Value, json};

use crate::emulator::Emulator;
use crate::errors::{ApiError, Code};
use crate::issue::{Authority, certificate_params, random_id, self_sign, signing};
use crate::json::{from_body, from_value, parse_json};
use crate::keys::CaKeyPair;
use crate::listing::Page;
use crate::mask::Mask;
use crate::operations::{Operation, Started};
use crate::pool::{PoolName, is_resource_id};
use crate::resources::{
    ActionBody, ActivateBody, CaBody, CaState, CaType, IssuerChain, SubordinateConfig, check_labels,
};
use crate::wire::{BaseKeyUsage, CertificateConfig};
use crate::world::{Ca, CaRecord, Pool, ca_name};

/// How long a deleted CA can be brought back: 30 days, as with the service.
const GRACE: SignedDuration = SignedDuration::from_hours(30 * 24);

const TYPE: &str = "CertificateAuthority";

/// How a CA is deleted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deletion {
    /// Although certificates that it issued are valid still.
    pub(crate) ignore_active_certificates: bool,
    /// At once and for good.
    pub(crate) skip_grace_period: bool,
}

/// What becomes of a CA's state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    Enable,
    Disable,
    Undelete,
}

impl Emulator {
    pub(crate) fn create_ca(
        &self,
        pool: &str,
        id: Option<&str>,
        request_id: Option<&str>,
        body: &[u8],
    ) -> Result<Operation, ApiError> {
        let pool_name = self.pool(pool)?.name.clone();
        let id = id.ok_or_else(|| ApiError::invalid("certificate_authority_id is required."))?;
        if !is_resource_id(id) {
            return Err(ApiError::invalid(format!(
                "certificate_authority_id {id:?} does not match [a-zA-Z0-9_-]{{1,63}}."
            )));
        }
        let started = Started {
            location: pool_name.location(),
            target: ca_name(&pool_name, id),
            verb: "create",
            request_id,
        };
        let body: CaBody = from_body(body)?;
        self.operate(started, || {
            let exists = |pool: &Pool, now| match pool.ca(id, now) {
                Ok(ca) => Err(ApiError::already_exists(&ca.name())),
                Err(_) => Ok(()),
            };
            let now = self.now();
            // Looked at twice: making an RSA key takes seconds, in which nothing else is to wait.
            exists(&*self.pool(pool)?, now)?;
            let ca = Arc::new(new_ca(pool_name.clone(), id, body, now)?);
            self.change_pool(pool, |pool, now| {
                exists(pool, now)?;
                pool.all_cas.insert(id.to_owned(), Arc::clone(&ca));
                Ok(())
            })?;
            self.ca_response(&ca.name())
        })
    }

    pub(crate) fn get_ca(&self, name: &str) -> Result<Value, ApiError> {
        let (_, json) = self.ca_response(name)?;
        Ok(json)
    }

    /// `-` as the pool stands for all of the location, and as the location for all of the project.
    pub(crate) fn list_cas(&self, parent: &str, page: &Page) -> Result<Value, ApiError> {
        let parts: Vec<&str> = parent.split('/').collect();
        if !parts.contains(&"-") {
            self.pool(parent)?;
        }
        let fits = |name: &PoolName| {
            let name = name.to_string();
            let mut wanted = parts.iter().zip(name.split('/'));
            wanted.all(|(wanted, found)| *wanted == "-" || *wanted == found)
        };
        let now = self.now();
        let pools = self.world.all();
        let found = pools
            .iter()
            .filter(|pool| fits(&pool.name))
            .flat_map(|pool| pool.cas(now).map(move |ca| (ca.name(), ca.json(pool))));
        page.answer("certificateAuthorities", found)
    }

    /// Changes the labels, all that can be changed of a CA.
    pub(crate) fn update_ca(
        &self,
        name: &str,
        mask: &Mask,
        request_id: Option<&str>,
        body: &[u8],
    ) -> Result<Operation, ApiError> {
        let change = parse_json(body)?;
        from_value::<CaBody>(&change)?;
        self.operate_on_ca(name, "update", request_id, |ca, _| {
            ca.record.labels = mask.labels(&ca.record.labels, &change)?;
            Ok(())
        })
    }

    /// The request of a CA that waits for its certificate.
    pub(crate) fn fetch_csr(&self, name: &str) -> Result<Value, ApiError> {
        let (_, ca) = self.ca(name)?;
        match &ca.record.pem_csr {
            Some(csr) if ca.record.state == CaState::AwaitingUserActivation => {
                Ok(json!({ "pemCsr": csr }))
            }
            _ => Err(ca.refusal("hand out a request", "AWAITING_USER_ACTIVATION")),
        }
    }

    pub(crate) fn activate_ca(&self, name: &str, body: &[u8]) -> Result<Operation, ApiError> {
        self.ca(name)?;
        let body: ActivateBody = from_body(body)?;
        let request_id = body.request_id.filter(|id| !id.is_empty());
        let subordinate = body
            .subordinate_config
            .ok_or_else(|| ApiError::invalid("subordinate_config is required."))?;
        self.operate_on_ca(name, "activate", request_id.as_deref(), |ca, now| {
            if ca.record.state != CaState::AwaitingUserActivation {
                return Err(ca.refusal("be activated", "AWAITING_USER_ACTIVATION"));
            }
            let mut chain = vec![body.pem_ca_certificate];
            match &subordinate {
                SubordinateConfig::PemIssuerChain(IssuerChain { pem_certificates }) => {
                    chain.extend_from_slice(pem_certificates);
                }
                SubordinateConfig::CertificateAuthority(issuer) => {
                    let (_, issuer) = self.ca(issuer)?;
                    let authority = issuer.authority.as_deref().ok_or_else(|| {
                        issuer.refusal("be an issuer", "STAGED, ENABLED or DISABLED")
                    })?;
                    chain.extend_from_slice(authority.chain());
                }
            }
            let authority = Authority::new(ca.name(), &ca.record.content_id, ca.key.clone(), chain)
                .map_err(|reason| {
                    ApiError::invalid(format!(
                        "pem_ca_certificate and its issuers are not usable for {name}: {reason}."
                    ))
                })?;
            let (first, last) = authority.validity();
            if now < first || now > last {
                return Err(ApiError::invalid(format!(
                    "pem_ca_certificate and its issuers are valid together from {first} to {last}, \
                     and it is {now}."
                )));
            }
            ca.authority = Some(Arc::new(authority));
            ca.record.subordinate_config = Some(subordinate);
            ca.record.state = CaState::Staged;
            Ok(())
        })
    }

    /// Enables, disables or undeletes.
    pub(crate) fn turn_ca(
        &self,
        name: &str,
        turn: Turn,
        body: &[u8],
    ) -> Result<Operation, ApiError> {
        self.ca(name)?;
        let body: ActionBody = from_body(body)?;
        let request_id = body.request_id.filter(|id| !id.is_empty());
        let verb = match turn {
            Turn::Enable => "enable",
            Turn::Disable => "disable",
            Turn::Undelete => "undelete",
        };
        self.operate_on_ca(name, verb, request_id.as_deref(), |ca, _| {
            ca.record.state = match (turn, ca.record.state) {
                (Turn::Enable, CaState::Staged | CaState::Disabled) => CaState::Enabled,
                (Turn::Enable, _) => return Err(ca.refusal("be enabled", "STAGED or DISABLED")),
                (Turn::Disable, CaState::Staged | CaState::Enabled) => CaState::Disabled,
                (Turn::Disable, _) => return Err(ca.refusal("be disabled", "STAGED or ENABLED")),
                (Turn::Undelete, CaState::Deleted) if ca.authority.is_none() => {
                    CaState::AwaitingUserActivation
                }
                (Turn::Undelete, CaState::Deleted) => CaState::Disabled,
                (Turn::Undelete, _) => return Err(ca.refusal("be undeleted", "DELETED")),
            };
            ca.record.delete_time = None;
            ca.record.expire_time = None;
            Ok(())
        })
    }

    pub(crate) fn delete_ca(
        &self,
        name: &str,
        deletion: Deletion,
        request_id: Option<&str>,
    ) -> Result<Operation, ApiError> {
        self.operate_on_ca(name, "delete", request_id, |ca, now| {
            match ca.record.state {
                CaState::Enabled => {
                    return Err(ca.refusal("be deleted", "disabled first"));
                }
                CaState::Deleted if !deletion.skip_grace_period => {
                    return Err(ca.refusal("be deleted again", "undeleted first"));
                }
                _ => {}
            }
            if !deletion.ignore_active_certificates && self.has_active_certificates(name, now) {
                return Err(ApiError::new(
                    Code::FailedPrecondition,
                    format!(
                        "The certificate authority {name} has active certificates; revoke them, or \
                         set ignore_active_certificates."
                    ),
                ));
            }
            let grace = if deletion.skip_grace_period {
                SignedDuration::ZERO
            } else {
                GRACE
            };
            ca.record.state = CaState::Deleted;
            ca.record.delete_time = Some(now);
            ca.record.expire_time = now.checked_add(grace).ok();
            Ok(())
        })
    }

    /// Changes a CA as an operation.
    fn operate_on_ca(
        &self,
        name: &str,
        verb: &'static str,
        request_id: Option<&str>,
        change: impl FnOnce(&mut Ca, Timestamp) -> Result<(), ApiError>,
    ) -> Result<Operation, ApiError> {
        let (pool, _) = PoolName::split_child(name, "certificateAuthorities")?;
        let started = Started {
            location: pool.location(),
            target: name.to_owned(),
            verb,
            request_id,
        };
        self.operate(started, || {
            let (pool, ca) = self.change_ca(name, change)?;
            if ca.record.is_gone(ca.record.update_time) {
                self.change_pool(&pool.name.to_string(), |_, _| Ok(()))?;
            }
            let json = serde_json::to_value(ca.json(&pool))
                .map_err(|error| ApiError::internal("The answer", error))?;
            Ok((TYPE, json))
        })
    }

    fn ca_response(&self, name: &str) -> Result<(&'static str, Value), ApiError> {
        let (pool, ca) = self.ca(name)?;
        let json = serde_json::to_value(ca.json(&pool))
            .map_err(|error| ApiError::internal("The answer", error))?;
        Ok((TYPE, json))
    }
}

/// A new CA with a new key: staged if it signs itself, else with a request to be signed.
fn new_ca(pool: PoolName, id: &str, body: CaBody, now: Timestamp) -> Result<Ca, ApiError> {
    let required =
        |field: &str| ApiError::invalid(format!("certificate_authority.{field} is required."));
    let kind = body.kind.ok_or_else(|| required("type"))?;
    let key_kind = body.key_spec.ok_or_else(|| required("key_spec"))?.algorithm;
    let config = body.config.ok_or_else(|| required("config"))?;
    let lifetime = body.lifetime.ok_or_else(|| required("lifetime"))?;
    if lifetime.0 < SignedDuration::from_secs(1) {
        return Err(ApiError::invalid(
            "certificate_authority.lifetime must be positive.",
        ));
    }
    check_labels(&body.labels)?;
    if kind == CaType::SelfSigned && body.subordinate_config.is_some() {
        return Err(ApiError::invalid(
            "certificate_authority.subordinate_config is for CAs of type SUBORDINATE.",
        ));
    }
    let params = ca_params(&config)?;
    let key = CaKeyPair::generate(key_kind).map_err(signing)?;
    let content_id = random_id()?;
    let mut ca = Ca {
        record: CaRecord {
            pool,
            id: id.to_owned(),
            content_id,
            kind,
            config,
            lifetime,
            key: key_kind,
            state: CaState::AwaitingUserActivation,
            labels: body.labels,
            subordinate_config: body.subordinate_config,
            pem_csr: None,
            create_time: now,
            update_time: now,
            delete_time: None,
            expire_time: None,
        },
        key,
        authority: None,
    };
    match kind {
        CaType::SelfSigned => {
            let chain = self_sign(params, &ca.key, lifetime.0, now)?;
            let authority = Authority::new(ca.name(), &ca.record.content_id, ca.key.clone(), chain)
                .map_err(|reason| ApiError::internal("The new CA", reason))?;
            ca.authority = Some(Arc::new(authority));
            ca.record.state = CaState::Staged;
        }
        CaType::Subordinate => {
            let csr = params.serialize_request(&ca.key).map_err(signing)?;
            ca.record.pem_csr = Some(csr.pem().map_err(signing)?.replace("\r\n", "\n"));
        }
    }
    Ok(ca)
}

/// The content of a CA's certificate, or of its request to be signed.
pub(crate) fn ca_params(config: &Value) -> Result<CertificateParams, ApiError> {
    let mut config: CertificateConfig = from_value(config)?;
    if config.public_key.is_some() {
        return Err(ApiError::invalid(
            "certificate_authority.config.public_key: a CA's key is made by the service.",
        ));
    }
    let options = config.x509_config.ca_options.get_or_insert_default();
    if *options.is_ca.get_or_insert(true) {
        let usage = config.x509_config.key_usage.get_or_insert_default();
        let usage = usage.base_key_usage.get_or_insert(BaseKeyUsage {
            cert_sign: true,
            crl_sign: true,
            ..BaseKeyUsage::default()
        });
        if !usage.cert_sign {
            return Err(ApiError::invalid(
                "certificate_authority.config.x509_config.key_usage.base_key_usage.cert_sign must \
                 be set for a CA.",
            ));
        }
    }
    let subject = &config.subject_config;
    let params = certificate_params(
        &subject.subject,
        &subject.subject_alt_name,
        &config.x509_config,
    )?;
    if !matches!(params.is_ca, IsCa::Ca(_)) {
        return Err(ApiError::invalid(
            "certificate_authority.config.x509_config.ca_options.is_ca must be true.",
        ));
    }
    if params.distinguished_name.iter().next().is_none() {
        return Err(ApiError::invalid(
            "certificate_authority.config.subject_config.subject must not be empty.",
        ));
    }
    Ok(params)
}
