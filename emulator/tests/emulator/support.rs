//! A clock to step, an emulator, a server, and requests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use certagent_emulator::{
    ApiError, CertificateJson, Clock, CreateQuery, Emulator, EmulatorConfig, EmulatorError,
    IssuancePolicy, serve,
};
use jiff::{SignedDuration, Timestamp};
use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const ROOT: &str = "projects/p/locations/l/caPools/root-pool";
pub(crate) const ISSUING: &str = "projects/p/locations/l/caPools/issuing-pool";
pub(crate) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

/// A clock that only tests move.
#[derive(Clone)]
pub(crate) struct HandClock(Arc<AtomicI64>);

impl HandClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000)))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub(crate) fn step(&self, by: SignedDuration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

pub(crate) fn guide() -> EmulatorConfig {
    EmulatorConfig::guide("p", "l").unwrap()
}

/// The guide's set-up, its issuing pool with a policy.
pub(crate) fn with_policy(policy: Value) -> EmulatorConfig {
    let mut config = guide();
    let policy: IssuancePolicy = serde_json::from_value(policy).unwrap();
    config.pools[1].issuance_policy = policy;
    config
}

pub(crate) fn emulator() -> (Arc<Emulator>, HandClock) {
    build(guide(), None).unwrap()
}

pub(crate) fn build(
    config: EmulatorConfig,
    state: Option<&Path>,
) -> Result<(Arc<Emulator>, HandClock), EmulatorError> {
    let clock = HandClock::new();
    Ok((Emulator::new(config, clock.clock(), state)?, clock))
}

/// One key for the tests that do not care.
pub(crate) fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate().unwrap())
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A request as the project's own client sends it, for one hour.
pub(crate) fn body_for(public_key: &str) -> Value {
    json!({
        "lifetime": "3600s",
        "config": {
            "subjectConfig": { "subject": {}, "subjectAltName": { "uris": [ID] } },
            "x509Config": {
                "keyUsage": {
                    "baseKeyUsage": { "digitalSignature": true, "keyEncipherment": true },
                    "extendedKeyUsage": { "serverAuth": true, "clientAuth": true },
                },
                "caOptions": { "isCa": false },
            },
            "publicKey": { "key": base64(public_key), "format": "PEM" },
        },
    })
}

pub(crate) fn body() -> Value {
    body_for(&key().public_key_pem())
}

/// The number `n` as a UUID.
pub(crate) fn uuid(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

pub(crate) fn request(n: u32) -> CreateQuery {
    CreateQuery {
        request_id: Some(uuid(n)),
        ..CreateQuery::default()
    }
}

pub(crate) fn create(
    emulator: &Emulator,
    parent: &str,
    query: &CreateQuery,
    body: &Value,
) -> Result<CertificateJson, ApiError> {
    let body = body.to_string();
    let answer = emulator.create_certificate(parent, query, body.as_bytes());
    answer.map(Arc::unwrap_or_clone)
}

pub(crate) fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

pub(crate) fn leaf_der(certificate: &CertificateJson) -> Vec<u8> {
    der(certificate.pem_certificate.as_deref().unwrap())
}

/// Path validation to the issuing pool's own root at `at`, as a TLS client does it.
pub(crate) fn verify(
    emulator: &Emulator,
    certificate: &CertificateJson,
    at: Timestamp,
) -> Result<(), webpki::Error> {
    verify_in(emulator, ISSUING, certificate, at)
}

pub(crate) fn verify_in(
    emulator: &Emulator,
    pool: &str,
    certificate: &CertificateJson,
    at: Timestamp,
) -> Result<(), webpki::Error> {
    let chains = emulator.fetch_ca_certs(pool).unwrap();
    let root: CertificateDer<'_> = der(chains.ca_certs[0].certificates.last().unwrap()).into();
    let anchor = webpki::anchor_from_trusted_cert(&root).unwrap();
    let intermediates: Vec<CertificateDer<'_>> = certificate
        .pem_certificate_chain
        .iter()
        .map(|pem| der(pem).into())
        .collect();
    let leaf: CertificateDer<'_> = leaf_der(certificate).into();
    let seconds = at.as_second().try_into().unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    for usage in [
        webpki::KeyUsage::client_auth(),
        webpki::KeyUsage::server_auth(),
    ] {
        webpki::EndEntityCert::try_from(&leaf)?.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            std::slice::from_ref(&anchor),
            &intermediates,
            at,
            usage,
            None,
            None,
        )?;
    }
    Ok(())
}

/// A running server on a port of its own.
pub(crate) struct Server {
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) clock: HandClock,
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), EmulatorError>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(guide()).await
    }

    pub(crate) async fn with(config: EmulatorConfig) -> Self {
        let (emulator, clock) = build(config, None).unwrap();
        Self::of(emulator, clock).await
    }

    pub(crate) async fn of(emulator: Arc<Emulator>, clock: HandClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(Arc::clone(&emulator), listener, async {
            drop(stopped.await);
        }));
        Self {
            emulator,
            clock,
            address,
            client: http1(),
            stop,
            task,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.root(&format!("/v1/{path}"))
    }

    pub(crate) fn root(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a request; the answer is the HTTP status and the JSON.
    pub(crate) async fn call(&self, verb: &str, path: &str, body: &Value) -> (u16, Value) {
        let verb = verb.parse().unwrap();
        let mut request = self.client.request(verb, self.url(path));
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Sends a request that must succeed; of an operation, returns what it brought.
    pub(crate) async fn ok(&self, verb: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(verb, path, body).await;
        assert_eq!(status, 200, "{verb} {path}: {answer}");
        if answer.get("done").is_none() {
            return answer;
        }
        assert_eq!(answer["done"], false);
        let name = answer["name"].as_str().unwrap();
        let (status, mut done) = self.call("GET", name, &Value::Null).await;
        assert_eq!((status, &done["done"]), (200, &json!(true)));
        done["response"].take()
    }

    /// Sends a request that must be refused; returns `STATUS: message`.
    pub(crate) async fn refused(&self, verb: &str, path: &str, body: &Value) -> String {
        let (status, answer) = self.call(verb, path, body).await;
        let error = &answer["error"];
        assert_eq!(error["code"], status, "{verb} {path}: {answer}");
        let text = |field: &str| error[field].as_str().unwrap();
        format!("{}: {}", text("status"), text("message"))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, &Value::Null).await
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) fn http1() -> reqwest::Client {
    client(reqwest::ClientBuilder::http1_only)
}

pub(crate) fn http2() -> reqwest::Client {
    client(reqwest::ClientBuilder::http2_prior_knowledge)
}

fn client(
    version: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> reqwest::Client {
    // reqwest wants a TLS provider even for plain http.
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    version(
        reqwest::Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls),
    )
    .build()
    .unwrap()
}
