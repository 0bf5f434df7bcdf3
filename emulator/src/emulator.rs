//! The pools at work: the four calls, without HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::errors::{ApiError, Code, EmulatorError};
use crate::faults::{Fault, FaultBook, FaultRule, Method};
use crate::idempotency::RequestKey;
use crate::issue::Authority;
use crate::ledger::{CreateRequest, Ledger, Seen, Sold, Stats, lock, restore_ledger};
use crate::order::{CreateQuery, Order, check_certificate_id, check_issuer};
use crate::pool::{EmulatorConfig, PoolName, PoolSpec, Tier};
use crate::state::{StateDir, StoredCertificate};
use crate::wire::{CaPoolJson, CertChain, CertificateJson, FetchCaCertsJson};

/// Where the emulator gets the time from. Tests step it by hand.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's own clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the emulator's one place that asks the machine"
)]
pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

const MAX_BACKDATE: SignedDuration = SignedDuration::from_hours(48);

/// CA pools in memory, and in a directory if one is given.
#[derive(Debug)]
pub struct Emulator {
    pools: BTreeMap<PoolName, Pool>,
    clock: ClockBox,
    state: Option<StateDir>,
    /// Held over a whole create: two requests of one id must find each other.
    ledger: Mutex<Ledger>,
    faults: Mutex<FaultBook>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) spec: PoolSpec,
    pub(crate) ca: Authority,
}

struct ClockBox(Clock);

impl fmt::Debug for ClockBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Emulator {
    /// Builds the pools: CAs that the state directory has come from there, others are made now and
    /// stored. Without a directory everything lives in memory. Takes seconds with RSA CAs.
    ///
    /// # Errors
    /// When the configuration makes no sense, or the state cannot be read, written or understood.
    pub fn new(
        config: EmulatorConfig,
        clock: Clock,
        state: Option<&Path>,
    ) -> Result<Arc<Self>, EmulatorError> {
        let state = state.map(StateDir::open).transpose()?;
        let now = clock();
        let mut pools: BTreeMap<PoolName, Pool> = BTreeMap::new();
        for spec in config.pools {
            let ca = authority(&spec, &pools, state.as_ref(), now)?;
            let name = spec.name.clone();
            if pools.insert(name.clone(), Pool { spec, ca }).is_some() {
                return Err(EmulatorError::DuplicatePool(name));
            }
        }
        let ledger = state
            .as_ref()
            .map(|state| restore_ledger(state, &pools, now))
            .transpose()?;
        Ok(Arc::new(Self {
            pools,
            clock: ClockBox(clock),
            state,
            ledger: Mutex::new(ledger.unwrap_or_default()),
            faults: Mutex::default(),
            seen: Mutex::default(),
        }))
    }

    /// The pools by name, with their tiers.
    pub fn pools(&self) -> impl Iterator<Item = (&PoolName, Tier)> {
        self.pools.iter().map(|(name, pool)| (name, pool.spec.tier))
    }

    /// `CreateCertificate`: checks, signs and remembers one certificate.
    ///
    /// # Errors
    /// As the service answers them.
    pub fn create_certificate(
        &self,
        parent: &str,
        query: &CreateQuery,
        body: &[u8],
    ) -> Result<CertificateJson, ApiError> {
        let pool = self.pool(parent)?;
        let certificate_id = check_certificate_id(pool, query)?;
        let location = pool.spec.name.location().to_owned();
        let request = query.request_id.as_deref();
        let request = request
            .map(|id| RequestKey::new(location.clone(), id))
            .transpose()?;
        check_issuer(pool, query)?;
        let order = Order::parse(pool, body)?;
        if query.validate_only {
            let now = (self.clock.0)();
            let (mut certificate, _) = order.fill(pool, certificate_id, now, None)?;
            certificate.pem_certificate = None;
            certificate.pem_certificate_chain = Vec::new();
            return Ok(certificate);
        }

        let mut ledger = lock(&self.ledger);
        let now = (self.clock.0)();
        self.forget_old(&mut ledger, now);
        if let Some(first) = request
            .as_ref()
            .and_then(|key| ledger.replays.get(key, now))
        {
            ledger.replayed += 1;
            return Ok(CertificateJson::clone(&first));
        }
        let kept_key = certificate_id.map(|id| (location, id.to_owned()));
        if let Some(key) = &kept_key
            && ledger.kept.contains_key(key)
        {
            return Err(ApiError::new(
                Code::AlreadyExists,
                format!(
                    "Resource '{}/certificates/{}' already exists.",
                    pool.spec.name, key.1
                ),
            ));
        }
        let fault = lock(&self.faults).take_certificate();
        let (certificate, serial) = order.fill(pool, certificate_id, now, fault.as_ref())?;
        let request_id = request.as_ref().map(|key| key.id.to_string());
        if let Some(state) = &self.state
            && (kept_key.is_some() || request.is_some())
        {
            let stored = StoredCertificate::new(
                &pool.spec.name,
                certificate_id,
                request_id.clone(),
                now,
                certificate.clone(),
            );
            state
                .save_certificate(&stored)
                .map_err(|error| ApiError::internal("The certificate was not stored", error))?;
        }
        let answer = Arc::new(certificate.clone());
        if let Some(key) = request {
            ledger.replays.insert(key, now, Arc::clone(&answer));
        }
        if let Some(key) = kept_key {
            ledger.kept.insert(key, answer);
        }
        tracing::debug!(pool = %pool.spec.name, %serial, "certificate issued");
        ledger.sell(Sold {
            pool: pool.spec.name.clone(),
            serial,
            request_id,
        });
        Ok(certificate)
    }

