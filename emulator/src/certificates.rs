//! Certificates: made, found again, listed, relabelled, revoked.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::emulator::Emulator;
use crate::errors::{ApiError, Code};
use crate::idempotency::RequestKey;
use crate::identity::Caller;
use crate::json::{from_body, from_value, parse_json};
use crate::ledger::{Kept, Ledger, Sold, lock};
use crate::listing::Page;
use crate::mask::Mask;
use crate::order::{CreateQuery, Order, check_certificate_id};
use crate::pool::{PoolName, Tier};
use crate::resources::RevokeBody;
use crate::revocation::RevocationDetails;
use crate::state::StoredCertificate;
use crate::wire::{CertificateJson, CreateBody};
use crate::world::Pool;

impl Emulator {
    /// `CreateCertificate`: checks, signs and remembers one certificate. In process no token is
    /// asked for: the caller is an administrator.
    ///
    /// # Errors
    /// As the service answers them.
    pub fn create_certificate(
        &self,
        parent: &str,
        query: &CreateQuery,
        body: &[u8],
    ) -> Result<Arc<CertificateJson>, ApiError> {
        self.create_certificate_for(&Caller::anybody(), parent, query, body)
    }

    pub(crate) fn create_certificate_for(
        &self,
        caller: &Caller,
        parent: &str,
        query: &CreateQuery,
        body: &[u8],
    ) -> Result<Arc<CertificateJson>, ApiError> {
        let pool = self.pool(parent)?;
        let certificate_id = check_certificate_id(&pool, query)?;
        let location = pool.name.location().to_owned();
        let request = query.request_id.as_deref();
        let request = request
            .map(|id| RequestKey::new(location.clone(), id))
            .transpose()?;
        let named_ca = query.issuing_certificate_authority_id.as_deref();
        if query.validate_only {
            let order = Order::parse(&pool, caller, body)?;
            let now = self.now();
            let ca = pool.signer(named_ca, now)?;
            let (mut certificate, _) = order.fill(&pool, ca, certificate_id, now, None)?;
            certificate.pem_certificate = None;
            certificate.pem_certificate_chain = Vec::new();
            return Ok(Arc::new(certificate));
        }

        // A second request with one of these ids waits here and finds what the first one made. The
        // order, request before certificate, keeps two of them from waiting for each other.
        let _request = request.clone().map(|key| self.requests.hold(key));
        let kept_key = certificate_id.map(|id| (location, id.to_owned()));
        let _certificate = kept_key.clone().map(|key| self.certificate_ids.hold(key));
        let now = self.now();
        if let Some(first) = request.as_ref().and_then(|key| self.replay(key, now)) {
            return self.replay_form().answer(first);
        }
        let order = Order::parse(&pool, caller, body)?;
        if let Some(key) = &kept_key
            && lock(&self.ledger).kept.contains_key(key)
        {
            let name = format!("{}/certificates/{}", pool.name, key.1);
            return Err(ApiError::already_exists(&name));
        }
        let ca = pool.signer(named_ca, now)?;
        let fault = self.take_certificate_fault(&pool.name, now);
        let (certificate, serial) = order.fill(&pool, ca, certificate_id, now, fault.as_ref())?;
        let request_id = request.as_ref().map(|key| key.id.to_string());
        if kept_key.is_some() || request.is_some() {
            self.store(&pool.name, certificate_id, request_id.clone(), &certificate)?;
        }
        let sold = Sold {
            pool: pool.name.clone(),
            serial,
            request_id,
        };
        self.enter(&sold, &certificate)?;
        tracing::debug!(pool = %pool.name, serial = sold.serial, "certificate issued");

        let certificate = Arc::new(certificate);
        let answer = fault.and_then(|fault| fault.answer(&certificate));
        let answer = answer.map_or_else(|| Arc::clone(&certificate), Arc::new);
        let mut ledger = lock(&self.ledger);
        if let Some(key) = request {
            ledger.replays.insert(key, now, Arc::clone(&answer));
        }
        if let Some(key) = kept_key {
            let kept = Kept {
                pool: pool.name.clone(),
                request_id: sold.request_id.clone(),
                certificate,
            };
            ledger.kept.insert(key, kept);
        }
        ledger.sell(sold);
        Ok(answer)
    }

