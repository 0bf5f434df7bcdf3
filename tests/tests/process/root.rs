//! Volumes on filesystems of their own: what only root can set up.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    program::{Program, run},
    site::{Site, read_valid, supply},
    volumes::files,
};

/// The ignored tests fail where they cannot run: a lane that skips them proves nothing.
#[track_caller]
pub(crate) fn demand_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test must be run as root"
    );
}

#[test]
#[ignore = "needs root, to mount a tmpfs"]
fn on_a_tmpfs_a_volume_and_the_state_need_no_permission_for_disks() {
    let site = Site::new();
    let memory = Tmpfs::mount(&site, "size=4m");
    run(&mut on(&site, &memory)).expect(0).says(&["issued"]);
    read_valid(&memory.volume());
}

#[test]
#[ignore = "needs root, to mount a tmpfs"]
fn a_read_only_tmpfs_is_named_and_its_valid_credential_stays() {
    let site = Site::new();
    let memory = Tmpfs::mount(&site, "size=4m");
    // The state stays where it can be written.
    let mut command = supply(site.agent(), &memory.path);
    command.arg("--once");
    memory.remount("ro");
    run(&mut command)
        .expect(1)
        .says(&["is read-only; mount it for writing in the agent"]);

    memory.remount("rw");
    run(&mut command).expect(0);
    let before = files(&memory.path);
    memory.remount("ro");
    let ended = run(&mut command);
    assert_eq!(files(&memory.path), before, "{ended:#?}");
    read_valid(&memory.path);
    assert_eq!(site.sold().len(), 1, "nothing is bought for it");
}

#[test]
#[ignore = "needs root, to mount a tmpfs"]
fn a_tmpfs_that_is_too_small_is_named_before_anything_is_bought() {
    let site = Site::new();
    let memory = Tmpfs::mount(&site, "size=32k");
    let mut command = supply(site.agent(), &memory.path);
    run(command.arg("--once")).expect(1).says(&[
        &format!("the volume {} is full", memory.path.display()),
        "free some space or enlarge it",
    ]);
    assert_eq!(
        fs::read_dir(&memory.path).unwrap().count(),
        0,
        "nothing is left behind"
    );
    assert_eq!(site.sold(), [""; 0]);
}

#[test]
#[ignore = "needs root, to mount a tmpfs"]
fn a_tmpfs_without_inodes_is_named_and_heals_with_the_certificate_that_was_bought() {
    let site = Site::new();
    // Enough for a generation, and not for the links beside it.
    let memory = Tmpfs::mount(&site, "size=64k,nr_inodes=8");
    let mut agent = Program::start(&mut supply(site.agent(), &memory.path));
    agent.wait_for(&["no valid certificate", "is full"]);
    memory.remount("nr_inodes=100");
    // Said when the volume was opened again, its links included.
    agent.wait_for(&[" INFO ", &memory.path.display().to_string()]);
    agent.terminate().expect(0);
    let serial = read_valid(&memory.path).chain().leaf().serial_hex();
    assert_eq!(site.sold(), [serial]);
    files(&memory.path);
}

#[test]
#[ignore = "needs root, to mount a tmpfs"]
fn a_renewal_on_a_full_tmpfs_keeps_the_old_credential_and_heals_when_there_is_space() {
    let site = Site::new();
    let memory = Tmpfs::mount(&site, "size=256k");
    // The volume of the site is the tmpfs.
    let command = || supply(site.agent(), &memory.path);
    site.set_behind(50 * 60);
    run(command().arg("--once")).expect(0);
    site.set_behind(0);
    // Without its record, it counts as issued when it begins.
    fs::remove_dir_all(site.state_dir().join("volumes")).unwrap();
    let before = files(&memory.path);
    fill(&memory.path);

    let mut agent = Program::start(&mut command());
    agent.wait_for(&["no new certificate; the one in the volume stays", "is full"]);
    assert_eq!(files(&memory.path), before);
    read_valid(&memory.path);

    fs::remove_file(memory.path.join("filler")).unwrap();
    agent.wait_for(&["renewed"]);
    agent.terminate().expect(0);
    assert_ne!(files(&memory.path), before);
    read_valid(&memory.path);
    let sold = site.sold();
    assert_eq!(
        sold.len(),
        2,
        "the certificate that could not be written is the one that heals"
    );
    assert_eq!(
        read_valid(&memory.path).chain().leaf().serial_hex(),
        sold[1]
    );
}

/// Takes all the space that there is.
fn fill(directory: &Path) {
    use std::io::Write as _;
    let mut filler = fs::File::create(directory.join("filler")).unwrap();
    let page = vec![0; 4096];
    while filler.write_all(&page).is_ok() {}
}

/// `run --once` with volume and state on the tmpfs, and no word about disks.
fn on(site: &Site, memory: &Tmpfs) -> Command {
    fs::create_dir(memory.volume()).unwrap();
    let mut command = crate::program::certagent("run --once");
    site.tell(&mut command, &memory.path.join("state"));
    supply(command, &memory.volume())
}

/// A tmpfs below a site's directory, as long as the value lives.
struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    fn mount(site: &Site, options: &str) -> Self {
        demand_root();
        let path = site.path().join("memory");
        fs::create_dir(&path).unwrap();
        let memory = Self { path };
        call(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "tmpfs"])
                .arg(&memory.path),
        );
        memory
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        call(Command::new("mount").args(["-o", &options]).arg(&self.path));
    }

    fn volume(&self) -> PathBuf {
        self.path.join("volume")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until then.
        drop(Command::new("umount").arg("-l").arg(&self.path).status());
    }
}

#[track_caller]
fn call(command: &mut Command) {
    let status = command.status().expect("mount is there");
    assert!(status.success(), "{command:?}: {status}");
}
