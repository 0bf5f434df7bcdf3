//! How fast each pool is asked, and whether it is asked at all: the quota of its CAs is the scarce
//! thing, and a pool that is away must not hold up everybody who could be served by another.
//!
//! One [`Limiter`] serves the process. What it decides is pure and stands in `bucket` (the rate),
//! `queue` (who is next) and `health` (is it there).
mod bucket;
mod health;
mod queue;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use certagent_core::{
    outcome::{Class, LONGEST_RETRY_AFTER},
    pool::CaPoolName,
};
use jiff::Timestamp;
use tokio::sync::Notify;
use tracing::{info, warn};

use self::{bucket::Bucket, health::Health, queue::Queue};
use crate::{
    admin::Metrics,
    cas::{CallError, wire::Tier},
    clock::SharedClock,
    schedule::Priority,
};

pub(crate) use health::Asked;

/// What the CAs of one location sign per second for one project, however many they are
/// (cloud.google.com/certificate-authority-service/quotas).
const LOCATION_RATE: u32 = 100;

/// Keeps the requests for certificates within the quota of each pool, and remembers which pools
/// answer.
pub struct Limiter {
    clock: SharedClock,
    share: f64,
    metrics: Arc<Metrics>,
    gates: Mutex<HashMap<CaPoolName, Arc<Gate>>>,
}

/// The pool asked to be left alone for longer than anybody waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// For how much longer.
    pub wait: Duration,
}

struct Gate {
    state: Mutex<State>,
    /// Another one may be next, or the pool has closed.
    changed: Notify,
}

struct State {
    bucket: Bucket,
    queue: Queue,
    health: Health,
}

/// What somebody who waits finds when looking.
enum Look {
    Go,
    Closed(Duration),
    NextAt(Timestamp),
    Behind,
}

impl Limiter {
    /// A limiter that takes `share` percent, 1 to 100, of every pool's quota.
    pub fn new(clock: SharedClock, share: u8, metrics: Arc<Metrics>) -> Self {
        Self {
            clock,
            share: f64::from(share.clamp(1, 100)) / 100.0 * quota_times(),
            metrics,
            gates: Mutex::default(),
        }
    }

