//! Who may end a volume, when, and what a call that fails leaves behind.
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use certagent_csi::{
    Driver, DriverSettings, FillErrorKind, OpenError,
    api::{NodeGetInfoRequest, NodePublishVolumeRequest},
};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use tonic::Code;

use crate::support::{Filler, NAME, Node};

const MINUTE: Duration = Duration::from_secs(60);
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

fn with_broken_tokens(mut request: NodePublishVolumeRequest) -> NodePublishVolumeRequest {
    let secrets = &mut request.secrets;
    secrets.insert(TOKENS.to_owned(), "{\"aud\": a.secret.token".to_owned());
    request
}

fn without_pod(mut request: NodePublishVolumeRequest) -> NodePublishVolumeRequest {
    request.volume_context.clear();
    request
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_bound_volume_is_never_failed_by_what_a_later_call_says() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    let spoilt = [
        with_broken_tokens(asked.publish(false)),
        without_pod(asked.publish(false)),
    ];
    for request in spoilt.clone() {
        let status = driver.publish(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(!status.message().contains("secret"), "{status}");
    }
    driver.publish(asked.publish(false)).await.unwrap();
    for request in spoilt.clone() {
        driver.publish(request).await.unwrap();
    }
    assert_eq!(asked.content(), "here");
    assert_eq!(filler.refreshed.lock().unwrap().len(), 0);
    // A volume elsewhere is not helped by it.
    let mut elsewhere = spoilt[0].clone();
    elsewhere.target_path = node.pod("b").target.display().to_string();
    assert!(driver.publish(elsewhere).await.is_err());
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_cancelled_call_leaves_the_work_to_go_on() {
    let (node, filler) = (Node::new(), Arc::new(Filler::default()));
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    {
        let call = driver.publish(asked.publish(false));
        tokio::select! {
            ended = call => panic!("{ended:?}"),
            () = filler.began.notified() => {}
        }
    }
    // The server reads in order: with this answer it knows that the call is gone.
    let mut client = driver.node.clone();
    client.node_get_info(NodeGetInfoRequest {}).await.unwrap();
    assert_eq!(filler.dropped.load(Ordering::SeqCst), 0);
    filler.may.send_replace(Some(Ok(())));
    driver.publish(asked.publish(false)).await.unwrap();
    assert_eq!(filler.dropped.load(Ordering::SeqCst), 0);
    assert_eq!(asked.content(), "here");
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn what_cannot_be_bound_leaves_no_key_behind() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    fs::write(&asked.target, "a file").unwrap();
    let status = driver.publish(asked.publish(false)).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(filler.forgotten.lock().unwrap().len(), 1);
    assert!(node.is_clean());
    assert!(asked.target.exists(), "that was not ours");
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn of_two_calls_of_which_one_fails_the_other_has_its_volume() {
    let (node, filler) = (Node::new(), Filler::failing(FillErrorKind::Denied));
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    for _ in 0..50 {
        filler.fail_once();
        let (one, other) = tokio::join!(
            driver.publish(asked.publish(false)),
            driver.publish(asked.publish(false)),
        );
        assert!(one.is_err() != other.is_err(), "{one:?} {other:?}");
        assert_eq!(asked.content(), "here");
        driver.unpublish(asked.unpublish()).await.unwrap();
        assert!(node.is_clean());
    }
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_target_whose_volume_is_lost_is_taken_away_but_nobody_else_s() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let (asked, other) = (node.pod("a"), node.pod("b"));
    driver.publish(asked.publish(false)).await.unwrap();
    unmount(node.volumes().join(&asked.id), UnmountFlags::DETACH).unwrap();
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(!asked.target.exists());

    let foreign = tempfile::tempdir().unwrap();
    fs::create_dir(&other.target).unwrap();
    mount_bind(foreign.path(), &other.target).unwrap();
    driver.unpublish(other.unpublish()).await.unwrap();
    unmount(&other.target, UnmountFlags::empty()).expect("it is still mounted");
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_volume_that_was_never_bound_is_forgotten_after_a_quarter_of_an_hour() {
    let (node, filler) = (Node::new(), Arc::new(Filler::default()));
    let settings = DriverSettings {
        publish_wait: Duration::from_millis(50),
        ..node.settings()
    };
    let (driver, _) = node.start_with(settings, &filler).await;
    let asked = node.pod("a");
    let late = driver.publish(asked.publish(false)).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    tokio::time::pause();
    tokio::time::sleep(14 * MINUTE).await;
    assert!(!node.is_clean(), "kubelet may still ask");
    tokio::time::sleep(3 * MINUTE).await;
    assert!(node.is_clean());
    assert_eq!(filler.forgotten.lock().unwrap().len(), 1);
    tokio::time::resume();
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_bound_volume_outlives_its_target_and_ends_with_its_pod_after_a_restart_too() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    driver.publish(asked.publish(false)).await.unwrap();
    driver.stop().await;

    let (driver, _) = node.start(&filler).await;
    tokio::time::pause();
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(asked.content(), "here");
    unmount(&asked.target, UnmountFlags::empty()).unwrap();
    tokio::time::sleep(60 * MINUTE).await;
    assert!(!node.is_clean(), "its pod is still there");
    fs::remove_dir_all(node.root().join("pods/a")).unwrap();
    tokio::time::sleep(2 * MINUTE).await;
    assert!(node.is_clean());
    tokio::time::resume();
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_driver_that_ends_lets_no_call_wait_and_leaves_its_mounts() {
    let (node, filler) = (Node::new(), Arc::new(Filler::default()));
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    let call = driver.publish(asked.publish(false));
    let end = async {
        filler.began.notified().await;
        driver.cancel.cancel();
    };
    let (ended, ()) = tokio::join!(call, end);
    let status = ended.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("the driver ends"), "{status}");
    driver.stop().await;
    assert!(node.volumes().join(&asked.id).join("data").exists());
    unmount(node.volumes().join(&asked.id), UnmountFlags::empty()).unwrap();
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_kubelet_directory_behind_a_link_is_refused_with_the_real_one() {
    let (node, other) = (Node::new(), tempfile::tempdir().unwrap());
    let link = other.path().join("kubelet");
    symlink(node.root(), &link).unwrap();
    let settings = DriverSettings {
        kubelet_root: link,
        ..node.settings()
    };
    let error = Driver::open(settings).await.unwrap_err();
    assert!(matches!(error, OpenError::NotPlain { .. }), "{error}");
    assert!(error.to_string().contains(node.root().to_str().unwrap()));
}

#[tokio::test]
async fn what_is_not_kubelet_s_directory_is_told_by_what_is_wrong_with_it() {
    type Spoil = fn(&Path);
    let missing: Spoil = |path| fs::remove_dir(path).unwrap();
    let file: Spoil = |path| {
        fs::remove_dir(path).unwrap_or_default();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    let own = &*format!("plugins/{NAME}");
    let volumes = &*format!("{own}/volumes");
    for (spoil, place, told, next) in [
        (missing, "pods", "pods is missing", "--kubelet-root"),
        (file, "pods", "pods is no directory", "--kubelet-root"),
        (
            missing,
            "plugins_registry",
            "registry is missing",
            "--kubelet-root",
        ),
        (
            file,
            "plugins_registry",
            "registry is no directory",
            "--kubelet-root",
        ),
        (file, "plugins", own, "move that file away"),
        (file, own, own, "move that file away"),
        (file, volumes, volumes, "move that file away"),
    ] {
        let node = Node::new();
        spoil(&node.root().join(place));
        let error = Driver::open(node.settings()).await.unwrap_err().to_string();
        assert!(
            error.contains(told) && error.contains(next),
            "{place}: {error}"
        );
        let made = node.root().join("plugins").is_dir();
        assert_eq!(made, place.starts_with("plugins/"), "nothing is made in it");
    }
}
