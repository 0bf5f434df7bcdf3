//! What can be changed while the emulator runs: faults, quotas, the form of replays.

use jiff::Timestamp;

use crate::emulator::Emulator;
use crate::faults::{CertificateFault, Fault, FaultBook, FaultRule, Method};
use crate::idempotency::ReplayForm;
use crate::issue::Authority;
use crate::ledger::lock;
use crate::pool::PoolName;
use crate::quota::{CaQuota, Charge, Quotas, Refusal};

impl Emulator {
    /// Replaces all fault rules; an empty list heals everything. Rules for a while begin now.
    pub fn set_faults(&self, rules: Vec<FaultRule>) {
        let now = self.now();
        *lock(&self.faults) = FaultBook::new(rules, now);
    }

    /// The fault rules that are in force, each with what is left of it.
    pub fn faults(&self) -> Vec<FaultRule> {
        let now = self.now();
        lock(&self.faults).in_force(now)
    }

    /// Has the service's quotas from now on, or none. Every quota is full at first.
    pub fn set_quotas(&self, quotas: Quotas) {
        lock(&self.quotas).set(quotas);
    }

    /// Whether the service's quotas hold.
    pub fn quotas(&self) -> Quotas {
        lock(&self.quotas).setting()
    }

    /// Answers repeated `requestId`s in this form from now on.
    pub fn set_replay_form(&self, form: ReplayForm) {
        lock(&self.ledger).replay_form = form;
    }

    /// How repeated `requestId`s are answered.
    pub fn replay_form(&self) -> ReplayForm {
        lock(&self.ledger).replay_form
    }

    pub(crate) fn take_transport_fault(
        &self,
        method: Method,
        pool: Option<&PoolName>,
    ) -> Option<Fault> {
        let now = self.now();
        lock(&self.faults).take_transport(method, pool, now)
    }

    pub(crate) fn take_certificate_fault(
        &self,
        pool: &PoolName,
        now: Timestamp,
    ) -> Option<CertificateFault> {
        lock(&self.faults).take_certificate(pool, now)
    }

    /// Charges a request for `resource` (`projects/P/locations/L/…`) to its quotas. What belongs to
    /// no location has none.
    pub(crate) fn charge(&self, resource: &str, signer: Option<Signer>) -> Result<(), Refusal> {
        if self.quotas() == Quotas::Off {
            return Ok(());
        }
        let parts: Vec<&str> = resource.splitn(5, '/').collect();
        let ["projects", project, "locations", location, ..] = parts.as_slice() else {
            return Ok(());
        };
        let now = self.now();
        let charge = Charge {
            location: format!("projects/{project}/locations/{location}"),
            create: signer.map(|signer| self.candidates(resource, &signer, now)),
        };
        lock(&self.quotas).charge(&charge, now)
    }

    /// The CAs of a pool that may sign, with their quotas. Where none may, the request is refused
    /// later and for that reason.
    fn candidates(&self, pool: &str, signer: &Signer, now: Timestamp) -> Vec<CaQuota> {
        let Ok(pool) = self.pool(pool) else {
            return Vec::new();
        };
        let authorities = match signer {
            Signer::Named(id) => pool.signer(Some(id), now).into_iter().collect(),
            Signer::Any => pool.signers(now),
        };
        let quota = |authority: &Authority| CaQuota {
            ca: authority.name().to_owned(),
            tier: pool.tier,
        };
        authorities.into_iter().map(quota).collect()
    }
}

/// Which CA of its pool is to sign a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The one with this id.
    Named(String),
    /// Any that is enabled.
    Any,
}
