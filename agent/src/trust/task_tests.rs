use certagent_core::{config::TrustAnchor, pool::CaPoolName};
use certagent_emulator::{Fault, FaultRule, Method};
use jiff::SignedDuration;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    cas::{
        Roots,
        lab::{Lab, domain, enterprise, now, pool},
    },
    clock::{Clock as _, ManualClock},
    trust::{
        Source,
        lab::{self, BundleServer, numbered, root},
    },
};

/// How long a test waits for something that must happen. Not a measure of anything.
const GUARD: std::time::Duration = std::time::Duration::from_secs(60);

struct Bench {
    lab: Lab,
    clock: ManualClock,
    config: watch::Sender<Arc<ActiveConfig>>,
    trust: watch::Receiver<Arc<Trust>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    state: TempDir,
}

fn config(pools: &[CaPoolName]) -> Arc<ActiveConfig> {
    let anchors: Vec<_> = pools.iter().cloned().map(TrustAnchor::Pool).collect();
    active(&anchors)
}

fn active(anchors: &[TrustAnchor]) -> Arc<ActiveConfig> {
    Arc::new(ActiveConfig {
        config: Arc::new(lab::config(&[("a", anchors)])),
        problem: None,
        version: 0,
    })
}

impl Bench {
    async fn start(faults: Vec<FaultRule>) -> Self {
        let nobody = EndpointClient::new(&Roots::none()).unwrap();
        Self::with(faults, nobody, config(&[enterprise()])).await
    }

    /// With one endpoint for the only trust domain.
    async fn of(server: &BundleServer) -> Self {
        let anchor = TrustAnchor::Endpoint(server.endpoint());
        Self::with(Vec::new(), server.client(), active(&[anchor])).await
    }

    async fn with(
        faults: Vec<FaultRule>,
        endpoints: EndpointClient,
        config: Arc<ActiveConfig>,
    ) -> Self {
        let lab = Lab::with_other_root().await;
        lab.emulator.set_faults(faults);
        let clock = ManualClock::new(now());
        let (config, follow) = watch::channel(config);
        let sources = Sources {
            pools: lab.client.clone(),
            endpoints,
        };
        let state = tempfile::tempdir().unwrap();
        let (task, trust) = task(&sources, &state, &clock, follow);
        let stop = CancellationToken::new();
        let task = tokio::spawn(task.run(stop.clone()));
        Self {
            lab,
            clock,
            config,
            trust,
            stop,
            task,
            state,
        }
    }

    /// Ends the process and begins another with the same state.
    async fn restart(&mut self, sources: &Sources) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
        let (task, trust) = task(sources, &self.state, &self.clock, self.config.subscribe());
        self.trust = trust;
        self.stop = CancellationToken::new();
        self.task = tokio::spawn(task.run(self.stop.clone()));
    }

    fn step(&self, seconds: i64) {
        self.clock.step(SignedDuration::from_secs(seconds));
    }

    fn source(&self) -> Source {
        let trust = self.trust.borrow();
        trust.sources().values().next().unwrap().clone()
    }

    async fn until(&mut self, reached: impl FnMut(&Arc<Trust>) -> bool) -> Arc<Trust> {
        let reached = tokio::time::timeout(GUARD, self.trust.wait_for(reached));
        Arc::clone(&*reached.await.expect("it never came to that").unwrap())
    }

    fn fetches(&self) -> u64 {
        self.lab.emulator.stats().requests(Method::FetchCaCerts)
    }
}

fn task(
    sources: &Sources,
    state: &TempDir,
    clock: &ManualClock,
    config: watch::Receiver<Arc<ActiveConfig>>,
) -> (TrustTask, watch::Receiver<Arc<Trust>>) {
    let state = Arc::new(StateDir::open(state.path(), true).unwrap());
    let (clock, nobody) = (Arc::new(clock.clone()), Distrust::default());
    TrustTask::new(sources.clone(), nobody, state, clock, config)
}

fn names(trust: &Trust) -> Vec<String> {
    let roots = trust
        .bundle(&domain("a"))
        .map(|bundle| bundle.roots().to_vec());
    let mut names: Vec<_> = roots
        .unwrap_or_default()
        .iter()
        .map(|root| root.subject_text().trim_start_matches("CN=").to_owned())
        .collect();
    names.sort();
    names
}

