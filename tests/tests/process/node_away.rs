//! A driver that is started while the API server is away: what it has goes on, and nothing new is
//! believed.
use std::fs;

use tonic::Code;

use crate::{
    node::{Node, serial},
    site::Site,
};

/// Nobody listens at its port.
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: away
contexts:
- name: away
  context: {cluster: away, user: node}
clusters:
- name: away
  cluster: {server: 'http://127.0.0.1:1'}
users:
- name: node
  user: {token: x}
";

#[test]
#[ignore = "root, in a namespace with shared mounts"]
fn without_an_api_server_a_pod_that_runs_is_renewed_and_a_new_one_waits() {
    let site = Site::new();
    let node = Node::new(&site);
    let runs = node.pod("0f6e0f54-5c5f-4d31-9d2f-1a9c4f0f3f02");
    let comes = node.pod("0f6e0f54-5c5f-4d31-9d2f-1a9c4f0f3f03");
    let old = node.provide_due(&runs);

    let kubeconfig = site.path().join("kubeconfig");
    fs::write(&kubeconfig, KUBECONFIG).unwrap();
    let mut command = node.believing_nobody();
    let mut program = node.start_by(command.arg("--kubeconfig").arg(kubeconfig));
    program.wait_for(&["renewed"]);
    let new = serial(&runs);
    assert_eq!(site.sold(), [old, new]);
    node.publish(&runs).unwrap();

    for _ in 0..2 {
        let waits = node.publish(&comes).unwrap_err();
        assert_eq!(waits.code(), Code::Unavailable, "{waits}");
        for part in ["the API server cannot be reached", "CSIDriver", &comes.id] {
            assert!(waits.message().contains(part), "no {part:?} in {waits}");
        }
        assert!(!comes.target.exists(), "it would run without a certificate");
    }
    assert_eq!(site.sold().len(), 2, "nothing is bought for it");

    // Pods end as always.
    node.unpublish(&comes).unwrap();
    node.unpublish(&runs).unwrap();
    node.assert_clean("away");
    program.terminate().expect(0);
}
