//! One task for each workload with hooks: begun, told of what is new, and ended.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures::future::pending;
use tokio::{
    sync::{Semaphore, watch},
    task::{self, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Board, HookPlan, HookState, Hooked, Occasion,
    worker::{Target, Worker},
};
use crate::{
    admin::Metrics,
    clock::SharedClock,
    volume::{StateDir, VolumeId, VolumeState},
    volumes::Volumes,
};

/// Keeps one task for each workload with hooks.
pub(super) struct Runner {
    pub(super) volumes: Arc<Volumes>,
    pub(super) state: Arc<StateDir>,
    pub(super) plan: watch::Receiver<HookPlan>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    pub(super) board: Board,
    pub(super) slots: Arc<Semaphore>,
    pub(super) cancel: CancellationToken,
}

impl Runner {
    /// Until it is cancelled; all tasks have ended then.
    pub(super) async fn run(mut self) {
        let mut workers = Workers::default();
        let mut board = self.board.subscribe();
        loop {
            // Made before the look, so that no change falls between the two.
            let volumes = Arc::clone(&self.volumes);
            let changed = volumes.changed();
            let plan = Arc::clone(&self.plan.borrow_and_update());
            self.drop_unplanned(&mut workers, &plan);
            for (id, hooked) in plan.iter() {
                // One that is back: never two at once.
                if workers.is_ending(id) {
                    continue;
                }
                let status = self.volumes.status(id);
                let target = Target {
                    hooked: hooked.clone(),
                    occasion: status.as_ref().and_then(Occasion::of),
                };
                let Some(known) = workers.at_work.get(id) else {
                    let (sender, receiver) = watch::channel(target);
                    let cancel = self.cancel.child_token();
                    let task = self.worker(id, cancel.clone()).run(receiver);
                    let started = Started {
                        task: workers.tasks.spawn(task).id(),
                        target: sender,
                        cancel,
                    };
                    workers.at_work.insert(id.clone(), started);
                    continue;
                };
                known.target.send_if_modified(|now| {
                    let differs = *now != target;
                    *now = target;
                    differs
                });
            }
            let has_work = !plan.is_empty();
            tokio::select! {
                () = async { if has_work { changed.await } else { pending().await } } => {}
                still = self.plan.changed() => if still.is_err() { break },
                Ok(()) = board.changed() => self.count(&board.borrow_and_update()),
                Some(ended) = workers.ended() => {
                    if let Some(id) = ended.filter(|id| !plan.contains_key(id)) {
                        forget_failure(&self.state.volume(&id));
                    }
                }
                () = self.cancel.cancelled() => break,
            }
        }
        self.cancel.cancelled().await;
        // Each stops what it runs.
        while workers.ended().await.is_some() {}
    }

    /// A workload that is gone, or has no hooks any more: what it runs is killed, and nothing is
    /// said of it.
    fn drop_unplanned(&self, workers: &mut Workers, plan: &BTreeMap<VolumeId, Hooked>) {
        let unplanned = workers.at_work.keys().filter(|id| !plan.contains_key(id));
        let gone: BTreeSet<VolumeId> = unplanned.cloned().collect();
        if gone.is_empty() {
            return;
        }
        for id in &gone {
            if let Some(started) = workers.at_work.remove(id) {
                // Before the board is cleared: nothing that is cancelled writes on it.
                started.cancel.cancel();
                workers.ending.insert(started.task, id.clone());
            }
        }
        self.board
            .send_modify(|board| board.retain(|id, _| !gone.contains(id)));
    }

    fn worker(&self, id: &VolumeId, cancel: CancellationToken) -> Worker {
        Worker {
            id: id.clone(),
            kept: self.state.volume(id),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::clone(&self.clock),
            board: self.board.clone(),
            slots: Arc::clone(&self.slots),
            cancel,
        }
    }

    fn count(&self, board: &BTreeMap<VolumeId, HookState>) {
        let is_failing = |state: &&HookState| matches!(state, HookState::Failing { .. });
        self.metrics
            .hooks_failing(board.values().filter(is_failing).count());
    }
}

/// The tasks of the workloads: of those with hooks, and of those that have none any more and still
/// stop what they run.
#[derive(Default)]
struct Workers {
    tasks: JoinSet<()>,
    at_work: BTreeMap<VolumeId, Started>,
    ending: HashMap<task::Id, VolumeId>,
}

/// The task of one workload.
struct Started {
    task: task::Id,
    target: watch::Sender<Target>,
    cancel: CancellationToken,
}

impl Workers {
    fn is_ending(&self, id: &VolumeId) -> bool {
        self.ending.values().any(|ending| ending == id)
    }

    /// Waits until one has ended, and gives its volume if it was told to. None if there is none.
    async fn ended(&mut self) -> Option<Option<VolumeId>> {
        let ended = self.tasks.join_next_with_id().await?;
        let task = match ended {
            Ok((task, ())) => task,
            Err(error) => {
                error!(%error, "the hooks of a workload ended badly");
                error.id()
            }
        };
        Some(self.ending.remove(&task))
    }
}

/// Nobody tries any more what has failed: nothing is to be said of it.
pub(super) fn forget_failure(kept: &VolumeState) {
    // What cannot be read says nothing either.
    let Some(mut record) = kept.load_hooks().ok().filter(|now| now.failing.is_some()) else {
        return;
    };
    record.failing = None;
    if let Err(error) = kept.save_hooks(&record) {
        warn!(%error, "that hooks which failed are gone could not be kept; inspect may still tell of them");
    }
}
