//! Volumes that are wrong, or that somebody made so.
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::volume::fixture::{Volume, access, at, content, names, write};

#[test]
fn a_missing_volume_and_a_file_in_its_place_are_named() {
    let volume = Volume::new();
    let error = VolumeDir::open(&volume.join("nothing"), &access()).unwrap_err();
    assert!(matches!(error, VolumeError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("volume/nothing"), "{error}");
    std::fs::write(volume.join("file"), "x").unwrap();
    let error = VolumeDir::open(&volume.join("file"), &access()).unwrap_err();
    assert!(
        matches!(error, VolumeError::NotADirectory { .. }),
        "{error}"
    );
}

#[test]
fn a_link_to_the_volume_is_followed_once_and_names_the_same_volume() {
    let volume = Volume::new();
    let link = volume.root.path().join("link");
    symlink(volume.path(), &link).unwrap();
    let direct = volume.open().unwrap().id().clone();
    let open = VolumeDir::open(&link, &access()).unwrap();
    assert_eq!(*open.id(), direct);
    std::fs::remove_file(&link).unwrap();
    symlink("/", &link).unwrap();
    write(&open, &content(), at(0)).unwrap();
    assert_eq!(volume.generations().len(), 1);
}

#[test]
fn a_key_on_a_disk_is_refused_unless_that_is_allowed() {
    let places = [
        std::env::temp_dir(),
        "/dev/shm".into(),
        env!("CARGO_MANIFEST_DIR").into(),
    ];
    for place in places.iter().filter(|place| place.is_dir()) {
        let Ok(directory) = tempfile::tempdir_in(place) else {
            continue;
        };
        let memory = Filesystem::of(std::fs::File::open(directory.path()).unwrap()).unwrap();
        let demanding = VolumeDir::open(directory.path(), &Access::default()).map(drop);
        if memory.is_memory() {
            assert!(demanding.is_ok());
        } else {
            let error = demanding.unwrap_err();
            assert!(matches!(&error, VolumeError::OnDisk { .. }), "{error}");
            assert!(error.to_string().contains(&memory.to_string()), "{error}");
        }
        assert!(VolumeDir::open(directory.path(), &access()).is_ok());
    }
}

#[test]
fn a_volume_that_another_agent_holds_is_refused_until_that_one_ends() {
    let volume = Volume::new();
    let first = volume.open().unwrap();
    let error = volume.open().unwrap_err();
    assert!(matches!(error, VolumeError::Held { .. }), "{error}");
    drop(first);
    assert!(volume.open().is_ok());
}

#[test]
fn a_volume_of_somebody_else_is_refused_with_both_uids() {
    if geteuid().is_root() {
        // Root may: a workload's own directory is a volume like any other.
        let volume = Volume::new();
        std::os::unix::fs::chown(volume.path(), Some(12_345), None).unwrap();
        assert!(write(&volume.open().unwrap(), &content(), at(0)).is_ok());
    } else {
        let error = VolumeDir::open(Path::new("/"), &access()).unwrap_err();
        let agent = geteuid().as_raw().to_string();
        match &error {
            VolumeError::NoPermission { owner, .. } => {
                let owner_text = format!("uid {}", owner.unwrap());
                let text = error.to_string();
                assert!(
                    text.contains(&owner_text) && text.contains(&agent),
                    "{text}"
                );
            }
            other => assert!(matches!(other, VolumeError::ReadOnly { .. }), "{other}"),
        }
    }
}

#[test]
fn each_refusal_of_the_system_has_its_own_message() {
    let failed = |errno: Errno| VolumeError::below(Path::new("/v"), None, "write", errno.into());
    assert!(matches!(failed(Errno::NOSPC), VolumeError::Full { .. }));
    assert!(matches!(failed(Errno::DQUOT), VolumeError::Full { .. }));
    assert!(matches!(failed(Errno::ROFS), VolumeError::ReadOnly { .. }));
    assert!(matches!(
        failed(Errno::ACCESS),
        VolumeError::NoPermission { .. }
    ));
    assert!(matches!(failed(Errno::IO), VolumeError::Io { .. }));
}

/// Needs a tmpfs of 160 KiB, named by `CERTAGENT_TEST_SMALL_TMPFS`.
#[test]
#[ignore = "needs a small tmpfs, which only root can mount"]
fn a_full_volume_keeps_what_it_has_and_an_empty_one_is_refused_at_the_start() {
    let path = PathBuf::from(std::env::var_os("CERTAGENT_TEST_SMALL_TMPFS").unwrap());
    the_replaced_generation_goes_first_where_there_is_no_room_for_another(&path.join("replaced"));
    let old = content();
    write(
        &VolumeDir::open(&path, &Access::default()).unwrap(),
        &old,
        at(0),
    )
    .unwrap();
    let open = VolumeDir::open(&path, &Access::default()).unwrap();
    std::fs::write(path.join("ballast"), vec![0; 1 << 20]).unwrap_err();
    let error = write(&open, &content(), at(1)).unwrap_err();
    assert!(matches!(error, VolumeError::Full { .. }), "{error}");
    assert!(error.to_string().contains("room for 160 KiB"), "{error}");
    assert_eq!(
        open.read_current().unwrap().unwrap().chain().to_pem(),
        old.certificates
    );
    drop(open);
    // A restart keeps what is valid; only a volume with nothing to keep is refused.
    let open = VolumeDir::open(&path, &Access::default()).unwrap();
    assert!(open.read_current().unwrap().is_some());
    assert!(!names(&path).iter().any(|name| name == DATA_NEW));
    drop(open);
    std::fs::remove_file(path.join(layout::DATA)).unwrap();
    std::fs::write(path.join("more-ballast"), vec![0; 1 << 20]).unwrap_err();
    let error = VolumeDir::open(&path, &Access::default()).unwrap_err();
    assert!(matches!(error, VolumeError::Full { .. }), "{error}");
}

fn the_replaced_generation_goes_first_where_there_is_no_room_for_another(path: &Path) {
    std::fs::create_dir(path).unwrap();
    let open = VolumeDir::open(path, &Access::default()).unwrap();
    let first = write(&open, &content(), at(0)).unwrap().generation;
    write(&open, &content(), at(1)).unwrap();
    // What is left of the tmpfs is less than a file of a generation.
    let mut ballast = std::fs::File::create(path.join("ballast")).unwrap();
    while io::Write::write_all(&mut ballast, &[0; 1024]).is_ok() {}
    let third = content();
    let written = write(&open, &third, at(2)).unwrap();
    assert!(written.changed && !path.join(&first).exists());
    assert_eq!(
        open.read_current().unwrap().unwrap().chain().to_pem(),
        third.certificates
    );
    drop(open);
    std::fs::remove_dir_all(path).unwrap();
}

/// Needs a directory that is mounted for reading only, named by `CERTAGENT_TEST_READ_ONLY`.
#[test]
#[ignore = "needs a read-only mount, which only root can make"]
fn a_read_only_volume_is_refused_at_the_start() {
    let path = PathBuf::from(std::env::var_os("CERTAGENT_TEST_READ_ONLY").unwrap());
    let error = VolumeDir::open(&path, &access()).unwrap_err();
    assert!(matches!(error, VolumeError::ReadOnly { .. }), "{error}");
}

#[test]
fn a_directory_with_content_in_place_of_our_names_is_an_error_that_names_it() {
    for name in layout::FILES.into_iter().chain([layout::DATA]) {
        let volume = Volume::new();
        std::fs::create_dir_all(volume.join(name).join("theirs")).unwrap();
        let error = volume.open().unwrap_err();
        assert!(matches!(error, VolumeError::InTheWay { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(volume.join(name).join("theirs").is_dir());
        std::fs::remove_dir(volume.join(name).join("theirs")).unwrap();
        let open = volume.open().unwrap();
        std::fs::create_dir(volume.join(name)).unwrap_or_default();
        write(&open, &content(), at(0)).unwrap();
        certagent_credentials::read(volume.path()).unwrap();
    }
}

#[test]
fn plain_files_and_links_in_place_of_our_names_are_replaced_and_never_followed() {
    let volume = Volume::new();
    let outside = volume.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "theirs").unwrap();
    std::fs::write(volume.join(layout::CERTIFICATES), "plain").unwrap();
    symlink(outside.join("precious"), volume.join(layout::PRIVATE_KEY)).unwrap();
    symlink(&outside, volume.join(layout::CA_CERTIFICATES)).unwrap();
    symlink(&outside, volume.join(layout::DATA)).unwrap();
    let open = volume.open().unwrap();
    assert!(open.read_current().unwrap().is_none());
    for name in [DATA_NEW, LINK_NEW, layout::DATA_TMP] {
        symlink(&outside, volume.join(name)).unwrap();
    }
    let generation = layout::generation_name(at(0));
    symlink(&outside, volume.join(&generation)).unwrap();
    write(&open, &content(), at(0)).unwrap();
    certagent_credentials::read(volume.path()).unwrap();
    assert_eq!(names(&outside), ["precious"]);
    assert_eq!(
        std::fs::read_to_string(outside.join("precious")).unwrap(),
        "theirs"
    );
    assert!(volume.strays().is_empty());
}

#[test]
fn a_current_generation_that_is_a_link_counts_as_nothing() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    let written = write(&open, &content(), at(0)).unwrap().generation;
    let outside = volume.root.path().join("outside");
    std::fs::rename(volume.join(&written), &outside).unwrap();
    symlink(&outside, volume.join(&written)).unwrap();
    assert!(open.read_current().unwrap().is_none());
    assert!(write(&open, &content(), at(1)).unwrap().changed);
    assert_eq!(
        names(&outside).len(),
        layout::FILES.len(),
        "nothing outside is touched"
    );
}

#[test]
fn a_file_of_the_generation_that_became_a_link_is_not_read() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    let content = content();
    write(&open, &content, at(0)).unwrap();
    let key = volume.join("..data").join(layout::PRIVATE_KEY);
    let outside = volume.root.path().join("outside");
    std::fs::rename(&key, &outside).unwrap();
    symlink(&outside, &key).unwrap();
    assert!(matches!(
        open.read_current(),
        Err(VolumeError::Unreadable { .. })
    ));
    assert!(write(&open, &content, at(1)).unwrap().changed);
    assert!(open.read_current().unwrap().is_some());
}

#[test]
fn whoever_only_looks_gets_the_certificates_and_nothing_that_a_link_leads_to() {
    let volume = Volume::new();
    assert!(
        VolumeDir::peek_certificates(&volume.path())
            .unwrap()
            .is_none()
    );
    let (open, content) = (volume.open().unwrap(), content());
    write(&open, &content, at(0)).unwrap();
    let peek = || VolumeDir::peek_certificates(&volume.path());
    assert_eq!(peek().unwrap().unwrap(), content.certificates.as_bytes());

    let there = volume.join(layout::DATA).join(layout::CERTIFICATES);
    std::fs::remove_file(&there).unwrap();
    assert!(peek().unwrap().is_none());
    symlink("/etc/passwd", &there).unwrap();
    assert!(matches!(peek(), Err(VolumeError::Io { .. })));
    std::fs::remove_file(&there).unwrap();
    rustix::fs::mkfifoat(CWD, &there, Mode::RWXU).unwrap();
    assert!(peek().unwrap().is_none());
    std::fs::remove_file(&there).unwrap();
    let large = std::fs::File::create(&there).unwrap();
    large.set_len(1 << 30).unwrap();
    assert!(peek().unwrap().is_none());
}

#[test]
fn a_crowd_of_strangers_is_left_alone_and_keeps_the_directory_mode() {
    let volume = Volume::new();
    for stray in 0..3000 {
        std::fs::write(volume.join(&format!("stray-{stray}")), "").unwrap();
    }
    std::fs::set_permissions(volume.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    write(&volume.open().unwrap(), &content(), at(0)).unwrap();
    assert_eq!(volume.strays().len(), 3000);
    assert_eq!(
        std::fs::metadata(volume.path()).unwrap().mode() & 0o7777,
        0o711
    );
}

#[test]
fn a_false_generation_that_cannot_be_removed_does_not_stop_a_renewal() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    write(&open, &content(), at(0)).unwrap();
    let deep = volume.join(&layout::generation_name(at(-5))).join("a/b/c");
    std::fs::create_dir_all(&deep).unwrap();
    assert!(write(&open, &content(), at(1)).unwrap().changed);
    open.prune(at(100)).unwrap();
    assert!(deep.is_dir());
    drop(open);
    assert!(volume.open().unwrap().read_current().unwrap().is_some());
}

#[test]
fn a_generation_that_was_exchanged_while_it_was_written_is_not_published() {
    let volume = Volume::new();
    let open = volume.open().unwrap();
    let first = write(&open, &content(), at(0)).unwrap().generation;
    let exchange = |_: &Snapshot| -> Result<(), std::convert::Infallible> {
        let aside = volume.root.path().join("aside");
        std::fs::rename(volume.join(DATA_NEW), aside).unwrap();
        std::fs::create_dir(volume.join(DATA_NEW)).unwrap();
        Ok(())
    };
    let error = open.write(&content(), at(1), &exchange).unwrap_err();
    assert!(matches!(error, VolumeError::Tampered { .. }), "{error}");
    assert_eq!(
        open.read_current().unwrap().unwrap().generation(),
        Some(first.as_str())
    );
}

#[test]
fn no_message_or_debug_output_holds_a_key() {
    let content = content();
    let secret = content.private_key.lines().nth(1).unwrap().to_owned();
    let volume = Volume::new();
    let open = volume.open().unwrap();
    let torn = Content {
        certificates: String::new(),
        ..content
    };
    let error = write(&open, &torn, at(0)).unwrap_err();
    for text in [
        format!("{error}"),
        format!("{error:?}"),
        format!("{torn:?} {open:?}"),
    ] {
        assert!(!text.contains(&secret), "{text}");
    }
}