    /// `GetCertificate`, on ENTERPRISE pools.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `FAILED_PRECONDITION` on a DEVOPS pool.
    pub fn get_certificate(&self, name: &str) -> Result<CertificateJson, ApiError> {
        let (parent, id) = name
            .split_once("/certificates/")
            .ok_or_else(|| ApiError::not_found(name))?;
        let pool = self.pool(parent)?;
        if pool.spec.tier == Tier::Devops {
            return Err(devops_refusal("read"));
        }
        let key = (pool.spec.name.location().to_owned(), id.to_owned());
        let ledger = lock(&self.ledger);
        let found = ledger
            .kept
            .get(&key)
            .filter(|certificate| certificate.name == name);
        found
            .map(|found| CertificateJson::clone(found))
            .ok_or_else(|| ApiError::not_found(name))
    }

    /// `GetCaPool`.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get_ca_pool(&self, name: &str) -> Result<CaPoolJson, ApiError> {
        let spec = &self.pool(name)?.spec;
        Ok(CaPoolJson {
            name: spec.name.to_string(),
            tier: spec.tier,
            issuance_policy: spec.issuance_policy.clone(),
        })
    }

    /// `FetchCaCerts`: the chain of the pool's CA, its root last.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn fetch_ca_certs(&self, pool: &str) -> Result<FetchCaCertsJson, ApiError> {
        let certificates = self.pool(pool)?.ca.chain().to_vec();
        Ok(FetchCaCertsJson {
            ca_certs: vec![CertChain { certificates }],
        })
    }

    /// Replaces all fault rules; an empty list heals everything.
    pub fn set_faults(&self, rules: Vec<FaultRule>) {
        *lock(&self.faults) = FaultBook::new(rules);
    }

    /// What happened since the emulator was built.
    pub fn stats(&self) -> Stats {
        let requests = lock(&self.seen).requests.clone();
        let ledger = lock(&self.ledger);
        Stats {
            sold: ledger.sold.clone(),
            replayed: ledger.replayed,
            requests,
        }
    }

    /// The certificates that were signed since the emulator was built, the last 65,536 of them,
    /// oldest first.
    pub fn sold(&self) -> Vec<Sold> {
        lock(&self.ledger).last_sold.iter().cloned().collect()
    }

    /// Serials (lowercase hex) of [`sold`](Self::sold).
    pub fn sold_serials(&self) -> Vec<String> {
        lock(&self.ledger)
            .last_sold
            .iter()
            .map(|sold| sold.serial.clone())
            .collect()
    }

    /// The last 256 create requests over HTTP, oldest first, faulty ones included.
    pub fn create_requests(&self) -> Vec<CreateRequest> {
        lock(&self.seen).creates.iter().cloned().collect()
    }

    pub(crate) fn count(&self, method: Method) {
        *lock(&self.seen).requests.entry(method).or_default() += 1;
    }

    pub(crate) fn remember(&self, request: CreateRequest) {
        lock(&self.seen).remember(request);
    }

    pub(crate) fn take_transport_fault(&self, method: Method) -> Option<Fault> {
        lock(&self.faults).take_transport(method)
    }

    pub(crate) fn unsupported(&self, pool: &str, verb: &'static str) -> ApiError {
        match self.pool(pool) {
            Ok(pool) if pool.spec.tier == Tier::Devops => devops_refusal(verb),
            Ok(_) => ApiError::new(
                Code::Unimplemented,
                format!("Certificates cannot be {verb} with this emulator yet."),
            ),
            Err(error) => error,
        }
    }

    fn pool(&self, name: &str) -> Result<&Pool, ApiError> {
        let parsed = name
            .parse::<PoolName>()
            .map_err(|_error| ApiError::not_found(name))?;
        self.pools
            .get(&parsed)
            .ok_or_else(|| ApiError::not_found(name))
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
                    .is_ok_and(|pool| pool.spec.tier == Tier::Devops)
            {
                state.remove_certificate(&answer);
            }
        }
    }
}

/// The service's documentation says only that the tier does not support these methods; the code is
/// this emulator's choice.
fn devops_refusal(verb: &str) -> ApiError {
    ApiError::new(
        Code::FailedPrecondition,
        format!("Certificates of a CA pool of tier DEVOPS cannot be {verb}: they are not kept."),
    )
}

fn authority(
    spec: &PoolSpec,
    earlier: &BTreeMap<PoolName, Pool>,
    state: Option<&StateDir>,
    now: Timestamp,
) -> Result<Authority, EmulatorError> {
    let backdate = spec.issuance_policy.backdate();
    if backdate.is_negative() || backdate > MAX_BACKDATE {
        return Err(EmulatorError::Backdate(spec.name.clone()));
    }
    let parent = match &spec.ca.parent {
        None => None,
        Some(parent) => {
            let (pool, parent) = (spec.name.clone(), parent.clone());
            match earlier.get(&parent) {
                None => return Err(EmulatorError::UnknownParent { pool, parent }),
                Some(above) if above.spec.ca.parent.is_some() => {
                    return Err(EmulatorError::ParentNotRoot { pool, parent });
                }
                Some(above) => Some(&above.ca),
            }
        }
    };
    let Some(state) = state else {
        return Authority::create(&spec.name, &spec.ca, parent, now);
    };
    if let Some(stored) = state.load_ca(&spec.name, parent.map(Authority::chain))? {
        return Ok(stored);
    }
    let ca = Authority::create(&spec.name, &spec.ca, parent, now)?;
    state.save_ca(&spec.name, &ca)?;
    Ok(ca)
}
