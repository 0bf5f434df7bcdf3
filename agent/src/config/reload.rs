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

use certagent_core::config::{Problem, Source};
use jiff::SignedDuration;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{ActiveConfig, BadConfig, ConfigFiles, Found, changes, last_good};
use crate::{admin::Metrics, clock::SharedClock, volume::StateDir};

/// Filesystems that give no events, and directories that appear later, are looked at so often.
const POLL: SignedDuration = SignedDuration::from_secs(60);

/// An editor may write a file in several steps: it is read until two readings are equal, so far
/// apart.
const SETTLE: Duration = Duration::from_millis(50);

/// A file that never settles is taken as it is after so many readings.
const MAX_READINGS: usize = 40;

/// More problems than this are not written to the log.
const MAX_LOGGED: usize = 20;

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
        let keeper = Keeper {
            state: Arc::clone(state),
        };
        let (active, problems) = match found.config {
            Some(config) => {
                keeper.keep(&found.sources);
                (config, found.problems)
            }
            None => match keeper.kept().and_then(|sources| self.check(sources).config) {
                Some(config) => (config, found.problems),
                None => {
                    return Err(BadConfig {
                        problems: found.problems,
                    });
                }
            },
        };
        let problem = problem(&problems);
        say_problems(&problems);
        if problem.is_some() {
            error!(
                "THE CONFIGURATION HAS ERRORS: the last good one, of an earlier start, is used \
                instead; `certagent validate` shows what to correct"
            );
        }
        metrics.config_valid(problem.is_none());
        let active = ActiveConfig {
            config: Arc::new(active),
            problem,
            version: 1,
        };
        let (sender, receiver) = watch::channel(Arc::new(active));
        let follower = Follower {
            seen: Seen {
                sources: found.sources,
                problems,
            },
            files: self,
            keeper,
            metrics,
            clock,
            watched: watcher,
            sender,
        };
        tokio::spawn(async move { cancel.run_until_cancelled(follower.run(&wake)).await });
        Ok(receiver)
    }
}

struct Follower {
    files: ConfigFiles,
    keeper: Keeper,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    watched: Watched,
    sender: watch::Sender<Arc<ActiveConfig>>,
    seen: Seen,
}

/// The newest content that was looked at: nothing is said or done about it again.
#[derive(PartialEq)]
struct Seen {
    sources: Vec<Source>,
    problems: Vec<Problem>,
}

impl Follower {
    async fn run(mut self, wake: &Notify) {
        loop {
            self.watched.arm();
            // Armed first, read then: no edit falls between the two.
            let found = self.settled().await;
            let seen = Seen {
                sources: found.sources.clone(),
                problems: found.problems.clone(),
            };
            if seen != self.seen {
                self.seen = seen;
                self.take(found);
            }
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
            if found.sources == self.seen.sources && found.problems == self.seen.problems {
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

    /// Makes new content active, or says why not.
    fn take(&self, found: Found) {
        let before = Arc::clone(&self.sender.borrow());
        say_problems(&found.problems);
        let problem = problem(&found.problems);
        self.metrics.config_valid(problem.is_none());
        let Some(config) = found.config else {
            error!("the edited configuration has errors, so the one before it stays active");
            self.sender.send_replace(Arc::new(ActiveConfig {
                problem,
                ..(*before).clone()
            }));
            return;
        };
        self.keeper.keep(&found.sources);
        let changes = changes(&before.config, &config);
        if !changes.is_empty() {
            info!(
                changes = changes.join("; "),
                "the configuration changed; a running certificate follows at its next renewal, another identity at once"
            );
        } else if before.problem.is_some() {
            info!("the configuration is good again, and as it was before");
        }
        let is_same = *before.config == config;
        if is_same && before.problem.is_none() {
            return;
        }
        let version = before.version + u64::from(!is_same);
        self.sender.send_replace(Arc::new(ActiveConfig {
            config: if is_same {
                Arc::clone(&before.config)
            } else {
                Arc::new(config)
            },
            problem: None,
            version,
        }));
    }
}

/// The errors in one text; none without errors.
fn problem(problems: &[Problem]) -> Option<String> {
    let errors: Vec<_> = problems
        .iter()
        .filter(|one| one.is_error())
        .map(ToString::to_string)
        .collect();
    (!errors.is_empty()).then(|| errors.join("\n"))
}

fn say_problems(problems: &[Problem]) {
    for problem in problems.iter().take(MAX_LOGGED) {
        if problem.is_error() {
            error!("{problem}");
        } else {
            warn!("{problem}");
        }
    }
    if let Some(more) = problems
        .len()
        .checked_sub(MAX_LOGGED)
        .filter(|more| *more > 0)
    {
        error!("{more} more problems; `certagent validate` shows all");
    }
}

/// Keeps the last good configuration in the state directory.
struct Keeper {
    state: Arc<StateDir>,
}

impl Keeper {
    fn kept(&self) -> Option<Vec<Source>> {
        match self.state.load_last_good() {
            Ok(text) => text.as_deref().and_then(last_good::decode),
            Err(error) => {
                warn!(%error, "the last good configuration of an earlier start cannot be read");
                None
            }
        }
    }

    /// The agent works without, so a failure is only told.
    fn keep(&self, sources: &[Source]) {
        let text = match last_good::encode(sources) {
            Ok(text) => text,
            Err(error) => {
                warn!(%error, "the configuration cannot be kept for the next start");
                return;
            }
        };
        if self.state.load_last_good().ok().flatten().as_deref() == Some(&text) {
            return;
        }
        if let Err(error) = self.state.save_last_good(&text) {
            warn!(%error, "the configuration cannot be kept for the next start");
        }
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
