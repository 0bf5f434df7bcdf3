//! The hooks of one workload: one after the other for each generation, and again while one fails.
use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use certagent_core::{backoff, config::Hook, rotation};
use futures::future::pending;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Board, HookState, Hooked, Occasion, exec, signal};
use crate::{
    admin::Metrics,
    clock::SharedClock,
    volume::{HookFailure, HookRecord, VolumeId, VolumeState},
    volumes::brief,
};

/// What the hooks are, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) hooked: Hooked,
    pub(super) occasion: Option<Occasion>,
}

/// Runs the hooks of one workload.
pub(super) struct Worker {
    pub(super) id: VolumeId,
    pub(super) kept: VolumeState,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    pub(super) board: Board,
    /// One for each program that may run now.
    pub(super) slots: Arc<Semaphore>,
    pub(super) cancel: CancellationToken,
}

/// Hooks under way for one generation.
struct Round {
    hooks: Vec<Hook>,
    occasion: Occasion,
    /// The places of the hooks that have not succeeded yet.
    left: Vec<usize>,
    /// What went wrong when they were tried last, by their places.
    errors: BTreeMap<usize, String>,
    failures: u32,
    since: Timestamp,
    /// Nothing is tried before this moment.
    not_before: Option<Timestamp>,
}

impl Round {
    fn new(hooks: &[Hook], occasion: &Occasion, now: Timestamp) -> Self {
        Self {
            hooks: hooks.to_vec(),
            occasion: occasion.clone(),
            left: (0..hooks.len()).collect(),
            errors: BTreeMap::new(),
            failures: 0,
            since: now,
            not_before: None,
        }
    }

    /// It is for this generation and these hooks: an edit may have corrected what failed.
    fn is_for(&self, hooks: &[Hook], occasion: &Occasion) -> bool {
        self.occasion.generation == occasion.generation && self.hooks == hooks
    }
}

