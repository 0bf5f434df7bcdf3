use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    sync::atomic::{AtomicBool, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::volume::fixture::{Volume, access, at, content, write};

#[derive(Debug, thiserror::Error)]
#[error("not this one")]
struct No;

fn refuse(_: &Snapshot) -> Result<(), No> {
    Err(No)
}

/// Everything about a directory's entries that a write may change.
fn fingerprint(path: &Path) -> Vec<(String, u64, i64, i64, u32)> {
    crate::volume::fixture::names(path)
        .into_iter()
        .map(|name| {
            let meta = std::fs::symlink_metadata(path.join(&name)).unwrap();
            (
                name,
                meta.ino(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.mode(),
            )
        })
        .collect()
}

#[test]
fn a_first_write_makes_the_layout_that_readers_expect() {
    let volume = Volume::new();
    let content = content();
    let written = write(&volume.open().unwrap(), &content, at(0)).unwrap();
    assert!(written.changed);
    assert_eq!(written.generation, "..2026_11_21_01_23_45.000000000");
    assert_eq!(volume.generations(), [written.generation.as_str()]);
    assert!(volume.strays().is_empty());
    assert_eq!(
        std::fs::read_link(volume.join(layout::DATA)).unwrap(),
        Path::new(&written.generation)
    );
    for name in layout::FILES {
        let link = std::fs::read_link(volume.join(name)).unwrap();
        assert_eq!(link, Path::new("..data").join(name));
        assert_eq!(volume.modified(name), at(0).as_second());
        let mode = std::fs::metadata(volume.join(name)).unwrap().mode() & 0o7777;
        assert_eq!(
            mode,
            if layout::holds_key(name) {
                0o640
            } else {
                0o644
            },
            "{name}"
        );
    }
    let both = std::fs::read_to_string(volume.join(layout::CREDENTIAL_BUNDLE)).unwrap();
    assert_eq!(
        both,
        format!("{}{}", *content.private_key, content.certificates)
    );
    let snapshot = certagent_credentials::read(volume.path()).unwrap();
    assert_eq!(snapshot.generation(), Some(written.generation.as_str()));
}

#[test]
fn modes_are_as_configured_whatever_the_umask_is() {
    let volume = Volume::new();
    let access = Access {
        directory_mode: 0o775,
        key_mode: 0o660,
        file_mode: 0o666,
        ..access()
    };
    let open = VolumeDir::open(&volume.path(), &access).unwrap();
    let written = write(&open, &content(), at(0)).unwrap();
    let mode = |name: &str| std::fs::metadata(volume.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("."), 0o775);
    assert_eq!(mode(&written.generation), 0o775);
    assert_eq!(mode(layout::PRIVATE_KEY), 0o660);
    assert_eq!(mode(layout::CREDENTIAL_BUNDLE), 0o660);
    assert_eq!(mode(layout::CERTIFICATES), 0o666);
}

#[test]
fn files_are_given_to_the_configured_owner_or_the_volume_is_refused_at_once() {
    let volume = Volume::new();
    let access = Access {
        owner: Some(12_345),
        group: Some(54_321),
        ..access()
    };
    let open = VolumeDir::open(&volume.path(), &access);
    if geteuid().is_root() {
        let written = write(&open.unwrap(), &content(), at(0)).unwrap();
        for name in layout::FILES
            .iter()
            .copied()
            .chain([".", written.generation.as_str()])
        {
            let meta = std::fs::metadata(volume.join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (12_345, 54_321), "{name}");
        }
    } else {
        let error = open.unwrap_err();
        assert!(matches!(error, VolumeError::CannotGive { .. }), "{error}");
        assert!(error.to_string().contains("12345"), "{error}");
        assert!(volume.strays().is_empty());
    }
}

#[test]
fn the_same_bytes_again_touch_nothing() {
    let volume = Volume::new();
    let content = content();
    let open = volume.open().unwrap();
    let first = write(&open, &content, at(0)).unwrap();
    let before = fingerprint(&volume.join(&first.generation));
    let above = fingerprint(&volume.path());
    let again = open.write(&content, at(100), &refuse).unwrap();
    assert_eq!(
        again,
        Written {
            generation: first.generation.clone(),
            changed: false
        }
    );
    assert_eq!(fingerprint(&volume.join(&first.generation)), before);
    assert_eq!(fingerprint(&volume.path()), above);
}

#[test]
fn the_same_bytes_with_another_mode_are_written_again() {
    let volume = Volume::new();
    let content = content();
    write(&volume.open().unwrap(), &content, at(0)).unwrap();
    let access = Access {
        key_mode: 0o600,
        ..access()
    };
    let open = VolumeDir::open(&volume.path(), &access).unwrap();
    assert!(write(&open, &content, at(1)).unwrap().changed);
    assert!(!write(&open, &content, at(2)).unwrap().changed);
    std::fs::set_permissions(
        volume.join(layout::PRIVATE_KEY),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    assert!(
        write(&open, &content, at(3)).unwrap().changed,
        "somebody opened the key to all"
    );
}

#[test]
fn every_generation_has_new_inodes_and_a_later_second_even_if_the_clock_stands() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    let mut seen: Vec<(String, u64, i64)> = Vec::new();
    for (round, now) in [0, 0, -3600, 10].into_iter().enumerate() {
        let written = write(&open, &content(), at(now)).unwrap();
        let meta = std::fs::metadata(volume.join(layout::PRIVATE_KEY)).unwrap();
        assert!(
            seen.iter()
                .all(|(name, _, second)| *name != written.generation && *second < meta.mtime()),
            "round {round}"
        );
        // A number is free for reuse once its generation is gone, but not while it is there.
        assert!(
            seen.last().is_none_or(|(_, ino, _)| *ino != meta.ino()),
            "round {round}"
        );
        assert_eq!(meta.mtime(), volume.modified(layout::CERTIFICATES));
        assert_eq!(meta.mtime(), volume.modified(&written.generation));
        seen.push((written.generation, meta.ino(), meta.mtime()));
    }
    assert_eq!(seen.last().unwrap().2, at(10).as_second());
}

#[test]
fn the_previous_generation_stays_for_sixty_seconds_also_over_a_restart() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    assert_eq!(open.next_prune(at(0)), None);
    let first = write(&open, &content(), at(0)).unwrap().generation;
    assert_eq!(open.next_prune(at(0)), None);
    let second = write(&open, &content(), at(1000)).unwrap().generation;
    assert_eq!(open.next_prune(at(1000)), Some(at(1060)));
    open.prune(at(1059)).unwrap();
    drop(open);
    let open = volume.open().unwrap();
    assert_eq!(volume.generations(), [first, second.clone()]);
    open.prune(at(1060)).unwrap();
    assert_eq!(volume.generations(), [second]);
    assert_eq!(open.next_prune(at(1060)), None);
}

#[test]
fn a_refused_generation_is_taken_back_and_the_old_one_stays() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    let first = write(&open, &content(), at(0)).unwrap();
    let before = fingerprint(&volume.join(&first.generation));
    let refused = open.write(&content(), at(1), &refuse).unwrap_err();
    assert!(matches!(refused, VolumeError::Refused { .. }), "{refused}");
    let mixed = Content {
        private_key: content().private_key,
        ..content()
    };
    let unreadable = write(&open, &mixed, at(1)).unwrap_err();
    assert!(
        matches!(unreadable, VolumeError::Unreadable { .. }),
        "{unreadable}"
    );
    let empty = Content {
        ca_certificates: String::new(),
        ..content()
    };
    assert!(
        write(&open, &empty, at(1)).is_err(),
        "readers must never see an empty list of roots"
    );
    assert_eq!(volume.generations(), [first.generation.as_str()]);
    assert_eq!(fingerprint(&volume.join(&first.generation)), before);
    assert!(volume.strays().is_empty());
}

