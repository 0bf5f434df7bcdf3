//! Volumes as a node driver has them.
use super::{
    lab::{Site, pod},
    *,
};
use crate::volume::VolumeState;

#[tokio::test]
async fn what_is_kept_of_a_pods_volume_is_beside_it() {
    let site = Site::start().await;
    let id = site.publish("web-1");
    let ready = site.until(&id, |status| status.certificate.is_some()).await;
    let root = site.root("web-1");
    let kept = VolumeState::at(root.clone(), true);
    let record = kept.load_record().unwrap().unwrap();
    assert_eq!(record.pod, Some(pod("web-1")));
    assert_eq!(record.serial, ready.certificate.unwrap().serial);
    assert!(root.join("pending").is_dir());
    let elsewhere = site.dir.path().join("state/volumes");
    assert_eq!(std::fs::read_dir(elsewhere).unwrap().count(), 0);
    assert_eq!(site.creates(), 1);
    site.stop().await;
}
