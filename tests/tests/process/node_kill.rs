//! `kill -9` of the driver of a node at every write point of the main path: while a pod waits for its
//! first certificate, and while a pod that runs gets its next one.
use certagent::crash::POINTS;

use certagent_tests::kubelet::Pod;

use crate::{
    node::{Node, serial},
    program::{Ended, Program},
    site::Site,
};

const SIGKILL: i32 = 9;

/// From this point on the new certificate is the one that the pod reads.
const SWAPPED: &str = "swapped";

#[test]
#[ignore = "root, in a namespace with shared mounts"]
fn a_pod_that_waits_gets_the_one_certificate_that_was_bought_wherever_the_driver_is_killed() {
    for point in POINTS {
        let site = Site::new();
        let node = Node::new(&site);
        let pod = node.pod("0f6e0f54-5c5f-4d31-9d2f-1a9c4f0f3f00");
        let program = dying(&node, point);
        node.publish(&pod).expect_err(point);
        assert_killed(program, point);

        let program = node.start();
        node.publish(&pod).unwrap();
        assert_eq!(site.sold(), [serial(&pod)], "{point}");
        assert_gone_after(&node, &pod, program, point);
    }
}

#[test]
#[ignore = "root, in a namespace with shared mounts"]
fn a_pod_that_runs_keeps_a_whole_credential_wherever_the_driver_is_killed_in_a_renewal() {
    for point in POINTS {
        let site = Site::new();
        let node = Node::new(&site);
        let pod = node.pod("0f6e0f54-5c5f-4d31-9d2f-1a9c4f0f3f01");
        let old = node.provide_due(&pod);

        assert_killed(dying(&node, point), point);
        let between = serial(&pod);
        let is_new = position(point) >= position(SWAPPED);
        assert_eq!(between != old, is_new, "{point}");

        // Nobody asks: kubelet does not know that anything happened.
        let mut program = node.start();
        if !is_new {
            program.wait_for(&["renewed"]);
        }
        let new = serial(&pod);
        assert_eq!(site.sold(), [old, new], "{point}");
        node.publish(&pod).unwrap();
        assert_eq!(site.sold().len(), 2, "{point}");
        assert_gone_after(&node, &pod, program, point);
    }
}

/// Starts a driver that kills itself at `point`.
fn dying(node: &Node<'_>, point: &str) -> Program {
    Program::start(node.command().env("CERTAGENT_TEST_KILL_AT", point))
}

#[track_caller]
fn assert_killed(program: Program, point: &str) {
    let ended = program.end();
    assert_eq!(ended.signal, Some(SIGKILL), "{point}: {ended:#?}");
    assert_nothing_is_abandoned(&ended, point);
}

/// The pod ends, and then the driver.
#[track_caller]
fn assert_gone_after(node: &Node<'_>, pod: &Pod, program: Program, point: &str) {
    node.unpublish(pod).unwrap();
    node.assert_clean(point);
    assert_nothing_is_abandoned(&program.terminate().expect(0), point);
}

fn assert_nothing_is_abandoned(ended: &Ended, point: &str) {
    assert!(!ended.stderr.contains("abandoned"), "{point}: {ended:#?}");
}

fn position(point: &str) -> usize {
    POINTS.iter().position(|one| *one == point).unwrap()
}