/// Waits for something that nobody tells of.
async fn eventually(wanted: impl Fn() -> bool) {
    let looking = async {
        while !wanted() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, looking).await.unwrap();
}

fn failed(trust: &Arc<Trust>) -> bool {
    trust
        .sources()
        .values()
        .any(|source| source.error.is_some())
}

#[tokio::test]
async fn the_first_roots_come_at_once_and_later_ones_every_5_minutes() {
    let mut bench = Bench::start(Vec::new()).await;
    let first = wait_ready(&mut bench.trust).await.unwrap();
    assert_eq!(
        first.bundle(&domain("a")).unwrap().roots(),
        [bench.lab.root("root-pool")]
    );
    assert_eq!(bench.fetches(), 1);

    bench.lab.always(Fault::CloseBefore);
    bench.clock.step(SignedDuration::from_secs(300));
    let away = bench.until(failed).await;
    assert_eq!(away.bundles(), first.bundles());

    bench.lab.heal();
    bench.clock.step(SignedDuration::from_secs(300));
    let back = bench.until(|trust| !failed(trust)).await;
    assert_eq!(back.bundles(), first.bundles());
}

#[tokio::test]
async fn a_pool_that_never_answered_is_asked_again_soon() {
    let faults = vec![FaultRule::next(1, Fault::CloseBefore)];
    let mut bench = Bench::start(faults).await;
    let nothing = wait_ready(&mut bench.trust).await.unwrap();
    assert!(nothing.bundles().is_empty() && failed(&nothing));
    bench.clock.step(SignedDuration::from_secs(5));
    bench
        .until(|trust| trust.bundle(&domain("a")).is_some())
        .await;
}

#[tokio::test]
async fn a_pool_that_is_configured_anew_is_asked_at_once_and_the_others_are_not() {
    let mut bench = Bench::start(Vec::new()).await;
    wait_ready(&mut bench.trust).await.unwrap();
    bench
        .config
        .send_replace(config(&[enterprise(), pool("other-pool")]));
    let both = |trust: &Arc<Trust>| {
        trust
            .bundle(&domain("a"))
            .is_some_and(|bundle| bundle.roots().len() == 2)
    };
    bench.until(both).await;
    assert_eq!(bench.fetches(), 2);
}

#[tokio::test]
async fn the_task_ends_when_it_is_told_to_even_while_a_pool_hangs() {
    let mut bench = Bench::start(vec![FaultRule::always(Fault::Hang)]).await;
    bench.stop.cancel();
    bench.task.await.unwrap();
    assert_eq!(wait_ready(&mut bench.trust).await, Err(Stopped));
}

#[tokio::test]
async fn an_endpoint_is_asked_as_often_as_it_hints_and_new_roots_come_at_once() {
    let server = BundleServer::start().await;
    server.serve(&numbered(&[root("one")], 1, 60));
    let mut bench = Bench::of(&server).await;
    wait_ready(&mut bench.trust).await.unwrap();
    assert_eq!(names(&bench.trust.borrow()), ["one"]);
    let due = bench.source().due.unwrap();
    assert_eq!(due, now() + SignedDuration::from_secs(60));

    server.serve(&numbered(&[root("one"), root("two")], 2, 600));
    bench.step(60);
    let later = bench
        .until(|trust| names(trust).contains(&"two".to_owned()))
        .await;
    // The first root is another of the same name, and the one that went stays for a validity.
    assert_eq!(names(&later), ["one", "one", "two"]);
    assert_eq!(later.sources().values().next().unwrap().sequence, Some(2));
    let due = bench.source().due.unwrap();
    assert_eq!(due, now() + SignedDuration::from_secs(660));
}

#[tokio::test]
async fn an_endpoint_that_is_away_for_an_hour_keeps_its_roots_and_recovers_by_itself() {
    let server = BundleServer::start().await;
    let good = numbered(&[root("one")], 5, 60);
    server.serve(&good);
    let mut bench = Bench::of(&server).await;
    wait_ready(&mut bench.trust).await.unwrap();
    server.answer(503, "away");
    let before = server.paths().len();
    for _ in 0..60 {
        bench.step(60);
        // Whatever this minute brings is over when the source waits again.
        let now = bench.clock.now();
        let trust = bench.trust.clone();
        eventually(|| {
            let trust = trust.borrow();
            trust.sources().values().all(|one| one.due > Some(now))
        })
        .await;
        assert_eq!(names(&bench.trust.borrow()), ["one"]);
    }
    let attempts = server.paths().len() - before;
    // 1, 2, 4 and then every 5 minutes.
    assert!((12..=16).contains(&attempts), "{attempts}");
    assert!(failed(&bench.trust.borrow()));

    server.serve(&good);
    bench.step(300);
    let back = bench.until(|trust| !failed(trust)).await;
    assert_eq!(names(&back), ["one"]);
    assert_eq!(bench.source().failures, 0);
}

