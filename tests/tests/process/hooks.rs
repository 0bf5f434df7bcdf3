//! What `onRotate` names, when the agent is killed between a rotation and its hooks.
use std::{
    fs,
    path::{Path, PathBuf},
};

use certagent_tests::workload;

use crate::{program::run, site::Site};

const SIGKILL: i32 = 9;

fn hooked() -> (Site, PathBuf) {
    let site = Site::new();
    let told = site.path().join("told");
    let hook = format!(
        "  onRotate:\n  - exec: [/bin/sh, -c, 'echo $CERTAGENT_SERIAL >> {}']\n  volume:\n",
        told.display()
    );
    let plain = workload("web", &site.volume());
    site.write("workload.yaml", &plain.replace("  volume:\n", &hook));
    (site, told)
}

fn told(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_kill_between_the_rotation_and_its_hooks_leaves_them_to_the_next_start() {
    for point in [
        "swapped",
        "links-written",
        "record-written",
        "pending-cleared",
    ] {
        let (site, path) = hooked();
        let mut command = site.agent();
        let killed = run(command.arg("--once").env("CERTAGENT_TEST_KILL_AT", point));
        assert_eq!(killed.signal, Some(SIGKILL), "{point}: {killed:#?}");
        assert_eq!(told(&path), Vec::<String>::new(), "{point}");
        let published = site.serial();
        run(site.agent().arg("--once")).expect(0);
        assert_eq!(site.serial(), published, "{point}");
        assert_eq!(told(&path), [published], "{point}");
        // Once is enough.
        run(site.agent().arg("--once")).expect(0);
        assert_eq!(told(&path).len(), 1, "{point}");
    }
}

#[test]
fn a_hook_that_fails_is_seen_by_inspect_and_in_the_log() {
    let (site, path) = hooked();
    fs::create_dir(&path).unwrap();
    run(site.agent().arg("--once")).expect(1).says(&[
        "the hook failed and is tried again",
        "a hook failed: web: exec /bin/sh",
    ]);
    let mut inspect = crate::program::certagent("inspect");
    inspect
        .arg(site.volume())
        .arg("--state-dir")
        .arg(site.state_dir());
    let seen = run(&mut inspect).expect(0);
    for text in [
        "WARNING",
        "programs were not told of the certificate",
        "a hook of onRotate has failed once since",
        "journalctl",
    ] {
        assert!(seen.stdout.contains(text), "no {text:?} in {seen:#?}");
    }
    fs::remove_dir(&path).unwrap();
    run(site.agent().arg("--once")).expect(0);
    let seen = run(&mut inspect).expect(0);
    assert!(seen.stdout.contains("HEALTHY"), "{seen:#?}");
}
