//! What is known of each pool, asked for at most once in a while however many want to know.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certagent_core::{outcome::Class, pool::CaPoolName};
use certagent_svid::Certificate;
use futures::{
    FutureExt as _,
    future::{BoxFuture, WeakShared},
    join,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    cas::{CallError, CasClient, wire::CaPoolAnswer},
    clock::SharedClock,
    google::Caller,
};

/// How long an answer is good.
const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// What two calls tell about a pool. A part that we may not see is none.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) pool: Option<CaPoolAnswer>,
    pub(super) chains: Option<Vec<Vec<Certificate>>>,
}

/// Facts by pool. One pair of calls serves everybody who asks while it runs.
pub(super) struct FactsCache {
    client: CasClient,
    clock: SharedClock,
    entries: Arc<Mutex<HashMap<CaPoolName, Entry>>>,
}

#[derive(Default)]
struct Entry {
    known: Option<Known>,
    flight: Option<WeakShared<Flight>>,
}

#[derive(Clone)]
struct Known {
    facts: Arc<Facts>,
    since: Timestamp,
}

type Flight = BoxFuture<'static, Result<Arc<Facts>, CallError>>;

impl FactsCache {
    pub(super) fn new(client: CasClient, clock: SharedClock) -> Self {
        Self {
            client,
            clock,
            entries: Arc::default(),
        }
    }

    /// The facts of `pool`, at most 5 minutes old; older ones while the pool does not answer.
    /// They are asked for as the agent, since one answer, or one failure, serves everybody.
    pub(super) async fn of(&self, pool: &CaPoolName) -> Result<Arc<Facts>, CallError> {
        let flight = {
            let mut entries = lock(&self.entries);
            let entry = entries.entry(pool.clone()).or_default();
            if let Some(known) = &entry.known
                && known.is_fresh(self.clock.now())
            {
                return Ok(Arc::clone(&known.facts));
            }
            // Held weakly: when nobody waits any more, the calls end.
            let running = entry.flight.as_ref().and_then(WeakShared::upgrade);
            running.unwrap_or_else(|| {
                let flight = self.fetch(pool).shared();
                entry.flight = flight.downgrade();
                flight
            })
        };
        flight.await.or_else(|error| match error.class {
            Class::Busy | Class::Unknown | Class::Unreachable => self.peek(pool).ok_or(error),
            _ => Err(error),
        })
    }

    /// What is known without asking, however old.
    pub(super) fn peek(&self, pool: &CaPoolName) -> Option<Arc<Facts>> {
        let entries = lock(&self.entries);
        entries
            .get(pool)?
            .known
            .as_ref()
            .map(|known| Arc::clone(&known.facts))
    }

    fn fetch(&self, pool: &CaPoolName) -> Flight {
        let (client, pool) = (self.client.clone(), pool.clone());
        let (clock, entries) = (Arc::clone(&self.clock), Arc::clone(&self.entries));
        Box::pin(async move {
            let (answer, chains) = join!(
                client.pool(&pool, &Caller::Agent),
                client.fetch_ca_certs(&pool, &Caller::Agent)
            );
            let told = lock(&entries)
                .get(&pool)
                .and_then(|entry| entry.known.clone());
            let is_news = |missing: fn(&Facts) -> bool| {
                !told.as_ref().is_some_and(|known| missing(&known.facts))
            };
            let pool_news = is_news(|facts| facts.pool.is_none());
            let chains_news = is_news(|facts| facts.chains.is_none());
            let facts = Arc::new(Facts {
                pool: unless_denied(answer, pool_news)?,
                chains: unless_denied(chains, chains_news)?,
            });
            let known = Known {
                facts: Arc::clone(&facts),
                since: clock.now(),
            };
            lock(&entries).entry(pool).or_default().known = Some(known);
            Ok(facts)
        })
    }
}

impl Known {
    /// A clock that was stepped back makes old facts look as if they came from the future.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.since);
        age >= SignedDuration::ZERO && age < FRESH
    }
}

/// Who may create certificates need not be allowed to look at the pool: then it is taken for one
/// like the guide's, and the log says so once.
fn unless_denied<T>(answer: Result<T, CallError>, is_news: bool) -> Result<Option<T>, CallError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.class == Class::Denied => {
            if is_news {
                tracing::warn!(%error, "cannot look at the CA pool before asking it for certificates; assuming that it takes config-based requests");
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
