//! The controller under load: how long a request takes, 500 at once against the quota of one CA, and
//! its memory with 5,000 objects and as many pods.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use certagent_emulator::Quotas;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{
    ResourceExt as _,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{sync::watch, time::sleep};

use crate::{
    Place,
    cluster::{Cluster, Known, SIGNER},
    driver::Driver,
    goal,
    publish::{at, millis},
};

/// One by one.
const SINGLE: usize = 100;
/// At once.
const BURST: usize = 500;
/// All objects, and all pods.
const ALL: usize = 5000;
/// Certificates a second of one CA of the tier DEVOPS, and so many at once.
const RATE: usize = 25;
/// MiB with all of them.
const GOAL_MEMORY: f64 = 40.0;
/// What comes beside the quota's time.
const GOAL_BESIDE: Duration = Duration::from_secs(3);
/// Requests that are made at one moment.
const CALLS: usize = 64;
/// Until memory is looked at.
const SETTLE: Duration = Duration::from_secs(3);

/// When each object was made, and when its certificate was seen.
#[derive(Default)]
struct Times {
    made: HashMap<String, Instant>,
    signed: HashMap<String, Instant>,
}

type Shared = Arc<Mutex<Times>>;

pub(crate) async fn run(place: &Place, cluster: &Cluster) {
    cluster.clear().await;
    place
        .emulator
        .set_quotas(Quotas::Service { retry_info: true });
    let controller = cluster.start(&place.endpoint, "load");
    println!("\nthe controller under load; {ALL} pods are made");
    let pods = cluster.pods("load", ALL).await;
    let (times, mut signed) = follow(cluster);
    ask(cluster, &times, &pods[..1]).await;
    signed.wait_for(|count| *count == 1).await.unwrap();
    sleep(SETTLE).await;
    println!(
        "  memory with {ALL} pods and one request: {}",
        memory(&controller)
    );

    let mut took = Vec::new();
    for pod in &pods[1..=SINGLE] {
        let before = *signed.borrow();
        let name = ask(cluster, &times, std::slice::from_ref(pod))
            .await
            .remove(0);
        signed.wait_for(|count| *count > before).await.unwrap();
        took.push(between(&times, &name));
        // Slower than the quota.
        sleep(Duration::from_millis(60)).await;
    }
    println!(
        "  one by one, {SINGLE}: object made to certificate written p50 {:.1} ms, p95 {:.1} ms",
        millis(at(&mut took, 50)),
        millis(at(&mut took, 95))
    );

    let (before, start) = (sold(place), Instant::now());
    let names = ask(cluster, &times, &pods[SINGLE + 1..SINGLE + 1 + BURST]).await;
    signed
        .wait_for(|count| *count == 1 + SINGLE + BURST)
        .await
        .unwrap();
    let whole = start.elapsed();
    let mut took: Vec<_> = names.iter().map(|name| between(&times, name)).collect();
    let quota = Duration::from_secs(u64::try_from((BURST - RATE).div_ceil(RATE)).unwrap());
    println!(
        "  {BURST} at once: all signed after {:.1} s, the quota alone takes {} s ({}); p50 {:.1} s, p95 {:.1} s",
        whole.as_secs_f64(),
        quota.as_secs(),
        goal(whole <= quota + GOAL_BESIDE, "not 3 s more"),
        at(&mut took, 50).as_secs_f64(),
        at(&mut took, 95).as_secs_f64(),
    );
    println!(
        "    sold for them: {}, refused by the quota: {}; memory: {}",
        sold(place) - before,
        place.emulator.stats().quota_refused,
        memory(&controller)
    );

    ask(cluster, &times, &pods[SINGLE + 1 + BURST..]).await;
    println!(
        "  {ALL} objects, {} of them waiting for the quota: {}",
        ALL - *signed.borrow(),
        memory(&controller)
    );
    signed.wait_for(|count| *count == ALL).await.unwrap();
    sleep(SETTLE).await;
    println!(
        "  {ALL} objects and {ALL} pods, all signed: {} ({})",
        memory(&controller),
        goal(
            controller.most_rss() < GOAL_MEMORY,
            &format!("under {GOAL_MEMORY:.0} MiB at any time")
        )
    );
    let conditions = conditions(cluster).await;
    println!("    conditions: {conditions:?}");
    controller.stop();

    let again = cluster.start(&place.endpoint, "load-again");
    sleep(2 * SETTLE).await;
    println!(
        "  a controller that begins with all of them: {}",
        memory(&again)
    );
    again.stop();
    place.emulator.set_quotas(Quotas::Off);
    cluster.clear().await;
}

/// Makes the requests of these pods, all at once; gives their names.
async fn ask(cluster: &Cluster, times: &Shared, pods: &[Known]) -> Vec<String> {
    let requests = stream::iter(pods).then(async |pod| cluster.request(pod, SIGNER).await.1);
    let requests: Vec<_> = requests.collect().await;
    let csrs = &cluster.csrs();
    let made = stream::iter(&requests).map(async |request| {
        let made = csrs.create(&PostParams::default(), request).await.unwrap();
        let name = made.name_any();
        times
            .lock()
            .unwrap()
            .made
            .insert(name.clone(), Instant::now());
        name
    });
    made.buffered(CALLS).collect().await
}

/// Notes when certificates are seen, and says how many there are.
fn follow(cluster: &Cluster) -> (Shared, watch::Receiver<usize>) {
    let times = Shared::default();
    let (count, counted) = watch::channel(0);
    let (csrs, seen) = (cluster.all_csrs(), Arc::clone(&times));
    tokio::spawn(async move {
        let only = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}"));
        let mut objects = std::pin::pin!(watcher(csrs, only).default_backoff().applied_objects());
        while let Some(object) = objects.next().await {
            // A watch that breaks begins anew.
            let Ok(object) = object else { continue };
            if object
                .status
                .as_ref()
                .is_some_and(|status| status.certificate.is_some())
            {
                let mut times = seen.lock().unwrap();
                times
                    .signed
                    .entry(object.name_any())
                    .or_insert_with(Instant::now);
                count.send_replace(times.signed.len());
            }
        }
    });
    (times, counted)
}

/// From the answer that an object is made until its certificate was seen.
fn between(times: &Shared, name: &str) -> Duration {
    let times = times.lock().unwrap();
    times.signed[name].saturating_duration_since(times.made[name])
}

/// How many objects have which conditions.
async fn conditions(cluster: &Cluster) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    let all = cluster
        .all_csrs()
        .list(&kube::api::ListParams::default())
        .await;
    for csr in all.unwrap() {
        let CertificateSigningRequest { status, .. } = csr;
        for condition in status.unwrap_or_default().conditions.unwrap_or_default() {
            *counts.entry(condition.type_).or_default() += 1;
        }
    }
    counts
}

fn sold(place: &Place) -> u64 {
    place.emulator.stats().total_sold()
}

fn memory(controller: &Driver) -> String {
    format!(
        "RSS {:.1} MiB, at most {:.1} MiB",
        controller.rss(),
        controller.most_rss()
    )
}
