//! The hooks of one workload, run for generations that a test names. The clock stands still unless
//! a test moves it.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::SignedDuration;
use tempfile::TempDir;
use tokio::task::{self, JoinHandle};

use super::*;
use crate::{
    clock::{Clock as _, ManualClock},
    hooks::{MOST_PROGRAMS, runner::forget_failure},
    volume::StateDir,
};

const FIRST: &str = "..2026_11_21_12_00_00.000000001";
const SECOND: &str = "..2026_11_21_12_30_00.000000001";

/// Long enough for any machine; no test waits so long unless it fails.
const GUARD: Duration = Duration::from_secs(30);

/// A place for a workload, its state and what its hooks write.
struct Site {
    dir: TempDir,
    state: Arc<StateDir>,
    clock: ManualClock,
    metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
}

/// A worker at work.
struct Running {
    target: watch::Sender<Target>,
    board: watch::Receiver<BTreeMap<VolumeId, HookState>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state"), true).unwrap();
        Self {
            state: Arc::new(state),
            clock: ManualClock::new("2026-11-21T12:00:00Z".parse().unwrap()),
            metrics: Arc::new(Metrics::default()),
            slots: Arc::new(Semaphore::new(MOST_PROGRAMS)),
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A hook that writes down its generation in the file `name`, and fails while there is a file
    /// `broken-NAME`.
    fn hook(&self, name: &str) -> Hook {
        let (told, broken) = (self.path(name), self.path(&format!("broken-{name}")));
        let script = format!(
            "echo $CERTAGENT_GENERATION >> {}; test ! -e {}",
            told.display(),
            broken.display()
        );
        Hook::Exec {
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), script],
            limit: Duration::from_secs(60),
        }
    }

    fn set_broken(&self, name: &str) {
        std::fs::write(self.path(&format!("broken-{name}")), "").unwrap();
    }

    fn repair(&self, name: &str) {
        std::fs::remove_file(self.path(&format!("broken-{name}"))).unwrap();
    }

    /// The generations that the hook was told of.
    fn told(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn id() -> VolumeId {
        VolumeId::of(Path::new("/volume"))
    }

    fn record(&self) -> HookRecord {
        self.state.volume(&Self::id()).load_hooks().unwrap()
    }

    fn worker(&self, board: &Board, cancel: &CancellationToken) -> Worker {
        Worker {
            id: Self::id(),
            kept: self.state.volume(&Self::id()),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::new(self.clock.clone()),
            board: board.clone(),
            slots: Arc::clone(&self.slots),
            cancel: cancel.clone(),
        }
    }

    fn start(&self, hooks: &[Hook], generation: &str) -> Running {
        let (target, receiver) = watch::channel(target(hooks, generation));
        let (board, cancel) = (Board::default(), CancellationToken::new());
        let worker = self.worker(&board, &cancel);
        Running {
            target,
            board: board.subscribe(),
            cancel,
            task: tokio::spawn(worker.run(receiver)),
        }
    }
}

fn target(hooks: &[Hook], generation: &str) -> Target {
    Target {
        hooked: Hooked {
            workload: "db".to_owned(),
            hooks: hooks.to_vec(),
        },
        occasion: Some(Occasion {
            path: PathBuf::from("/volume"),
            generation: generation.to_owned(),
            serial: "c0ffee".to_owned(),
            spiffe_id: "spiffe://example.org/ns/a/sa/db".to_owned(),
            not_after: "2026-11-21T13:00:00Z".parse().unwrap(),
        }),
    }
}

impl Running {
    async fn until(&mut self, wanted: impl Fn(&HookState) -> bool) -> HookState {
        let found = self
            .board
            .wait_for(|board| board.get(&Site::id()).is_some_and(&wanted));
        let found = tokio::time::timeout(GUARD, found).await;
        let board = found.expect("it never came to that").unwrap();
        board[&Site::id()].clone()
    }

    async fn done(&mut self, generation: &str) {
        let done = HookState::Done {
            generation: generation.to_owned(),
        };
        self.until(|state| *state == done).await;
    }

