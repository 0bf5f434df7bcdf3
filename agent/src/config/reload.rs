//! The configuration follows its files while the agent runs.
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    ActiveConfig, BadConfig, ConfigFiles, Found,
    activation::{Activation, Keeper},
};
use crate::{admin::Metrics, clock::SharedClock, volume::StateDir};

/// Filesystems that give no events, and directories that appear later, are looked at so often.
const POLL: SignedDuration = SignedDuration::from_secs(60);

/// An editor may write a file in several steps: it is read until two readings are equal, so far
/// apart.
const SETTLE: Duration = Duration::from_millis(50);

/// A file that never settles is taken as it is after so many readings.
const MAX_READINGS: usize = 40;

impl ConfigFiles {
    /// Loads the configuration and follows its files until `cancel`.
    ///
    /// With errors in the files, the last good configuration of an earlier process is used; if
    /// there is none, the errors are given back.
    pub fn start(
        self,
        state: &Arc<StateDir>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        cancel: CancellationToken,
    ) -> Result<watch::Receiver<Arc<ActiveConfig>>, BadConfig> {
        let (watcher, wake) = Watched::new(self.paths());
        let found = self.load();
        let (activation, receiver) =
            Activation::start(self.settings(), Keeper::new(state, None), metrics, found)?;
        let follower = Follower {
            files: self,
            activation,
            clock,
            watched: watcher,
        };
        tokio::spawn(async move { cancel.run_until_cancelled(follower.run(&wake)).await });
        Ok(receiver)
    }
}

struct Follower {
    files: ConfigFiles,
    activation: Activation,
    clock: SharedClock,
    watched: Watched,
}

impl Follower {
    async fn run(mut self, wake: &Notify) {
        loop {
            self.watched.arm();
            // Armed first, read then: no edit falls between the two.
            let found = self.settled().await;
            self.activation.take(found);
            let now = self.clock.now();
            let poll = now.saturating_add(POLL).unwrap_or(now);
            tokio::select! {
                () = wake.notified() => {}
                () = self.clock.sleep_until(poll) => {}
            }
        }
    }

    /// What is there, once it stays the same for a moment.
    async fn settled(&self) -> Found {
        let mut found = self.files.load();
        for _ in 0..MAX_READINGS {
            if self.activation.has_seen(&found) {
                break;
            }
            tokio::time::sleep(SETTLE).await;
            let again = self.files.load();
            if again == found {
                break;
            }
            found = again;
        }
        found
    }
}

/// The directories that are watched: those of the files, and the parents of given directories,
/// because a directory may be replaced as a whole.
struct Watched {
    paths: Vec<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    /// What is armed, with the device and inode it was armed on.
    armed: BTreeMap<PathBuf, (u64, u64)>,
}

impl Watched {
    /// Nothing is watched yet. The second value is notified of every event that matters.
    fn new(paths: &[PathBuf]) -> (Self, Arc<Notify>) {
        let wake = Arc::new(Notify::new());
        let notified = Arc::clone(&wake);
        let interest = Interest::new(paths);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| interest.covers(&event)) {
                notified.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                warn!(%error, "edits of the configuration are noticed once a minute only");
            })
            .ok();
        (
            Self {
                paths: paths.to_vec(),
                watcher,
                armed: BTreeMap::new(),
            },
            wake,
        )
    }

    /// Watches what has to be watched now, anew where a directory was replaced.
    fn arm(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted: BTreeMap<PathBuf, (u64, u64)> = self
            .paths
            .iter()
            .flat_map(|path| directories(path))
            .filter_map(|directory| {
                let there = fs::metadata(&directory).ok()?;
                Some((directory, (there.dev(), there.ino())))
            })
            .collect();
        if wanted == self.armed {
            return;
        }
        for (directory, _) in self
            .armed
            .iter()
            .filter(|(path, id)| wanted.get(*path) != Some(id))
        {
            // A directory that is gone took its watch along; that is no error.
            drop(watcher.unwatch(directory));
        }
        self.armed.retain(|path, id| wanted.get(path) == Some(id));
        for (directory, id) in wanted {
            if self.armed.contains_key(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.armed.insert(directory, id);
                }
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), %error, "not watched, only polled");
                }
            }
        }
    }
}

/// The directories in which an event may tell of an edit of `path`.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut directories = vec![parent(path)];
    match fs::canonicalize(path) {
        Ok(real) if real.is_dir() => directories.push(path.to_owned()),
        // A link to a file elsewhere, which is edited there.
        Ok(real) => directories.push(parent(&real)),
        Err(_) => {}
    }
    directories
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => path.to_owned(),
    }
}

/// Which events matter. The agent's own reading is an event, too, and other files may live in the
/// same directory.
struct Interest {
    names: BTreeSet<std::ffi::OsString>,
    directories: Vec<PathBuf>,
}

impl Interest {
    fn new(paths: &[PathBuf]) -> Self {
        let real = |path: &PathBuf| fs::canonicalize(path).ok();
        let both = || paths.iter().cloned().chain(paths.iter().filter_map(real));
        Self {
            names: both()
                .filter_map(|path| path.file_name().map(OsStr::to_owned))
                .collect(),
            directories: both().filter(|path| path.is_dir()).collect(),
        }
    }

    fn covers(&self, event: &Event) -> bool {
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event.kind.is_access() && event.kind != written {
            return false;
        }
        event.paths.is_empty()
            || event.paths.iter().any(|path| {
                let name = path.file_name();
                name.is_some_and(|name| self.names.contains(name) || is_swap(name))
                    || self.directories.iter().any(|ours| path.starts_with(ours))
            })
    }
}

/// `..data`, by which the kubelet swaps all files of a ConfigMap.
fn is_swap(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"..")
}
