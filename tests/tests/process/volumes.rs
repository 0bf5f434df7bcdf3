//! Volumes that cannot be used: one message with what, where, why and the next step, exit code 1,
//! and what is valid elsewhere stays.
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

use certagent_svid::layout;

use crate::{
    program::{Program, program_at, run},
    site::{Site, supply},
};

/// An unprivileged user and group.
pub(crate) const NOBODY: u32 = 65534;

#[test]
fn a_volume_that_does_not_exist_is_named_with_what_to_do() {
    let site = Site::new();
    let volume = site.path().join("none");
    let mut command = supply(site.agent(), &volume);
    run(&mut command).expect(1).says(&[
        &format!("the volume {} does not exist", volume.display()),
        "create the directory, or correct the path",
        "none of the volumes can be used",
    ]);
    assert!(!volume.exists());
    assert_eq!(site.sold(), [""; 0], "nothing is bought for it");
}

#[test]
fn a_volume_that_is_a_file_is_refused_and_the_file_stays() {
    let site = Site::new();
    let file = site.path().join("file");
    fs::write(&file, "mine").unwrap();
    run(&mut supply(site.agent(), &file))
        .expect(1)
        .says(&["is not a directory", "give the path of one"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

#[test]
fn a_volume_on_a_disk_is_refused_unless_that_is_allowed() {
    let site = Site::new();
    let disk = on_disk();
    // --allow-disk is about the state and --volume; a document says it for itself.
    let document =
        certagent_tests::workload("web", disk.path()).replace("    allowDisk: true\n", "");
    site.write("workload.yaml", &document);
    let path = disk.path().display().to_string();
    run(site.agent().arg("--once")).expect(1).says(&[
        &format!("the volume {path} is on a disk (filesystem: "),
        "would keep a private key there",
        "mount a tmpfs on it, or set allowDisk: true",
    ]);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);

    site.write(
        "workload.yaml",
        &certagent_tests::workload("web", disk.path()),
    );
    run(site.agent().arg("--once")).expect(0);
    crate::site::read_valid(disk.path());
}

#[test]
fn a_volume_of_somebody_else_is_refused_with_both_users() {
    let site = Site::new();
    let (mut command, agent) = as_nobody(&site);
    let volume = if rustix::process::geteuid().is_root() {
        site.volume()
    } else {
        // Root's, on every machine; nobody else may write there.
        PathBuf::from("/usr")
    };
    command.arg("--allow-disk");
    let ended = run(&mut supply(command, &volume)).expect(1);
    ended.says(&[
        &format!("the volume {} belongs to uid 0", volume.display()),
        &format!("the agent runs as uid {agent}: permission denied"),
        "run the agent as its owner",
    ]);
    assert_eq!(site.sold(), [""; 0], "nothing is bought for it");
}

#[test]
fn an_own_volume_that_lost_its_write_permission_is_repaired_and_keeps_its_credential() {
    let site = Site::new();
    let (mut command, agent) = as_nobody(&site);
    let volume = site.path().join("mine");
    fs::create_dir(&volume).unwrap();
    own(&volume, agent);
    command.args(["--allow-disk", "--once"]);
    let mut command = supply(command, &volume);
    run(&mut command).expect(0);
    let before = files(&volume);

    fs::set_permissions(&volume, fs::Permissions::from_mode(0o555)).unwrap();
    run(&mut command).expect(0);
    assert_eq!(files(&volume), before);
    assert_eq!(
        fs::metadata(&volume).unwrap().permissions().mode() & 0o777,
        0o755
    );
    crate::site::read_valid(&volume);
}

#[test]
fn a_volume_that_another_running_agent_holds_is_refused_and_the_other_goes_on() {
    let site = Site::new();
    let mut first = site.start();
    first.wait_for(&["issued", "serial="]);
    let serial = site.serial();

    let state = site.path().join("state-2");
    let mut second = crate::program::certagent("run --allow-disk");
    site.tell(&mut second, &state);
    run(&mut supply(second, &site.volume())).expect(1).says(&[
        "is held by another running agent",
        "end that one, or give each its own volume",
    ]);
    assert_eq!(site.serial(), serial);
    first.terminate().expect(0);
    assert_eq!(site.sold(), [serial]);
}

#[test]
fn a_volume_that_cannot_be_used_does_not_harm_the_others() {
    let site = Site::new();
    site.write(
        "good.yaml",
        &certagent_tests::workload("good", &site.volume()),
    );
    let bad = site.path().join("later");
    site.write("bad.yaml", &certagent_tests::workload("bad", &bad));
    let mut agent = Program::start(&mut site.agent());
    agent.wait_for(&["issued", "sa/good"]);
    site.read();

    // What was missing is made: the agent finds it by itself.
    fs::create_dir(&bad).unwrap();
    agent.wait_for(&["issued", "sa/bad"]);
    crate::site::read_valid(&bad);
    agent.terminate().expect(0).says(&["later does not exist"]);
}

#[test]
fn a_directory_where_a_link_belongs_is_named_and_stays() {
    let site = Site::new();
    fs::create_dir_all(site.volume().join("certificates.pem/mine")).unwrap();
    run(&mut site.once())
        .expect(1)
        .says(&["certificates.pem is a directory", "move it away"]);
    assert!(site.volume().join("certificates.pem/mine").is_dir());
}

/// `certagent run` as a user who is not root, with that user's id and a state directory of theirs.
fn as_nobody(site: &Site) -> (Command, u32) {
    let (mut command, agent) = nobody(site, "run");
    let state = site.path().join("nobodys-state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    own(&state, agent);
    site.tell(&mut command, &state);
    (command, agent)
}

/// The program as a user who is not root, with that user's id: as root, a copy of the program that
/// runs as nobody; otherwise the program itself.
pub(crate) fn nobody(site: &Site, arguments: &str) -> (Command, u32) {
    let me = rustix::process::geteuid();
    let command = if me.is_root() {
        // Nobody must be able to reach the program and the site.
        let copy = site.path().join("certagent");
        fs::copy(env!("CARGO_BIN_EXE_certagent-under-test"), &copy).unwrap();
        fs::set_permissions(site.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = program_at(copy, arguments);
        command.uid(NOBODY).gid(NOBODY);
        command
    } else {
        crate::program::certagent(arguments)
    };
    (command, if me.is_root() { NOBODY } else { me.as_raw() })
}

fn own(path: &std::path::Path, user: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(user))
        .or_else(ignore_unless_root)
        .unwrap();
}

fn ignore_unless_root(error: std::io::Error) -> std::io::Result<()> {
    if rustix::process::geteuid().is_root() {
        Err(error)
    } else {
        Ok(())
    }
}

/// The bytes of the five files.
pub(crate) fn files(volume: &std::path::Path) -> Vec<Vec<u8>> {
    layout::FILES
        .iter()
        .map(|name| fs::read(volume.join(name)).expect("a file"))
        .collect()
}

/// An empty directory that is not in memory, wherever this machine has one.
fn on_disk() -> tempfile::TempDir {
    let places = [env!("CARGO_TARGET_TMPDIR"), "/var/tmp", "/tmp"];
    let is_disk = |place: &&str| {
        let found = rustix::fs::statfs(*place);
        // tmpfs and ramfs.
        found.is_ok_and(|found| ![0x0102_1994, 0x8584_58f6].contains(&found.f_type))
    };
    let disk = places
        .into_iter()
        .filter(is_disk)
        .find_map(|place| tempfile::tempdir_in(place).ok());
    disk.unwrap_or_else(|| panic!("none of {places:?} is on a disk and can be written"))
}
