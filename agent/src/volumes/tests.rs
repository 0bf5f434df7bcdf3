//! Volumes as a node driver has them.
use std::{os::unix::fs::symlink, path::PathBuf};

use certagent_core::config::TrustAnchor;
use certagent_emulator::{Code, Fault};
use futures::future::join;
use jiff::SignedDuration;

use super::lab::{Site, always, eventually, guarded, open_below, pod};
use crate::{
    cas::lab::refusal,
    clock::Clock as _,
    held::recover,
    trust::{self, Trust},
    volume::VolumeState,
};

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

#[tokio::test]
async fn a_released_volume_can_be_unmounted_and_one_that_is_not_known_is_no_trouble() {
    let site = Site::start().await;
    let id = site.publish("web-1");
    site.until(&id, |status| status.certificate.is_some()).await;
    let root = site.root("web-1");
    eventually(|| !open_below(&root).is_empty()).await;
    guarded(site.volumes.release(&id)).await;
    assert_eq!(open_below(&root), Vec::<PathBuf>::new());
    assert!(site.status(&id).is_none());
    guarded(site.volumes.release(&id)).await;
    assert_eq!(site.abandoned(), "0");
    assert!(root.join("data/private_key.pem").exists());
    site.stop().await;
}

#[tokio::test]
async fn a_release_ends_a_request_that_gets_no_answer_and_the_certificate_is_not_forgotten() {
    let site = Site::start().await;
    site.lab.emulator.set_faults(always(Fault::Hang));
    let id = site.publish("web-1");
    site.asked(1).await;
    let root = site.root("web-1");
    assert!(!open_below(&root).is_empty());
    assert!(root.join("pending/request.json").exists());
    // Kubelet asks again while it waits.
    let (first, second) = (site.volumes.release(&id), site.volumes.release(&id));
    guarded(join(first, second)).await;
    assert_eq!(open_below(&root), Vec::<PathBuf>::new());
    assert_eq!(site.abandoned(), "1");
    assert!(!root.join("pending/key.pem").exists());

    // The same place may be filled again.
    site.lab.heal();
    let id = site.publish("web-1");
    site.until(&id, |status| status.certificate.is_some()).await;
    assert_eq!(site.abandoned(), "1");
    site.stop().await;
}

#[tokio::test]
async fn a_request_that_was_not_carried_out_is_no_certificate_to_be_counted() {
    let site = Site::start().await;
    let busy = refusal(Code::ResourceExhausted, "a quota");
    site.lab.emulator.set_faults(always(busy));
    let id = site.publish("web-1");
    site.until(&id, |status| status.failures > 0).await;
    guarded(site.volumes.release(&id)).await;
    assert_eq!(site.abandoned(), "0");
    assert_eq!(site.lab.emulator.stats().total_sold(), 0);
    site.stop().await;
}

#[tokio::test]
async fn a_request_whose_answer_was_lost_is_counted_when_its_volume_is_released() {
    let site = Site::start().await;
    site.lab.emulator.set_faults(always(Fault::CloseAfter));
    let id = site.publish("web-1");
    site.until(&id, |status| status.failures > 0).await;
    guarded(site.volumes.release(&id)).await;
    assert_eq!(site.lab.emulator.stats().total_sold(), 1);
    assert_eq!(site.abandoned(), "1");
    site.stop().await;
}

#[tokio::test]
async fn a_forgotten_volume_keeps_its_request_for_whoever_takes_it_up_again() {
    let site = Site::start().await;
    site.lab.emulator.set_faults(always(Fault::CloseAfter));
    let id = site.publish("web-1");
    site.until(&id, |status| status.failures > 0).await;
    site.volumes.forget(&id);
    site.lab.heal();
    site.publish("web-1");
    site.until(&id, |status| status.certificate.is_some()).await;
    assert_eq!(site.lab.emulator.stats().total_sold(), 1);
    assert_eq!(site.abandoned(), "0");
    site.stop().await;
}