    /// `GetCertificate`, on ENTERPRISE pools.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `FAILED_PRECONDITION` on a DEVOPS pool.
    pub fn get_certificate(&self, name: &str) -> Result<CertificateJson, ApiError> {
        let (_, _, kept) = self.kept_certificate(name, "read")?;
        Ok(CertificateJson::clone(&kept.certificate))
    }

    pub(crate) fn list_certificates(&self, parent: &str, page: &Page) -> Result<Value, ApiError> {
        let pool = self.pool(parent)?;
        check_tier(&pool, "listed")?;
        let mut found: Vec<_> = lock(&self.ledger)
            .kept
            .values()
            .filter(|kept| kept.pool == pool.name)
            .map(|kept| Arc::clone(&kept.certificate))
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        page.answer(
            "certificates",
            found
                .iter()
                .map(|certificate| (certificate.name.clone(), &**certificate)),
        )
    }

    /// Changes the labels, all that can be changed of a certificate.
    pub(crate) fn update_certificate(
        &self,
        name: &str,
        mask: &Mask,
        body: &[u8],
    ) -> Result<CertificateJson, ApiError> {
        let change = parse_json(body)?;
        from_value::<CreateBody>(&change)?;
        self.change_certificate(name, "changed", |certificate, now| {
            certificate.labels = mask.labels(&certificate.labels, &change)?;
            certificate.update_time = now;
            Ok(())
        })
    }

    /// Revokes for good: a second time is refused.
    pub(crate) fn revoke_certificate(
        &self,
        name: &str,
        body: &[u8],
    ) -> Result<CertificateJson, ApiError> {
        let (pool, ..) = self.kept_certificate(name, "revoked")?;
        let body: RevokeBody = from_body(body)?;
        let location = pool.name.location().to_owned();
        let request = body.request_id.filter(|id| !id.is_empty());
        let request = request
            .map(|id| RequestKey::new(location, &id))
            .transpose()?;
        let _request = request.clone().map(|key| self.requests.hold(key));
        let now = self.now();
        if let Some(first) = request.as_ref().and_then(|key| self.replay(key, now)) {
            return Ok(CertificateJson::clone(&first));
        }
        let revoked = self.change_certificate(name, "revoked", |certificate, now| {
            if certificate.revocation_details.is_some() {
                return Err(ApiError::new(
                    Code::FailedPrecondition,
                    format!("The certificate {name} is revoked already."),
                ));
            }
            certificate.revocation_details = Some(RevocationDetails {
                revocation_state: body.reason,
                revocation_time: now,
            });
            certificate.update_time = now;
            Ok(())
        })?;
        if let Some(key) = request {
            let answer = Arc::new(revoked.clone());
            lock(&self.ledger).replays.insert(key, now, answer);
        }
        Ok(revoked)
    }

    /// Whether an ENTERPRISE pool keeps a certificate of this CA that still counts.
    pub(crate) fn has_active_certificates(&self, ca: &str, now: Timestamp) -> bool {
        lock(&self.ledger).kept.values().any(|kept| {
            let certificate = &kept.certificate;
            let subject = &certificate.certificate_description.subject_description;
            certificate.issuer_certificate_authority == ca
                && certificate.revocation_details.is_none()
                && subject.not_after_time >= now
        })
    }

    /// Forgets the certificates of a pool that is being deleted.
    pub(crate) fn forget_certificates(&self, pool: &PoolName) {
        let gone = lock(&self.ledger).forget_pool(pool);
        if let Some(state) = &self.state {
            for kept in gone {
                state.remove_certificate(&kept.certificate);
            }
        }
    }