impl Worker {
    /// Until the workload is gone, or the agent ends.
    pub(super) async fn run(self, mut target: watch::Receiver<Target>) {
        let mut record = self.load();
        let mut round: Option<Round> = None;
        loop {
            let Target { hooked, occasion } = target.borrow_and_update().clone();
            let done = record.done.as_deref();
            let Some(occasion) = occasion.filter(|now| done != Some(&*now.generation)) else {
                if let Some(generation) = record.done.clone() {
                    self.tell(HookState::Done { generation });
                }
                round = None;
                if self.wait(&mut target, None).await.is_break() {
                    return;
                }
                continue;
            };
            let now = self.clock.now();
            let current = match &mut round {
                Some(round) if round.is_for(&hooked.hooks, &occasion) => round,
                other => other.insert(Round::new(&hooked.hooks, &occasion, now)),
            };
            if let Some(moment) = current.not_before.filter(|moment| *moment > now) {
                if self.wait(&mut target, Some(moment)).await.is_break() {
                    return;
                }
                continue;
            }
            let attempt = self.attempt(current, &hooked.workload, &mut record);
            let edit = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                edit = edited(target.clone(), &hooked.hooks) => edit,
                () = attempt => continue,
            };
            match edit {
                Edit::Gone => return,
                Edit::Hooks => info!(
                    workload = hooked.workload,
                    "onRotate was edited: a hook that ran was ended, and the new ones run"
                ),
            }
            round = None;
        }
    }

    /// Waits until there is something to look at: the moment has come, or the target is another.
    /// Broken off if the workload is gone, or the agent ends.
    async fn wait(
        &self,
        target: &mut watch::Receiver<Target>,
        until: Option<Timestamp>,
    ) -> ControlFlow<()> {
        let moment = async {
            match until {
                Some(moment) => self.clock.sleep_until(moment).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = moment => ControlFlow::Continue(()),
            still = target.changed() => match still {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
            () = self.cancel.cancelled() => ControlFlow::Break(()),
        }
    }

    /// Runs those hooks of the round that have not succeeded yet, each whatever the others do. What
    /// becomes of one is told before the next one runs, which may take long.
    async fn attempt(&self, round: &mut Round, workload: &str, record: &mut HookRecord) {
        let attempt = round.failures.saturating_add(1);
        let spread = rotation::spread(self.id.as_str(), &attempt.to_string());
        let wait = backoff::jitter(backoff::first_issue(attempt), spread);
        let places = std::mem::take(&mut round.left);
        let last = places.last().copied();
        for place in places {
            let Some(hook) = round.hooks.get(place) else {
                continue;
            };
            let occasion = &round.occasion;
            let ran = self.run_hook(hook, workload, occasion).await;
            self.metrics.hook_ran(ran.is_ok());
            match ran {
                Ok(said) => {
                    info!(workload, hook = %hook, generation = occasion.generation,
                        serial = occasion.serial, output = said.as_deref(), "the hook has succeeded");
                    round.errors.remove(&place);
                }
                Err(error) => {
                    warn!(workload, hook = %hook, generation = occasion.generation,
                        serial = occasion.serial, attempt, error,
                        next_try_in = brief(wait),
                        "the hook failed and is tried again; the new certificate stays in place");
                    round.errors.insert(place, format!("{hook}: {error}"));
                    round.left.push(place);
                }
            }
            let is_last = last == Some(place);
            if is_last || !round.errors.is_empty() {
                self.keep(round, workload, record, attempt, is_last);
            }
        }
        if !round.left.is_empty() {
            round.failures = attempt;
            round.not_before = self.clock.now().saturating_add(wait).ok();
        }
    }

    /// Keeps and tells how the round stands, at its end or on its way.
    fn keep(
        &self,
        round: &Round,
        workload: &str,
        record: &mut HookRecord,
        attempts: u32,
        is_tried: bool,
    ) {
        let generation = round.occasion.generation.clone();
        let mut errors = round.errors.values().cloned();
        let state = match errors.next() {
            None => {
                record.done = Some(generation.clone());
                record.failing = None;
                HookState::Done { generation }
            }
            Some(error) => {
                record.failing = Some(HookFailure {
                    generation: generation.clone(),
                    since: round.since,
                    attempts,
                    error: error.clone(),
                    others: errors.collect(),
                });
                HookState::Failing {
                    generation,
                    error,
                    is_tried,
                }
            }
        };
        if let Err(error) = self.kept.save_hooks(record) {
            warn!(workload, %error,
                "that the hooks were run could not be kept; the next start may run them once more");
        }
        self.tell(state);
    }

    /// What an earlier process has kept. Where that is lost, the hooks run once more.
    fn load(&self) -> HookRecord {
        self.kept.load_hooks().unwrap_or_else(|error| {
            warn!(volume = %self.id, %error, "what is known of the hooks cannot be read; they run once more");
            HookRecord::default()
        })
    }

    pub(super) fn tell(&self, state: HookState) {
        self.board.send_if_modified(|board| {
            // Whoever cancels clears the board after that.
            if self.cancel.is_cancelled() {
                return false;
            }
            let differs = board.get(&self.id) != Some(&state);
            board.insert(self.id.clone(), state);
            differs
        });
    }

    /// Runs one hook. Gives what a program said, or what went wrong.
    async fn run_hook(
        &self,
        hook: &Hook,
        workload: &str,
        occasion: &Occasion,
    ) -> Result<Option<String>, String> {
        match hook {
            Hook::Exec {
                program,
                arguments,
                limit,
            } => {
                // Its time begins when its turn has come.
                let _slot = self
                    .slots
                    .acquire()
                    .await
                    .map_err(|error| error.to_string())?;
                exec::run(program, arguments, *limit, workload, occasion)
                    .await
                    .map_err(|error| error.to_string())
            }
            Hook::Signal { pid_file, signal } => signal::send(pid_file.as_ref(), *signal)
                .map(|()| None)
                .map_err(|error| error.to_string()),
        }
    }
}

/// What interrupts hooks that run.
enum Edit {
    /// The workload has none any more.
    Gone,
    /// It has others.
    Hooks,
}

/// Waits until the workload has other hooks than these. A newer generation waits for them instead.
async fn edited(mut target: watch::Receiver<Target>, hooks: &[Hook]) -> Edit {
    match target.wait_for(|now| now.hooked.hooks != hooks).await {
        Ok(_) => Edit::Hooks,
        Err(_) => Edit::Gone,
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
