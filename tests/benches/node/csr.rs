//! How long `NodePublishVolume` takes by way of the controller, and how long the bare sum of what it
//! is made of: a do-nothing driver's call, a key, the calls to the API server that cannot be left out,
//! as node and as controller, and the one to the CA.
use std::time::Duration;

use certagent_core::{
    algorithm::KeyAlgorithm,
    approval::{APPROVED_MESSAGE, AUTO_APPROVED},
};
use certagent_tests::kubelet::Pod;
use futures::future::join_all;
use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequestCondition};
use kube::{ResourceExt as _, api::PostParams};

use crate::{
    Place,
    cluster::{Cluster, DRIVER, Known},
    driver::Node,
    floor::Floor,
    goal,
    publish::{AT_ONCE, at, burst_of, millis, timed},
};

/// Nobody signs for it but the bare sum.
const SIGNER: &str = "bench.example/bare";
/// One by one.
const ROUNDS: usize = 200;
/// Of so many at once.
const BURSTS: usize = 5;
/// One by one, p50.
const GOAL: Duration = Duration::from_millis(30);
/// All at once, the last.
const GOAL_AT_ONCE: Duration = Duration::from_millis(1500);
/// A pod may have five certificates at once, and these have more.
const PODS: usize = ROUNDS + AT_ONCE * (BURSTS + 1);

pub(crate) async fn run(place: &Place, cluster: &Cluster) {
    cluster.clear().await;
    println!("\nP-256 by way of the controller; {PODS} pods are made");
    let controller = cluster.start_without_quotas(&place.endpoint, "csr");
    let node = Node::of_cluster(place, DRIVER, &cluster.kubeconfig("node"));
    let driver = node.start().await;
    let kubelet = node.kubelet().await;
    let bare = Bare {
        floor: Floor::new(place, "floor-csr", KeyAlgorithm::EcdsaP256).await,
        cluster,
    };
    let known = cluster.pods("csr", PODS).await;
    let pods: Vec<_> = known.iter().map(|known| pod(&node, known)).collect();
    let (warm, rest) = (0..AT_ONCE, AT_ONCE..PODS);
    // Roots are rendered, connections made.
    println!(
        "  the first volume: {:.0} ms",
        millis(timed(kubelet.publish(&pods[0])).await)
    );
    join_all(pods[warm.clone()].iter().map(|pod| kubelet.publish(pod))).await;
    join_all(pods[warm.clone()].iter().map(|pod| kubelet.unpublish(pod))).await;

    let (mut floors, mut volumes) = (Vec::new(), Vec::new());
    let single = rest.start..rest.start + ROUNDS;
    for number in single.clone() {
        floors.push(timed(bare.publish(&pods[number], &known[number])).await);
        bare.floor.unpublish(&pods[number]).await;
        volumes.push(timed(kubelet.publish(&pods[number])).await);
        kubelet.unpublish(&pods[number]).await;
    }
    println!("  one by one, {ROUNDS} each");
    compare(&mut floors, &mut volumes, Some(GOAL));

    let (mut floors, mut volumes) = (Vec::new(), Vec::new());
    let (mut whole_floors, mut whole) = (Vec::new(), Vec::new());
    for burst in 0..BURSTS {
        let these = single.end + burst * AT_ONCE..single.end + (burst + 1) * AT_ONCE;
        let both = pods[these.clone()].iter().zip(&known[these.clone()]);
        let all = both.map(|(pod, known)| timed(bare.publish(pod, known)));
        let burst = timed(async { floors.extend(join_all(all).await) });
        whole_floors.push(burst.await);
        join_all(
            pods[these.clone()]
                .iter()
                .map(|pod| bare.floor.unpublish(pod)),
        )
        .await;
        whole.push(burst_of(&kubelet, &pods[these.clone()], &mut volumes).await);
        join_all(pods[these].iter().map(|pod| kubelet.unpublish(pod))).await;
    }
    println!("  {AT_ONCE} at once, {BURSTS} times");
    compare(&mut floors, &mut volumes, None);
    let (floor, volume) = (at(&mut whole_floors, 50), at(&mut whole, 50));
    println!(
        "    all of them: bare {:.0} ms, driver {:.0} ms (medians; {})",
        millis(floor),
        millis(volume),
        goal(volume <= GOAL_AT_ONCE, "under 1.5 s")
    );
    driver.stop();
    controller.stop();
    cluster.clear().await;
}

fn pod(node: &Node, known: &Known) -> Pod {
    let pod = Pod::new(&node.root, DRIVER, &known.uid).unwrap();
    Pod {
        name: known.name.clone(),
        ..pod
    }
}

fn compare(floors: &mut [Duration], volumes: &mut [Duration], wanted: Option<Duration>) {
    for percent in [50, 95, 99] {
        let (floor, volume) = (at(floors, percent), at(volumes, percent));
        let ratio = volume.as_secs_f64() / floor.as_secs_f64();
        let said = wanted
            .filter(|_| percent == 50)
            .map_or_else(String::new, |wanted| {
                let text = format!("under {:.0} ms", millis(wanted));
                format!("   ({})", goal(volume <= wanted, &text))
            });
        println!(
            "    p{percent}: bare {:>8.2} ms, driver {:>8.2} ms, {ratio:.2} times as long{said}",
            millis(floor),
            millis(volume)
        );
    }
}

/// What nobody could leave out, one after the other, without a thought for failures. Its requests are
/// for a signer of its own, which the controller leaves alone.
struct Bare<'a> {
    floor: Floor,
    cluster: &'a Cluster,
}

impl Bare<'_> {
    async fn publish(&self, pod: &Pod, known: &Known) {
        self.floor.mount(pod).await;
        let (key, request) = self.cluster.request(known, SIGNER).await;
        let post = PostParams::default();
        let made = self.cluster.csrs().create(&post, &request).await.unwrap();
        // Here the controller begins; it never made the object.
        let csrs = self.cluster.all_csrs();
        let name = made.name_any();
        let mut csr = csrs.get(&name).await.unwrap();
        self.cluster.all_pods().get(&known.name).await.unwrap();
        csr.status.get_or_insert_default().conditions = Some(vec![approved()]);
        let approved = csrs.replace_subresource("approval", &name, &post, &csr);
        let mut csr = approved.await.unwrap();
        let chain = self.floor.buy(&key).await;
        let chain = chain.chain().to_pem().into_bytes();
        csr.status.get_or_insert_default().certificate = Some(ByteString(chain));
        let signed = csrs.replace_subresource("status", &name, &post, &csr);
        signed.await.unwrap();
    }
}

fn approved() -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some(AUTO_APPROVED.to_owned()),
        message: Some(APPROVED_MESSAGE.to_owned()),
        ..CertificateSigningRequestCondition::default()
    }
}
