//! What was issued and what was asked: the emulator's memory, and what tests read of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::errors::EmulatorError;
use crate::faults::Method;
use crate::idempotency::{ReplayForm, ReplayTable, RequestKey, is_kept};
use crate::pool::PoolName;
use crate::state::StateDir;
use crate::wire::CertificateJson;
use crate::world::Pool;

/// How many create requests `Emulator::create_requests` remembers.
const REMEMBERED_REQUESTS: usize = 256;

/// How many certificates `Emulator::sold` remembers.
const REMEMBERED_CERTIFICATES: usize = 1 << 16;

/// What was issued.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) replays: ReplayTable<Arc<CertificateJson>>,
    /// ENTERPRISE certificates by (location, certificate id).
    pub(crate) kept: BTreeMap<(String, String), Kept>,
    pub(crate) sold: BTreeMap<PoolName, u64>,
    pub(crate) last_sold: VecDeque<Sold>,
    pub(crate) replayed: u64,
    pub(crate) replay_form: ReplayForm,
}

/// A certificate that can be found again.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) pool: PoolName,
    /// What bought it.
    pub(crate) request_id: Option<String>,
    pub(crate) certificate: Arc<CertificateJson>,
}

impl Ledger {
    /// Forgets what the pool issued and returns what was kept of it.
    pub(crate) fn forget_pool(&mut self, pool: &PoolName) -> Vec<Kept> {
        let prefix = format!("{pool}/");
        self.replays
            .forget(|certificate| certificate.name.starts_with(&prefix));
        let kept = std::mem::take(&mut self.kept);
        let (gone, kept): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|(_, kept)| kept.pool == *pool);
        self.kept = kept.into_iter().collect();
        gone.into_iter().map(|(_, kept)| kept).collect()
    }

    pub(crate) fn sell(&mut self, sold: Sold) {
        *self.sold.entry(sold.pool.clone()).or_default() += 1;
        push_bounded(&mut self.last_sold, REMEMBERED_CERTIFICATES, sold);
    }
}

/// What was asked over HTTP.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: BTreeMap<Method, u64>,
    pub(crate) creates: VecDeque<CreateRequest>,
}

impl Seen {
    pub(crate) fn remember(&mut self, request: CreateRequest) {
        push_bounded(&mut self.creates, REMEMBERED_REQUESTS, request);
    }
}

/// A certificate that this emulator signed, or an earlier one with the same state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sold {
    /// The pool that signed it.
    pub pool: PoolName,
    /// Its serial in lowercase hex.
    pub serial: String,
    /// The `requestId` that bought it.
    pub request_id: Option<String>,
}

/// A create request as it came over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// `projects/P/locations/L/caPools/N`.
    pub parent: String,
    /// The query string, undecoded.
    pub query: String,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

/// Counts since the emulator was built; what was sold and replayed is kept in the state directory, if
/// there is one, and counted since that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Certificates signed by pool; replays are not counted again, `validateOnly` not at all.
    pub sold: BTreeMap<PoolName, u64>,
    /// Requests that repeated the `requestId` of an earlier certificate, in whatever form they were
    /// answered.
    pub replayed: u64,
    /// Requests over HTTP by method, faulty ones included.
    pub requests: BTreeMap<Method, u64>,
    /// Requests refused because of a quota.
    pub quota_refused: u64,
}

impl Stats {
    /// Certificates signed by all pools together.
    pub fn total_sold(&self) -> u64 {
        self.sold.values().sum()
    }

    /// Requests of one method.
    pub fn requests(&self, method: Method) -> u64 {
        self.requests.get(&method).copied().unwrap_or_default()
    }
}

/// What the state directory remembers, as far as it still counts at `now`.
pub(crate) fn restore_ledger(
    state: &StateDir,
    pools: &BTreeMap<PoolName, Arc<Pool>>,
    now: Timestamp,
) -> Result<Ledger, EmulatorError> {
    let mut ledger = Ledger::default();
    let entered = state.history.restore(&mut ledger)?;
    let mut stored = state.load_certificates()?;
    stored.sort_by_key(|stored| stored.created);
    for stored in stored {
        let sold = Sold {
            pool: stored.pool.clone(),
            serial: stored.certificate.serial().to_owned(),
            request_id: stored.request_id.clone(),
        };
        if !entered.contains(&sold.serial) {
            state.history.enter_sold(&sold)?;
            ledger.sell(sold);
        }
        // A pool that was deleted takes its certificates with it.
        if !pools.contains_key(&stored.pool) {
            state.remove_certificate(&stored.certificate);
            continue;
        }
        let location = stored.pool.location().to_owned();
        let answer = Arc::new(stored.certificate);
        let replayable = is_kept(stored.created, now);
        if stored.certificate_id.is_none() && !replayable {
            state.remove_certificate(&answer);
            continue;
        }
        if let Some(id) = stored.certificate_id {
            let kept = Kept {
                pool: stored.pool,
                request_id: stored.request_id.clone(),
                certificate: Arc::clone(&answer),
            };
            ledger.kept.insert((location.clone(), id), kept);
        }
        let request = stored
            .request_id
            .and_then(|id| RequestKey::new(location, &id).ok());
        if let Some(key) = request.filter(|_| replayable) {
            ledger.replays.insert(key, stored.created, answer);
        }
    }
    Ok(ledger)
}

fn push_bounded<T>(queue: &mut VecDeque<T>, bound: usize, value: T) {
    if queue.len() >= bound {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// A panic in a test's own thread must not poison the emulator for the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