    async fn failing(&mut self, generation: &str) -> String {
        let state = self
            .until(|state| {
                matches!(state, HookState::Failing { is_tried: true, .. })
                    && state.generation() == generation
            })
            .await;
        match state {
            HookState::Failing { error, .. } => error,
            HookState::Done { .. } => panic!("it is done"),
        }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

/// Waits for something that must happen and that nobody tells of.
async fn eventually(wanted: impl Fn() -> bool) {
    tokio::time::timeout(GUARD, async {
        while !wanted() {
            task::yield_now().await;
        }
    })
    .await
    .expect("it never came to that");
}

#[tokio::test]
async fn each_generation_is_told_once_also_over_a_restart() {
    let site = Site::new();
    let hooks = [site.hook("one"), site.hook("two")];
    let mut running = site.start(&hooks, FIRST);
    running.done(FIRST).await;
    running.target.send_replace(target(&hooks, SECOND));
    running.done(SECOND).await;
    running.stop().await;
    assert_eq!(site.record().done.as_deref(), Some(SECOND));

    let mut running = site.start(&hooks, SECOND);
    running.done(SECOND).await;
    running.stop().await;
    assert_eq!(site.told("one"), [FIRST, SECOND]);
    assert_eq!(site.told("two"), [FIRST, SECOND]);
}

#[tokio::test]
async fn what_an_earlier_process_did_not_come_to_is_done_at_the_start() {
    let site = Site::new();
    let hooks = [site.hook("one")];
    let mut running = site.start(&hooks, FIRST);
    running.done(FIRST).await;
    running.stop().await;
    // The process ended between the swap and the hooks.
    let mut running = site.start(&hooks, SECOND);
    running.done(SECOND).await;
    running.stop().await;
    assert_eq!(site.told("one"), [FIRST, SECOND]);

    // Where nobody knows, they run once more.
    let kept = site.path("state/volumes").join(Site::id().as_str());
    std::fs::write(kept.join("hooks.json"), "torn").unwrap();
    let mut running = site.start(&hooks, SECOND);
    running.done(SECOND).await;
    running.stop().await;
    assert_eq!(site.told("one"), [FIRST, SECOND, SECOND]);
}

#[tokio::test]
async fn a_hook_that_fails_is_tried_again_alone_and_later_each_time_until_it_succeeds() {
    let site = Site::new();
    site.set_broken("one");
    let hooks = [site.hook("one"), site.hook("two")];
    let mut running = site.start(&hooks, FIRST);
    let error = running.failing(FIRST).await;
    assert!(
        error.starts_with("exec /bin/sh: /bin/sh ended with exit status: 1"),
        "{error}"
    );
    assert_eq!(site.told("two"), [FIRST], "whatever the first one does");
    let began = site.clock.now();
    for attempts in 2..6 {
        // Less than the wait moves nothing.
        let wait = SignedDuration::from_secs(1 << (attempts - 2));
        site.clock.step(wait - SignedDuration::from_millis(1));
        assert_eq!(site.record().failing.unwrap().attempts, attempts - 1);
        site.clock.step(wait);
        eventually(|| {
            site.record()
                .failing
                .is_some_and(|now| now.attempts == attempts)
        })
        .await;
    }
    let failing = site.record().failing.unwrap();
    assert_eq!((failing.since, &*failing.generation), (began, FIRST));
    site.repair("one");
    site.clock.step(SignedDuration::from_mins(5));
    running.done(FIRST).await;
    assert_eq!(site.record().failing, None);
    assert_eq!(site.told("one"), [FIRST; 6]);
    assert_eq!(site.told("two"), [FIRST]);
    running.stop().await;
    let text = site.metrics.render(&[], site.clock.now()).unwrap();
    assert!(
        text.contains("certagent_hook_runs_total{result=\"failed\"} 5"),
        "{text}"
    );
    assert!(
        text.contains("certagent_hook_runs_total{result=\"succeeded\"} 2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_newer_generation_takes_the_place_of_a_retry_and_so_do_corrected_hooks() {
    let site = Site::new();
    site.set_broken("one");
    let hooks = [site.hook("one"), site.hook("two")];
    let mut running = site.start(&hooks, FIRST);
    running.failing(FIRST).await;
    // The clock does not move: all of them at once, and the first one fails again.
    running.target.send_replace(target(&hooks, SECOND));
    running.failing(SECOND).await;
    assert_eq!(site.told("two"), [FIRST, SECOND]);
    assert_eq!(site.record().failing.unwrap().attempts, 1);
    let corrected = [site.hook("three")];
    running.target.send_replace(target(&corrected, SECOND));
    running.done(SECOND).await;
    assert_eq!(site.told("three"), [SECOND]);
    // What was told of the earlier one stays told.
    site.clock.step(SignedDuration::from_mins(30));
    running.target.send_replace(target(&hooks, SECOND));
    running.target.send_replace(target(&corrected, SECOND));
    running.done(SECOND).await;
    running.stop().await;
    assert_eq!(site.told("one"), [FIRST, SECOND]);
    assert_eq!(site.told("three"), [SECOND]);
}

#[tokio::test]
async fn a_failure_is_told_while_another_hook_hangs_and_an_edit_ends_that() {
    let site = Site::new();
    site.set_broken("one");
    let hangs = Hook::Exec {
        program: "/bin/sh".to_owned(),
        arguments: vec![
            "-c".to_owned(),
            format!("echo x >> {}; exec sleep 600", site.path("hangs").display()),
        ],
        limit: Duration::from_secs(300),
    };
    let hooks = [site.hook("one"), hangs];
    let mut running = site.start(&hooks, FIRST);
    let state = running
        .until(|state| matches!(state, HookState::Failing { .. }))
        .await;
    assert!(
        matches!(
            state,
            HookState::Failing {
                is_tried: false,
                ..
            }
        ),
        "the other one runs: {state:?}"
    );
    let kept = site.record().failing.unwrap();
    assert_eq!((kept.attempts, &*kept.generation), (1, FIRST));
    eventually(|| site.told("hangs").len() == 1).await;
    // A newer generation waits for it.
    running.target.send_replace(target(&hooks, SECOND));
    site.repair("one");
    running
        .target
        .send_replace(target(&[site.hook("one")], SECOND));
    running.done(SECOND).await;
    assert_eq!(site.told("one"), [FIRST, SECOND]);
    assert_eq!(site.told("hangs").len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn every_hook_that_failed_is_kept() {
    let site = Site::new();
    site.set_broken("one");
    site.set_broken("three");
    let hooks = [site.hook("one"), site.hook("two"), site.hook("three")];
    let mut running = site.start(&hooks, FIRST);
    running
        .until(|state| matches!(state, HookState::Failing { is_tried: true, .. }))
        .await;
    assert_eq!(site.record().failing.unwrap().others.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_failure_of_hooks_that_are_gone_is_forgotten_and_what_was_done_is_not() {
    let site = Site::new();
    let hooks = [site.hook("one")];
    let mut running = site.start(&hooks, FIRST);
    running.done(FIRST).await;
    site.set_broken("one");
    running.target.send_replace(target(&hooks, SECOND));
    running.failing(SECOND).await;
    running.stop().await;
    assert!(site.record().failing.is_some());
    forget_failure(&site.state.volume(&Site::id()));
    assert_eq!(site.record().failing, None);
    assert_eq!(site.record().done.as_deref(), Some(FIRST));
}

#[tokio::test]
async fn a_program_waits_for_its_turn_and_a_signal_does_not() {
    let site = Site::new();
    let all = u32::try_from(MOST_PROGRAMS).unwrap();
    let taken = Arc::clone(&site.slots).acquire_many_owned(all).await;
    let absent = Hook::Signal {
        pid_file: site.path("no.pid").to_str().unwrap().to_owned(),
        signal: certagent_core::config::HookSignal::Hup,
    };
    let mut running = site.start(&[absent, site.hook("one")], FIRST);
    eventually(|| {
        let text = site.metrics.render(&[], site.clock.now()).unwrap();
        text.contains("certagent_hook_runs_total{result=\"failed\"} 1")
    })
    .await;
    assert!(site.told("one").is_empty());
    drop(taken);
    running.failing(FIRST).await;
    assert_eq!(site.told("one"), [FIRST]);
    running.stop().await;
}

#[tokio::test]
async fn one_that_is_cancelled_writes_nothing_on_the_board_any_more() {
    let site = Site::new();
    let (board, cancel) = (Board::default(), CancellationToken::new());
    let worker = site.worker(&board, &cancel);
    let state = HookState::Done {
        generation: FIRST.to_owned(),
    };
    worker.tell(state.clone());
    assert_eq!(board.send_replace(BTreeMap::new()).len(), 1);
    cancel.cancel();
    worker.tell(state);
    assert!(board.borrow().is_empty());
}

#[tokio::test]
async fn an_agent_that_ends_does_not_wait_for_a_hook_and_the_next_one_runs_it() {
    let site = Site::new();
    let (told, gate) = (site.path("one"), site.path("gate"));
    let script = format!(
        "echo $CERTAGENT_GENERATION >> {}; test -e {} || sleep 600",
        told.display(),
        gate.display()
    );
    let hook = Hook::Exec {
        program: "/bin/sh".to_owned(),
        arguments: vec!["-c".to_owned(), script],
        limit: Duration::from_secs(300),
    };
    let running = site.start(std::slice::from_ref(&hook), FIRST);
    eventually(|| site.told("one").len() == 1).await;
    tokio::time::timeout(GUARD, running.stop())
        .await
        .expect("it ends");
    assert_eq!(site.record().done, None);
    std::fs::write(gate, "").unwrap();
    let mut running = site.start(&[hook], FIRST);
    running.done(FIRST).await;
    running.stop().await;
    assert_eq!(site.told("one"), [FIRST, FIRST]);
}
