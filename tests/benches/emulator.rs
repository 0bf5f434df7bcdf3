//! How many certificates the emulator issues, so that it is never what a test waits for.
//!
//! Each line is one kind of key: the whole `create_certificate` in the process, on one thread and
//! on all cores, and over HTTP/2 on loopback; beside it the bare sum that no CA could leave out,
//! measured in the same run: reading the request's key out of its CSR, whose signature is checked,
//! and one signature.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and what fails in it ends it"
)]
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use certagent_emulator::{CreateQuery, Emulator, EmulatorConfig, system_clock};
use certagent_tests::{LOCATION, PROJECT, serve};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SignatureAlgorithm,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// P-256 certificates a second on one core.
const GOAL: f64 = 5_000.0;
/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(3);
/// Requests that are under way at once over HTTP.
const AT_ONCE: usize = 32;
/// For ids of which none comes twice.
static ASKED: AtomicU64 = AtomicU64::new(1);

fn main() {
    // `cargo test --benches` is not after figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("certificates a second; {cores} cores");
    println!("key        bare   one core  of bare  all cores  over HTTP/2, same machine");
    let mut goal = 0.0;
    for (name, algorithm) in [
        ("P-256", &PKCS_ECDSA_P256_SHA256),
        ("P-384", &PKCS_ECDSA_P384_SHA384),
        ("RSA-2048", &PKCS_RSA_SHA256),
    ] {
        // One for each kind: it remembers every request for an hour.
        let guide = EmulatorConfig::guide(PROJECT, LOCATION).unwrap();
        let emulator = Emulator::new(guide, system_clock(), None).unwrap();
        let order = Order::new(algorithm);
        let bare = order.bare();
        let one = issue(&emulator, &order, 1);
        let all = issue(&emulator, &order, cores);
        let http = over_http(&emulator, &order);
        println!(
            "{name:<9} {bare:>6.0} {one:>10.0} {:>7.0}% {all:>10.0} {http:>10.0}",
            100.0 * one / bare
        );
        if name == "P-256" {
            goal = one;
        }
    }
    let met = if goal > GOAL { "met" } else { "MISSED" };
    println!("P-256 on one core: {goal:.0}/s (goal: over {GOAL:.0}/s, {met})");
}

/// A request as certagent sends it.
struct Order {
    csr: String,
    body: Vec<u8>,
}

impl Order {
    fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let body = json!({
            "lifetime": "86400s",
            "config": {
                "subjectConfig": {
                    "subject": {},
                    "subjectAltName": { "uris": ["spiffe://demo-project.svc.id.goog/ns/default/sa/bench"] },
                },
                "x509Config": {
                    "keyUsage": {
                        "baseKeyUsage": { "digitalSignature": true },
                        "extendedKeyUsage": { "serverAuth": true, "clientAuth": true },
                    },
                    "caOptions": { "isCa": false },
                },
                "publicKey": { "format": "PEM", "key": STANDARD.encode(&csr) },
            },
        });
        Self {
            csr,
            body: body.to_string().into_bytes(),
        }
    }

    /// Reads the CSR, checks its signature, and signs once with P-256, as the guide's CA does.
    fn bare(&self) -> f64 {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let issuer = Issuer::new(CertificateParams::new(Vec::new()).unwrap(), key);
        rate(|| {
            let request = CertificateSigningRequestParams::from_pem(&self.csr).unwrap();
            request.signed_by(&issuer).unwrap();
        })
    }
}

/// Calls a second on this thread.
fn rate(mut call: impl FnMut()) -> f64 {
    let (began, mut calls) = (Instant::now(), 0.0);
    while began.elapsed() < SPAN {
        call();
        calls += 1.0;
    }
    calls / began.elapsed().as_secs_f64()
}

fn issue(emulator: &Emulator, order: &Order, threads: usize) -> f64 {
    let parent = pool();
    let buy = || {
        let query = CreateQuery {
            request_id: Some(format!(
                "00000000-0000-4000-8000-{:012x}",
                ASKED.fetch_add(1, Ordering::Relaxed)
            )),
            ..CreateQuery::default()
        };
        emulator
            .create_certificate(&parent, &query, &order.body)
            .unwrap();
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| rate(buy))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

fn over_http(emulator: &Arc<Emulator>, order: &Order) -> f64 {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let endpoint = serve(emulator, "127.0.0.1:0", &CancellationToken::new()).await;
        let client = reqwest::Client::builder()
            .http2_prior_knowledge()
            .no_proxy()
            .build()
            .unwrap();
        let url = format!("{endpoint}/v1/{}/certificates", pool());
        let began = Instant::now();
        let workers = (0..AT_ONCE).map(|_| {
            let (client, url, body) = (client.clone(), url.clone(), order.body.clone());
            tokio::spawn(async move {
                let mut calls = 0.0;
                while began.elapsed() < SPAN {
                    let call = client.post(&url).body(body.clone()).send().await.unwrap();
                    assert!(call.status().is_success(), "{}", call.status());
                    call.bytes().await.unwrap();
                    calls += 1.0;
                }
                calls
            })
        });
        let workers: Vec<_> = workers.collect();
        let mut calls = 0.0;
        for worker in workers {
            calls += worker.await.unwrap();
        }
        calls / began.elapsed().as_secs_f64()
    })
}

fn pool() -> String {
    format!("projects/{PROJECT}/locations/{LOCATION}/caPools/issuing-pool")
}