#[tokio::test]
async fn a_request_beside_a_volume_that_cannot_be_opened_is_counted() {
    let site = Site::start().await;
    site.lab.emulator.set_faults(always(Fault::CloseAfter));
    let id = site.publish("web-1");
    site.until(&id, |status| status.failures > 0).await;
    site.volumes.forget(&id);
    let assignment = site.assignment("web-1");
    std::fs::remove_dir_all(&assignment.path).unwrap();
    site.volumes.publish(assignment).unwrap_err();
    guarded(site.volumes.release(&id)).await;
    assert_eq!(site.abandoned(), "1");
    site.stop().await;
}

#[tokio::test]
async fn what_waits_for_somebody_is_told_from_what_may_heal_by_itself() {
    let site = Site::start().await;
    // Denied: nothing was sold, and nothing is under way.
    let denied = refusal(Code::PermissionDenied, "may not");
    site.lab.emulator.set_faults(always(denied));
    let id = site.publish("web-1");
    let status = site.until(&id, |status| status.failures > 0).await;
    assert!(status.is_hopeless, "{status:?}");

    // Tried again with another configuration, it may work; the CA does not answer now.
    site.lab.emulator.set_faults(always(Fault::Hang));
    site.edit(|config| config.certificates.rotation_window_percentage = 40);
    site.asked(2).await;
    assert!(!site.status(&id).unwrap().is_hopeless);
    guarded(site.volumes.release(&id)).await;

    // Its outcome is open: the same request is worth asking for, whatever is said of it.
    site.lab.emulator.set_faults(always(Fault::CloseAfter));
    let id = site.publish("web-2");
    let status = site.until(&id, |status| status.failures > 0).await;
    assert!(!status.is_hopeless, "{status:?}");
    site.stop().await;
}

#[tokio::test]
async fn a_plan_that_cannot_be_is_hopeless_until_the_configuration_is_another() {
    let site = Site::start().await;
    let stores = site.config.borrow().config.trust.stores.clone();
    site.edit(|config| config.trust.stores.clear());
    let id = site.publish("web-1");
    let status = site.until(&id, |status| status.failures > 0).await;
    assert!(status.is_hopeless, "{status:?}");
    site.edit(|config| config.trust.stores = stores);
    let status = site.until(&id, |status| status.certificate.is_some()).await;
    assert!(!status.is_hopeless);
    site.stop().await;
}

#[tokio::test]
async fn a_lost_identity_is_recovered_from_what_proves_itself_and_from_nothing_else() {
    let site = Site::start().await;
    let id = site.publish("web-1");
    let data = site.assignment("web-1").path;
    let other = site.assignment("web-2").path;
    let trust = site.trust();
    let now = || site.clock.now();
    assert_eq!(recover(&other, &trust, now()), None, "nothing is published");
    site.until(&id, |status| status.certificate.is_some()).await;

    let expected = Some(site.assignment("web-1").spiffe_id);
    // Also while the volume is held, and after the certificate's end.
    assert_eq!(recover(&data, &trust, now()), expected);
    let later = now() + SignedDuration::from_hours(48);
    assert_eq!(recover(&data, &trust, later), expected);

    // A pod that leads the agent to the credential of another.
    symlink(data.join("..data"), other.join("..data")).unwrap();
    assert_eq!(recover(&other, &trust, now()), None);
    assert_eq!(recover(&site.root("missing"), &trust, now()), None);
    // One that makes its own CA, or a domain whose roots are not known.
    let anchors = [TrustAnchor::Pem(trust::lab::root("its own"))];
    let foreign = trust::lab::config(&[("demo.svc.id.goog", &anchors)]);
    assert_eq!(recover(&data, &Trust::new(&foreign.trust), now()), None);
    let none = trust::lab::config(&[]);
    assert_eq!(recover(&data, &Trust::new(&none.trust), now()), None);
    site.stop().await;
}
