//! The volumes of one node: made, bound, taken away. What is mounted is the only truth about it;
//! what is kept here beside it is who is at work, and when somebody last asked.
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    content::{ContentDir, VolumeContent, VolumeId},
    mounts::{self, MountError, Mounts, Size},
    paths::Places,
    registration::Registration,
    request::{Publish, Unpublish},
    status::CallError,
};

/// A volume that was never bound is forgotten when nobody has asked for it for so long: after some
/// errors kubelet never says that a pod has gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// How often it is looked for such volumes.
const LOOK: Duration = Duration::from_secs(60);

pub(crate) struct VolumeSettings {
    pub(crate) places: Places,
    pub(crate) size: Size,
    /// How long a publish call waits for content.
    pub(crate) wait: Duration,
    /// For conformance tests only.
    pub(crate) any_caller: bool,
}

pub(crate) struct Volumes<C> {
    pub(crate) settings: VolumeSettings,
    content: Arc<C>,
    registration: watch::Receiver<Registration>,
    slots: Mutex<HashMap<VolumeId, Arc<Slot>>>,
}

/// What is known of a volume beside its mounts.
struct Slot {
    /// One change of its mounts at a time.
    turn: AsyncMutex<()>,
    /// Publish calls that wait for content.
    calls: AtomicUsize,
    seen: Mutex<Seen>,
}

struct Seen {
    asked: Instant,
    /// The pod's uid, once the volume was bound.
    bound_for: Option<String>,
}

impl Slot {
    fn new() -> Self {
        Self {
            turn: AsyncMutex::default(),
            calls: AtomicUsize::new(0),
            seen: Mutex::new(Seen {
                asked: Instant::now(),
                bound_for: None,
            }),
        }
    }
}

/// Counts a call as long as it lives, a cancelled one included.
struct Call<'a>(&'a Slot);

impl<'a> Call<'a> {
    fn new(slot: &'a Slot) -> Self {
        slot.calls.fetch_add(1, Ordering::SeqCst);
        Self(slot)
    }

