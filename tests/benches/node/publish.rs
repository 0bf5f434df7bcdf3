//! How long `NodePublishVolume` takes, and how long the floor.
use std::time::{Duration, Instant};

use certagent_core::algorithm::KeyAlgorithm;
use certagent_tests::kubelet::Pod;
use futures::future::join_all;

use crate::{
    Place,
    driver::Node,
    floor::Floor,
    goal,
    kubelet::{Kubelet, pods},
};

/// What a node has at most, as kubelet comes.
pub(crate) const AT_ONCE: usize = 110;
/// A volume takes at most so many times the floor.
const GOAL: f64 = 1.5;

struct Case {
    name: &'static str,
    algorithm: KeyAlgorithm,
    written: &'static str,
    /// One by one.
    rounds: usize,
    /// Of so many at once.
    bursts: usize,
    has_goal: bool,
}

const CASES: [Case; 2] = [
    Case {
        name: "P-256",
        algorithm: KeyAlgorithm::EcdsaP256,
        written: "{ecdsa: {curve: P256}}",
        rounds: 300,
        bursts: 10,
        has_goal: true,
    },
    // How long one key takes is luck.
    Case {
        name: "RSA-4096",
        algorithm: KeyAlgorithm::Rsa4096,
        written: "{rsa: {modulusSize: 4096}}",
        rounds: 40,
        bursts: 1,
        has_goal: false,
    },
];

pub(crate) async fn run(place: &Place) {
    for case in &CASES {
        measure(place, case).await;
    }
}

async fn measure(place: &Place, case: &Case) {
    let node = Node::new(place, &format!("publish-{}", case.name), case.written);
    let floor = Floor::new(place, &format!("floor-{}", case.name), case.algorithm).await;
    let driver = node.start().await;
    let kubelet = node.kubelet().await;
    let pods = pods(&node.root, AT_ONCE);
    let cold = timed(kubelet.publish(&pods[0])).await;
    kubelet.unpublish(&pods[0]).await;
    floor.publish(&pods[0]).await;
    floor.unpublish(&pods[0]).await;
    println!(
        "\n{}: the first volume of a driver that has just begun: {:.1} ms",
        case.name,
        millis(cold)
    );

    let (mut floors, mut volumes) = (Vec::new(), Vec::new());
    for round in 0..case.rounds {
        let pod = &pods[round % AT_ONCE];
        floors.push(timed(floor.publish(pod)).await);
        floor.unpublish(pod).await;
        volumes.push(timed(kubelet.publish(pod)).await);
        kubelet.unpublish(pod).await;
    }
    println!("  one by one, {} each", case.rounds);
    compare(case, &mut floors, &mut volumes);

    let (mut floors, mut volumes) = (Vec::new(), Vec::new());
    let (mut whole_floors, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..case.bursts {
        let all = pods.iter().map(|pod| timed(floor.publish(pod)));
        let burst = timed(async { floors.extend(join_all(all).await) });
        whole_floors.push(burst.await);
        join_all(pods.iter().map(|pod| floor.unpublish(pod))).await;
        whole.push(burst_of(&kubelet, &pods, &mut volumes).await);
        join_all(pods.iter().map(|pod| kubelet.unpublish(pod))).await;
    }
    println!("  {AT_ONCE} at once, {} times", case.bursts);
    compare(case, &mut floors, &mut volumes);
    let (floor, volume) = (at(&mut whole_floors, 50), at(&mut whole, 50));
    let ratio = volume.as_secs_f64() / floor.as_secs_f64();
    println!(
        "    all of them: floor {:.0} ms, driver {:.0} ms, {ratio:.2} times as long (medians)",
        millis(floor),
        millis(volume)
    );
    driver.stop();
}

pub(crate) async fn burst_of(
    kubelet: &Kubelet,
    pods: &[Pod],
    times: &mut Vec<Duration>,
) -> Duration {
    let all = pods.iter().map(|pod| timed(kubelet.publish(pod)));
    timed(async { times.extend(join_all(all).await) }).await
}

fn compare(case: &Case, floors: &mut [Duration], volumes: &mut [Duration]) {
    for percent in [50, 95, 99] {
        let (floor, volume) = (at(floors, percent), at(volumes, percent));
        let ratio = volume.as_secs_f64() / floor.as_secs_f64();
        let said = if case.has_goal && percent == 50 {
            format!("   ({})", goal(ratio <= GOAL, &format!("{GOAL} times")))
        } else {
            String::new()
        };
        println!(
            "    p{percent}: floor {:>8.2} ms, driver {:>8.2} ms, {ratio:.2} times as long{said}",
            millis(floor),
            millis(volume)
        );
    }
}

pub(crate) async fn timed(work: impl Future<Output = ()>) -> Duration {
    let start = Instant::now();
    work.await;
    start.elapsed()
}

/// The time that so many percent do not exceed.
pub(crate) fn at(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent).div_ceil(100) - 1]
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
