//! Another crypto provider than aws-lc-rs, which is what all other tests use: graviola. What is
//! presented, verified and encrypted here is its work; only the fixtures are still made by aws-lc-rs.
//!
//! It has code for x86-64 (AVX2, BMI2, ADX) and 64-bit Arm, and panics on a processor without these.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by a panic, as tests do"
)]
#[path = "../src/fixture.rs"]
#[expect(
    dead_code,
    reason = "what the library's own tests bend is not bent here"
)]
mod fixture;
#[expect(dead_code, reason = "the other tests ask for more")]
mod world;

#[path = "../examples/tokio_rustls.rs"]
#[expect(dead_code, reason = "main is for the command line")]
mod tokio_example;

use std::sync::Arc;

use certagent_credentials::{Credentials, authorize};
use fixture::{Authority, NOW};
use rcgen::SignatureAlgorithm;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio::net::TcpListener;
use world::{CLIENT, SERVER, Workload};

const STRANGER: &str = "spiffe://example.org/ns/shop/sa/stranger";

/// A pair that talks, before a rotation and after it, and a stranger who is refused.
async fn talks_and_refuses(
    algorithm: &'static SignatureAlgorithm,
    [at_server, at_client]: [fn() -> CryptoProvider; 2],
) {
    let home = Authority::with("example.org", algorithm);
    let server = Workload::by(&home.issue(SERVER), SERVER, at_server());
    let client = Workload::by(&home.issue(CLIENT), CLIENT, at_client());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let rule = authorize::id(CLIENT).unwrap();
    tokio::spawn(tokio_example::serve(
        server.credentials.clone(),
        listener,
        rule,
    ));
    let connector = tokio_example::connector(&client.credentials, SERVER).unwrap();
    for _ in 0..3 {
        let (said, seen) = tokio_example::ask(&connector, &address).await.unwrap();
        assert_eq!(said, format!("hello, {CLIENT} with {}", client.serial()));
        assert_eq!(seen.serial_hex(), server.serial());
        server.rotate(&home);
        client.rotate(&home);
    }

    // The server refuses a stranger, the client another server than it asked for.
    let stranger = Workload::by(&home.issue(STRANGER), STRANGER, at_client());
    let connector = tokio_example::connector(&stranger.credentials, SERVER).unwrap();
    let refused = tokio_example::ask(&connector, &address).await.unwrap_err();
    assert!(refused.to_string().contains("CertificateUnknown"));
    let wrong = tokio_example::connector(&client.credentials, STRANGER).unwrap();
    let refused = tokio_example::ask(&wrong, &address).await.unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains(&format!("{SERVER} is not authorised")),
        "{refused}"
    );
}

const GRAVIOLA: fn() -> CryptoProvider = rustls_graviola::default_provider;

#[tokio::test]
async fn another_provider_does_ecdsa_p256() {
    talks_and_refuses(&rcgen::PKCS_ECDSA_P256_SHA256, [GRAVIOLA; 2]).await;
}

#[tokio::test]
async fn another_provider_does_ecdsa_p384() {
    talks_and_refuses(&rcgen::PKCS_ECDSA_P384_SHA384, [GRAVIOLA; 2]).await;
}

#[tokio::test]
async fn another_provider_does_rsa_2048() {
    talks_and_refuses(&rcgen::PKCS_RSA_SHA256, [GRAVIOLA; 2]).await;
}

#[tokio::test]
async fn two_providers_talk_with_each_other() {
    let usual: fn() -> CryptoProvider = aws_lc_rs::default_provider;
    talks_and_refuses(&rcgen::PKCS_ECDSA_P256_SHA256, [GRAVIOLA, usual]).await;
    talks_and_refuses(&rcgen::PKCS_RSA_SHA256, [usual, GRAVIOLA]).await;
}

#[test]
fn what_is_made_has_the_provider_that_was_given_and_no_other_is_installed() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new("example.org")
        .issue(SERVER)
        .write(directory.path());
    let given = Arc::new(GRAVIOLA());
    let credentials = Credentials::builder(directory.path())
        .clock(|| NOW.parse().unwrap())
        .crypto_provider(Arc::clone(&given))
        .open()
        .unwrap();
    let rule = authorize::same_trust_domain;
    let server = credentials.server_config(rule()).unwrap();
    let client = credentials.client_config(rule()).unwrap();
    assert!(Arc::ptr_eq(server.crypto_provider(), &given));
    assert!(Arc::ptr_eq(client.crypto_provider(), &given));
    assert!(CryptoProvider::get_default().is_none());
}
