//! What Kubernetes' own conformance program for CSI drivers says.
use std::{env, process::Command};

use certagent_csi::DriverSettings;

use crate::support::{Filler, NAME, Node};

/// Cases that need a controller service, which makes volumes: this driver has none.
const NOT_FOR_US: &str = "Controller|ListSnapshots|ListVolumes|CreateVolume|should work|\
                          Node Service should|GetCapacity|should remove target path";
/// What is left of its cases with version 5.6.0.
const OURS: &str = "Ran 10 of ";

#[tokio::test]
#[ignore = "root, in a mount namespace of its own, with the path of csi-sanity in CERTAGENT_CSI_SANITY"]
async fn csi_sanity_has_no_complaint() {
    let program = env::var("CERTAGENT_CSI_SANITY").expect("`.ci/run csi` installs it");
    let (node, filler) = (Node::new(), Filler::ready());
    let settings = DriverSettings {
        any_caller: true,
        ..node.settings()
    };
    let (driver, _) = node.start_with(settings, &filler).await;
    let root = node.root().to_owned();
    let said = tokio::task::spawn_blocking(move || {
        let socket = root.join("plugins").join(NAME).join("csi.sock");
        Command::new(program)
            .arg(format!("--csi.endpoint=unix://{}", socket.display()))
            .arg(format!("--csi.mountdir={}", root.join("target").display()))
            .arg(format!(
                "--csi.stagingdir={}",
                root.join("staging").display()
            ))
            .arg(format!("--ginkgo.skip={NOT_FOR_US}"))
            .arg("--ginkgo.no-color")
            .output()
    });
    let said = said.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}");
    assert!(text.contains(OURS), "{text}");
    driver.stop().await;
    assert!(node.is_clean());
}
