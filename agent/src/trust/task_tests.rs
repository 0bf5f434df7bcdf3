use std::collections::BTreeMap;

use certagent_core::{
    algorithm::KeyAlgorithm,
    config::{CertificatePolicy, Config, TrustAnchor, TrustPolicy},
};
use certagent_emulator::{Fault, FaultRule, Method};
use jiff::SignedDuration;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    cas::lab::{Lab, domain, enterprise, issuing, now, pool},
    clock::ManualClock,
};

struct Bench {
    lab: Lab,
    clock: ManualClock,
    config: watch::Sender<Arc<ActiveConfig>>,
    trust: watch::Receiver<Arc<Trust>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn config(pools: &[CaPoolName]) -> Arc<ActiveConfig> {
    let anchors = pools.iter().cloned().map(TrustAnchor::Pool).collect();
    let config = Config {
        certificates: CertificatePolicy {
            pools: vec![issuing()],
            algorithm: KeyAlgorithm::EcdsaP256,
            validity: std::time::Duration::from_secs(3600),
            rotation_window_percentage: 50,
        },
        trust: TrustPolicy {
            stores: BTreeMap::from([(domain("a"), anchors)]),
        },
        workloads: Vec::new(),
    };
    Arc::new(ActiveConfig {
        config: Arc::new(config),
        problem: None,
        version: 0,
    })
}

impl Bench {
    async fn start(faults: Vec<FaultRule>) -> Self {
        let lab = Lab::with_other_root().await;
        lab.emulator.set_faults(faults);
        let clock = ManualClock::new(now());
        let (config, follow) = watch::channel(config(&[enterprise()]));
        let (task, trust) = TrustTask::new(lab.client.clone(), Arc::new(clock.clone()), follow);
        let stop = CancellationToken::new();
        let task = tokio::spawn(task.run(stop.clone()));
        Self {
            lab,
            clock,
            config,
            trust,
            stop,
            task,
        }
    }

    async fn until(&mut self, reached: impl FnMut(&Arc<Trust>) -> bool) -> Arc<Trust> {
        Arc::clone(&*self.trust.wait_for(reached).await.unwrap())
    }

    fn fetches(&self) -> u64 {
        self.lab.emulator.stats().requests(Method::FetchCaCerts)
    }
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
