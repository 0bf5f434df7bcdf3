//! Volumes that go away: supplied no longer, or given up whole so that they can be unmounted.
use std::path::{Path, PathBuf};

use futures::future::join_all;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use super::{Done, Entry, Set, Slot, Volumes};
use crate::{
    held::Held,
    provision,
    volume::{VolumeId, VolumeState},
};

/// A job at work, as seen from outside.
#[derive(Clone)]
pub(super) struct Running {
    /// Tells the job to let go of the volume.
    pub(super) released: CancellationToken,
    /// Tells that it has.
    gone: CancellationToken,
}

/// What a job takes along. The fields are dropped in this order: the volume is closed before that
/// is told.
pub(super) struct Begun {
    pub(super) held: Option<Box<Held>>,
    pub(super) gone: DropGuard,
}

/// What a job leaves behind, dropped in this order, too.
pub(super) struct Ended {
    /// Nothing if the volume was released.
    pub(super) done: Option<Done>,
    pub(super) id: VolumeId,
    pub(super) number: u64,
    pub(super) released: CancellationToken,
    pub(super) gone: DropGuard,
}

impl Running {
    /// Gives what is in the slot to a job.
    pub(super) fn begin(slot: &mut Slot) -> (Self, Begun) {
        let running = Self {
            released: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let held = match std::mem::replace(slot, Slot::Working(running.clone())) {
            Slot::Idle(held) => Some(held),
            Slot::Closed | Slot::Working(_) => None,
        };
        let gone = running.gone.clone().drop_guard();
        (running, Begun { held, gone })
    }
}

impl Set {
    /// Takes a volume out. A job that works on it finds no entry when it comes back.
    fn remove(&mut self, id: &VolumeId) -> Option<Entry> {
        self.schedule.remove(id);
        self.leaving.retain(|_, jobs| {
            jobs.retain(|job| !job.gone.is_cancelled());
            !jobs.is_empty()
        });
        let entry = self.entries.remove(id)?;
        if let Slot::Working(running) = &entry.slot {
            let leaving = self.leaving.entry(id.clone()).or_default();
            leaving.push(running.clone());
        }
        Some(entry)
    }
}

impl Volumes {
    /// Stops keeping a volume supplied. Its files stay as they are, and so does a request under
    /// way, for whoever takes the volume up again.
    pub fn forget(&self, id: &VolumeId) {
        if self.lock().remove(id).is_some() {
            info!(volume = %id, "no longer supplied; its files stay");
            self.changed.notify_waiters();
        }
    }

    /// Gives up the request that is kept in `state` for a volume which is not in the set, and counts
    /// what may have been sold for it.
    pub fn close_unopened(&self, path: &Path, state: PathBuf) {
        provision::close_unopened(&self.context, path, &VolumeState::at(state, false));
    }

    /// Stops all work on a volume that is about to be unmounted. That happens at the call; the
    /// future resolves when no file of the volume is open any more, at once if the volume is not
    /// known.
    ///
    /// A job that works on it is dropped between two writes. A request under way is given up, and
    /// counted as abandoned if a certificate may have been sold for it.
    pub fn release(&self, id: &VolumeId) -> impl Future<Output = ()> + Send + use<> {
        let (entry, leaving) = {
            let mut set = self.lock();
            let entry = set.remove(id);
            let leaving = set.leaving.get(id).cloned().unwrap_or_default();
            for job in &leaving {
                job.released.cancel();
            }
            (entry, leaving)
        };
        if let Some(entry) = entry {
            info!(volume = %entry.status.path.display(), "released");
            match entry.slot {
                Slot::Idle(mut held) => provision::close(&self.context, &mut held),
                Slot::Closed => {
                    let state = entry.assignment.kept(&self.state, id, false);
                    provision::close_unopened(&self.context, &entry.assignment.path, &state);
                }
                // The job does it.
                Slot::Working(_) => {}
            }
            self.changed.notify_waiters();
        }
        async move {
            join_all(leaving.iter().map(|job| job.gone.cancelled())).await;
        }
    }
}