#[test]
fn the_check_sees_the_generation_before_its_readers_do() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    let old = content();
    write(&open, &old, at(0)).unwrap();
    let new = content();
    let checked = AtomicBool::new(false);
    open.write(&new, at(1), &|snapshot: &Snapshot| -> Result<(), No> {
        assert_eq!(
            snapshot.chain().to_pem(),
            new.certificates.replace("\r\n", "\n")
        );
        let published = std::fs::read_to_string(volume.join(layout::CERTIFICATES)).unwrap();
        assert_eq!(published, old.certificates);
        checked.store(true, Ordering::Relaxed);
        Ok(())
    })
    .unwrap();
    assert!(checked.into_inner());
}

#[test]
fn the_current_credential_is_read_through_the_open_directory() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    assert!(open.read_current().unwrap().is_none());
    let written = write(&open, &content(), at(0)).unwrap();
    let moved = volume.root.path().join("moved");
    std::fs::rename(volume.path(), &moved).unwrap();
    let snapshot = open.read_current().unwrap().unwrap();
    assert_eq!(snapshot.generation(), Some(written.generation.as_str()));
    std::fs::write(moved.join("..data/certificates.pem"), "torn").unwrap();
    assert!(matches!(
        open.read_current(),
        Err(VolumeError::Unreadable { .. })
    ));
    // The bundle is a whole credential for its readers, and not for those of the other two.
    std::fs::remove_file(moved.join("..data/certificates.pem")).unwrap();
    assert_eq!(
        certagent_credentials::read(&moved).unwrap().generation(),
        Some(written.generation.as_str())
    );
    assert!(matches!(
        open.read_current(),
        Err(VolumeError::Unreadable { .. })
    ));
}

