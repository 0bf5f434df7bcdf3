//! What is done after a new generation is in place: programs are run, and running ones are signalled.
//!
//! Hooks run beside the issuing of certificates, which knows nothing of them: a hook that hangs or
//! fails holds up neither its own workload's rotation nor another workload, and never undoes one.
//! There is one task for each workload with hooks, so that its hooks run one after the other. For
//! which generation they have succeeded is kept with the volume's record: a process that ends
//! between a rotation and its hooks leaves them to the next one.
mod exec;
mod runner;
mod said;
mod signal;
mod worker;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use certagent_core::config::Hook;
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::runner::Runner;
use crate::{
    admin::Metrics,
    clock::SharedClock,
    status::VolumeStatus,
    volume::{StateDir, VolumeId},
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
