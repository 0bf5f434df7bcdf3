//! Keeps the roots fresh for as long as the program runs.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use certagent_core::{config::TrustPolicy, pool::CaPoolName, trust};
use futures::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    distrust::{Distrust, Fingerprint},
    endpoint::EndpointClient,
    keeper::Keeper,
    news,
    roots::{Trust, validity},
    source::{Answer, SourceError, SourceName},
};
use crate::{
    cas::CasClient, clock::SharedClock, config::ActiveConfig, google::Caller, volume::StateDir,
};

/// The trust task has ended; there will be no more news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task that keeps the trusted roots has ended")]
pub struct Stopped;

/// Waits until every source was asked once, with or without success, and gives what is known then.
pub async fn wait_ready(trust: &mut watch::Receiver<Arc<Trust>>) -> Result<Arc<Trust>, Stopped> {
    match trust.wait_for(|trust| trust.is_resolved()).await {
        Ok(trust) => Ok(Arc::clone(&trust)),
        Err(_closed) => Err(Stopped),
    }
}

/// Who is asked for roots. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The pools.
    pub pools: CasClient,
    /// The bundle endpoints.
    pub endpoints: EndpointClient,
}

/// Asks each source of the `TrustConfig` when it is due, and new ones as soon as they are
/// configured.
pub struct TrustTask {
    sources: Sources,
    keeper: Keeper,
    clock: SharedClock,
    config: watch::Receiver<Arc<ActiveConfig>>,
    trust: watch::Sender<Arc<Trust>>,
    asking: FuturesUnordered<Asking>,
    asked: BTreeSet<SourceName>,
    /// The distrusted roots that were there at some time.
    matched: BTreeSet<Fingerprint>,
    told_distrust: bool,
}

type Asking = BoxFuture<'static, (SourceName, Result<Answer, SourceError>)>;

impl TrustTask {
    /// The task, and what it will keep up to date.
    ///
    /// Roots that stand in the configuration itself, and those that `state` has kept, are there at
    /// once, without those that are distrusted. Receivers are woken when roots, anchors or errors
    /// change, not for each answer that says the same again.
    pub fn new(
        sources: Sources,
        distrust: Distrust,
        state: Arc<StateDir>,
        clock: SharedClock,
        mut config: watch::Receiver<Arc<ActiveConfig>>,
    ) -> (Self, watch::Receiver<Arc<Trust>>) {
        let active = Arc::clone(&config.borrow_and_update().config);
        let (keeper, kept) = Keeper::open(state, active.trust.stores.keys());
        let now = clock.now();
        let lives = validity(&active.certificates);
        let first = Trust::resume(&active.trust, lives, kept, distrust, now);
        let (trust, receiver) = watch::channel(Arc::new(first));
        let mut task = Self {
            sources,
            keeper,
            clock,
            config,
            trust,
            asking: FuturesUnordered::new(),
            asked: BTreeSet::new(),
            matched: BTreeSet::new(),
            told_distrust: false,
        };
        let first = Arc::clone(&task.trust.borrow());
        let nothing = TrustPolicy {
            stores: BTreeMap::new(),
        };
        news::tell(&Trust::new(&nothing), &first);
        task.note(&first);
        task.keeper.keep(&first.kept());
        (task, receiver)
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut config_lives = true;
        loop {
            let due = self.ask_due();
            let clock = Arc::clone(&self.clock);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.config.changed(), if config_lives => match changed {
                    Ok(()) => self.follow(),
                    // Whoever reads the files has stopped; the last configuration stays.
                    Err(_closed) => config_lives = false,
                },
                Some((name, answer)) = self.asking.next() => {
                    self.asked.remove(&name);
                    self.update(|trust, now| trust.record(&name, answer, now));
                }
                () = sleep_until(clock, due) => self.update(Trust::settle),
            }
        }
    }

    fn follow(&mut self) {
        let active = Arc::clone(&self.config.borrow_and_update());
        self.update(|trust, now| trust.follow(&active.config, now));
    }

    /// Asks every source whose time has come, and gives the next moment at which something is due.
    fn ask_due(&mut self) -> Option<Timestamp> {
        let now = self.clock.now();
        let trust = Arc::clone(&self.trust.borrow());
        let idle = trust
            .sources()
            .iter()
            .filter(|(name, _)| !self.asked.contains(name));
        let (due, waiting): (Vec<_>, Vec<_>) = idle.partition(|(_, source)| source.is_due(now));
        let next = waiting.into_iter().filter_map(|(_, source)| source.due);
        let next = next.chain(trust.next_end()).min();
        for (name, _) in due {
            self.asked.insert(name.clone());
            let (sources, name) = (self.sources.clone(), name.clone());
            self.asking.push(Box::pin(async move {
                let answer = sources.ask(&name).await;
                (name, answer)
            }));
        }
        next
    }

    /// What is told to others is on disk before: a process that takes over knows every root that
    /// was ever published.
    fn update(&mut self, change: impl FnOnce(&mut Trust, Timestamp)) {
        let before = Arc::clone(&self.trust.borrow());
        let mut trust = Trust::clone(&before);
        change(&mut trust, self.clock.now());
        news::tell(&before, &trust);
        self.note(&trust);
        self.keeper.keep(&trust.kept());
        let is_news = trust.is_news_after(&before);
        self.trust.send_if_modified(|shared| {
            *shared = Arc::new(trust);
            is_news
        });
    }

    fn note(&mut self, trust: &Trust) {
        let there = trust.known().map(|(_, known)| &known.root);
        let distrusted = there.filter(|root| trust.distrusts(root));
        self.matched.extend(distrusted.map(Fingerprint::of));
        if !self.told_distrust && !trust.distrust().is_empty() && trust.is_resolved() {
            self.told_distrust = true;
            news::tell_distrust(trust, |sha256| self.matched.contains(sha256));
        }
    }
}

impl Sources {
    /// Asks every source of `policy` once, at the same time, and gives what is known then.
    pub async fn look(&self, policy: &TrustPolicy, now: Timestamp) -> Trust {
        let mut trust = Trust::new(policy);
        let names: Vec<SourceName> = trust.sources().keys().cloned().collect();
        let answers = join_all(names.iter().map(|name| self.ask(name))).await;
        for (name, answer) in names.iter().zip(answers) {
            trust.record(name, answer, now);
        }
        trust
    }

    pub(super) async fn ask(&self, name: &SourceName) -> Result<Answer, SourceError> {
        match name {
            SourceName::Pool(pool) => self.ask_pool(pool).await,
            SourceName::Endpoint(endpoint) => Ok(self.endpoints.fetch(endpoint).await?),
        }
    }

    /// The roots of one pool: the last certificate of each chain, whatever the state of its CA.
    async fn ask_pool(&self, pool: &CaPoolName) -> Result<Answer, SourceError> {
        let chains = self.pools.fetch_ca_certs(pool, &Caller::Agent).await?;
        let roots: Vec<_> = trust::roots(&chains).cloned().collect();
        if let Some(odd) = roots.iter().find(|root| !root.is_ca()) {
            let subject = odd.subject_text();
            return Err(SourceError::NotACa {
                pool: pool.clone(),
                subject,
            });
        }
        if roots.is_empty() {
            return Err(SourceError::NoRoots { pool: pool.clone() });
        }
        Ok(Answer {
            roots,
            sequence: None,
            refresh_hint: None,
        })
    }
}

/// Waits for the next moment; without one, for ever.
async fn sleep_until(clock: SharedClock, due: Option<Timestamp>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "task_tests.rs"]
mod tests;
