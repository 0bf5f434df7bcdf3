//! What is mounted, and what is gone.
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use certagent_csi::{
    Driver, DriverSettings, FillErrorKind, OpenError, Registration, VolumeId,
    api::{
        InfoRequest, NodeUnpublishVolumeRequest, RegistrationStatus,
        registration_client::RegistrationClient,
    },
};
use rustix::mount::{MountFlags, mount, mount_remount};
use tonic::Code;

use crate::support::{Filler, NAME, Node, channel};

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_volume_is_bound_with_the_flags_of_a_credential_and_taken_away_without_a_trace() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, found) = node.start(&filler).await;
    assert_eq!(found, []);
    for (uid, read_only) in [("writable", false), ("read-only", true)] {
        let asked = node.pod(uid);
        driver.publish(asked.publish(read_only)).await.unwrap();
        assert_eq!(asked.content(), "here");
        assert!(
            !asked.target.join("record").exists(),
            "that is not the pod's to see"
        );
        let options = asked.options();
        for wanted in ["nosuid", "nodev", "noexec"] {
            assert!(options.iter().any(|option| option == wanted), "{options:?}");
        }
        assert_eq!(options.iter().any(|option| option == "ro"), read_only);
        let hidden = fs::metadata(node.volumes().join(&asked.id)).unwrap();
        assert_eq!(hidden.permissions().mode() & 0o777, 0o700);
        driver.unpublish(asked.unpublish()).await.unwrap();
        assert!(!asked.target.exists());
        let id = VolumeId::new(&asked.id).unwrap();
        assert!(filler.forgotten.lock().unwrap().contains(&id));
    }
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_bound_volume_is_refreshed_and_neither_mount_nor_inode_changes() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    driver.publish(asked.publish(false)).await.unwrap();
    let mounts = || node.mounts();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let before = (
        mounts(),
        inode(&asked.target),
        inode(&asked.target.join("content")),
    );
    filler.may.send_replace(None);
    for _ in 0..2 {
        driver.publish(asked.publish(false)).await.unwrap();
    }
    // A kubelet that has become a newer one says more.
    let mut more = asked.publish(false);
    let key = "csi.storage.k8s.io/pod.labels".to_owned();
    more.volume_context.insert(key, "x".to_owned());
    driver.publish(more).await.unwrap();
    let after = (
        mounts(),
        inode(&asked.target),
        inode(&asked.target.join("content")),
    );
    assert_eq!(before, after);
    let refreshed = std::mem::take(&mut *filler.refreshed.lock().unwrap());
    assert_eq!(refreshed.len(), 3);
    assert!(refreshed.iter().all(|one| one.attributes.is_empty()));
    assert_eq!(filler.fills.load(Ordering::SeqCst), 1);
    driver.unpublish(asked.unpublish()).await.unwrap();
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn after_a_final_answer_nothing_stays() {
    for (kind, code) in [
        (FillErrorKind::Denied, Code::Internal),
        (FillErrorKind::Invalid, Code::InvalidArgument),
    ] {
        let (node, filler) = (Node::new(), Filler::failing(kind));
        let (driver, _) = node.start(&filler).await;
        let asked = node.pod("a");
        let status = driver.publish(asked.publish(false)).await.unwrap_err();
        assert_eq!(status.code(), code);
        let id = &asked.id;
        assert_eq!(
            status.message(),
            format!(
                "unable to mount volume: store.CreateVolume, err: unable to create volume \"{id}\": there is nothing to fill it with"
            )
        );
        assert!(node.is_clean());
        assert!(!asked.target.exists());
        // What was wrong is put right, and kubelet asks again.
        filler.may.send_replace(Some(Ok(())));
        driver.publish(asked.publish(false)).await.unwrap();
        assert_eq!(asked.content(), "here");
        driver.unpublish(asked.unpublish()).await.unwrap();
        driver.stop().await;
    }
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn ten_calls_at_once_make_one_mount() {
    let (node, filler) = (Node::new(), Arc::new(Filler::default()));
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    let calls = (0..10).map(|_| driver.publish(asked.publish(true)));
    let calls = futures::future::join_all(calls);
    let release = async {
        while filler.fills.load(Ordering::SeqCst) < 10 {
            filler.began.notified().await;
        }
        filler.may.send_replace(Some(Ok(())));
    };
    let (results, ()) = tokio::join!(calls, release);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let target = asked.target.to_str().unwrap();
    let at_target = mounts
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(target));
    assert_eq!(at_target.count(), 1);
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn what_an_earlier_process_has_begun_outlives_an_answer_that_is_not_final() {
    let (node, filler) = (Node::new(), Filler::failing(FillErrorKind::Unavailable));
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    let status = driver.publish(asked.publish(false)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let kept = node.volumes().join(&asked.id).join("pending");
    fs::write(&kept, "a request").unwrap();
    driver.publish(asked.publish(false)).await.unwrap_err();
    assert!(kept.exists());
    filler.may.send_replace(Some(Ok(())));
    driver.publish(asked.publish(false)).await.unwrap();
    assert!(kept.exists());
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn what_a_driver_did_not_finish_before_it_was_killed_is_finished_by_the_next() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    // Killed before `data/` was made.
    let asked = node.pod("a");
    let volume = node.volumes().join(&asked.id);
    fs::create_dir(&volume).unwrap();
    mount("tmpfs", &volume, "tmpfs", MountFlags::empty(), None).unwrap();
    driver.publish(asked.publish(true)).await.unwrap();
    assert_eq!(asked.content(), "here");
    // Killed before the flags were set.
    let writable = MountFlags::BIND;
    mount_remount(&asked.target, writable, "").unwrap();
    assert!(!asked.options().contains(&"ro".to_owned()));
    driver.publish(asked.publish(true)).await.unwrap();
    let options = asked.options();
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(
            options.contains(&flag.to_owned()),
            "no {flag} in {options:?}"
        );
    }
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn an_unpublish_leaves_the_target_of_another_volume_alone() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let (asked, other) = (node.pod("a"), node.pod("b"));
    driver.publish(other.publish(false)).await.unwrap();
    let mixed = NodeUnpublishVolumeRequest {
        target_path: other.target.display().to_string(),
        ..asked.unpublish()
    };
    driver.unpublish(mixed).await.unwrap();
    assert_eq!(other.content(), "here");
    driver.unpublish(other.unpublish()).await.unwrap();
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_call_that_waits_too_long_says_that_the_work_goes_on_and_unpublish_ends_it() {
    let (node, filler) = (Node::new(), Arc::new(Filler::default()));
    let settings = DriverSettings {
        publish_wait: Duration::from_millis(50),
        ..node.settings()
    };
    let (driver, _) = node.start_with(settings, &filler).await;
    let asked = node.pod("a");
    let status = driver.publish(asked.publish(false)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let said = "the work goes on, and kubelet asks again by itself: there is nothing yet";
    assert!(status.message().contains(said), "{status}");
    assert!(!asked.target.exists(), "the pod must not see it");
    assert_eq!(filler.forgotten.lock().unwrap().len(), 0);
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert_eq!(filler.forgotten.lock().unwrap().len(), 1);
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_restarted_driver_finds_its_volumes_and_the_pods_never_notice() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    driver.publish(asked.publish(false)).await.unwrap();
    // A reboot leaves a directory without its tmpfs.
    fs::create_dir(node.volumes().join("csi-gone")).unwrap();
    driver.stop().await;
    assert_eq!(asked.content(), "here");

    let (driver, found) = node.start(&filler).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].dir.id.as_str(), asked.id);
    assert_eq!(found[0].targets[0].path, asked.target);
    assert_eq!(found[0].targets[0].pod_uid, "a");
    assert!(!node.volumes().join("csi-gone").exists());
    driver.publish(asked.publish(false)).await.unwrap();
    assert_eq!(filler.refreshed.lock().unwrap().len(), 1);
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_mount_in_use_is_detached_and_a_link_on_the_way_is_refused() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let asked = node.pod("a");
    driver.publish(asked.publish(false)).await.unwrap();
    let held = fs::File::open(asked.target.join("content")).unwrap();
    driver.unpublish(asked.unpublish()).await.unwrap();
    assert!(node.is_clean());
    drop(held);

    let elsewhere = tempfile::tempdir().unwrap();
    let asked = node.pod("b");
    let volume = asked.target.parent().unwrap();
    fs::remove_dir(volume).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), volume).unwrap();
    let status = driver.publish(asked.publish(false)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("a link leads away"), "{status}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(node.is_clean());
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn a_second_driver_of_the_same_name_is_refused() {
    let (node, filler) = (Node::new(), Filler::ready());
    let (driver, _) = node.start(&filler).await;
    let error = Driver::open(node.settings()).await.unwrap_err();
    assert!(matches!(error, OpenError::Held { .. }), "{error}");

    // Somebody else's, who announces the same name from another directory.
    let other = Node::new();
    fs::remove_dir(other.root().join("plugins_registry")).unwrap();
    let registry = node.root().join("plugins_registry");
    std::os::unix::fs::symlink(&registry, other.root().join("plugins_registry")).unwrap();
    fs::rename(&driver.socket, registry.join("other-reg.sock")).unwrap();
    let error = Driver::open(other.settings()).await.unwrap_err();
    assert!(error.to_string().contains("other-reg.sock"), "{error}");
    driver.cancel.cancel();
    driver.served.await.unwrap();
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn kubelet_is_told_who_serves_where_and_any_caller_ends_with_it() {
    let (node, filler) = (Node::new(), Filler::ready());
    let settings = DriverSettings {
        any_caller: true,
        ..node.settings()
    };
    let (driver, _) = node.start_with(settings, &filler).await;
    let asked = node.pod("a");
    driver.publish(asked.publish(false)).await.unwrap();
    driver.unpublish(asked.unpublish()).await.unwrap();

    let mut kubelet = RegistrationClient::new(channel(&driver.socket).await);
    let info = kubelet.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((&*info.r#type, &*info.name), ("CSIPlugin", NAME));
    assert_eq!(info.supported_versions, ["1.0.0"]);
    assert!(Path::new(&info.endpoint).exists());
    let status = RegistrationStatus {
        plugin_registered: true,
        error: String::new(),
    };
    kubelet.notify_registration_status(status).await.unwrap();
    assert_eq!(*driver.registration.borrow(), Registration::Registered);
    let status = driver.publish(asked.publish(false)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    driver.stop().await;
}

#[tokio::test]
#[ignore = "root, in a mount namespace of its own"]
async fn without_shared_mounts_the_driver_does_not_begin() {
    let node = Node::new();
    let private = node.root().join("pods");
    rustix::mount::mount_bind(&private, &private).unwrap();
    rustix::mount::mount_change(&private, rustix::mount::MountPropagationFlags::PRIVATE).unwrap();
    let error = Driver::open(node.settings()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("is not a shared mount") && text.contains("Bidirectional"),
        "{text}"
    );
    rustix::mount::unmount(&private, rustix::mount::UnmountFlags::empty()).unwrap();
}
