//! Volumes on filesystems of their own, and a machine with nothing on it: what only root can set up.
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
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

#[test]
#[ignore = "needs root, to change the root directory"]
fn on_a_root_file_system_with_nothing_else_every_lack_has_its_message_and_nothing_panics() {
    let site = Site::new();
    let bare = Bare::make(&site);
    let https = "--ca-endpoint https://127.0.0.1:1";
    // Nothing to check a server by.
    for identity in ["none", "direct"] {
        let ended = run(bare
            .agent(&format!("{https} --identity {identity}"))
            .arg("--once"));
        ended.expect(1).says(&[
            "error: there are no CA certificates to check https servers by",
            "pass --ca-bundle FILE, or set SSL_CERT_FILE",
        ]);
    }
    // With a bundle it comes as far as the network.
    let bundled = format!("{https} --ca-bundle /bundle.pem --identity");
    bare.says(
        &format!("{bundled} none"),
        None,
        "no connection to https://127.0.0.1:1 (Connection refused",
    );
    bare.says(
        &format!("{bundled} direct"),
        None,
        "no access token: the metadata server metadata.google.internal cannot be asked",
    );
    // Google's library looks for CA certificates by itself, and would panic.
    fs::write(
        bare.path.join("user.json"),
        r#"{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r"}"#,
    )
    .unwrap();
    bare.says(
        &format!("{bundled} direct"),
        Some("/user.json"),
        "finds no CA certificates",
    );
    assert_eq!(fs::read_dir(bare.path.join("volume")).unwrap().count(), 0);
}

/// A root directory that holds the program with its shared libraries, and what it is told of.
struct Bare {
    path: PathBuf,
}

impl Bare {
    fn make(site: &Site) -> Self {
        demand_root();
        let path = site.path().join("bare");
        for directory in ["config", "volume", "state"] {
            fs::create_dir_all(path.join(directory)).unwrap();
        }
        fs::set_permissions(path.join("state"), fs::Permissions::from_mode(0o700)).unwrap();
        let program = env!("CARGO_BIN_EXE_certagent-under-test");
        fs::copy(program, path.join("certagent")).unwrap();
        let listed = Command::new("ldd")
            .arg(program)
            .output()
            .expect("ldd is there");
        let listed = String::from_utf8(listed.stdout).unwrap();
        // The loader and the libraries, at their own places.
        for library in listed
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let place = path.join(library.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(library, place).unwrap();
        }
        for name in ["certificates.yaml", "trust.yaml"] {
            fs::copy(site.config_dir().join(name), path.join("config").join(name)).unwrap();
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        fs::write(path.join("bundle.pem"), ca.pem()).unwrap();
        Self { path }
    }

    fn agent(&self, arguments: &str) -> Command {
        let mut command = Command::new("chroot");
        // For chroot itself.
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(&self.path);
        command.args(["/certagent", "run", "--allow-disk", "--config", "/config"]);
        command.args(["--state-dir", "/state"]);
        command.args(arguments.split_whitespace());
        supply(command, Path::new("/volume"))
    }

    /// The agent says `text`, goes on, and ends when it is told to.
    #[track_caller]
    fn says(&self, arguments: &str, credentials: Option<&str>, text: &str) {
        let mut command = self.agent(arguments);
        command.envs(credentials.map(|file| ("GOOGLE_APPLICATION_CREDENTIALS", file)));
        let mut agent = Program::start(&mut command);
        agent.wait_for(&[text]);
        let ended = agent.terminate().expect(0);
        assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
    }
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