#[tokio::test]
async fn an_older_bundle_is_refused_also_after_a_restart() {
    let server = BundleServer::start().await;
    let (old, new) = (root("old"), root("new"));
    server.serve(&numbered(std::slice::from_ref(&new), 9, 60));
    let mut bench = Bench::of(&server).await;
    wait_ready(&mut bench.trust).await.unwrap();
    server.serve(&numbered(&[old], 8, 60));
    bench.step(60);
    let refused = bench.until(failed).await;
    assert_eq!(names(&refused), ["new"]);
    let said = bench.source().error.unwrap().to_string();
    assert!(said.contains("from spiffe_sequence 9 to 8"), "{said}");

    let sources = Sources {
        pools: bench.lab.client.clone(),
        endpoints: server.client(),
    };
    bench.restart(&sources).await;
    assert_eq!(names(&bench.trust.borrow()), ["new"]);
    let still = wait_ready(&mut bench.trust).await.unwrap();
    assert!(failed(&still) && names(&still) == ["new"]);

    // Taken out of the configuration and put back, it begins anew.
    let anchor = TrustAnchor::Endpoint(server.endpoint());
    bench
        .config
        .send_replace(active(&[TrustAnchor::Pem(new.clone())]));
    bench.until(|trust| trust.sources().is_empty()).await;
    bench
        .config
        .send_replace(active(&[TrustAnchor::Pem(new), anchor]));
    bench.until(|trust| names(trust) == ["new", "old"]).await;
}

#[tokio::test]
async fn a_root_that_went_while_nobody_looked_stays_for_one_validity_over_restarts() {
    let server = BundleServer::start().await;
    let (old, new) = (root("old"), root("new"));
    server.serve(&numbered(&[old, new.clone()], 1, 60));
    let mut bench = Bench::of(&server).await;
    wait_ready(&mut bench.trust).await.unwrap();
    let sources = Sources {
        pools: bench.lab.client.clone(),
        endpoints: server.client(),
    };
    server.serve(&numbered(&[new], 2, 3600));
    bench.step(600);
    bench.restart(&sources).await;
    // First missed now, after ten minutes.
    let missed = wait_ready(&mut bench.trust).await.unwrap();
    assert_eq!(names(&missed), ["new", "old"]);
    bench.step(3599);
    bench.restart(&sources).await;
    let resumed = wait_ready(&mut bench.trust).await.unwrap();
    assert_eq!(names(&resumed), ["new", "old"]);
    // Nothing but its time is over at this moment.
    bench.step(1);
    bench.until(|trust| names(trust) == ["new"]).await;
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_set_aside_and_what_is_published_is_kept() {
    let mut bench = Bench::start(Vec::new()).await;
    let first = wait_ready(&mut bench.trust).await.unwrap();
    // Nothing was known before the first start either.
    assert!(first.keeps_published(&domain("a")));
    bench.step(3600);
    bench
        .until(|trust| !trust.keeps_published(&domain("a")))
        .await;

    let file = bench.state.path().join("trust.json");
    std::fs::write(&file, "torn").unwrap();
    let sources = Sources {
        pools: bench.lab.client.clone(),
        endpoints: EndpointClient::new(&Roots::none()).unwrap(),
    };
    bench.restart(&sources).await;
    let aside = bench.state.path().join("trust.json.corrupt");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "torn");
    let rebuilt = wait_ready(&mut bench.trust).await.unwrap();
    assert!(rebuilt.keeps_published(&domain("a")));
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept["version"], json!(1));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    // A restart does not prolong it.
    bench.step(1800);
    bench.restart(&sources).await;
    bench.step(1800);
    bench
        .until(|trust| !trust.keeps_published(&domain("a")))
        .await;
}
