//! The configuration on real directories. Nothing here sleeps: each step waits for the channel.
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use certagent_core::{algorithm::KeyAlgorithm, config::Settings};
use futures::future::BoxFuture;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{ActiveConfig, BadConfig, ConfigFiles, fixture::Objects};
use crate::{
    admin::Metrics,
    clock::{Clock, SharedClock},
    volume::StateDir,
};

/// Long enough for any machine; no test waits so long unless it fails.
const GUARD: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_good_edit_becomes_active_and_a_bad_one_keeps_the_last_good_config() {
    let mut agent = Agent::new(|dir| {
        write(dir, &Objects::default());
        dir.to_owned()
    });
    assert_eq!(agent.validity(), 3600);

    write(
        &agent.dir,
        &Objects {
            validity: 7200,
            ..Objects::default()
        },
    );
    let active = agent.change().await;
    assert_eq!((active.version, &active.problem), (2, &None));
    assert_eq!(agent.validity(), 7200);

    write(
        &agent.dir,
        &Objects {
            window: 100,
            ..Objects::default()
        },
    );
    let active = agent.change().await;
    assert_eq!(active.version, 2);
    assert_eq!(agent.validity(), 7200);
    let problem = active.problem.as_deref().unwrap();
    assert!(problem.contains("objects.yaml:13:"), "{problem}");
    assert!(
        problem.contains("spec.rotationWindowPercentage"),
        "{problem}"
    );
    assert!(agent.metrics().contains("certagent_config_valid 0\n"));

    // Back to what is active: only the problem goes away.
    write(
        &agent.dir,
        &Objects {
            validity: 7200,
            ..Objects::default()
        },
    );
    let active = agent.change().await;
    assert_eq!((active.version, &active.problem), (2, &None));
    assert!(agent.metrics().contains("certagent_config_valid 1\n"));
}

