//! For tests: an emulator over HTTP whose pools have CAs in a known state, and whose clock, in the
//! header `Date` too, stands still.
use std::sync::Arc;

use axum::{
    Json, Router,
    http::{HeaderValue, header::DATE},
    middleware::map_response,
    response::Response,
    routing::get,
};
use certagent_emulator::{Emulator, EmulatorConfig, IssuancePolicy, PoolName};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    cas::{CasClient, Endpoint, lab::now},
    clock::{ManualClock, SharedClock},
    google::Identity,
};

/// An emulator at work.
pub(super) struct Site {
    pub(super) emulator: Arc<Emulator>,
    pub(super) client: CasClient,
    pub(super) clock: ManualClock,
}

impl Site {
    pub(super) async fn start() -> Self {
        Self::with(guide(), "ENABLED").await
    }

    pub(super) async fn with_policy(policy: IssuancePolicy) -> Self {
        let mut config = guide();
        config.pools[1].issuance_policy = policy;
        Self::with(config, "ENABLED").await
    }

    /// Its pools have one CA each, in this state.
    pub(super) async fn with(config: EmulatorConfig, state: &'static str) -> Self {
        let names: Vec<String> = config
            .pools
            .iter()
            .map(|pool| pool.name.to_string())
            .collect();
        let emulator = Emulator::new(config, Arc::new(now), None).unwrap();
        let mut app = Router::new();
        for name in names {
            let chain = emulator.fetch_ca_certs(&name).unwrap().ca_certs.remove(0);
            let list = json!({ "certificateAuthorities": [{
                "name": format!("{name}/certificateAuthorities/ca-1"),
                "type": "SUBORDINATE", "state": state, "pemCaCertificates": chain.certificates,
            }]});
            let path = format!("/v1/{name}/certificateAuthorities");
            app = app.route(&path, get(move || async move { Json::<Value>(list) }));
        }
        let app = app.fallback_service(emulator.router());
        let endpoint = serve(app.layer(map_response(dated))).await;
        Self {
            emulator,
            client: CasClient::new(&endpoint, Identity::Anonymous).unwrap(),
            clock: ManualClock::new(now()),
        }
    }

    /// The clock as programs are given it.
    pub(super) fn clock(&self) -> SharedClock {
        Arc::new(self.clock.clone())
    }

    /// The same with nothing behind the endpoint.
    pub(super) fn gone(self) -> Self {
        let nobody = Endpoint::parse("http://127.0.0.1:1").unwrap();
        let client = CasClient::new(&nobody, Identity::Anonymous).unwrap();
        Self { client, ..self }
    }

    /// Nothing was bought.
    pub(super) fn assert_unsold(&self) {
        assert_eq!(self.emulator.stats().total_sold(), 0, "it bought something");
    }
}

/// The pools of the guide.
pub(super) fn guide() -> EmulatorConfig {
    EmulatorConfig::guide("demo-project", "us-central1").unwrap()
}

async fn dated(mut response: Response) -> Response {
    let date = HeaderValue::from_static("Sat, 21 Nov 2026 00:00:00 GMT");
    response.headers_mut().insert(DATE, date);
    response
}

async fn serve(app: Router) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Endpoint::parse(&endpoint).unwrap()
}

/// The pools of the guide and `other-pool`, which has a root of its own.
pub(super) fn with_other_root() -> EmulatorConfig {
    let mut config = guide();
    let mut other = config.pools[0].clone();
    other.name = PoolName::new("demo-project", "us-central1", "other-pool").unwrap();
    other.ca.common_name = "another root CA".to_owned();
    config.pools.push(other);
    config
}
