//! The volumes of one node: made, bound, taken away. What is mounted is the only truth about it;
//! what is kept here beside it is who is at work, and when somebody last asked.
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch},
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
    /// Ends the calls that wait; the work on their volumes goes on.
    cancel: CancellationToken,
    slots: Mutex<HashMap<VolumeId, Arc<Slot>>>,
}

/// What is known of a volume beside its mounts.
struct Slot {
    /// One change of its mounts at a time.
    turn: Arc<AsyncMutex<()>>,
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
            turn: Arc::default(),
            calls: AtomicUsize::new(0),
            seen: Mutex::new(Seen {
                asked: Instant::now(),
                bound_for: None,
            }),
        }
    }
}

/// Counts a call as long as it lives, a cancelled one included.
struct Call(Arc<Slot>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The turn on a volume's mounts. It goes with the work on them, wherever that runs.
struct Turn {
    slot: Arc<Slot>,
    _held: OwnedMutexGuard<()>,
}

impl Turn {
    /// No call but so many waits for the same volume.
    fn is_last_of(&self, calls: usize) -> bool {
        self.slot.calls.load(Ordering::SeqCst) <= calls
    }
}

impl<C: VolumeContent> Volumes<C> {
    /// The volumes of the driver's directory, those of an earlier process included.
    pub(crate) fn new(
        settings: VolumeSettings,
        content: Arc<C>,
        registration: watch::Receiver<Registration>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            settings,
            content,
            registration,
            cancel,
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

    /// The volume is bound at the target: kubelet may not be told of an error any more.
    pub(crate) fn is_bound(&self, id: &VolumeId, target: &Path) -> Result<bool, CallError> {
        let is_bound = mounts::is_bound(&self.settings.places.volume(id), target)?;
        if is_bound {
            lock(&self.slot(id).seen).asked = Instant::now();
        }
        Ok(is_bound)
    }

    /// Fills the volume and binds it, or says why not; a volume that is bound already is refreshed,
    /// and that cannot fail. It goes on when the call that asked for it does not.
    pub(crate) async fn publish(self: &Arc<Self>, publish: Publish) -> Result<(), CallError> {
        let id = publish.id.clone();
        let this = Arc::clone(self);
        let work = tokio::spawn(async move {
            let call = this.call(&publish.id);
            let published = this.fill_and_bind(&publish).await;
            let Err(error) = published else {
                return Ok(());
            };
            // After a final answer kubelet does not unpublish: nothing may stay.
            if error.ends_the_work()
                && let Err(error) = this.clean_up_after(call, &publish).await
            {
                warn!(volume = %publish.id, %error,
                    "what a failed call has made stays for now; that is tried again");
            }
            Err(error)
        });
        match self.cancel.run_until_cancelled(work).await {
            Some(ended) => ended.map_err(|error| CallError::Internal(error.to_string()))?,
            None => Err(CallError::Ending(id)),
        }
    }

    async fn fill_and_bind(&self, publish: &Publish) -> Result<(), CallError> {
        let Publish {
            id,
            target,
            read_only,
            volume,
        } = publish;
        let uid = &volume.pod.uid;
        let place = self.settings.places.volume(id);
        {
            let turn = self.turn(id).await;
            lock(&turn.slot.seen).asked = Instant::now();
            if mounts::is_bound(&place, target)? {
                if let Err(error) = mounts::mend_flags(target, *read_only) {
                    warn!(volume = %id, %error, "the mount of a bound volume lacks a flag");
                }
                lock(&turn.slot.seen).bound_for = Some(uid.clone());
                self.content.refresh(id, publish.of_bound());
                return Ok(());
            }
            self.check_way(target)?;
            let (place, size) = (place.clone(), self.settings.size);
            off_runtime(move || mounts::make_volume(&place, size)).await?;
        }
        let dir = ContentDir {
            id: id.clone(),
            root: place.clone(),
        };
        let fill = self.content.fill(dir, volume.clone());
        let filled = timeout(self.settings.wait, fill).await;
        let filled = filled.map_err(|_elapsed| CallError::StillWorking {
            id: id.clone(),
            seconds: self.settings.wait.as_secs(),
            trouble: self.content.trouble(id),
        })?;
        filled.map_err(|error| CallError::NoContent {
            id: id.clone(),
            error,
        })?;
        let turn = self.turn(id).await;
        let (bound, read_only) = (target.clone(), *read_only);
        let is_there = off_runtime(move || {
            if !mounts::is_mounted(&place)? {
                return Ok(false);
            }
            if !mounts::is_bound(&place, &bound)? {
                mounts::bind(&place, &bound, read_only)?;
            }
            Ok(true)
        })
        .await?;
        if !is_there {
            return Err(CallError::Gone(id.clone()));
        }
        lock(&turn.slot.seen).bound_for = Some(uid.clone());
        info!(volume = %id, target = %target.display(), "published");
        Ok(())
    }

    /// Takes the volume away, whatever is left of it. Goes on when the call does not.
    pub(crate) async fn unpublish(self: &Arc<Self>, unpublish: Unpublish) -> Result<(), CallError> {
        let Unpublish { id, target } = unpublish;
        let Some(id) = id else {
            // No volume has such an id, and so nothing of ours is at the target.
            return Ok(());
        };
        let this = Arc::clone(self);
        let work = tokio::spawn(async move {
            let turn = this.turn(&id).await;
            this.clean_up(&id, turn, target).await?;
            info!(volume = %id, "unpublished");
            Ok(())
        });
        let ended = work.await;
        ended.map_err(|error| CallError::Internal(error.to_string()))?
    }

    /// Takes away what a publish call that failed has made, unless another call waits for the same
    /// volume, or it is bound after all.
    async fn clean_up_after(&self, call: Call, publish: &Publish) -> Result<(), CallError> {
        let turn = self.turn(&publish.id).await;
        // An unpublish in between has made this call one of a volume that is no more.
        let is_same = Arc::ptr_eq(&turn.slot, &call.0);
        let is_last = turn.is_last_of(usize::from(is_same));
        let place = self.settings.places.volume(&publish.id);
        if !is_last || mounts::is_bound(&place, &publish.target)? {
            return Ok(());
        }
        self.clean_up(&publish.id, turn, Some(publish.target.clone()))
            .await
    }

    /// Unbinds the volume, ends the work on it and unmounts it.
    async fn clean_up(
        &self,
        id: &VolumeId,
        turn: Turn,
        target: Option<PathBuf>,
    ) -> Result<(), CallError> {
        let place = self.settings.places.volume(id);
        let volume = place.clone();
        let is_straight = target.as_deref().map(|target| self.check_way(target));
        let target = target.filter(|_| matches!(is_straight, Some(Ok(()))));
        // Whatever comes of it, the keys go.
        let unbound = off_runtime(move || {
            let there = Mounts::read()?;
            let bound = there.bound(&volume, None).into_iter();
            let mut targets: Vec<_> = bound
                .map(|mount| mount.mount_point.clone())
                .filter(|point| !point.starts_with(&volume))
                .collect();
            // Only what is ours: somebody else's mount at a made-up target stays. With its tmpfs
            // gone from our directory, that a target has a `data/` of a tmpfs is all that is left
            // to know it by.
            let is_lost = there.at(&volume).is_none();
            targets.extend(target.filter(|target| {
                there.is_bound(&volume, target)
                    || there.at(target).is_none()
                    || (is_lost && there.is_a_volume_s(target))
            }));
            for target in targets {
                mounts::take_away(&target)?;
                mounts::remove_directory(&target)?;
            }
            Ok(())
        })
        .await;
        self.content.forget(id).await;
        off_runtime(move || {
            mounts::take_away(&place)?;
            mounts::remove_directory(&place)
        })
        .await?;
        let mut slots = lock(&self.slots);
        if slots
            .get(id)
            .is_some_and(|now| Arc::ptr_eq(now, &turn.slot))
        {
            slots.remove(id);
        }
        unbound
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
            if !self.is_over(&id, &mounts) {
                continue;
            }
            let turn = self.turn(&id).await;
            // Somebody may have asked for it meanwhile.
            if turn.is_last_of(0) && self.is_over(&id, &Mounts::read()?) {
                info!(volume = %id, "nobody asks for this volume any more; it is taken away");
                if let Err(error) = self.clean_up(&id, turn, None).await {
                    warn!(volume = %id, %error, "it stays for now; that is tried again");
                }
            }
        }
        self.drop_idle(&mounts);
        Ok(())
    }

    /// Drops what is known of volumes of which nothing is mounted, and on which nobody is at work:
    /// calls that came to nothing leave that behind.
    fn drop_idle(&self, mounts: &Mounts) {
        let places = &self.settings.places;
        let volumes = places.volumes();
        let mounted: HashSet<_> = mounts
            .volumes(&volumes)
            .map(|mount| mount.mount_point.as_path())
            .collect();
        lock(&self.slots).retain(|id, slot| {
            let place = places.volume(id);
            // Calls and turns hold it, too. What one of them has mounted since is in no list yet.
            Arc::strong_count(slot) > 1
                || mounted.contains(&*place)
                || !matches!(mounts::is_mounted(&place), Ok(false))
        });
    }

    /// Nobody has the volume any more, by the mounts that there are.
    fn is_over(&self, id: &VolumeId, mounts: &Mounts) -> bool {
        let places = &self.settings.places;
        let bound = mounts.bound(&places.volume(id), Some(&places.pods()));
        let uid = bound.iter().find_map(|mount| {
            let parts = places.parse_target(&mount.mount_point);
            parts.map(|(uid, _)| uid.to_owned())
        });
        let slot = self.slot(id);
        let mut seen = lock(&slot.seen);
        // Also what an earlier process has bound.
        seen.bound_for = uid.or(seen.bound_for.take());
        match &seen.bound_for {
            _ if !bound.is_empty() => false,
            // What cannot be looked at counts as there.
            Some(uid) => matches!(places.pod(uid).try_exists(), Ok(false)),
            None => seen.asked.elapsed() >= FORGOTTEN_AFTER,
        }
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

    fn call(&self, id: &VolumeId) -> Call {
        let slot = self.slot(id);
        slot.calls.fetch_add(1, Ordering::SeqCst);
        Call(slot)
    }

    /// Waits for the turn on a volume. Whoever had it before may have taken the volume away: then
    /// it is a new one with a turn of its own.
    async fn turn(&self, id: &VolumeId) -> Turn {
        loop {
            let slot = self.slot(id);
            let held = Arc::clone(&slot.turn).lock_owned().await;
            if Arc::ptr_eq(&slot, &self.slot(id)) {
                return Turn { slot, _held: held };
            }
        }
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

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
