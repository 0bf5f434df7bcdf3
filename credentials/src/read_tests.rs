use super::*;
use crate::fixture::credential;

#[cfg(unix)]
fn swap(directory: &Path, generation: &str) {
    let tmp = directory.join(layout::DATA_TMP);
    std::os::unix::fs::symlink(generation, &tmp).unwrap();
    std::fs::rename(tmp, directory.join(layout::DATA)).unwrap();
}

#[cfg(unix)]
fn generation(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

#[test]
fn plain_files_are_read_and_missing_ones_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let credential = credential();
    credential.write(dir.path());
    std::fs::remove_file(dir.path().join(layout::TRUST_BUNDLES)).unwrap();
    let files = read_files(dir.path()).unwrap();
    assert_eq!(*files.layout(), Layout::Plain);
    assert_eq!(
        files.get(layout::CERTIFICATES).unwrap(),
        credential.certificates.as_bytes()
    );
    assert!(matches!(
        files.get(layout::TRUST_BUNDLES),
        Err(FileProblem::Missing)
    ));
    assert!(files.optional(layout::TRUST_BUNDLES).unwrap().is_none());
    assert!(matches!(files.get("another"), Err(FileProblem::Missing)));
    assert_eq!(files.path("x"), dir.path().join("x"));
}

#[cfg(unix)]
#[test]
fn the_generation_behind_data_is_read_and_not_the_names_on_top() {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let newer = credential();
    newer.write(&generation(dir.path(), "..2026_11_21_01_23_45.1"));
    swap(dir.path(), "..2026_11_21_01_23_45.1");
    let files = read_files(dir.path()).unwrap();
    let generation = "..2026_11_21_01_23_45.1".to_owned();
    assert_eq!(*files.layout(), Layout::Swapped { generation });
    assert_eq!(
        files.get(layout::PRIVATE_KEY).unwrap(),
        newer.key.as_bytes()
    );
}

#[cfg(unix)]
#[test]
fn a_data_directory_that_is_no_link_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let credential = credential();
    credential.write(&generation(dir.path(), layout::DATA));
    let files = read_files(dir.path()).unwrap();
    assert_eq!(
        files.get(layout::PRIVATE_KEY).unwrap(),
        credential.key.as_bytes()
    );
}

#[cfg(unix)]
#[test]
fn a_data_link_to_nothing_says_where_it_points() {
    let dir = tempfile::tempdir().unwrap();
    swap(dir.path(), "..2026_11_21_01_23_45.1");
    let error = read_files(dir.path()).unwrap_err();
    assert!(matches!(&error, ReadError::Dangling { .. }), "{error}");
    assert!(
        error.to_string().contains("..2026_11_21_01_23_45.1"),
        "{error}"
    );
}

#[test]
fn a_missing_directory_and_a_file_in_its_place_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let error = read_files(dir.path().join("nothing")).unwrap_err();
    assert!(matches!(error, ReadError::NoDirectory { .. }), "{error}");
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let error = read_files(dir.path().join("file")).unwrap_err();
    assert!(matches!(error, ReadError::NotADirectory { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn permissions_stop_everybody_but_root() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let key = dir.path().join(layout::PRIVATE_KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o000)).unwrap();
    let files = read_files(dir.path()).unwrap();
    if rustix::process::geteuid().is_root() {
        assert!(files.get(layout::PRIVATE_KEY).is_ok());
    } else {
        assert!(matches!(
            files.get(layout::PRIVATE_KEY),
            Err(FileProblem::NotReadable(access)) if access.mode == 0
        ));
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
    let read = read_files(dir.path());
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        assert!(read.is_ok());
    } else {
        assert!(matches!(read, Err(ReadError::NotReadable { .. })));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_bounded_regular_file_is_refused_without_waiting_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = std::fs::File::open(dir.path()).unwrap();
    let file = |name: &str| dir.path().join(name);
    rustix::fs::mknodat(
        &root,
        layout::PRIVATE_KEY,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::fs::create_dir(file(layout::CERTIFICATES)).unwrap();
    std::fs::File::create(file(layout::CA_CERTIFICATES))
        .unwrap()
        .set_len(MAX_FILE_BYTES as u64 + 1)
        .unwrap();
    std::fs::File::create(file(layout::TRUST_BUNDLES))
        .unwrap()
        .set_len(MAX_FILE_BYTES as u64 + 1)
        .unwrap();
    let files = read_files(dir.path()).unwrap();
    assert!(matches!(
        files.get(layout::PRIVATE_KEY),
        Err(FileProblem::NotAFile)
    ));
    assert!(matches!(
        files.get(layout::CERTIFICATES),
        Err(FileProblem::NotAFile)
    ));
    assert!(matches!(
        files.get(layout::CA_CERTIFICATES),
        Err(FileProblem::TooLarge { .. })
    ));
    assert!(
        files.get(layout::TRUST_BUNDLES).is_ok(),
        "a bundle map may be larger"
    );
}

#[cfg(unix)]
#[test]
fn a_link_in_a_generation_is_refused_by_its_writer_and_followed_by_a_reader() {
    use std::os::fd::AsFd as _;
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "x").unwrap();
    let path = generation(dir.path(), "..2026_11_21_01_23_45.1");
    std::os::unix::fs::symlink(&outside, path.join(layout::CERTIFICATES)).unwrap();
    swap(dir.path(), "..2026_11_21_01_23_45.1");
    let open = std::fs::File::open(&path).unwrap();
    let files = read_generation(open.as_fd(), dir.path(), "..2026_11_21_01_23_45.1");
    assert!(matches!(
        files.get(layout::CERTIFICATES),
        Err(FileProblem::Link)
    ));
    assert!(
        read_files(dir.path())
            .unwrap()
            .get(layout::CERTIFICATES)
            .is_ok()
    );
}

#[cfg(unix)]
#[test]
fn a_reader_never_mixes_generations_while_they_are_swapped() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let write = |round: u32| {
        let name = format!("..2026_11_21_01_23_45.{round}");
        let path = generation(dir.path(), &name);
        for file in layout::FILES {
            std::fs::write(path.join(file), round.to_string()).unwrap();
        }
        swap(dir.path(), &name);
        if let Some(old) = round.checked_sub(1) {
            // At once: readers that lose their generation must find the next one.
            let old = dir.path().join(format!("..2026_11_21_01_23_45.{old}"));
            std::fs::remove_dir_all(old).unwrap();
        }
    };
    write(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut whole = 0;
            while !done.load(Ordering::Relaxed) {
                // A reader may lose the race, and then says so; it must never be wrong.
                let Ok(files) = read_files(dir.path()) else {
                    continue;
                };
                let contents: Vec<_> = layout::FILES
                    .iter()
                    .filter_map(|name| files.get(name).ok())
                    .collect();
                assert!(contents.windows(2).all(|pair| pair.first() == pair.last()));
                whole += usize::from(contents.len() == layout::FILES.len());
            }
            whole
        });
        for round in 1..300 {
            write(round);
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(
        read_files(dir.path())
            .unwrap()
            .get(layout::CERTIFICATES)
            .unwrap(),
        b"299"
    );
}

#[test]
fn debug_shows_sizes_and_no_content() {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let text = format!("{:?}", read_files(dir.path()).unwrap());
    assert!(text.contains("private_key.pem"), "{text}");
    assert!(
        !text.contains("BEGIN") && !text.contains("45, 45, 45"),
        "{text}"
    );
}
