//! A pod that fills its volume.
use std::{fs, io::Write as _};

use certagent_svid::layout;

use crate::support::{Node, current, is_valid};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "root, in a mount namespace of its own"]
async fn a_full_volume_keeps_its_credential_and_heals_when_there_is_room() {
    let node = Node::start().await;
    let pod = node.pod("full");
    node.publish(&pod).await;
    let first = current(&pod).unwrap();
    let before = fs::read(pod.target.join(layout::CREDENTIAL_BUNDLE)).unwrap();
    let mut ballast = fs::File::create(pod.target.join("ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}

    // Within the validity of what it has, its renewal comes and fails.
    node.lab.step(50);
    for _ in 0..100 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        node.probe().await;
    }
    assert_eq!(current(&pod).unwrap(), first);
    let after = fs::read(pod.target.join(layout::CREDENTIAL_BUNDLE)).unwrap();
    assert_eq!(after, before);
    assert!(is_valid(&pod, node.lab.now()));

    drop(ballast);
    fs::remove_file(pod.target.join("ballast")).unwrap();
    node.lab.step(20);
    node.until_valid(&pod).await;
    assert_ne!(current(&pod).unwrap(), first);
    node.unpublish(&pod).await;
    node.stop().await;
}