#[test]
fn what_a_crash_left_behind_is_removed_at_the_start() {
    let volume = Volume::new();
    let first = write(&volume.open().unwrap(), &content(), at(0))
        .unwrap()
        .generation;
    // Finished, but never swapped in; begun; links before their rename.
    let unpublished = layout::generation_name(at(10));
    std::fs::create_dir(volume.join(&unpublished)).unwrap();
    std::fs::write(volume.join(&unpublished).join(layout::PRIVATE_KEY), "key").unwrap();
    std::fs::create_dir(volume.join(DATA_NEW)).unwrap();
    std::fs::write(volume.join(DATA_NEW).join(layout::PRIVATE_KEY), "half a k").unwrap();
    symlink(&unpublished, volume.join(layout::DATA_TMP)).unwrap();
    symlink("..data/certificates.pem", volume.join(LINK_NEW)).unwrap();
    let open = volume.open().unwrap();
    assert_eq!(volume.generations(), [first.as_str()]);
    assert!(volume.strays().is_empty(), "{:?}", volume.strays());
    assert_eq!(
        open.read_current().unwrap().unwrap().generation(),
        Some(first.as_str())
    );
}

#[test]
fn a_crash_between_swap_and_links_is_repaired_at_the_start() {
    let volume = Volume::new();
    write(&volume.open().unwrap(), &content(), at(0)).unwrap();
    std::fs::remove_file(volume.join(layout::PRIVATE_KEY)).unwrap();
    std::fs::remove_file(volume.join(layout::CERTIFICATES)).unwrap();
    symlink("..data/private_key.pem", volume.join(layout::CERTIFICATES)).unwrap();
    let _open = volume.open().unwrap();
    for name in layout::FILES {
        let link = std::fs::read_link(volume.join(name)).unwrap();
        assert_eq!(link, Path::new("..data").join(name));
    }
}

#[test]
fn readers_that_pin_data_see_whole_generations_while_they_are_swapped() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    let contents = [content(), content(), content()];
    write(&open, &contents[0], at(0)).unwrap();
    let (done, started) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while reads == 0 || !done.load(Ordering::Relaxed) {
                certagent_credentials::read(volume.path()).unwrap();
                let both = std::fs::read(volume.join(layout::CREDENTIAL_BUNDLE)).unwrap();
                let key = certagent_svid::PrivateKey::from_pem(&both).unwrap();
                let chain = certagent_svid::Chain::parse_pem(&both).unwrap();
                assert!(key.fits(chain.leaf()));
                reads += 1;
                started.store(true, Ordering::Relaxed);
            }
        });
        while !started.load(Ordering::Relaxed) && !reader.is_finished() {
            std::thread::yield_now();
        }
        for round in 1..60 {
            let content = &contents[round % contents.len()];
            write(&open, content, at(61 * i64::try_from(round).unwrap())).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn there_are_never_more_than_three_generations_and_the_previous_one_is_among_them(
        steps in prop::collection::vec((-4000_i64..4000, any::<bool>(), any::<bool>()), 1..12),
    ) {
        let volume = Volume::new();
        let mut open = volume.open().unwrap();
        let contents = [content(), content()];
        let mut now = 100_000;
        let mut previous: Option<String> = None;
        for (round, (step, prune, restart)) in steps.into_iter().enumerate() {
            now += step;
            let most = AtomicBool::new(true);
            let count = |_: &Snapshot| -> Result<(), No> {
                // The new one has no name yet, and counts.
                most.store(volume.generations().len() < 3, Ordering::Relaxed);
                Ok(())
            };
            let written = open.write(&contents[round % 2], at(now), &count).unwrap();
            prop_assert!(written.changed && most.into_inner());
            let names = volume.generations();
            prop_assert!(names.len() <= 3);
            prop_assert!(previous.is_none_or(|previous| names.contains(&previous)));
            previous = Some(written.generation);
            if prune {
                open.prune(at(now + 61)).unwrap();
                prop_assert_eq!(volume.generations().len(), 1);
            }
            if restart {
                drop(open);
                open = volume.open().unwrap();
            }
            prop_assert!(volume.strays().is_empty());
            prop_assert!(open.read_current().unwrap().is_some());
        }
    }
}