#[tokio::test]
async fn a_swap_of_a_config_maps_data_link_is_noticed() {
    let generation = |dir: &Path, name: &str, objects: &Objects| {
        fs::create_dir(dir.join(name)).unwrap();
        write(&dir.join(name), objects);
        symlink(name, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    let mut agent = Agent::new(|dir| {
        generation(dir, "..1", &Objects::default());
        symlink("..data/objects.yaml", dir.join("objects.yaml")).unwrap();
        dir.to_owned()
    });
    let algorithm = "rsa:\n      modulusSize: 2048";
    generation(
        &agent.dir,
        "..2",
        &Objects {
            algorithm,
            ..Objects::default()
        },
    );
    let active = agent.change().await;
    assert_eq!(active.config.certificates.algorithm, KeyAlgorithm::Rsa2048);
}

#[tokio::test]
async fn an_editor_that_renames_over_a_single_file_is_noticed_again_and_again() {
    let mut agent = Agent::new(|dir| {
        write(dir, &Objects::default());
        dir.join("objects.yaml")
    });
    for validity in [7200, 10800, 14400] {
        fs::write(
            agent.dir.join("#new"),
            Objects {
                validity,
                ..Objects::default()
            }
            .yaml(),
        )
        .unwrap();
        fs::rename(agent.dir.join("#new"), agent.dir.join("objects.yaml")).unwrap();
        agent.change().await;
        assert_eq!(i64::try_from(agent.validity()), Ok(validity));
    }
}

#[tokio::test]
async fn a_directory_that_is_replaced_as_a_whole_is_watched_again() {
    let mut agent = Agent::new(|dir| {
        let config = dir.join("config");
        fs::create_dir(&config).unwrap();
        write(&config, &Objects::default());
        config
    });
    let (config, next) = (agent.dir.join("config"), agent.dir.join("next"));
    fs::create_dir(&next).unwrap();
    write(
        &next,
        &Objects {
            validity: 7200,
            ..Objects::default()
        },
    );
    // Exchanged in one step, so that the directory is never missing.
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(cwd, &next, cwd, &config, rustix::fs::RenameFlags::EXCHANGE).unwrap();
    agent.change().await;
    assert_eq!(agent.validity(), 7200);

    write(
        &config,
        &Objects {
            validity: 10800,
            ..Objects::default()
        },
    );
    agent.change().await;
    assert_eq!(agent.validity(), 10800);
}

#[tokio::test]
async fn a_missing_file_keeps_the_config_and_its_return_is_noticed() {
    let mut agent = Agent::new(|dir| {
        write(dir, &Objects::default());
        dir.join("objects.yaml")
    });
    fs::remove_file(agent.dir.join("objects.yaml")).unwrap();
    let active = agent.change().await;
    assert!(
        active
            .problem
            .as_deref()
            .unwrap()
            .contains("no such file or directory")
    );
    write(&agent.dir, &Objects::default());
    assert_eq!(agent.change().await.problem, None);
}

#[tokio::test]
async fn the_poll_finds_what_no_event_told() {
    // The file is a link into a directory that is itself a link: its swap gives no event here.
    let far = TempDir::new().unwrap();
    for (name, validity) in [("1", 3600), ("2", 7200)] {
        fs::create_dir(far.path().join(name)).unwrap();
        write(
            &far.path().join(name),
            &Objects {
                validity,
                ..Objects::default()
            },
        );
    }
    symlink("1", far.path().join("current")).unwrap();
    let mut agent = Agent::new(|dir| {
        symlink(
            far.path().join("current/objects.yaml"),
            dir.join("objects.yaml"),
        )
        .unwrap();
        dir.join("objects.yaml")
    });
    symlink("2", far.path().join("next")).unwrap();
    fs::rename(far.path().join("next"), far.path().join("current")).unwrap();
    agent.poll.notify_one();
    agent.change().await;
    assert_eq!(agent.validity(), 7200);
}

#[tokio::test]
async fn the_last_good_config_survives_a_restart_with_a_broken_file() {
    let mut agent = Agent::new(|dir| {
        write(dir, &Objects::default());
        dir.to_owned()
    });
    write(
        &agent.dir,
        &Objects {
            validity: 7200,
            ..Objects::default()
        },
    );
    agent.change().await;
    fs::write(agent.dir.join("objects.yaml"), "kind: [").unwrap();

    let agent = agent.restart().await.unwrap();
    assert_eq!(agent.validity(), 7200);
    let active = agent.receiver.borrow().clone();
    assert!(
        active
            .problem
            .as_deref()
            .unwrap()
            .contains("objects.yaml:1:")
    );
    let path = &active.config.workloads[0].volume.path;
    assert_eq!(*path, agent.dir.join("volumes/a").display().to_string());
}

#[tokio::test]
async fn without_a_last_good_config_a_broken_file_stops_the_start_with_every_problem() {
    let (dir, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write(
        dir.path(),
        &Objects {
            window: 0,
            validity: 1,
            ..Objects::default()
        },
    );
    let error = Agent::start(dir.path().to_owned(), dir, state)
        .err()
        .unwrap();
    assert_eq!(error.problems.len(), 2);
    let text = error.to_string();
    assert!(
        text.contains("\n  /") && text.contains("objects.yaml:12:"),
        "{text}"
    );
}

fn write(dir: &Path, objects: &Objects) {
    fs::write(dir.join("objects.yaml"), objects.yaml()).unwrap();
}

/// A configuration that is followed.
struct Agent {
    /// Where the configuration is.
    dir: PathBuf,
    config: PathBuf,
    receiver: watch::Receiver<Arc<ActiveConfig>>,
    metrics: Arc<Metrics>,
    /// Makes the clock's next sleep end.
    poll: Arc<Notify>,
    owned: (TempDir, TempDir),
    state: Weak<StateDir>,
    guard: DropGuard,
}

impl Agent {
    /// `fill` puts the first files into a directory and says what is given with `--config`.
    fn new(fill: impl FnOnce(&Path) -> PathBuf) -> Self {
        let (dir, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let config = fill(dir.path());
        Self::start(config, dir, state).unwrap()
    }

    async fn restart(self) -> Result<Self, BadConfig> {
        let Self {
            config,
            owned: (dir, state),
            guard,
            state: held,
            ..
        } = self;
        drop(guard);
        // The task lets go of the state directory's lock when it has seen the cancellation.
        while held.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        Self::start(config, dir, state)
    }

    fn start(config: PathBuf, dir: TempDir, state: TempDir) -> Result<Self, BadConfig> {
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let state_dir = Arc::new(StateDir::open(state.path(), true).unwrap());
        let (metrics, poll) = (Arc::new(Metrics::default()), Arc::new(Notify::new()));
        let clock: SharedClock = Arc::new(PolledClock(Arc::clone(&poll)));
        let files = ConfigFiles::new(vec![config.clone()], Settings::default());
        let receiver = files.start(&state_dir, Arc::clone(&metrics), clock, cancel)?;
        let (held, path) = (Arc::downgrade(&state_dir), dir.path().to_owned());
        let owned = (dir, state);
        Ok(Self {
            dir: path,
            config,
            receiver,
            metrics,
            poll,
            owned,
            state: held,
            guard,
        })
    }

    async fn change(&mut self) -> Arc<ActiveConfig> {
        tokio::time::timeout(GUARD, self.receiver.changed())
            .await
            .unwrap()
            .unwrap();
        self.receiver.borrow_and_update().clone()
    }

    fn validity(&self) -> u64 {
        self.receiver
            .borrow()
            .config
            .certificates
            .validity
            .as_secs()
    }

    fn metrics(&self) -> String {
        self.metrics.render(&[], Timestamp::UNIX_EPOCH).unwrap()
    }
}

/// A clock that stands still, and whose sleeps end when a test says so.
struct PolledClock(Arc<Notify>);

impl Clock for PolledClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        let poll = Arc::clone(&self.0);
        Box::pin(async move { poll.notified().await })
    }
}
