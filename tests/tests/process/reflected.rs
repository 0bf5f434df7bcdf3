//! `--identity reflected`: tokens and token services that cannot be used. One clear message each,
//! nothing is bought, and no token is said.
use std::{fs, path::PathBuf, process::Command};

use axum::{Router, http::StatusCode};
use tokio::{net::TcpListener, runtime::Runtime};

use crate::{
    program::{Program, certagent, run},
    site::Site,
};

const AUDIENCE: &str =
    "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/k8s";

const HEADER: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ";
/// The issuer `https://issuer.example`, the audience `somebody-else`, the end in 2100.
const CLAIMS: &str = "eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50OmRlZmF1bHQ6d2ViIiwiYXVkIjoic29tZWJvZHktZWxzZSIsImV4cCI6NDEwMjQ0NDgwMH0";
/// The same that ended in 2023.
const OLD_CLAIMS: &str = "eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50OmRlZmF1bHQ6d2ViIiwiYXVkIjoiZGVtbyIsImV4cCI6MTcwMDAwMDAwMH0";
const SIGNATURE: &str = "bm90LXNpZ25lZC1ieS1hbnlib2R5LWF0LWFsbA";

/// A token service that gives everybody the same answer.
struct TokenService {
    endpoint: String,
    // It ends with the runtime.
    _runtime: Runtime,
}

impl TokenService {
    fn answering(status: u16, body: &'static str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let status = StatusCode::from_u16(status).expect("a status");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new().fallback(move || async move { (status, body) });
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            endpoint,
            _runtime: runtime,
        }
    }
}

fn token(claims: &str) -> String {
    format!("{HEADER}.{claims}.{SIGNATURE}")
}

fn token_file(site: &Site) -> PathBuf {
    site.path().join("token")
}

/// The agent of the site's workload with its own token.
fn reflected(site: &Site, sts: &str) -> Command {
    let mut command = site.run();
    command.args(["--identity", "reflected", "--sts-audience", AUDIENCE]);
    command.args(["--sts-endpoint", sts]);
    command.arg("--token-file").arg(token_file(site));
    command
}

/// The agent says all of `texts` in one line, and never a token.
#[track_caller]
fn says(site: &Site, sts: &str, texts: &[&str]) {
    let mut agent = Program::start(&mut reflected(site, sts));
    agent.wait_for(texts);
    let ended = agent.terminate().expect(0);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    for part in [CLAIMS, OLD_CLAIMS, SIGNATURE] {
        assert!(!said.contains(&part[part.len() - 20..]), "{said}");
    }
    assert_eq!(site.sold(), [""; 0]);
    assert_eq!(fs::read_dir(site.volume()).expect("a volume").count(), 0);
}

#[test]
fn a_token_file_that_cannot_be_used_is_named_with_what_to_do() {
    let site = Site::new();
    let file = token_file(&site);
    let named = format!("no access token: the token file {}: ", file.display());
    let nobody = "http://127.0.0.1:9";
    says(
        &site,
        nobody,
        &[&named, "no such file or directory; check tokenFile"],
    );
    for (content, fault) in [
        (String::new(), "it is empty; check that whoever keeps"),
        (format!("{CLAIMS}\n"), "it holds no token: one line of"),
        (
            token(OLD_CLAIMS),
            "s ago, at 2023-11-14T22:13:20Z; check that whoever keeps it fresh",
        ),
    ] {
        fs::write(&file, content).unwrap();
        says(&site, nobody, &[&named, fault]);
    }
}

#[test]
fn a_token_service_that_gives_no_token_is_named_with_what_to_do() {
    let site = Site::new();
    let file = token_file(&site);
    fs::write(&file, token(CLAIMS)).unwrap();
    let named = format!(
        "the token in {} is not exchanged by http://127",
        file.display()
    );
    for (status, body, fault) in [
        (
            400,
            r#"{"error": "invalid_grant", "error_description": "The audience in ID Token [somebody-else] does not match the expected audience."}"#,
            "HTTP 400, \"invalid_grant: The audience in ID Token [somebody-else] does not match the expected audience.\"; the token is for the audience \"somebody-else\" and of the issuer \"https://issuer.example\": compare both",
        ),
        (
            500,
            r#"{"error": "internal_failure"}"#,
            "HTTP 500, \"internal_failure\"; it is asked again by itself",
        ),
        (
            502,
            "<html><body>Bad Gateway</body></html>",
            "HTTP 502, \"<html><body>Bad Gateway</body></html>\"",
        ),
        (
            200,
            "<html>Please log in</html>",
            "it says yes, and sends no usable access token; check that the endpoint",
        ),
    ] {
        let sts = TokenService::answering(status, body);
        says(&site, &sts.endpoint, &[&named, fault]);
    }
}

#[test]
fn however_much_is_logged_no_token_is() {
    let site = Site::new();
    fs::write(token_file(&site), token(CLAIMS)).unwrap();
    let answer = r#"{"access_token": "federated-secret", "expires_in": "3600"}"#;
    let sts = TokenService::answering(200, answer);
    let mut command = reflected(&site, &sts.endpoint);
    command.args(["--log-level", "trace"]);
    let mut agent = Program::start(&mut command);
    // The access token was shown to the emulator by then.
    agent.wait_for(&["a workload's token was exchanged"]);
    agent.wait_for(&["CreateCertificate at the CA pool"]);
    let ended = agent.terminate().expect(0);
    for secret in ["federated-secret", &CLAIMS[100..140], SIGNATURE] {
        assert!(!ended.stderr.contains(secret), "{secret}");
    }
}

#[test]
fn every_workload_needs_a_token_file_and_the_one_without_is_named() {
    let site = Site::new();
    site.write(
        "web.yaml",
        &certagent_tests::workload("web", &site.volume()),
    );
    let expected =
        "error: Workload/web: spec.tokenFile: the field is required with --identity reflected";
    let mut command = site.agent();
    command.args(["--identity", "reflected", "--sts-audience", AUDIENCE]);
    run(&mut command).expect(1).says(&[expected]);

    let mut command = certagent("validate --identity reflected");
    let ended = run(command.arg(site.config_dir())).expect(1);
    assert!(ended.stdout.contains(expected), "{ended:#?}");
    run(certagent("validate").arg(site.config_dir())).expect(0);
}

#[test]
fn flags_that_do_not_fit_exit_with_64() {
    let site = Site::new();
    for (flags, text) in [
        (
            &["--identity", "reflected"][..],
            "--identity reflected needs --sts-audience",
        ),
        (
            &[
                "--identity",
                "reflected",
                "--sts-audience",
                "demo.svc.id.goog",
            ],
            "--sts-audience: \"demo.svc.id.goog\" is no audience of Google's token service; write //iam",
        ),
        (
            &[
                "--identity",
                "reflected",
                "--sts-audience",
                AUDIENCE,
                "--sts-endpoint",
                "http://192.0.2.1",
            ],
            "--sts-endpoint: \"http://192.0.2.1\" is plain HTTP to another machine",
        ),
    ] {
        run(site.agent().args(flags)).expect(64).says(&[text]);
    }
}
