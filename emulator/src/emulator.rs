//! The emulator as a whole: how it starts, what it remembers, and how anything is changed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use crate::errors::{ApiError, EmulatorError};
use crate::faults::{FaultBook, Method};
use crate::idempotency::{KeyLocks, RequestKey};
use crate::identity::Identities;
use crate::ledger::{CreateRequest, Ledger, Seen, Sold, Stats, lock, restore_ledger};
use crate::neighbours::Projects;
use crate::operations::Operations;
use crate::pool::{EmulatorConfig, PoolName, Tier};
use crate::quota::QuotaBook;
use crate::seed::seed;
use crate::state::StateDir;
use crate::world::{Ca, Pool, World};

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

/// A CA Service in memory, and in a directory if one is given.
#[derive(Debug)]
pub struct Emulator {
    pub(crate) world: World,
    pub(crate) state: Option<StateDir>,
    pub(crate) identities: Identities,
    clock: ClockBox,
    /// Never held while something is signed.
    pub(crate) ledger: Mutex<Ledger>,
    /// The create and change requests in progress, by `requestId`.
    pub(crate) requests: KeyLocks<RequestKey>,
    /// The certificates that are being made or changed, by location and id.
    pub(crate) certificate_ids: KeyLocks<(String, String)>,
    pub(crate) operations: Mutex<Operations>,
    pub(crate) projects: Mutex<Projects>,
    pub(crate) faults: Mutex<FaultBook>,
    pub(crate) quotas: Mutex<QuotaBook>,
    seen: Mutex<Seen>,
}

struct ClockBox(Clock);

impl fmt::Debug for ClockBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Emulator {
    /// Starts with what the state directory has. Pools of the configuration that are not in it are
    /// made now, with their CAs; those that are in it stay as they are, changes over the API and all.
    /// Without a directory everything lives in memory. Takes seconds with RSA CAs.
    ///
    /// # Errors
    /// When the configuration makes no sense, or the state cannot be read, written or understood.
    pub fn new(
        config: EmulatorConfig,
        clock: Clock,
        state: Option<&Path>,
    ) -> Result<Arc<Self>, EmulatorError> {
        let identities = Identities::new(&config.identities)?;
        let state = state.map(StateDir::open).transpose()?;
        let now = clock();
        let (mut pools, mut policies) = (BTreeMap::new(), BTreeMap::new());
        if let Some(state) = &state {
            pools = state.load_pools()?;
            policies = state.load_projects()?;
        }
        let quotas = config.quotas;
        seed(config, &mut pools, state.as_ref(), now)?;
        let ledger = state
            .as_ref()
            .map(|state| restore_ledger(state, &pools, now))
            .transpose()?;
        Ok(Arc::new(Self {
            world: World::new(pools),
            state,
            identities,
            clock: ClockBox(clock),
            ledger: Mutex::new(ledger.unwrap_or_default()),
            requests: KeyLocks::default(),
            certificate_ids: KeyLocks::default(),
            operations: Mutex::default(),
            projects: Mutex::new(Projects::new(policies)),
            faults: Mutex::default(),
            quotas: Mutex::new(QuotaBook::new(quotas)),
            seen: Mutex::default(),
        }))
    }

    /// The pools that there are now by name, with their tiers.
    pub fn pools(&self) -> impl Iterator<Item = (PoolName, Tier)> {
        let pools = self.world.all().into_iter();
        pools.map(|pool| (pool.name.clone(), pool.tier))
    }

    /// What happened since the emulator was built; with a state directory, what was sold and replayed
    /// since that was made.
    pub fn stats(&self) -> Stats {
        let requests = lock(&self.seen).requests.clone();
        let ledger = lock(&self.ledger);
        Stats {
            sold: ledger.sold.clone(),
            replayed: ledger.replayed,
            requests,
            quota_refused: lock(&self.quotas).refused(),
        }
    }

    /// The certificates that were signed since the emulator was built, or since its state directory
    /// was made: the last 65,536 of them, oldest first.
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

    /// An access token for the IAM member `user:EMAIL`, `serviceAccount:EMAIL` or, for a workload of
    /// a configured provider, `principal://…/subject/SUBJECT`: what the token service would issue.
    /// It lives as long as the configuration says.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `member` is none of these.
    pub fn mint_access_token(&self, member: &str) -> Result<String, ApiError> {
        let issued = self.identities.mint(member, self.now())?;
        Ok(issued.token)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock.0)()
    }

    pub(crate) fn count(&self, method: Method) {
        *lock(&self.seen).requests.entry(method).or_default() += 1;
    }

    pub(crate) fn remember(&self, request: CreateRequest) {
        lock(&self.seen).remember(request);
    }

    /// The pool as it is now.
    pub(crate) fn pool(&self, name: &str) -> Result<Arc<Pool>, ApiError> {
        let parsed = name
            .parse::<PoolName>()
            .map_err(|_error| ApiError::not_found(name))?;
        self.world
            .get(&parsed)
            .ok_or_else(|| ApiError::not_found(name))
    }

    /// The CA as it is now, and its pool.
    pub(crate) fn ca(&self, name: &str) -> Result<(Arc<Pool>, Arc<Ca>), ApiError> {
        let (pool, id) = PoolName::split_child(name, "certificateAuthorities")?;
        let pool = self
            .world
            .get(&pool)
            .ok_or_else(|| ApiError::not_found(name))?;
        let ca = Arc::clone(pool.ca(id, self.now())?);
        Ok((pool, ca))
    }

    /// Changes a pool; its CAs only by putting in new ones or taking some out.
    pub(crate) fn change_pool<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Pool, Timestamp) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let _changing = self.world.change();
        let now = self.now();
        let before = self.pool(name)?;
        let mut pool = Pool::clone(&before);
        pool.all_cas.retain(|_, ca| !ca.record.is_gone(now));
        let outcome = change(&mut pool, now)?;
        if let Some(state) = &self.state {
            let stored = |error| ApiError::internal("The change was not stored", error);
            for (id, ca) in &pool.all_cas {
                if !before.all_cas.contains_key(id) {
                    state.save_ca(ca).map_err(stored)?;
                }
            }
            state.save_pool(&pool, false).map_err(stored)?;
            for (id, ca) in &before.all_cas {
                if !pool.all_cas.contains_key(id) {
                    state.remove_ca(&ca.record);
                }
            }
        }
        self.world.put(pool);
        Ok(outcome)
    }

    /// Changes a CA and returns it with its pool.
    pub(crate) fn change_ca(
        &self,
        name: &str,
        change: impl FnOnce(&mut Ca, Timestamp) -> Result<(), ApiError>,
    ) -> Result<(Arc<Pool>, Arc<Ca>), ApiError> {
        let _changing = self.world.change();
        let now = self.now();
        let (pool, ca) = self.ca(name)?;
        let mut ca = Ca::clone(&ca);
        change(&mut ca, now)?;
        ca.record.update_time = now;
        if let Some(state) = &self.state {
            state
                .save_ca(&ca)
                .map_err(|error| ApiError::internal("The change was not stored", error))?;
        }
        let mut pool = Pool::clone(&pool);
        let ca = Arc::new(ca);
        pool.all_cas.insert(ca.record.id.clone(), Arc::clone(&ca));
        self.world.put(pool.clone());
        Ok((Arc::new(pool), ca))
    }
}
