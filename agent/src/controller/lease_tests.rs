use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    clock::{Clock as _, ManualClock},
    issuer::csr_lab::CsrServer,
};

struct Bench {
    server: CsrServer,
    clock: ManualClock,
    /// Who begins and who ends, in order.
    log: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    async fn start() -> Self {
        Self {
            server: CsrServer::start().await,
            clock: ManualClock::new("2026-11-21T01:00:00Z".parse().unwrap()),
            log: Arc::default(),
        }
    }

    fn replica(&self, identity: &'static str) -> (CancellationToken, JoinHandle<()>) {
        let cancel = CancellationToken::new();
        let candidate = Candidate::new(
            self.server.client.clone(),
            "certagent-system",
            "certagent-controller".to_owned(),
            identity.to_owned(),
            Arc::new(self.clock.clone()),
        );
        let (log, ending) = (Arc::clone(&self.log), cancel.clone());
        let task = tokio::spawn(async move {
            let lead = |leading: CancellationToken| {
                let log = Arc::clone(&log);
                async move {
                    log.lock().unwrap().push(format!("{identity} begins"));
                    leading.cancelled().await;
                    log.lock().unwrap().push(format!("{identity} ends"));
                }
            };
            candidate.run(lead, &ending).await;
        });
        (cancel, task)
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Lets time pass, with the replicas at work, until the log has so many lines.
    async fn until(&self, lines: usize) {
        while self.log().len() < lines {
            self.pass(1).await;
        }
    }

    async fn pass(&self, steps: u32) {
        for _ in 0..steps {
            self.clock.step(SignedDuration::from_millis(500));
            // Their calls come and go.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn holder(&self) -> Option<String> {
        self.server.change(|store| {
            let holder = &store.lease.as_ref()?["spec"]["holderIdentity"];
            holder.as_str().map(str::to_owned)
        })
    }
}

#[tokio::test]
async fn one_of_two_replicas_leads_and_goes_on_leading() {
    let bench = Bench::start().await;
    let (_one, _) = bench.replica("one");
    bench.until(1).await;
    let (_two, _) = bench.replica("two");
    bench.pass(100).await;
    assert_eq!(bench.log(), ["one begins"]);
    assert_eq!(bench.holder().as_deref(), Some("one"));
    bench.server.change(|store| {
        let spec = &store.lease.as_ref().unwrap()["spec"];
        assert_eq!(spec["leaseDurationSeconds"], 10);
        assert_eq!(spec["leaseTransitions"], 1);
        assert_ne!(spec["renewTime"], spec["acquireTime"]);
    });
}

#[tokio::test]
async fn whoever_ends_gives_the_lease_back_and_the_other_begins_at_its_next_look() {
    let bench = Bench::start().await;
    let (one, ended) = bench.replica("one");
    bench.until(1).await;
    let (_two, _) = bench.replica("two");
    bench.pass(10).await;
    one.cancel();
    ended.await.unwrap();
    let given = bench.clock.now();
    bench.until(3).await;
    assert_eq!(bench.log(), ["one begins", "one ends", "two begins"]);
    let waited = bench.clock.now().duration_since(given);
    assert!(waited < DURATION, "{waited}");
}

#[tokio::test]
async fn whoever_dies_loses_it_after_its_time() {
    let bench = Bench::start().await;
    let (_one, task) = bench.replica("one");
    bench.until(1).await;
    task.abort();
    let died = bench.clock.now();
    let (_two, _) = bench.replica("two");
    bench.until(2).await;
    assert_eq!(bench.log(), ["one begins", "two begins"]);
    let waited = bench.clock.now().duration_since(died);
    assert!(waited >= DURATION, "{waited}");
    assert!(waited <= SignedDuration::from_secs(15), "{waited}");
}

#[tokio::test]
async fn who_cannot_renew_it_stops_before_others_may_begin() {
    let bench = Bench::start().await;
    let (_one, _) = bench.replica("one");
    bench.until(1).await;
    bench.server.change(|store| store.failure = Some(403));
    let lost = bench.clock.now();
    bench.until(2).await;
    assert_eq!(bench.log(), ["one begins", "one ends"]);
    let waited = bench.clock.now().duration_since(lost);
    assert!(waited < DURATION, "{waited}");
    bench.server.change(|store| store.failure = None);
    bench.until(3).await;
    assert_eq!(bench.log()[2], "one begins");
}

#[tokio::test]
async fn who_is_robbed_of_it_stops() {
    let bench = Bench::start().await;
    let (_one, _) = bench.replica("one");
    bench.until(1).await;
    bench.server.change(|store| {
        let lease = store.lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = json!("somebody");
        lease["metadata"]["resourceVersion"] = json!("4711");
    });
    bench.until(2).await;
    assert_eq!(bench.log(), ["one begins", "one ends"]);
}