    /// The answer that the first request with this id got.
    fn replay(&self, key: &RequestKey, now: Timestamp) -> Option<Arc<CertificateJson>> {
        let mut ledger = lock(&self.ledger);
        self.forget_old(&mut ledger, now);
        let first = ledger.replays.get(key, now)?;
        ledger.replayed += 1;
        drop(ledger);
        if let Some(state) = &self.state
            && let Err(error) = state.history.enter_replayed(first.serial())
        {
            tracing::warn!(%error, "a replay is not counted after the next start");
        }
        Some(first)
    }

    fn forget_old(&self, ledger: &mut Ledger, now: Timestamp) {
        for answer in ledger.replays.prune(now) {
            // An ENTERPRISE pool keeps the certificate itself for ever.
            let parent = answer
                .name
                .split_once("/certificates/")
                .map_or("", |(parent, _)| parent);
            if let Some(state) = &self.state
                && self
                    .pool(parent)
                    .is_ok_and(|pool| pool.tier == Tier::Devops)
            {
                state.remove_certificate(&answer);
            }
        }
    }

    fn change_certificate(
        &self,
        name: &str,
        verb: &str,
        change: impl FnOnce(&mut CertificateJson, Timestamp) -> Result<(), ApiError>,
    ) -> Result<CertificateJson, ApiError> {
        let (pool, key, _) = self.kept_certificate(name, verb)?;
        let _certificate = self.certificate_ids.hold(key.clone());
        // Somebody else may have changed it while this request waited.
        let (.., mut kept) = self.kept_certificate(name, verb)?;
        let mut certificate = CertificateJson::clone(&kept.certificate);
        change(&mut certificate, self.now())?;
        self.store(
            &pool.name,
            Some(&key.1),
            kept.request_id.clone(),
            &certificate,
        )?;
        kept.certificate = Arc::new(certificate.clone());
        lock(&self.ledger).kept.insert(key, kept);
        Ok(certificate)
    }

    fn store(
        &self,
        pool: &PoolName,
        certificate_id: Option<&str>,
        request_id: Option<String>,
        certificate: &CertificateJson,
    ) -> Result<(), ApiError> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        let stored = StoredCertificate::new(
            pool,
            certificate_id,
            request_id,
            certificate.create_time,
            certificate.clone(),
        );
        state
            .save_certificate(&stored)
            .map_err(|error| ApiError::internal("The certificate was not stored", error))
    }

    /// Enters a sale into the history. One that is not in it was none: its certificate goes again.
    fn enter(&self, sold: &Sold, certificate: &CertificateJson) -> Result<(), ApiError> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        state.history.enter_sold(sold).map_err(|error| {
            state.remove_certificate(certificate);
            ApiError::internal("The certificate was not stored", error)
        })
    }

    /// A certificate of an ENTERPRISE pool by its name: its pool, its key in the ledger, itself.
    #[expect(clippy::type_complexity, reason = "three things, named above")]
    fn kept_certificate(
        &self,
        name: &str,
        verb: &str,
    ) -> Result<(Arc<Pool>, (String, String), Kept), ApiError> {
        let (pool, id) = PoolName::split_child(name, "certificates")?;
        let pool = self.pool(&pool.to_string())?;
        check_tier(&pool, verb)?;
        let key = (pool.name.location().to_owned(), id.to_owned());
        let kept = lock(&self.ledger)
            .kept
            .get(&key)
            .filter(|kept| kept.pool == pool.name)
            .cloned()
            .ok_or_else(|| ApiError::not_found(name))?;
        Ok((pool, key, kept))
    }
}

/// The service's documentation says only that the tier does not support these methods; the code is
/// this emulator's choice.
fn check_tier(pool: &Pool, verb: &str) -> Result<(), ApiError> {
    match pool.tier {
        Tier::Enterprise => Ok(()),
        Tier::Devops => Err(ApiError::new(
            Code::FailedPrecondition,
            format!(
                "Certificates of a CA pool of tier DEVOPS cannot be {verb}: they are not kept."
            ),
        )),
    }
}
