//! `certagent emulator`.
use std::{fs, path::Path, process::Command};

use rustix::process::Signal;
use snapbox::{assert_data_eq, file};

use crate::{
    program::{Program, certagent, run},
    secrets::Keys,
    site::read_valid,
};

const FIRST_LINE: &str = "# certagent emulator at http://";

/// The last line of what it prints.
const LAST_LINE: &str = "certificateAuthorityServiceURI";

#[test]
fn what_it_prints_is_a_file_and_a_command_that_work_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut emulator = Program::start(&mut certagent("emulator --listen 127.0.0.1:0"));
    let address = address(&emulator.wait_for(&[FIRST_LINE]));
    emulator.wait_for(&[LAST_LINE]);
    let printed = emulator.printed().to_owned();
    assert_data_eq!(
        printed.replace(&address, "127.0.0.1:8080"),
        file!["../../../testdata/cli/emulator.txt"]
    );

    // Saved as printed, run as printed, but for the two directories.
    fs::write(dir.path().join("objects.yaml"), &printed).unwrap();
    fs::create_dir(dir.path().join("volume")).unwrap();
    let line = printed.split_once("#   certagent run").unwrap().1;
    let line = line.split_once("\n# (").unwrap().0.replace("\\\n#", "");
    let line = line.replace("VOLUME-DIRECTORY", "volume");
    let mut agent = certagent(&format!("run {line} --allow-disk --state-dir state --once"));
    run(agent.current_dir(&dir)).expect(0).says(&["issued"]);
    let snapshot = read_valid(&dir.path().join("volume"));
    assert_eq!(
        snapshot.spiffe_id().to_string(),
        "spiffe://demo-project.svc.id.goog/ns/default/sa/demo"
    );

    emulator.send(Signal::INT);
    emulator.wait_for(&["ending", "SIGINT"]);
    let ended = emulator.end().expect(0);
    Keys::below(dir.path()).assert_absent(&(ended.stdout + &ended.stderr));
}

#[test]
fn with_a_state_directory_it_is_the_same_ca_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("volume")).unwrap();
    let mut roots = Vec::new();
    let mut serials = Vec::new();
    for _ in 0..2 {
        let mut emulator =
            Program::start(certagent("emulator --listen 127.0.0.1:0 --state ca").current_dir(&dir));
        let address = address(&emulator.wait_for(&[FIRST_LINE]));
        emulator.wait_for(&[LAST_LINE]);
        fs::write(dir.path().join("objects.yaml"), emulator.printed()).unwrap();
        run(&mut agent(dir.path(), &address)).expect(0);
        let snapshot = read_valid(&dir.path().join("volume"));
        roots.push(snapshot.roots().to_vec());
        serials.push(snapshot.chain().leaf().serial_hex());
        let ended = emulator.terminate().expect(0);
        Keys::below(dir.path()).assert_absent(&(ended.stdout + &ended.stderr));
    }
    assert_eq!(roots[0], roots[1]);
    assert_eq!(
        serials[0], serials[1],
        "and so the certificate is still good"
    );
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    run(&mut certagent(&format!("emulator --listen {address}")))
        .expect(1)
        .says(&[&format!("cannot listen on {address}; choose another port")]);
}

#[test]
fn a_state_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let mut command = certagent("emulator --listen 127.0.0.1:0 --state file");
    run(command.current_dir(&dir))
        .expect(1)
        .says(&["the embedded CA cannot start", "file"]);
}

fn agent(dir: &Path, address: &str) -> Command {
    let mut command = certagent(
        "run --config objects.yaml --allow-disk --state-dir state --once \
         --volume volume --namespace default --service-account demo",
    );
    command
        .arg("--ca-endpoint")
        .arg(format!("http://{address}"))
        .current_dir(dir);
    command
}

/// `127.0.0.1:PORT` of the first line.
fn address(line: &str) -> String {
    let address = line.strip_prefix(FIRST_LINE).expect("the first line");
    address.split(": ").next().expect("an address").to_owned()
}