    /// Resolves when the pool may be sent one more request for a certificate. A caller that goes
    /// away gives its place back.
    pub async fn admit(&self, pool: &CaPoolName, priority: Priority) -> Result<(), Closed> {
        let gate = self.gate(pool);
        let began = self.clock.now();
        let place = Place::join(&gate, priority);
        loop {
            // Made before the look, so that no change falls between the two.
            let mut changed = pin!(gate.changed.notified());
            changed.as_mut().enable();
            let now = self.clock.now();
            match place.look(now) {
                Look::Go => {
                    let rate = gate.lock().bucket.rate();
                    self.metrics.admitted(pool, now.duration_since(began), rate);
                    return Ok(());
                }
                Look::Closed(wait) => return Err(Closed { wait }),
                Look::Behind => changed.await,
                Look::NextAt(moment) => {
                    let sleep = self.clock.sleep_until(moment);
                    if self.clock.now() < now {
                        // Set back since the look above: the sleep would not notice.
                        continue;
                    }
                    tokio::select! {
                        () = sleep => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    /// What became known of a pool: its tier, and how many CAs sign in it.
    pub(crate) fn learn(&self, pool: &CaPoolName, tier: Tier, authorities: usize) {
        let gate = self.gate(pool);
        gate.lock()
            .bucket
            .set_nominal(f64::from(rate_of(tier, authorities)) * self.share);
        gate.changed.notify_waiters();
    }

    /// What came of a call to the pool that began at `began`.
    pub(crate) fn heard(
        &self,
        pool: &CaPoolName,
        asked: Asked,
        began: Timestamp,
        error: Option<&CallError>,
    ) {
        match error.map(|error| error.class) {
            // The pool was not asked.
            Some(Class::NoToken { .. }) => {}
            Some(Class::Unknown | Class::Unreachable) => self.silent(pool, asked, began),
            // A no is an answer as well.
            _ => self.answered(pool, asked),
        }
        if let Some(error) = error.filter(|error| error.http() == Some(429)) {
            self.throttled(pool, error.retry_after);
        }
    }

    fn throttled(&self, pool: &CaPoolName, wait: Option<Duration>) {
        let gate = self.gate(pool);
        let rate = {
            let mut state = gate.lock();
            state.bucket.complaint(self.clock.now(), wait);
            state.bucket.rate()
        };
        self.metrics.throttled(pool, rate);
        gate.changed.notify_waiters();
    }

    fn answered(&self, pool: &CaPoolName, asked: Asked) {
        if self.gate(pool).lock().health.answered(asked) {
            info!(%pool, "the CA pool answers again");
            self.metrics.pool_away(pool, false);
        }
    }

    fn silent(&self, pool: &CaPoolName, asked: Asked, began: Timestamp) {
        let now = self.clock.now();
        if self.gate(pool).lock().health.silent(asked, began, now) {
            warn!(%pool, "the CA pool has not answered for a minute; what has nothing under way \
                there begins with another pool, if there is one, until it answers again");
            self.metrics.pool_away(pool, true);
        }
    }

    /// The pool has not answered for so long that another had better be asked first.
    pub fn is_away(&self, pool: &CaPoolName) -> bool {
        self.gate(pool).lock().health.is_away()
    }

    /// Whether the caller may ask a pool that is away, to find out whether it is back. After a
    /// yes nobody else may for a while.
    pub fn may_probe(&self, pool: &CaPoolName) -> bool {
        self.gate(pool).lock().health.may_probe(self.clock.now())
    }

    fn gate(&self, pool: &CaPoolName) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(pool) {
            return Arc::clone(gate);
        }
        // Nothing is known of it yet: one CA of the slower tier.
        let nominal = f64::from(rate_of(Tier::Unknown, 1)) * self.share;
        let gate = Arc::new(Gate {
            state: Mutex::new(State {
                bucket: Bucket::new(nominal, self.clock.now()),
                queue: Queue::default(),
                health: Health::default(),
            }),
            changed: Notify::new(),
        });
        self.metrics.pool_away(pool, false);
        gates.insert(pool.clone(), Arc::clone(&gate));
        gate
    }
}

/// How many times the real quotas are taken: once.
#[cfg(not(feature = "testing"))]
fn quota_times() -> f64 {
    1.0
}

/// With the feature `testing` as many times as `CERTAGENT_TEST_QUOTA_TIMES` says: a benchmark wants
/// to see the machine without them.
#[cfg(feature = "testing")]
fn quota_times() -> f64 {
    let times = std::env::var("CERTAGENT_TEST_QUOTA_TIMES");
    times
        .ok()
        .and_then(|times| times.parse().ok())
        .filter(|times: &f64| times.is_finite() && *times >= 1.0)
        .unwrap_or(1.0)
}

/// Certificates per second that a pool signs.
fn rate_of(tier: Tier, authorities: usize) -> u32 {
    let each = match tier {
        Tier::Devops => 25,
        Tier::Enterprise | Tier::Unknown => 7,
    };
    let authorities = u32::try_from(authorities).unwrap_or(u32::MAX).max(1);
    authorities.saturating_mul(each).min(LOCATION_RATE)
}

impl Gate {
    /// No change of the state is left half-done by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a> {
    gate: &'a Gate,
    ticket: queue::Ticket,
}

impl<'a> Place<'a> {
    fn join(gate: &'a Gate, priority: Priority) -> Self {
        let ticket = gate.lock().queue.join(priority);
        Self { gate, ticket }
    }

    fn look(&self, now: Timestamp) -> Look {
        let mut state = self.gate.lock();
        let closed = state.bucket.closed_for(now);
        if let Some(wait) = closed.filter(|wait| *wait > LONGEST_RETRY_AFTER) {
            return Look::Closed(wait);
        }
        if !state.queue.is_next(self.ticket) {
            return Look::Behind;
        }
        let slot = state.bucket.next_slot(now);
        if slot > now {
            return Look::NextAt(slot);
        }
        state.bucket.take();
        state.queue.go(self.ticket);
        Look::Go
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.lock().queue.leave(self.ticket);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
