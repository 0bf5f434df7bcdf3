//! The life of `run`: it begins, serves, is looked at, and ends when it is told to.
use std::{fs, process::Command};

use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    program::{Ended, Program, certagent, get, run},
    secrets::Keys,
    site::Site,
    volumes::{files, nobody},
};

#[test]
fn sigterm_and_sigint_end_it_with_0_and_leave_a_whole_volume() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let site = Site::new();
        let mut agent = site.start();
        agent.wait_for(&["issued", "serial="]);
        agent.send(signal);
        agent.wait_for(&["ending", name]);
        agent.end().expect(0);
        assert_eq!(site.sold(), [site.serial()]);
    }
}

#[test]
fn a_sigterm_while_the_ca_does_not_answer_ends_it_and_the_next_start_buys_nothing_twice() {
    let site = Site::new();
    site.emulator.set_faults(vec![
        FaultRule::always(Fault::Hang).on(Method::CreateCertificate),
    ]);
    let mut agent = Program::start(site.run().args(["--log-level", "debug"]));
    let create = || site.emulator.stats().requests(Method::CreateCertificate);
    // Every connection that hyper makes is told at this level: the request follows the log line.
    while create() == 0 {
        agent.wait_for(&[]);
    }
    agent.terminate().expect(0);
    assert_eq!(
        fs::read_dir(site.volume()).unwrap().count(),
        0,
        "nothing half-written"
    );

    site.emulator.set_faults(Vec::new());
    site.provide();
    assert_eq!(site.sold(), [site.serial()]);
}

#[test]
fn once_ends_with_1_when_there_is_no_certificate_to_be_had_and_says_why() {
    let site = Site::new();
    let config = fs::read_to_string(site.config_dir().join("certificates.yaml")).unwrap();
    site.write(
        "certificates.yaml",
        &config.replace("caPools/issuing-pool", "caPools/no-such-pool"),
    );
    run(&mut site.once()).expect(1).says(&[
        "no-such-pool",
        "next_try_in=",
        "error: 1 of 1 volume has no valid credential; the errors above say why, and --once does not \
         wait for a change of that",
    ]);
    assert_eq!(site.sold(), [""; 0]);
}

#[test]
fn a_signal_before_once_is_done_ends_it_with_1_and_says_what_is_missing() {
    let site = Site::new();
    site.emulator.set_faults(vec![
        FaultRule::always(Fault::error(ApiError::new(Code::Unavailable, "later")))
            .on(Method::CreateCertificate),
    ]);
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = Program::start(&mut site.once());
        agent.wait_for(&["no valid certificate", "later"]);
        agent.send(signal);
        agent.end().expect(1).says(&[
            "error: a signal ended --once before it was done: 1 of 1 volume has no valid \
             credential; what was begun is taken up at the next start",
        ]);
    }
    site.emulator.set_faults(Vec::new());
    site.provide();
    assert_eq!(site.sold(), [site.serial()]);
}

#[test]
fn once_renews_what_is_due_and_leaves_alone_what_is_not() {
    let site = Site::new();
    site.provide_due();
    let old = site.serial();
    site.provide().says(&["renewed"]);
    let new = site.serial();
    assert_ne!(old, new);
    site.provide();
    assert_eq!(site.serial(), new);
    assert_eq!(site.sold(), [old, new]);
}

#[test]
fn once_keeps_a_valid_certificate_when_its_renewal_fails() {
    let site = Site::new();
    site.provide_due();
    let before = files(&site.volume());
    site.emulator
        .set_faults(vec![FaultRule::always(Fault::Html { status: 502 })]);
    site.provide()
        .says(&["no new certificate; the one in the volume stays"]);
    assert_eq!(files(&site.volume()), before);
}

#[test]
fn a_ca_that_does_not_listen_is_named_and_a_valid_certificate_stays() {
    let site = Site::new();
    site.provide();
    let before = files(&site.volume());
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let endpoint = format!("http://{port}");
    let mut away = certagent("run --allow-disk");
    away.arg("--config")
        .arg(site.config_dir())
        .args(["--ca-endpoint", &endpoint]);
    away.arg("--state-dir").arg(site.state_dir());
    let mut agent = Program::start(&mut crate::site::supply(away, &site.volume()));
    agent.wait_for(&[
        &format!("no connection to {endpoint}"),
        "check that the endpoint is right",
    ]);
    agent.terminate().expect(0);
    assert_eq!(files(&site.volume()), before);
}

