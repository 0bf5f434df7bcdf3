//! The admin server: `/healthz`, `/readyz` and `/metrics`.
mod metrics;

use std::{future::IntoFuture as _, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use metrics::Metrics;
pub(crate) use metrics::{TO_ROTATE, VOLUMES};

use crate::{clock::SharedClock, status::VolumeStatus};

/// Gives the status of every volume.
pub type StatusSource = Arc<dyn Fn() -> Vec<VolumeStatus> + Send + Sync>;

/// When a process is ready.
#[derive(Clone)]
pub enum Readiness {
    /// When every volume holds a valid credential.
    Volumes,
    /// When this says so, or else why it is not.
    Told(Arc<dyn Fn() -> Result<(), String> + Send + Sync>),
}

impl Readiness {
    /// What whoever may connect can read.
    fn shown(&self) -> &'static str {
        match self {
            Self::Volumes => "pools, and the paths and identities of volumes",
            Self::Told(_) => "pools, and how many volumes there are",
        }
    }
}

/// Answers that are under way when the agent ends get this long.
const GRACE: Duration = Duration::from_millis(200);

/// An admin server at work.
#[derive(Debug)]
pub struct AdminServer {
    /// Ends soon after the cancellation.
    pub task: JoinHandle<()>,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Listens on `address` and serves until `cancel`.
pub async fn start(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    statuses: StatusSource,
    readiness: Readiness,
    clock: SharedClock,
    cancel: CancellationToken,
) -> io::Result<AdminServer> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let shown = readiness.shown();
        warn!(%address, "the admin server is open to other machines; it needs no password and tells {shown}");
    }
    info!(%address, "the admin server serves /healthz, /readyz and /metrics");
    let router = router(metrics, statuses, readiness, clock);
    let task = tokio::spawn(async move {
        let stop = cancel.clone();
        let server = axum::serve(listener, router)
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .into_future();
        let cut = async {
            cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = server => {
                if let Err(error) = ended {
                    error!(%error, "the admin server ended");
                }
            }
            () = cut => {}
        }
    });
    Ok(AdminServer { task, address })
}

/// The three paths.
fn router(
    metrics: Arc<Metrics>,
    statuses: StatusSource,
    readiness: Readiness,
    clock: SharedClock,
) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render_metrics))
        .with_state(Shared {
            metrics,
            statuses,
            readiness,
            clock,
        })
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    statuses: StatusSource,
    readiness: Readiness,
    clock: SharedClock,
}