    /// No other call waits for the same volume.
    fn is_last(&self) -> bool {
        self.0.calls.load(Ordering::SeqCst) == 1
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<C: VolumeContent> Volumes<C> {
    /// The volumes of the driver's directory, those of an earlier process included.
    pub(crate) fn new(
        settings: VolumeSettings,
        content: Arc<C>,
        registration: watch::Receiver<Registration>,
    ) -> Self {
        Self {
            settings,
            content,
            registration,
            slots: Mutex::default(),
        }
    }

    /// With the setting for conformance tests nothing is published for a kubelet.
    pub(crate) fn check_caller(&self) -> Result<(), CallError> {
        let is_registered = *self.registration.borrow() == Registration::Registered;
        if self.settings.any_caller && is_registered {
            return Err(CallError::TestOnly);
        }
        Ok(())
    }

    /// Fills the volume and binds it, or says why not; a volume that is bound already is refreshed,
    /// and that cannot fail.
    pub(crate) async fn publish(self: &Arc<Self>, publish: Publish) -> Result<(), CallError> {
        let Publish {
            id,
            target,
            read_only,
            volume,
        } = publish;
        let slot = self.slot(&id);
        let uid = volume.pod.uid.clone();
        lock(&slot.seen).asked = Instant::now();
        let call = Call::new(&slot);
        let place = self.settings.places.volume(&id);
        {
            let _turn = slot.turn.lock().await;
            if Mounts::read()?.is_bound(&place, &target) {
                lock(&slot.seen).bound_for = Some(uid);
                self.content.refresh(&id, volume);
                return Ok(());
            }
            self.check_way(&target)?;
            let (place, size) = (place.clone(), self.settings.size);
            off_runtime(move || {
                if Mounts::read()?.at(&place).is_none() {
                    mounts::make_volume(&place, size)?;
                }
                Ok(())
            })
            .await?;
        }
        let dir = ContentDir {
            id: id.clone(),
            root: place.clone(),
        };
        let filled = timeout(self.settings.wait, self.content.fill(dir, volume)).await;
        let filled = filled.map_err(|_elapsed| CallError::StillWorking {
            id: id.clone(),
            seconds: self.settings.wait.as_secs(),
        })?;
        if let Err(error) = filled {
            // After a final answer kubelet does not unpublish: nothing may stay.
            if call.is_last() {
                self.clean_up(&id, &slot, Some(target)).await?;
            }
            return Err(CallError::NoContent { id, error });
        }
        let _turn = slot.turn.lock().await;
        let bound = target.clone();
        let is_there = off_runtime(move || {
            let there = Mounts::read()?;
            if there.at(&place).is_none() {
                return Ok(false);
            }
            if !there.is_bound(&place, &bound) {
                mounts::bind(&place, &bound, read_only)?;
            }
            Ok(true)
        })
        .await?;
        if !is_there {
            return Err(CallError::Gone(id));
        }
        lock(&slot.seen).bound_for = Some(uid);
        info!(volume = %id, target = %target.display(), "published");
        Ok(())
    }

    /// Takes the volume away, whatever is left of it.
    pub(crate) async fn unpublish(self: &Arc<Self>, unpublish: Unpublish) -> Result<(), CallError> {
        let Unpublish { id, target } = unpublish;
        let Some(id) = id else {
            // No volume has such an id, and so nothing of ours is at the target.
            return Ok(());
        };
        let slot = self.slot(&id);
        self.clean_up(&id, &slot, Some(target)).await?;
        info!(volume = %id, "unpublished");
        Ok(())
    }

    /// Unbinds the volume, ends the work on it and unmounts it. Goes on when the call that asked
    /// for it does not.
    async fn clean_up(
        self: &Arc<Self>,
        id: &VolumeId,
        slot: &Arc<Slot>,
        target: Option<std::path::PathBuf>,
    ) -> Result<(), CallError> {
        let (this, id, slot) = (Arc::clone(self), id.clone(), Arc::clone(slot));
        let work = async move {
            let _turn = slot.turn.lock().await;
            let place = this.settings.places.volume(&id);
            let volume = place.clone();
            off_runtime(move || {
                let there = Mounts::read()?;
                let mut targets: Vec<_> = there
                    .bound(&volume, None)
                    .into_iter()
                    .map(|mount| mount.mount_point.clone())
                    .filter(|point| !point.starts_with(&volume))
                    .collect();
                targets.extend(target);
                for target in targets {
                    // Only what is ours: somebody else's mount at a made-up target stays.
                    if there.is_bound(&volume, &target) {
                        mounts::take_away(&target)?;
                    }
                    if Mounts::read()?.at(&target).is_none() {
                        mounts::remove_directory(&target)?;
                    }
                }
                Ok(())
            })
            .await?;
            this.content.forget(&id).await;
            off_runtime(move || {
                mounts::take_away(&place)?;
                mounts::remove_directory(&place)
            })
            .await?;
            lock(&this.slots).remove(&id);
            Ok(())
        };
        let ended = tokio::spawn(work).await;
        ended.map_err(|error| CallError::Internal(error.to_string()))?
    }

    /// Looks for volumes that nobody will ask for any more, until `cancel`.
    pub(crate) async fn look_after(self: Arc<Self>, cancel: CancellationToken) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(look.tick()).await.is_some() {
            if let Err(error) = self.look().await {
                warn!(%error, "the volumes could not be looked at; that is tried again");
            }
        }
    }

    async fn look(self: &Arc<Self>) -> Result<(), CallError> {
        let mounts = Mounts::read()?;
        let places = &self.settings.places;
        for mount in mounts.volumes(&places.volumes()) {
            let name = mount.mount_point.file_name().and_then(|name| name.to_str());
            let Some(id) = name.and_then(VolumeId::new) else {
                continue;
            };
            let slot = self.slot(&id);
            let is_bound = !mounts
                .bound(&mount.mount_point, Some(&places.pods()))
                .is_empty();
            let (asked, bound_for) = {
                let seen = lock(&slot.seen);
                (seen.asked, seen.bound_for.clone())
            };
            let is_over = match bound_for {
                _ if is_bound => false,
                Some(uid) => !places.pod(&uid).exists(),
                None => asked.elapsed() >= FORGOTTEN_AFTER,
            };
            if is_over && slot.calls.load(Ordering::SeqCst) == 0 {
                info!(volume = %id, "nobody asks for this volume any more; it is taken away");
                self.clean_up(&id, &slot, None).await?;
            }
        }
        Ok(())
    }

    /// Nothing on the way to the target leads elsewhere.
    fn check_way(&self, target: &Path) -> Result<(), CallError> {
        if self.settings.any_caller {
            return Ok(());
        }
        let root = self.settings.places.root();
        let led = || {
            let below = target.parent()?.strip_prefix(root).ok()?;
            let there = target.parent()?.canonicalize().ok()?;
            Some(there == root.canonicalize().ok()?.join(below))
        };
        if led() == Some(true) {
            return Ok(());
        }
        Err(CallError::Invalid(format!(
            "target_path: the directory of {} is missing, or a link leads away from it",
            target.display()
        )))
    }

    fn slot(&self, id: &VolumeId) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        let slot = slots
            .entry(id.clone())
            .or_insert_with(|| Arc::new(Slot::new()));
        Arc::clone(slot)
    }
}

/// A system call that may take a while.
async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MountError> + Send + 'static,
) -> Result<T, CallError> {
    let ended = spawn_blocking(work).await;
    let ended = ended.map_err(|error| CallError::Internal(error.to_string()))?;
    Ok(ended?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in them can be half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
