use std::os::unix::fs::symlink;

use super::*;
use crate::content::{FillError, PodVolume};

struct Nothing;

impl VolumeContent for Nothing {
    async fn fill(&self, _: ContentDir, _: PodVolume) -> Result<(), FillError> {
        Ok(())
    }

    fn refresh(&self, _: &VolumeId, _: PodVolume) {}

    fn trouble(&self, _: &VolumeId) -> Option<String> {
        None
    }

    async fn forget(&self, _: &VolumeId) {}
}

fn volumes(root: &Path) -> Arc<Volumes<Nothing>> {
    let settings = VolumeSettings {
        places: Places::new(root.to_owned(), "driver.example.com".parse().unwrap()),
        size: Size {
            bytes: 1 << 20,
            inodes: 128,
        },
        wait: Duration::from_secs(1),
        any_caller: false,
    };
    let registration = watch::channel(Registration::Waiting).1;
    let cancel = CancellationToken::new();
    Arc::new(Volumes::new(
        settings,
        Arc::new(Nothing),
        registration,
        cancel,
    ))
}

#[tokio::test]
async fn of_volumes_that_are_not_mounted_nothing_is_kept_once_nobody_is_at_work_on_them() {
    let root = tempfile::tempdir().unwrap();
    let volumes = volumes(root.path());
    let id = |text: &str| VolumeId::new(text).unwrap();
    let known = || {
        let mut known: Vec<_> = lock(&volumes.slots).keys().cloned().collect();
        known.sort();
        known
    };
    let call = volumes.call(&id("csi-call"));
    let turn = volumes.turn(&id("csi-turn")).await;
    drop(volumes.call(&id("csi-over")));
    drop(volumes.turn(&id("csi-taken")).await);
    assert_eq!(known().len(), 4);
    volumes.look().await.unwrap();
    assert_eq!(known(), [id("csi-call"), id("csi-turn")]);
    drop((call, turn));
    volumes.look().await.unwrap();
    assert_eq!(known(), []);
}

#[tokio::test]
async fn of_a_volume_that_is_mounted_it_stays_known_who_asked() {
    let root = tempfile::tempdir().unwrap();
    let volumes = volumes(root.path());
    let place = volumes.settings.places.volumes();
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    // Something is mounted at `proc`, without root's doing.
    symlink("/", &place).unwrap();
    let id = VolumeId::new("proc").unwrap();
    drop(volumes.call(&id));
    volumes.look().await.unwrap();
    assert!(lock(&volumes.slots).contains_key(&id));
}