/// The answer of `/readyz`.
#[derive(Serialize)]
struct ReadyAnswer {
    ready: bool,
    /// How many volumes there are.
    volumes: usize,
    /// Those without a valid credential.
    #[serde(rename = "notReady")]
    not_ready: Vec<NotReady>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotReady {
    path: String,
    spiffe_id: String,
    state: &'static str,
    reason: String,
}

async fn ready(State(shared): State<Shared>) -> Response {
    if let Readiness::Told(told) = &shared.readiness {
        return match told() {
            Ok(()) => "ready\n".into_response(),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
        };
    }
    let now = shared.clock.now();
    let statuses = (shared.statuses)();
    let not_ready: Vec<_> = statuses
        .iter()
        .filter(|status| !status.is_valid(now))
        .map(|status| NotReady {
            path: status.path.display().to_string(),
            spiffe_id: status.spiffe_id.clone(),
            state: status.state(now).as_str(),
            reason: status
                .last_error
                .clone()
                .unwrap_or_else(|| "not issued yet".to_owned()),
        })
        .collect();
    let code = if not_ready.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = ReadyAnswer {
        ready: not_ready.is_empty(),
        volumes: statuses.len(),
        not_ready,
    };
    (code, Json(body)).into_response()
}

async fn render_metrics(State(shared): State<Shared>) -> Response {
    const OPEN_METRICS: [(HeaderName, &str); 1] = [(
        CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    match shared
        .metrics
        .render(&(shared.statuses)(), shared.clock.now())
    {
        Ok(text) => (OPEN_METRICS, text).into_response(),
        Err(error) => {
            error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    use certagent_svid::PublicKeyKind;
    use jiff::Timestamp;

    use crate::{
        status::{CertificateStatus, VolumeStatus},
        volume::VolumeId,
    };

    /// So many seconds after the tests' beginning.
    pub(crate) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// A volume whose certificate, if any, ends at `end`.
    pub(crate) fn status(path: &str, end: Option<i64>, failures: u32) -> VolumeStatus {
        VolumeStatus {
            id: VolumeId::of(path.as_ref()),
            path: path.into(),
            spiffe_id: "spiffe://example.org/ns/a/sa/b".to_owned(),
            certificate: end.map(|end| CertificateStatus {
                serial: "00ff".to_owned(),
                key: PublicKeyKind::EcP256,
                not_before: at(0),
                issued_at: at(0),
                not_after: at(end),
                window_start: at(end / 2),
                renew_at: at(end / 2 + 3),
                is_to_rotate: false,
            }),
            generation: end.map(|_| "..2027_01_15_08_00_00.000000000".to_owned()),
            is_distrusted: false,
            is_misnamed: false,
            rotations: 0,
            failures,
            last_error: (failures > 0).then(|| "the pool is away".to_owned()),
            is_hopeless: false,
            needs_token: false,
            next_attempt: at(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;
    use crate::clock::Clock;

    struct StoppedClock(Timestamp);

    impl Clock for StoppedClock {
        fn now(&self) -> Timestamp {
            self.0
        }

        fn sleep_until(&self, _: Timestamp) -> futures::future::BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    async fn get(statuses: Vec<VolumeStatus>, now: i64, path: &str) -> (u16, String, String) {
        get_of(Readiness::Volumes, statuses, now, path).await
    }

    async fn get_of(
        readiness: Readiness,
        statuses: Vec<VolumeStatus>,
        now: i64,
        path: &str,
    ) -> (u16, String, String) {
        let cancel = CancellationToken::new();
        let server = start(
            "127.0.0.1:0".parse().unwrap(),
            Arc::new(Metrics::default()),
            Arc::new(move || statuses.clone()),
            readiness,
            Arc::new(StoppedClock(fixture::at(now))),
            cancel.clone(),
        )
        .await
        .unwrap();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        cancel.cancel();
        server.task.await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let kind = head
            .lines()
            .find_map(|line| line.strip_prefix("content-type: "));
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, kind.unwrap_or_default().to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn ready_means_that_every_volume_holds_a_valid_credential() {
        let good = || fixture::status("/a", Some(60), 0);
        assert_eq!(get(vec![good()], 10, "/readyz").await.0, 200);
        // A renewal that fails leaves a valid certificate.
        assert_eq!(
            get(vec![fixture::status("/a", Some(60), 4)], 10, "/readyz")
                .await
                .0,
            200
        );

        let (code, _, text) =
            get(vec![good(), fixture::status("/b", None, 2)], 10, "/readyz").await;
        assert_eq!(code, 503);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            answer,
            serde_json::json!({"ready": false, "volumes": 2, "notReady": [{
                "path": "/b", "spiffeId": "spiffe://example.org/ns/a/sa/b", "state": "waiting",
                "reason": "the pool is away",
            }]})
        );
        assert!(
            get(vec![good()], 61, "/readyz")
                .await
                .2
                .contains(r#""state":"expired""#)
        );
    }

    #[tokio::test]
    async fn of_a_driver_nobody_reads_whose_volumes_it_has() {
        let told = || Readiness::Told(Arc::new(|| Err("kubelet refuses it".to_owned())));
        let volumes = || vec![fixture::status("/a", None, 2)];
        let (code, _, ready) = get_of(told(), volumes(), 0, "/readyz").await;
        assert_eq!((code, &*ready), (503, "kubelet refuses it\n"));
        let (_, _, metrics) = get_of(told(), volumes(), 0, "/metrics").await;
        assert!(metrics.contains("certagent_volumes{state=\"waiting\"} 1\n"));
        assert!(
            !metrics.contains("spiffe:") && !metrics.contains("/a"),
            "{metrics}"
        );
    }

    #[tokio::test]
    async fn health_needs_no_volume_and_metrics_are_open_metrics() {
        assert_eq!(get(Vec::new(), 0, "/healthz").await.0, 200);
        let (code, kind, text) = get(vec![fixture::status("/a", Some(60), 0)], 0, "/metrics").await;
        assert_eq!(code, 200);
        assert!(kind.starts_with("application/openmetrics-text"));
        assert!(text.contains("certagent_volumes{state=\"ready\"} 1\n"));
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(get(Vec::new(), 0, "/nothing").await.0, 404);
    }
}
