//! The volume as an unprivileged process reads it. Root's own readings say nothing about modes.
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use certagent_svid::layout;

use crate::{program::run, root::demand_root, site::Site, volumes::NOBODY};

#[test]
#[ignore = "needs root, to become somebody else"]
fn by_default_everybody_reads_the_certificates_and_nobody_else_the_key() {
    demand_root();
    let site = reachable_site();
    site.provide();
    for name in layout::FILES {
        let expected = !layout::holds_key(name);
        assert_eq!(nobody_reads(&site.volume().join(name)), expected, "{name}");
    }
}

#[test]
#[ignore = "needs root, to become somebody else"]
fn the_key_is_read_by_the_group_that_the_workload_names() {
    demand_root();
    let site = reachable_site();
    let document = certagent_tests::workload("web", &site.volume());
    let document = document.replace(
        "    allowDisk: true\n",
        &format!("    allowDisk: true\n    group: {NOBODY}\n"),
    );
    site.write("workload.yaml", &document);
    run(site.agent().arg("--once")).expect(0);
    for name in layout::FILES {
        assert!(nobody_reads(&site.volume().join(name)), "{name}");
    }
}

#[test]
#[ignore = "needs root, to become somebody else"]
fn a_directory_mode_without_others_closes_everything_to_others() {
    demand_root();
    let site = reachable_site();
    let document = certagent_tests::workload("web", &site.volume());
    let mode = "    allowDisk: true\n    directoryMode: \"0750\"\n";
    site.write(
        "workload.yaml",
        &document.replace("    allowDisk: true\n", mode),
    );
    run(site.agent().arg("--once")).expect(0);
    for name in layout::FILES {
        assert!(!nobody_reads(&site.volume().join(name)), "{name}");
    }
}

/// A site whose directory others may pass.
fn reachable_site() -> Site {
    let site = Site::new();
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o755)).unwrap();
    site
}

/// Whether a process of uid and gid 65534 reads the whole file.
fn nobody_reads(path: &Path) -> bool {
    let output = Command::new("cat")
        .arg(path)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("cat");
    let refused = String::from_utf8_lossy(&output.stderr).contains("Permission denied");
    assert_ne!(output.status.success(), refused, "{output:?}");
    output.status.success() && output.stdout == fs::read(path).expect("root reads it")
}
