//! Memory with 0, 110 and 1,000 volumes, what nothing to do costs, and a driver that is killed.
use std::{fs, time::Duration};

use certagent_tests::kubelet::Pod;
use futures::{StreamExt as _, stream};
use rustix::fs::statvfs;
use tokio::time::{Instant, sleep};

use crate::{
    Place,
    driver::{Driver, Node},
    goal,
    kubelet::pods,
};

const MANY: usize = 1000;
/// Volumes that the driver has when it is killed.
const KEPT: usize = 250;
const RESTARTS: usize = 5;
/// MiB with 110 volumes.
const GOAL_AT_110: f64 = 24.0;
/// Kubelet learns of a driver that is back within this.
const GOAL_RESTART: Duration = Duration::from_secs(1);
/// How many kubelet asks for at a time.
const AT_ONCE: usize = 50;
const IDLE: Duration = Duration::from_secs(120);
/// Until memory is looked at.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn run(place: &Place) {
    let node = Node::new(place, "fleet", "{ecdsa: {curve: P256}}");
    let driver = node.start().await;
    let kubelet = node.kubelet().await;
    let pods = pods(&node.root, MANY);
    println!("\nvolumes of P-256, 24 hours");
    let mut before = 0;
    for count in [0, 110, MANY] {
        each(&pods[before..count], async |pod| kubelet.publish(pod).await).await;
        before = count;
        sleep(SETTLE).await;
        println!("  {count} volumes: {}", memory(&driver, &node));
        if count == 110 {
            let rss = driver.rss();
            println!(
                "    {}",
                goal(
                    rss < GOAL_AT_110,
                    &format!("RSS under {GOAL_AT_110:.0} MiB")
                )
            );
        }
    }
    let share = tokio::task::block_in_place(|| driver.watch(IDLE));
    println!(
        "  idle for {} s with {MANY}: {:.3}% of a core",
        IDLE.as_secs(),
        100.0 * share
    );
    println!("  {MANY} volumes after that: {}", memory(&driver, &node));

    each(&pods[KEPT..], async |pod| kubelet.unpublish(pod).await).await;
    let driver = restarts(place, &node, driver, &pods[..KEPT]).await;
    let kubelet = node.kubelet().await;
    each(&pods[..KEPT], async |pod| kubelet.unpublish(pod).await).await;
    let left = fs::read_dir(node.volumes()).unwrap().count();
    assert_eq!(left, 0, "volumes are left");
    sleep(SETTLE).await;
    println!("  0 volumes again: {}", memory(&driver, &node));
    driver.stop();
}

/// The driver is killed and begins anew, again and again. Gives the last one.
async fn restarts(place: &Place, node: &Node, mut driver: Driver, pods: &[Pod]) -> Driver {
    let bought = place.creates();
    let (mut announced, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        driver.kill();
        let start = Instant::now();
        driver = node.start().await;
        announced.push(driver.announced_after);
        let kubelet = node.kubelet().await;
        each(pods, async |pod| kubelet.publish(pod).await).await;
        asked.push(start.elapsed());
    }
    announced.sort_unstable();
    asked.sort_unstable();
    let (announced, asked) = (announced[RESTARTS / 2], asked[RESTARTS / 2]);
    println!(
        "  killed with {KEPT} volumes: announced again after {:.0} ms ({}), each volume asked for again and well after {:.0} ms; medians of {RESTARTS}",
        announced.as_secs_f64() * 1000.0,
        goal(announced < GOAL_RESTART, "under 1 s"),
        asked.as_secs_f64() * 1000.0,
    );
    let bought = place.creates() - bought;
    println!(
        "    certificates bought in all of them: {bought} ({})",
        goal(bought == 0, "none")
    );
    sleep(SETTLE).await;
    println!(
        "  {KEPT} volumes of an earlier process: {}",
        memory(&driver, node)
    );
    driver
}

async fn each(pods: &[Pod], call: impl AsyncFn(&Pod)) {
    stream::iter(pods)
        .for_each_concurrent(AT_ONCE, |pod| call(pod))
        .await;
}

fn memory(driver: &Driver, node: &Node) -> String {
    let charged = driver.charged();
    let charged = charged.map_or_else(
        || "memory.current is not known on this machine".to_owned(),
        |mebibytes| format!("memory.current {mebibytes:.1} MiB"),
    );
    let files = files(node);
    format!(
        "RSS {:.1} MiB, {charged}; the files of the volumes take {files:.1} MiB",
        driver.rss()
    )
}

/// What the volumes' files take, in MiB.
fn files(node: &Node) -> f64 {
    let volumes = fs::read_dir(node.volumes()).unwrap();
    let bytes: u64 = volumes
        .map(|volume| {
            let there = statvfs(volume.unwrap().path()).unwrap();
            (there.f_blocks - there.f_bfree) * there.f_frsize
        })
        .sum();
    f64::from(u32::try_from(bytes / 1024).unwrap()) / 1024.0
}
