//! `certagent wait`: until a directory holds a valid credential.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    clock::SharedClock,
    inspect::{self, DirectoryReport, Verdict},
    trust::Distrust,
};

/// The directory is looked at this often even if nothing was heard of it.
const POLL: Duration = Duration::from_secs(1);

/// A writer makes several changes in a row: wait for so long after the first.
const SETTLE: Duration = Duration::from_millis(20);

/// Why no credential was seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time is up.
    #[error(
        "{} holds no valid credential after {}: {cause}; next: certagent inspect {}",
        inspect::clean(&directory.to_string_lossy()),
        humantime::format_duration(*waited),
        inspect::shell_word(&directory.to_string_lossy())
    )]
    Timeout {
        /// The directory.
        directory: PathBuf,
        /// How long it was waited for.
        waited: Duration,
        /// What `inspect::directory` gave as the cause at last.
        cause: String,
        /// Its verdict: a problem, or unknown.
        verdict: Verdict,
    },
}

/// Waits until `dir` holds a credential that `inspect::directory` finds healthy, or worth no
/// more than a warning, and then returns at once. `dir` need not exist yet.
///
/// `timeout` is counted in real time; `clock` tells whether a certificate is valid. Each look
/// blocks the thread for some milliseconds.
pub async fn wait(dir: &Path, timeout: Duration, clock: SharedClock) -> Result<(), WaitError> {
    wait_polling(dir, timeout, clock, POLL).await
}

async fn wait_polling(
    dir: &Path,
    timeout: Duration,
    clock: SharedClock,
    poll: Duration,
) -> Result<(), WaitError> {
    let start = Instant::now();
    // A timeout beyond all bounds is none.
    let deadline = start.checked_add(timeout);
    let mut ears = Ears::new();
    loop {
        // Listen first, then look: a change in between is heard.
        ears.listen(dir);
        let report = inspect::directory(dir, clock.now(), None, &Distrust::default());
        if matches!(report.verdict(), Verdict::Healthy | Verdict::Warning) {
            return Ok(());
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(timed_out(dir, timeout, &report));
        }
        let next = now + poll;
        let next = deadline.map_or(next, |deadline| next.min(deadline));
        tokio::select! {
            () = sleep_until(next) => {}
            () = ears.heard() => sleep_until(next.min(Instant::now() + SETTLE)).await,
        }
    }
}

fn timed_out(dir: &Path, waited: Duration, report: &DirectoryReport) -> WaitError {
    WaitError::Timeout {
        directory: dir.to_owned(),
        waited,
        cause: report
            .cause()
            .map_or_else(|| report.summary(), |(_, cause)| cause.to_owned()),
        verdict: report.verdict(),
    }
}

/// Hears of changes in one directory. Where the system gives no watches, it hears nothing, and
/// the poll does the work.
struct Ears {
    watcher: Option<RecommendedWatcher>,
    place: Option<PathBuf>,
    changes: watch::Receiver<()>,
}

impl Ears {
    fn new() -> Self {
        let (changed, hearing) = watch::channel(());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
            // Our own reading is an event too, and must not wake us.
            if !event.is_ok_and(|event| event.kind.is_access() && event.kind != written) {
                changed.send_replace(());
            }
        });
        Self {
            watcher: watcher.ok(),
            place: None,
            changes: hearing,
        }
    }

    /// Listens to `dir`, or to the nearest directory above it that exists.
    fn listen(&mut self, dir: &Path) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let Some(nearest) = dir.ancestors().find(|place| place.is_dir()) else {
            return;
        };
        if self.place.as_deref() == Some(nearest) {
            return;
        }
        if let Some(old) = self.place.take() {
            // It may be gone already, and its watch with it.
            watcher.unwatch(&old).unwrap_or_default();
        }
        if watcher.watch(nearest, RecursiveMode::NonRecursive).is_ok() {
            self.place = Some(nearest.to_owned());
        }
    }

    async fn heard(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