#[test]
fn the_admin_server_says_how_it_stands() {
    let site = Site::new();
    site.emulator
        .set_faults(vec![FaultRule::always(Fault::Html { status: 503 })]);
    let mut agent = Program::start(site.run().args(["--admin", "127.0.0.1:0"]));
    let line = agent.wait_for(&["the admin server serves"]);
    let address = line.split_once("address=").unwrap().1.trim().to_owned();
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(
        get(&address, "/readyz").starts_with("HTTP/1.1 503"),
        "no certificate yet"
    );

    site.emulator.set_faults(Vec::new());
    agent.wait_for(&["issued", "serial="]);
    // The line comes just before the status.
    let ready = (0..10_000)
        .map(|_| get(&address, "/readyz"))
        .find(|it| it.starts_with("HTTP/1.1 200"));
    ready.expect("ready");
    let metrics = get(&address, "/metrics");
    for metric in [
        "certagent_certificates_issued_total 1",
        "certagent_volumes",
        "certagent_build_info",
    ] {
        assert!(metrics.contains(metric), "{metric} is not in {metrics}");
    }
    Keys::below(site.path()).assert_absent(&metrics);
    agent.terminate().expect(0);
}

#[test]
fn wait_ends_as_soon_as_there_is_a_valid_credential() {
    let site = Site::new();
    let volume = site.volume();
    let waiting = Program::start(&mut wait(&volume.display().to_string()));
    site.provide();
    waiting.end().expect(0);
    // And at once where there is one.
    run(&mut wait(&volume.display().to_string())).expect(0);
}

#[test]
fn wait_gives_up_with_1_and_says_what_is_missing() {
    let site = Site::new();
    let mut command = wait(&site.volume().display().to_string());
    run(command.args(["--timeout", "10ms"])).expect(1).says(&[
        "holds no valid credential after 10ms",
        "next: certagent inspect",
    ]);
}

#[test]
fn inspect_gives_its_verdict_as_exit_code_and_never_a_key() {
    let site = Site::new();
    site.provide();
    let volume = site.volume();
    let look = || inspect(&site, "text");
    let healthy = look().expect(0);
    assert!(healthy.stdout.starts_with("HEALTHY: ") || healthy.stdout.starts_with("WARNING: "));
    let json: Value = serde_json::from_str(&inspect(&site, "json").expect(0).stdout).unwrap();
    assert_eq!(
        (&json["schemaVersion"], &json["exitCode"]),
        (&1.into(), &0.into())
    );
    let keys = Keys::below(&volume);
    keys.assert_absent(&healthy.stdout);
    keys.assert_absent(&json.to_string());

    // A key of another generation.
    let generation = volume.join(fs::read_link(volume.join("..data")).unwrap());
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(generation.join("private_key.pem"), other).unwrap();
    let problem = look().expect(1);
    assert!(problem.stdout.starts_with("PROBLEM: "), "{problem:#?}");
    assert!(problem.stdout.contains("Cause (key-match)"), "{problem:#?}");
    Keys::below(&volume).assert_absent(&problem.stdout);
    let json: Value = serde_json::from_str(&inspect(&site, "json").expect(1).stdout).unwrap();
    assert_eq!(
        (&json["verdict"], &json["exitCode"]),
        (&"PROBLEM".into(), &1.into())
    );

    fs::remove_dir_all(&volume).unwrap();
    let gone = look().expect(1);
    assert!(gone.stdout.contains("does not exist"), "{gone:#?}");
}

#[test]
fn inspect_that_may_not_look_ends_with_2() {
    let site = Site::new();
    site.provide();
    let volume = site.path().join("closed");
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let (mut command, _) = nobody(&site, "inspect");
    let unknown = run(command.arg(&volume)).expect(2);
    assert!(unknown.stdout.starts_with("UNKNOWN: "), "{unknown:#?}");
    let (mut command, _) = nobody(&site, "inspect --output json");
    let json: Value = serde_json::from_str(&run(command.arg(&volume)).expect(2).stdout).unwrap();
    assert_eq!(json["verdict"], "UNKNOWN");
}

#[test]
fn nothing_that_is_logged_at_any_level_or_in_any_form_has_a_key_in_it() {
    for form in ["text", "json"] {
        let site = Site::new();
        let ended = run(site
            .once()
            .args(["--log-level", "trace", "--log-format", form]))
        .expect(0);
        assert!(
            ended.stderr.len() > 10_000,
            "trace says much: {}",
            ended.stderr.len()
        );
        let keys = Keys::below(site.path());
        keys.assert_absent(&ended.stdout);
        keys.assert_absent(&ended.stderr);
    }
}

fn wait(volume: &str) -> Command {
    certagent(&format!("wait {volume}"))
}

fn inspect(site: &Site, output: &str) -> Ended {
    let mut command = certagent(&format!("inspect --output {output}"));
    run(command
        .arg(site.volume())
        .arg("--state-dir")
        .arg(site.state_dir()))
}
