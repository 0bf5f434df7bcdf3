//! For tests: an emulator over HTTP whose clock, in the header `Date` too, stands still.
use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderValue, header::DATE},
    middleware::map_response,
    response::Response,
};
use certagent_core::pool::CaPoolName;
use certagent_emulator::{Emulator, EmulatorConfig, IssuancePolicy, PoolName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    cas::{CasClient, Endpoint, lab::now},
    clock::{ManualClock, SharedClock},
    google::{Caller, Identity},
};

/// An emulator at work.
pub(super) struct Site {
    pub(super) emulator: Arc<Emulator>,
    pub(super) client: CasClient,
    pub(super) clock: ManualClock,
}

impl Site {
    pub(super) async fn start() -> Self {
        Self::with(guide()).await
    }

    pub(super) async fn with_policy(policy: IssuancePolicy) -> Self {
        let mut config = guide();
        config.pools[1].issuance_policy = policy;
        Self::with(config).await
    }

    pub(super) async fn with(config: EmulatorConfig) -> Self {
        let emulator = Emulator::new(config, Arc::new(now), None).unwrap();
        let app = emulator.router().layer(map_response(dated));
        let endpoint = serve(app).await;
        Self {
            emulator,
            client: CasClient::new(&endpoint, Identity::Anonymous).unwrap(),
            clock: ManualClock::new(now()),
        }
    }

    /// Disables every CA of a pool, as `gcloud privateca subordinates disable` does.
    pub(super) async fn disable(&self, pool: &CaPoolName) {
        let endpoint = self.client.endpoint().to_string();
        let address = endpoint.trim_start_matches("http://");
        for ca in self
            .client
            .list_authorities(pool, &Caller::Agent)
            .await
            .unwrap()
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!(
                "POST /v1/{}:disable HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
                ca.name
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
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
