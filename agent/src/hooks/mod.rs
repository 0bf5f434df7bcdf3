//! What is done after a new generation is in place: programs are run, and running ones are signalled.
//!
//! Hooks run beside the issuing of certificates, which knows nothing of them: a hook that hangs or
//! fails holds up neither its own workload's rotation nor another workload, and never undoes one.
//! There is one task for each workload with hooks, so that its hooks run one after the other. For
//! which generation they have succeeded is kept with the volume's record: a process that ends
//! between a rotation and its hooks leaves them to the next one.
mod exec;
mod said;
mod signal;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use certagent_core::config::Hook;
use futures::future::pending;
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, watch},
    task::{self, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::worker::{Target, Worker};
use crate::{
    admin::Metrics,
    clock::SharedClock,
    status::VolumeStatus,
    volume::{StateDir, VolumeId, VolumeState},
    volumes::Volumes,
};

/// So many programs run at once, of all workloads: each takes some open files of the agent's, which
/// the issuing of certificates needs too.
const MOST_PROGRAMS: usize = 16;

/// The hooks of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooked {
    /// The workload's name.
    pub workload: String,
    /// What is done, in this order; never empty.
    pub hooks: Vec<Hook>,
}

/// The hooks of every workload that has some, by its volume.
pub type HookPlan = Arc<BTreeMap<VolumeId, Hooked>>;

/// What a hook is told of the generation that is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Occasion {
    path: PathBuf,
    generation: String,
    serial: String,
    spiffe_id: String,
    not_after: Timestamp,
}

impl Occasion {
    /// None while the volume holds no certificate.
    fn of(status: &VolumeStatus) -> Option<Self> {
        let certificate = status.certificate.as_ref()?;
        Some(Self {
            path: status.path.clone(),
            generation: status.generation.clone()?,
            serial: certificate.serial.clone(),
            spiffe_id: status.spiffe_id.clone(),
            not_after: certificate.not_after,
        })
    }
}

/// How the hooks of one workload stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// All have succeeded for this generation.
    Done {
        /// Its name.
        generation: String,
    },
    /// At least one failed, and is tried again.
    Failing {
        /// The generation that they are for.
        generation: String,
        /// What went wrong, of the first one.
        error: String,
        /// All have been tried by now: none runs.
        is_tried: bool,
    },
}

impl HookState {
    fn generation(&self) -> &str {
        match self {
            Self::Done { generation } | Self::Failing { generation, .. } => generation,
        }
    }
}

/// Where each workload's task writes how its hooks stand; one that has not run any yet is not there.
type Board = watch::Sender<BTreeMap<VolumeId, HookState>>;

/// The hooks at work.
pub struct Hooks {
    plan: watch::Receiver<HookPlan>,
    board: watch::Receiver<BTreeMap<VolumeId, HookState>>,
    volumes: Arc<Volumes>,
}

impl Hooks {
    /// Runs the hooks of `plan` for the volumes until `cancel`; the task ends soon after it.
    pub fn start(
        volumes: Arc<Volumes>,
        state: Arc<StateDir>,
        plan: watch::Receiver<HookPlan>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        cancel: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let board = Board::default();
        let hooks = Self {
            plan: plan.clone(),
            board: board.subscribe(),
            volumes: Arc::clone(&volumes),
        };
        let runner = Runner {
            volumes,
            state,
            plan,
            metrics,
            clock,
            board,
            slots: Arc::new(Semaphore::new(MOST_PROGRAMS)),
            cancel,
        };
        (hooks, tokio::spawn(runner.run()))
    }

    /// Waits until the hooks were run, or tried, for every generation that is in place now. Gives
    /// what went wrong, for each workload whose hooks failed.
    pub async fn settled(&self) -> Vec<String> {
        let mut board = self.board.clone();
        loop {
            let plan = Arc::clone(&self.plan.borrow());
            let mut waits = false;
            let mut failed = Vec::new();
            {
                let board = board.borrow_and_update();
                for (id, hooked) in plan.iter() {
                    let status = self.volumes.status(id);
                    let Some(generation) = status.and_then(|status| status.generation) else {
                        continue;
                    };
                    match board.get(id).filter(|now| now.generation() == generation) {
                        None
                        | Some(HookState::Failing {
                            is_tried: false, ..
                        }) => waits = true,
                        Some(HookState::Done { .. }) => {}
                        Some(HookState::Failing { error, .. }) => {
                            failed.push(format!("{}: {error}", hooked.workload));
                        }
                    }
                }
            }
            // With whoever writes on the board gone, nothing more will come.
            if !waits || board.changed().await.is_err() {
                return failed;
            }
        }
    }
}

/// Keeps one task for each workload with hooks.
struct Runner {
    volumes: Arc<Volumes>,
    state: Arc<StateDir>,
    plan: watch::Receiver<HookPlan>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    board: Board,
    slots: Arc<Semaphore>,
    cancel: CancellationToken,
}

impl Runner {
    async fn run(mut self) {
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
fn forget_failure(kept: &VolumeState) {
    // What cannot be read says nothing either.
    let Some(mut record) = kept.load_hooks().ok().filter(|now| now.failing.is_some()) else {
        return;
    };
    record.failing = None;
    if let Err(error) = kept.save_hooks(&record) {
        warn!(%error, "that hooks which failed are gone could not be kept; inspect may still tell of them");
    }
}

/// A hook as messages name it.
fn name(hook: &Hook) -> impl fmt::Display + '_ {
    struct Name<'a>(&'a Hook);
    impl fmt::Display for Name<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                // Arguments may be anything; the program tells enough.
                Hook::Exec { program, .. } => write!(f, "exec {program}"),
                Hook::Signal { pid_file, signal } => {
                    write!(f, "signal {} by {pid_file}", signal.as_str())
                }
            }
        }
    }
    Name(hook)
}

#[cfg(test)]
mod tests;
