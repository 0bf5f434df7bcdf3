//! Who calls CA Service, and whom it is taken for: credentials, CA certificates, proxies.
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::Command,
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};
use serde_json::json;

use crate::{
    program::{Program, certagent, run},
    site::{Site, supply},
};

/// `certagent run` for the site's volume, with Google's CA Service as its CA.
fn of_google(site: &Site) -> Command {
    let mut command = certagent("run --allow-disk --ca-endpoint");
    command.arg("https://privateca.googleapis.com");
    command.arg("--config").arg(site.config_dir());
    command.arg("--state-dir").arg(site.state_dir());
    // Nothing of this test may reach anybody.
    command.env("HTTPS_PROXY", "http://127.0.0.1:1");
    supply(command, &site.volume())
}

fn bundle(site: &Site) -> String {
    let roots = site.path().join("roots.pem");
    fs::write(&roots, root()).unwrap();
    roots.display().to_string()
}

fn root() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn a_ca_bundle_that_is_none_is_named_with_what_is_wrong() {
    let site = Site::new();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (text, expected) in [
        ("# nothing here\n".to_owned(), "has no certificate;"),
        (root() + &key, "has a private key in it"),
        (root().replace("-----END", "----"), "is broken"),
    ] {
        let bundle = site.path().join("bundle.pem");
        fs::write(&bundle, text).unwrap();
        for mut command in [of_google(&site), site.run()] {
            run(command.arg("--ca-bundle").arg(&bundle))
                .expect(1)
                .says(&["bundle.pem", expected, "--ca-bundle"]);
        }
    }
    run(site.run().args(["--ca-bundle", "none.pem"]))
        .expect(1)
        .says(&["the CA bundle none.pem: no such file or directory"]);
}

#[test]
fn without_ca_certificates_an_https_endpoint_is_refused_at_once() {
    let site = Site::new();
    let mut command = of_google(&site);
    run(command.env("SSL_CERT_FILE", "/nonexistent/ca.pem"))
        .expect(1)
        .says(&[
            "there are no CA certificates",
            "SSL_CERT_FILE is /nonexistent/ca.pem",
            "pass --ca-bundle FILE",
        ]);
}

#[test]
fn a_credentials_file_that_is_none_is_named_with_the_next_step() {
    let site = Site::new();
    let file = site.path().join("key.json");
    let secret = "hunter2";
    let unknown = json!({"type": secret.len().to_string(), "private_key": secret}).to_string();
    let no_key = json!({
        "type": "service_account", "client_email": "e", "private_key_id": "i", "project_id": "p",
        "private_key": secret,
    });
    for (text, expected) in [
        (None, "no such file or directory"),
        (Some(format!("{{{secret}")), "not JSON (line 1, column 2)"),
        (Some(unknown), "the type \"7\" is none that is known"),
        (
            Some(no_key.to_string()),
            "\"private_key\" is not an RSA key",
        ),
    ] {
        if let Some(text) = &text {
            fs::write(&file, text).unwrap();
        }
        let mut command = of_google(&site);
        command.args(["--ca-bundle", &bundle(&site)]);
        let ended = run(command.env("GOOGLE_APPLICATION_CREDENTIALS", &file)).expect(1);
        assert!(!ended.stderr.contains(secret), "{ended:#?}");
        ended.says(&["key.json", expected, "check GOOGLE_APPLICATION_CREDENTIALS"]);
    }
}

#[test]
fn on_loopback_nobody_is_anybody_unless_told_so() {
    let site = Site::new();
    let missing = Path::new("/nonexistent/key.json");
    let mut command = site.once();
    run(command.env("GOOGLE_APPLICATION_CREDENTIALS", missing)).expect(0);
    run(command.args(["--identity", "direct"]))
        .expect(1)
        .says(&["/nonexistent/key.json", "no such file"]);
}

#[test]
fn a_key_file_of_a_service_account_is_taken_by_the_emulator_as_the_library_signs_with_it() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let pem = |label: &str, der: &[u8]| {
        let body = BASE64_STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let account = "agent@demo-project.iam.gserviceaccount.com";
    let identities = json!({
        "serviceAccounts": [
            { "email": account, "publicKeys": [pem("PUBLIC KEY", public.as_ref())] },
        ],
        "bindings": [{
            "role": "roles/privateca.admin",
            "members": [format!("serviceAccount:{account}")],
        }],
    });
    let site = Site::with_identities(serde_json::from_value(identities).unwrap());
    let file = site.path().join("key.json");
    let credentials = json!({
        "type": "service_account",
        "project_id": "demo-project",
        "private_key_id": "key-1",
        "private_key": pem("PRIVATE KEY", der.as_ref()),
        "client_email": account,
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    fs::write(&file, credentials.to_string()).unwrap();
    let mut command = site.once();
    command.env("GOOGLE_APPLICATION_CREDENTIALS", &file);
    run(command.args(["--identity", "direct"])).expect(0);
    assert_eq!(site.sold(), [site.serial()]);
}

#[test]
fn where_the_library_finds_no_ca_certificates_it_is_told_and_nothing_panics() {
    let site = Site::new();
    let file = site.path().join("federated.json");
    let federated = json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://127.0.0.1:1/v1/token",
        "credential_source": {"file": "/nonexistent/token"},
    });
    fs::write(&file, federated.to_string()).unwrap();
    let mut command = of_google(&site);
    command.args(["--ca-bundle", &bundle(&site)]);
    command.env("GOOGLE_APPLICATION_CREDENTIALS", &file);
    command.env("SSL_CERT_FILE", "/nonexistent/ca.pem");
    let mut agent = Program::start(&mut command);
    agent.wait_for(&[
        "federated.json",
        "finds no CA certificates",
        "set SSL_CERT_FILE",
    ]);
    agent.terminate().expect(0);
}

#[test]
fn an_https_endpoint_is_reached_through_the_proxy_of_the_environment() {
    let site = Site::new();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = of_google(&site);
    command.args(["--identity", "none", "--ca-bundle", &bundle(&site)]);
    let _agent = Program::start(command.env("HTTPS_PROXY", address));
    let (stream, _) = proxy.accept().unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert_eq!(line, "CONNECT privateca.googleapis.com:443 HTTP/1.1\r\n");
}

#[test]
fn a_metadata_server_that_is_away_is_named_and_asked_again_until_it_is_back() {
    let account = "agent@demo-project.iam.gserviceaccount.com";
    let members = [format!("serviceAccount:{account}")];
    let identities = json!({
        "serviceAccounts": [{ "email": account }],
        "metadataServer": { "serviceAccount": account },
        "bindings": [
            { "role": "roles/privateca.certificateRequester", "members": members },
            { "role": "roles/privateca.poolReader", "members": members },
        ],
    });
    let site = Site::with_identities(serde_json::from_value(identities).unwrap());
    let away = Fault::error(ApiError::new(Code::Unavailable, "away"));
    site.emulator
        .set_faults(vec![FaultRule::next(1, away).on(Method::GetMetadata)]);
    let host = site.endpoint().trim_start_matches("http://");
    let mut command = site.run();
    command.args(["--identity", "direct"]);
    let mut agent = Program::start(command.env("GCE_METADATA_HOST", host));
    agent.wait_for(&[&format!("the metadata server {host} says HTTP 503")]);
    agent.wait_for(&["issued", "serial="]);
    agent.terminate().expect(0);
    assert_eq!(site.sold(), [site.serial()]);
}
