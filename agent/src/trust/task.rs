//! Keeps the roots fresh for as long as the program runs.
use std::{collections::BTreeSet, sync::Arc};

use certagent_core::pool::CaPoolName;
use certagent_svid::Certificate;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::roots::{SourceError, Trust, fetch};
use crate::{cas::CasClient, clock::SharedClock, config::ActiveConfig};

/// The trust task has ended; there will be no more news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task that keeps the trusted roots has ended")]
pub struct Stopped;

/// Waits until every pool was asked once, with or without success, and gives what is known then.
pub async fn wait_ready(trust: &mut watch::Receiver<Arc<Trust>>) -> Result<Arc<Trust>, Stopped> {
    match trust.wait_for(|trust| trust.is_resolved()).await {
        Ok(trust) => Ok(Arc::clone(&trust)),
        Err(_closed) => Err(Stopped),
    }
}

/// Asks each pool of the `TrustConfig` every 5 minutes, and new ones as soon as they are
/// configured.
pub struct TrustTask {
    client: CasClient,
    clock: SharedClock,
    config: watch::Receiver<Arc<ActiveConfig>>,
    trust: watch::Sender<Arc<Trust>>,
    asking: FuturesUnordered<Asking>,
    asked: BTreeSet<CaPoolName>,
}

type Asking = BoxFuture<'static, (CaPoolName, Result<Vec<Certificate>, SourceError>)>;

impl TrustTask {
    /// The task, and what it will keep up to date.
    ///
    /// Roots that stand in the configuration itself are there at once. Receivers are woken when
    /// roots, anchors or errors change, not for each answer that says the same again.
    pub fn new(
        client: CasClient,
        clock: SharedClock,
        mut config: watch::Receiver<Arc<ActiveConfig>>,
    ) -> (Self, watch::Receiver<Arc<Trust>>) {
        let first = Trust::new(&config.borrow_and_update().config.trust);
        let (trust, receiver) = watch::channel(Arc::new(first));
        let task = Self {
            client,
            clock,
            config,
            trust,
            asking: FuturesUnordered::new(),
            asked: BTreeSet::new(),
        };
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
                Some((pool, answer)) = self.asking.next() => {
                    self.asked.remove(&pool);
                    let now = self.clock.now();
                    self.update(|trust| trust.record(&pool, answer, now));
                }
                () = sleep_until(clock, due) => {}
            }
        }
    }

    fn follow(&mut self) {
        let active = Arc::clone(&self.config.borrow_and_update());
        self.update(|trust| trust.follow(&active.config.trust));
    }

    /// Asks every pool whose time has come, and gives the next such moment.
    fn ask_due(&mut self) -> Option<Timestamp> {
        let now = self.clock.now();
        let trust = Arc::clone(&self.trust.borrow());
        let idle = trust
            .sources()
            .iter()
            .filter(|(pool, _)| !self.asked.contains(pool));
        let (due, waiting): (Vec<_>, Vec<_>) = idle.partition(|(_, source)| source.is_due(now));
        let next = waiting
            .into_iter()
            .filter_map(|(_, source)| source.due)
            .min();
        for (pool, _) in due {
            self.asked.insert(pool.clone());
            let (client, pool) = (self.client.clone(), pool.clone());
            self.asking.push(Box::pin(async move {
                let answer = fetch(&client, &pool).await;
                (pool, answer)
            }));
        }
        next
    }

    fn update(&self, change: impl FnOnce(&mut Trust)) {
        self.trust.send_if_modified(|shared| {
            let mut trust = Trust::clone(shared);
            change(&mut trust);
            let is_news = trust.is_news_after(shared);
            *shared = Arc::new(trust);
            is_news
        });
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
