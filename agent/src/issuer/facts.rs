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
    cas::{
        CallError, CasClient,
        authority::{CaAnswer, CaState},
        wire::{CaPoolAnswer, Tier},
    },
    clock::SharedClock,
    google::Caller,
    limit::{Asked, Limiter},
};

/// How long an answer is good.
const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// What three calls tell about a pool. A part that we may not see is none.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) pool: Option<CaPoolAnswer>,
    pub(super) chains: Option<Vec<Vec<Certificate>>>,
    /// How many of its CAs sign. Nothing but the quota depends on it.
    enabled: Option<usize>,
    /// Why a part is none.
    pub(super) denied: Option<CallError>,
}

impl Facts {
    pub(super) fn tier(&self) -> Tier {
        self.pool.as_ref().map_or(Tier::Unknown, |known| known.tier)
    }
}

/// Facts by pool. One set of calls serves everybody who asks while it runs.
pub(super) struct FactsCache {
    client: CasClient,
    clock: SharedClock,
    limiter: Arc<Limiter>,
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
    /// A certificate was not as they promise.
    is_doubted: bool,
}

type Flight = BoxFuture<'static, Result<Arc<Facts>, CallError>>;

impl FactsCache {
    /// What is learned of a pool's quota, and of its silence, goes to `limiter`, too.
    pub(super) fn new(client: CasClient, clock: SharedClock, limiter: Arc<Limiter>) -> Self {
        Self {
            client,
            clock,
            limiter,
            entries: Arc::default(),
        }
    }

    /// The facts of `pool`, at most 5 minutes old, or newly asked for; older ones while the pool
    /// does not answer. They are asked for as the agent, since one answer, or one failure, serves
    /// everybody who waits for it.
    pub(super) async fn of(&self, pool: &CaPoolName, newly: bool) -> Result<Arc<Facts>, CallError> {
        let flight = {
            let mut entries = lock(&self.entries);
            let entry = entries.entry(pool.clone()).or_default();
            if let Some(known) = &entry.known
                && !newly
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
            Class::Busy | Class::NoToken { .. } | Class::Unknown | Class::Unreachable => {
                self.peek(pool).ok_or(error)
            }
            _ => Err(error),
        })
    }

    /// A certificate of `pool` was not as its facts promise: the next who wants them asks.
    pub(super) fn doubt(&self, pool: &CaPoolName) {
        let mut entries = lock(&self.entries);
        if let Some(known) = entries.get_mut(pool).and_then(|entry| entry.known.as_mut()) {
            known.is_doubted = true;
        }
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
        let limiter = Arc::clone(&self.limiter);
        Box::pin(async move {
            let began = clock.now();
            let (answer, chains, authorities) = join!(
                client.pool(&pool, &Caller::Agent),
                client.fetch_ca_certs(&pool, &Caller::Agent),
                client.list_authorities(&pool, &Caller::Agent)
            );
            let error = answer.as_ref().err().or(chains.as_ref().err());
            limiter.heard(&pool, Asked::Look, began, error);
            let told = lock(&entries)
                .get(&pool)
                .and_then(|entry| entry.known.clone());
            let is_news = |missing: fn(&Facts) -> bool| {
                !told.as_ref().is_some_and(|known| missing(&known.facts))
            };
            let pool_news = is_news(|facts| facts.pool.is_none());
            // One permission on one pool is told of once.
            let chains_news = is_news(|facts| facts.chains.is_none())
                && !(pool_news && is_denied(&answer) && is_denied(&chains));
            let enabled_news = is_news(|facts| facts.enabled.is_none());
            let denied = denied([answer.as_ref().err(), chains.as_ref().err()]);
            // Nothing is said of the quota of a pool that cannot be used.
            let (pool_answer, chains) = (
                unless_denied(answer, pool_news)?,
                unless_denied(chains, chains_news)?,
            );
            let enabled = authorities
                .map(|authorities| enabled(&authorities))
                .inspect_err(|error| {
                    if enabled_news {
                        tracing::warn!(%error, "cannot count the CAs of the pool; assuming that one signs, so that its quota is kept");
                    }
                })
                .or_else(|error| match &told {
                    // Only for now, or so it seems.
                    Some(known) if error.class != Class::Denied => known.facts.enabled.ok_or(error),
                    _ => Err(error),
                })
                .ok();
            let facts = Arc::new(Facts {
                pool: pool_answer,
                chains,
                enabled,
                denied,
            });
            limiter.learn(&pool, facts.tier(), facts.enabled.unwrap_or(1));
            let known = Known {
                facts: Arc::clone(&facts),
                since: clock.now(),
                is_doubted: false,
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
        !self.is_doubted && age >= SignedDuration::ZERO && age < FRESH
    }
}

/// How many sign for their pool.
fn enabled(authorities: &[CaAnswer]) -> usize {
    let signing = authorities.iter().filter(|ca| ca.state == CaState::Enabled);
    signing.count()
}

fn is_denied<T>(answer: &Result<T, CallError>) -> bool {
    matches!(answer, Err(error) if error.class == Class::Denied)
}

/// The first refusal to be looked at.
fn denied<const N: usize>(errors: [Option<&CallError>; N]) -> Option<CallError> {
    let mut errors = errors.into_iter().flatten();
    errors.find(|error| error.class == Class::Denied).cloned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enabled_cas_count_for_the_quota() {
        use CaState::{AwaitingUserActivation, Deleted, Disabled, Enabled, Staged, Unknown};
        let authorities = [
            Enabled,
            Staged,
            Disabled,
            Enabled,
            AwaitingUserActivation,
            Deleted,
            Unknown,
        ]
        .map(|state| CaAnswer {
            state,
            ..CaAnswer::default()
        });
        assert_eq!(enabled(&authorities), 2);
        assert_eq!(enabled(&[]), 0);
    }
}
