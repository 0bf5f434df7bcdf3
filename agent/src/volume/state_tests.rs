use std::os::unix::fs::symlink;

use super::*;
use crate::volume::fixture::names;

fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    let pairs: Vec<(String, OsString)> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    move |name| {
        pairs
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    }
}

#[test]
fn the_place_is_the_flag_then_systemds_then_the_sessions_and_else_an_error() {
    let both = [
        ("RUNTIME_DIRECTORY", "/run/a:/run/b"),
        ("XDG_RUNTIME_DIR", "/run/user/1"),
    ];
    let place = |flag: Option<&str>, pairs: &[(&str, &str)]| {
        StateDir::default_location(flag.map(Into::into), env(pairs))
    };
    assert_eq!(place(Some("/x"), &both).unwrap(), Path::new("/x"));
    assert_eq!(place(None, &both).unwrap(), Path::new("/run/a"));
    assert_eq!(
        place(None, &both[1..]).unwrap(),
        Path::new("/run/user/1/certagent")
    );
    let error = place(None, &[("RUNTIME_DIRECTORY", ""), ("XDG_RUNTIME_DIR", "")]).unwrap_err();
    assert!(matches!(error, StateError::NoLocation), "{error}");
    assert!(error.to_string().contains("--state-dir"), "{error}");
}

#[test]
fn a_state_directory_is_made_for_its_owner_only() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let state = StateDir::open(&path, true).unwrap();
    state.save_last_good("{}").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("volumes")), 0o700);
    assert_eq!(mode(&path.join("last-good.json")), 0o600);
    assert_eq!(names(&path), ["last-good.json", "volumes"]);
}

#[test]
fn the_last_good_config_survives_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(root.path(), true).unwrap();
    assert_eq!(state.load_last_good().unwrap(), None);
    state.save_last_good("first").unwrap();
    state.save_last_good("second").unwrap();
    drop(state);
    let state = StateDir::open(root.path(), true).unwrap();
    assert_eq!(state.load_last_good().unwrap().as_deref(), Some("second"));
    std::fs::write(root.path().join(LAST_GOOD), b"\xff").unwrap();
    assert!(state.load_last_good().is_err());
}

#[test]
fn a_state_directory_that_cannot_be_used_says_why_and_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let open = |path: &Path| StateDir::open(path, true).unwrap_err();
    let error = open(&root.path().join("no/parent"));
    assert!(matches!(error, StateError::NoParent { .. }), "{error}");
    let file = root.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = open(&file);
    assert!(matches!(error, StateError::NotADirectory { .. }), "{error}");
    let error = open(&file.join("below"));
    assert!(matches!(error, StateError::NotADirectory { .. }), "{error}");
    let exposed = root.path().join("exposed");
    std::fs::create_dir(&exposed).unwrap();
    std::fs::set_permissions(&exposed, Permissions::from_mode(0o777)).unwrap();
    let error = open(&exposed);
    assert!(matches!(error, StateError::Exposed { .. }), "{error}");
    assert!(error.to_string().contains("777"), "{error}");
}

#[test]
fn an_unwritable_state_directory_is_found_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o500)).unwrap();
    let open = StateDir::open(&path, true);
    if geteuid().is_root() {
        assert!(open.is_ok());
    } else {
        let error = open.unwrap_err();
        assert!(matches!(error, StateError::NoPermission { .. }), "{error}");
        assert!(error.to_string().contains("--state-dir"), "{error}");
    }
}

#[test]
fn keys_on_a_disk_are_refused_unless_that_is_allowed() {
    let places = [
        std::env::temp_dir(),
        "/dev/shm".into(),
        env!("CARGO_MANIFEST_DIR").into(),
    ];
    for place in places.iter().filter(|place| place.is_dir()) {
        let Ok(root) = tempfile::tempdir_in(place) else {
            continue;
        };
        let memory = Filesystem::of(File::open(root.path()).unwrap())
            .unwrap()
            .is_memory();
        let demanding = StateDir::open(root.path(), false).map(drop);
        assert_eq!(demanding.is_ok(), memory);
        assert!(memory || matches!(demanding, Err(StateError::OnDisk { .. })));
        assert!(StateDir::open(root.path(), true).is_ok());
    }
}

#[test]
fn a_state_directory_has_one_agent_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let first = StateDir::open(root.path(), true).unwrap();
    let error = StateDir::open(root.path(), true).unwrap_err();
    assert!(matches!(error, StateError::Held { .. }), "{error}");
    drop(first);
    assert!(StateDir::open(root.path(), true).is_ok());
}

#[test]
fn a_volume_has_its_own_place_and_can_be_forgotten() {
    let id = VolumeId::of(Path::new("/run/a"));
    assert_eq!(id.as_str().len(), 32);
    assert_eq!(id, VolumeId::of(Path::new("/run/a")));
    assert_ne!(id, VolumeId::of(Path::new("/run/b")));
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(root.path(), true).unwrap();
    let volume = state.volume(&id);
    volume.forget().unwrap();
    assert!(
        names(&root.path().join("volumes")).is_empty(),
        "nothing is made before it is needed"
    );
    volume
        .save_record(&crate::volume::record::tests::record())
        .unwrap();
    assert_eq!(names(&root.path().join("volumes")), [id.to_string()]);
    volume.forget().unwrap();
    assert!(volume.load_record().unwrap().is_none());
}

#[test]
fn a_half_written_file_of_a_crash_is_replaced_and_a_link_in_its_place_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(root.path(), true).unwrap();
    let elsewhere = root.path().join("elsewhere");
    std::fs::write(&elsewhere, "theirs").unwrap();
    symlink(&elsewhere, root.path().join("last-good.json.new")).unwrap();
    state.save_last_good("good").unwrap();
    assert_eq!(std::fs::read_to_string(elsewhere).unwrap(), "theirs");
    assert_eq!(state.load_last_good().unwrap().as_deref(), Some("good"));
}

#[test]
fn whoever_looks_learns_which_roots_are_distrusted_now_and_nothing_of_a_broken_file() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(root.path(), true).unwrap();
    assert_eq!(StateDir::peek_distrust(root.path()), Distrust::default());
    let both: Distrust = ["ab", "0f"]
        .map(|byte| byte.repeat(32).parse().unwrap())
        .into_iter()
        .collect();
    state.save_distrust(&both).unwrap();
    assert_eq!(StateDir::peek_distrust(root.path()), both);
    std::fs::write(root.path().join("distrust"), "\u{1}nonsense").unwrap();
    assert_eq!(StateDir::peek_distrust(root.path()), Distrust::default());
    for _ in 0..2 {
        state.save_distrust(&Distrust::default()).unwrap();
        assert!(!root.path().join("distrust").exists());
    }
}

#[test]
fn a_full_filesystem_is_told_with_how_much_it_can_hold() {
    let root = tempfile::tempdir().unwrap();
    // Of a file that could not even be made, its directory says it.
    let missing = root.path().join("key.pem");
    let error = StateError::io(&missing, Errno::NOSPC.into());
    let whole = rustix::fs::statvfs(root.path()).unwrap();
    let kibibytes = whole.f_blocks * whole.f_frsize / 1024;
    let text = error.to_string();
    assert!(
        text.contains(&format!("room for {kibibytes} KiB")),
        "{text}"
    );
}
