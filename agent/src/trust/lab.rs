//! For tests: roots that belong to no pool, and a bundle endpoint that says what it is told to.
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode, header::LOCATION},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use certagent_core::{
    algorithm::KeyAlgorithm,
    bundle_endpoint::BundleEndpoint,
    config::{CertificatePolicy, Config, TrustAnchor, TrustPolicy},
};
use certagent_svid::Certificate;
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::endpoint::EndpointClient;
use crate::cas::{
    lab::{domain, issuing, now},
    tls_front::TlsFront,
};

/// A root by this name, valid for ten years.
pub(crate) fn root(name: &str) -> Certificate {
    root_until(name, now() + SignedDuration::from_hours(24 * 3650))
}

/// A root that ends at a moment.
pub(crate) fn root_until(name: &str, end: Timestamp) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let end = Duration::from_secs(end.as_second().try_into().unwrap());
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
    let signed = params.self_signed(&key).unwrap();
    Certificate::from_der(signed.der().clone()).unwrap()
}

/// Some roots that are the same in every case of a property test.
pub(crate) fn some_roots() -> &'static [Certificate] {
    static ROOTS: LazyLock<Vec<Certificate>> =
        LazyLock::new(|| ["one", "two", "three", "four", "five"].map(root).to_vec());
    &ROOTS
}

/// A configuration with these anchors, whose certificates live for an hour.
pub(crate) fn config(stores: &[(&str, &[TrustAnchor])]) -> Config {
    let store = |(name, anchors): &(&str, &[TrustAnchor])| (domain(name), anchors.to_vec());
    Config {
        spread_rotation: None,
        certificates: CertificatePolicy {
            pools: vec![issuing()],
            algorithm: KeyAlgorithm::EcdsaP256,
            validity: Duration::from_secs(3600),
            rotation_window_percentage: 50,
        },
        trust: TrustPolicy {
            stores: stores.iter().map(store).collect(),
        },
        workloads: Vec::new(),
    }
}

/// A bundle as endpoints serve it.
pub(crate) fn bundle(roots: &[Certificate]) -> Value {
    let key = |root: &Certificate| json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(root.der())]});
    json!({"keys": roots.iter().map(key).collect::<Vec<_>>()})
}

/// The same with a sequence number and a refresh hint in seconds.
pub(crate) fn numbered(roots: &[Certificate], sequence: u64, hint: u64) -> Value {
    let mut bundle = bundle(roots);
    bundle["spiffe_sequence"] = sequence.into();
    bundle["spiffe_refresh_hint"] = hint.into();
    bundle
}

/// A bundle endpoint behind TLS.
pub(crate) struct BundleServer {
    pub(crate) front: TlsFront,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    usual: Mutex<(u16, String)>,
    first: Mutex<VecDeque<(u16, String)>>,
    paths: Mutex<Vec<String>>,
}

impl BundleServer {
    pub(crate) async fn start() -> Self {
        let said = Arc::<Said>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&said));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let server = Self {
            front: TlsFront::start(behind, "127.0.0.1", &["h2", "http/1.1"]).await,
            said,
        };
        server.serve(&json!({"keys": []}));
        server
    }

    /// From now on every request gets this.
    pub(crate) fn serve(&self, bundle: &Value) {
        self.answer(200, &bundle.to_string());
    }

    /// From now on every request gets this status and body; for a redirect the body is the place.
    pub(crate) fn answer(&self, status: u16, body: &str) {
        *lock(&self.said.usual) = (status, body.to_owned());
    }

    /// The next request gets this instead.
    pub(crate) fn answer_once(&self, status: u16, body: &str) {
        lock(&self.said.first).push_back((status, body.to_owned()));
    }

    /// What was asked for so far.
    pub(crate) fn paths(&self) -> Vec<String> {
        lock(&self.said.paths).clone()
    }

    pub(crate) fn endpoint(&self) -> BundleEndpoint {
        format!("{}/bundle.json", self.front.endpoint)
            .parse()
            .unwrap()
    }

    pub(crate) fn client(&self) -> EndpointClient {
        EndpointClient::new(&self.front.roots()).unwrap()
    }
}

async fn answer(State(said): State<Arc<Said>>, request: Request<Body>) -> Response {
    lock(&said.paths).push(request.uri().path().to_owned());
    let first = lock(&said.first).pop_front();
    let (status, body) = first.unwrap_or_else(|| lock(&said.usual).clone());
    let status = StatusCode::from_u16(status).unwrap();
    let response = Response::builder().status(status);
    if status.is_redirection() && !body.is_empty() {
        return response.header(LOCATION, body).body(Body::empty()).unwrap();
    }
    response.body(Body::from(body)).unwrap()
}

/// An address of this machine where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
