//! `certagent emulator`.
use std::{fs, path::Path, process::Command};

use rustix::process::Signal;
use snapbox::{assert_data_eq, file};

use crate::{
    program::{Program, certagent, get, run},
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
        run(agent(dir.path(), &address).args(["--volume", "volume"])).expect(0);
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
fn with_a_state_directory_what_was_sold_is_counted_over_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut serials = Vec::new();
    for volume in ["one", "two", "three"] {
        let volume = dir.path().join(volume);
        fs::create_dir(&volume).unwrap();
        let mut emulator =
            Program::start(certagent("emulator --listen 127.0.0.1:0 --state ca").current_dir(&dir));
        let address = address(&emulator.wait_for(&[FIRST_LINE]));
        emulator.wait_for(&[LAST_LINE]);
        fs::write(dir.path().join("objects.yaml"), emulator.printed()).unwrap();
        run(agent(dir.path(), &address).arg("--volume").arg(&volume)).expect(0);
        serials.push(read_valid(&volume).chain().leaf().serial_hex());
        let stats = stats(&address);
        assert_eq!(stats["soldTotal"], serials.len());
        assert_eq!(stats["lastSerials"], serde_json::json!(serials));
        emulator.send(Signal::KILL);
        emulator.end();
    }
}

#[test]
fn identities_that_name_nobody_are_refused_and_with_others_it_says_for_whom_it_signs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identities.yaml");
    let start = || {
        let mut command = certagent("emulator --listen 127.0.0.1:0 --identities identities.yaml");
        command.current_dir(&dir);
        command
    };
    for nobody in [
        "",
        "# later\n",
        "---\n",
        "{}",
        "users: []\n",
        "tokenLifetimeSeconds: 60\n",
    ] {
        fs::write(&path, nobody).unwrap();
        let ended = run(&mut start()).expect(1).says(&[
            "--identities: identities.yaml\n  because: it names no caller, and so every caller would be an \
             administrator; add users, serviceAccounts or providers",
            "or leave --identities out",
        ]);
        assert_eq!(ended.stdout, "", "{nobody:?}");
    }
    let account = "agent@demo-project.iam.gserviceaccount.com";
    fs::write(
        &path,
        format!(
            "serviceAccounts: [{{email: {account}}}]\nmetadataServer: {{serviceAccount: {account}}}\n"
        ),
    )
    .unwrap();
    let mut emulator = Program::start(&mut start());
    let address = address(&emulator.wait_for(&[FIRST_LINE]));
    emulator.wait_for(&[LAST_LINE]);
    let printed = emulator.printed().replace(&address, "127.0.0.1:8080");
    let (head, _) = printed.split_once("apiVersion").unwrap();
    assert_data_eq!(head, file!["../../../testdata/cli/emulator-identities.txt"]);
    emulator.terminate().expect(0);
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
         --namespace default --service-account demo",
    );
    command
        .arg("--ca-endpoint")
        .arg(format!("http://{address}"))
        .current_dir(dir);
    command
}

/// What the emulator has counted.
fn stats(address: &str) -> serde_json::Value {
    let answer = get(address, "/emulator/v1/stats");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

/// `127.0.0.1:PORT` of the first line.
fn address(line: &str) -> String {
    let address = line.strip_prefix(FIRST_LINE).expect("the first line");
    address.split(": ").next().expect("an address").to_owned()
}
