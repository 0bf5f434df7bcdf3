//! The thread that reloads: woken by a change in the directory, and by the clock in any case.
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::ModifyKind};

use crate::reload::Shared;

/// How soon a directory that could not be used is tried again, whether or not it changed.
const RETRY: Duration = Duration::from_secs(1);

/// So long after a change the directory is looked at: once for all changes within it.
const SETTLE: Duration = Duration::from_millis(20);

/// Wakes the thread. The last clone of the credentials stops it.
#[derive(Default)]
pub(crate) struct Signal {
    flags: Mutex<Flags>,
    wake: Condvar,
}

#[derive(Default)]
struct Flags {
    stop: bool,
    changed: bool,
    /// The directory that is watched is not the one at the path any more.
    lost: bool,
}

impl Signal {
    pub(crate) fn stop(&self) {
        self.set(|flags| flags.stop = true);
    }

    fn set(&self, set: impl FnOnce(&mut Flags)) {
        set(&mut self.flags.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    /// Waits until something changes, or until `pause` has passed, and takes the flags.
    fn wait(&self, pause: Duration) -> Flags {
        let end = Instant::now().checked_add(pause);
        let mut flags = self.flags.lock().unwrap_or_else(PoisonError::into_inner);
        while !(flags.stop || flags.changed || flags.lost) {
            let left = match end {
                Some(end) => end.saturating_duration_since(Instant::now()),
                None => pause,
            };
            if left.is_zero() {
                break;
            }
            let waited = self.wake.wait_timeout(flags, left);
            flags = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Flags {
            stop: flags.stop,
            changed: std::mem::take(&mut flags.changed),
            lost: std::mem::take(&mut flags.lost),
        }
    }
}

/// Starts the thread.
pub(crate) fn spawn(shared: Arc<Shared>, signal: Arc<Signal>, poll: Duration) -> io::Result<()> {
    thread::Builder::new()
        .name("certagent-credentials".to_owned())
        .spawn(move || run(&shared, &signal, poll))
        .map(drop)
}

fn run(shared: &Shared, signal: &Arc<Signal>, poll: Duration) {
    let mut watch = Watch::default();
    loop {
        // First the watch, then the look: a change between the two is seen by the one or the other.
        watch.arm(shared.directory(), signal);
        let pause = match shared.reload_whatever_happens() {
            Ok(_) => poll,
            Err(_told) => RETRY.min(poll),
        };
        let flags = signal.wait(pause);
        if flags.stop {
            break;
        }
        if flags.changed {
            // A generation is many changes, and somebody may write here all the time.
            thread::sleep(SETTLE);
            signal.set(|flags| flags.changed = false);
        }
        if flags.lost {
            watch = Watch::default();
        }
    }
    shared.close();
}

/// The watch on a directory. What cannot be watched is polled.
#[derive(Default)]
struct Watch(Option<(Identity, RecommendedWatcher)>);

impl Watch {
    /// Watches the directory that is at the path now, if it is another than before.
    fn arm(&mut self, directory: &Path, signal: &Arc<Signal>) {
        // Before the watch: a directory that is exchanged in between is another at the next look.
        let Some(now) = Identity::of(directory) else {
            self.0 = None;
            return;
        };
        if self.0.as_ref().is_none_or(|(watched, _)| *watched != now) {
            self.0 = watcher(directory, signal).ok().map(|it| (now, it));
        }
    }
}

fn watcher(directory: &Path, signal: &Arc<Signal>) -> notify::Result<RecommendedWatcher> {
    let path = std::path::absolute(directory).map_err(notify::Error::io)?;
    let (signal, this) = (Arc::clone(signal), path.clone());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        tell(&signal, &this, event.ok());
    })?;
    // Not below: a swap of `..data`, and a write to a plain file, happen in the directory itself.
    watcher.watch(&path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn tell(signal: &Signal, directory: &PathBuf, event: Option<notify::Event>) {
    let Some(event) = event else {
        return signal.set(|flags| flags.changed = true);
    };
    // Opening a file is an event, too; ours must not wake us for ever. The end of a write is told
    // as a change of the content as well.
    if event.kind.is_access() {
        return;
    }
    let moved = matches!(
        event.kind,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    );
    let lost = moved && event.paths.contains(directory);
    signal.set(|flags| {
        flags.changed = true;
        flags.lost |= lost;
    });
}

/// Which directory is at a path.
#[derive(PartialEq, Eq)]
struct Identity(#[cfg(unix)] (u64, u64));

impl Identity {
    #[cfg(unix)]
    fn of(directory: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(directory).ok()?;
        Some(Self((found.dev(), found.ino())))
    }

    /// Elsewhere a directory that goes away is told, or polled.
    #[cfg(not(unix))]
    fn of(directory: &Path) -> Option<Self> {
        std::fs::metadata(directory).ok().map(|_there| Self())
    }
}
