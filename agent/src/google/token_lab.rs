//! For tests: token services whose answers are the test's, and token files.
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, Uri, header::AUTHORIZATION},
    response::IntoResponse as _,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{
    Caller, Exchange, ExchangeOptions, IdentityError, Impersonate, SubjectToken, SubjectTokens,
    subject::tests::jwt,
};
use crate::{
    cas::{Endpoint, Roots, transport::Timeouts},
    clock::ManualClock,
};

const AUDIENCE: &str =
    "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/k8s";
pub(super) const ACCOUNT: &str = "reader@demo-project.iam.gserviceaccount.com";
pub(super) const AGENT: &Caller = &Caller::Agent;

/// What the fake services were sent: path, `Authorization`, body.
pub(super) type Sent = (String, String, String);
pub(super) type Script =
    dyn Fn(&str, usize) -> (StatusCode, Vec<(&'static str, String)>, String) + Send + Sync;

/// Token services whose answers are the test's, and an [`Exchange`] that asks them.
pub(super) struct TokenLab {
    pub(super) exchange: Exchange,
    pub(super) clock: ManualClock,
    pub(super) sent: Arc<Mutex<Vec<Sent>>>,
    pub(super) script: Arc<Mutex<Arc<Script>>>,
    pub(super) hangs: Arc<AtomicBool>,
    pub(super) dir: TempDir,
    pub(super) tokens: Arc<Mutex<Vec<SubjectToken>>>,
}

impl TokenLab {
    pub(super) async fn new() -> Self {
        Self::with(None, Timeouts::default()).await
    }

    pub(super) async fn with(impersonate: Option<&str>, timeouts: Timeouts) -> Self {
        let sent = Arc::<Mutex<Vec<Sent>>>::default();
        let granted: Arc<Script> =
            Arc::new(|path, number| (StatusCode::OK, vec![], good(path, number)));
        let script = Arc::new(Mutex::new(granted));
        let hangs = Arc::<AtomicBool>::default();
        let app = {
            let (sent, script, hangs) =
                (Arc::clone(&sent), Arc::clone(&script), Arc::clone(&hangs));
            Router::new().fallback(async move |uri: Uri, headers: HeaderMap, body: Bytes| {
                if hangs.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let number = {
                    let mut sent = sent.lock().unwrap();
                    let header = headers.get(AUTHORIZATION);
                    let header = header.map_or("", |value| value.to_str().unwrap());
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    sent.push((uri.path().to_owned(), header.to_owned(), body));
                    sent.len()
                };
                let script = Arc::clone(&script.lock().unwrap());
                let (status, headers, body) = script(uri.path(), number);
                let mut answer = (status, body).into_response();
                for (name, value) in headers {
                    answer.headers_mut().insert(name, value.parse().unwrap());
                }
                answer
            })
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let clock = ManualClock::new(noon());
        let dir = tempfile::tempdir().unwrap();
        let tokens = Arc::<Mutex<Vec<SubjectToken>>>::default();
        let exchange = exchange(&endpoint.unwrap(), impersonate, timeouts, &clock, &tokens);
        Self {
            exchange,
            clock,
            sent,
            script,
            hangs,
            dir,
            tokens,
        }
    }

    /// Writes the token of a service account to its file, by rename as a kubelet does.
    pub(super) fn write(&self, account: &str, generation: u32) -> Caller {
        let path = self.path(account);
        let edited = self.path("edited");
        fs::write(&edited, token(account, generation)).unwrap();
        fs::rename(edited, &path).unwrap();
        caller(&path)
    }

    /// The same, for a workload that is configured.
    pub(super) fn workload(&self, account: &str) -> Caller {
        let file = SubjectToken::File(self.path(account).into());
        self.tokens.lock().unwrap().push(file);
        self.write(account, 0)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn answer(
        &self,
        script: impl Fn(&str, usize) -> (StatusCode, Vec<(&'static str, String)>, String)
        + Send
        + Sync
        + 'static,
    ) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    pub(super) fn heal(&self) {
        self.answer(|path, number| (StatusCode::OK, vec![], good(path, number)));
    }

    pub(super) fn refuse(&self, status: u16, code: &'static str) {
        self.answer(move |_, _| (StatusCode::from_u16(status).unwrap(), vec![], refusal(code)));
    }

    pub(super) fn requests(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    pub(super) fn step(&self, seconds: i64) {
        self.clock.step(SignedDuration::from_secs(seconds));
    }

    pub(super) async fn token(&self, caller: &Caller) -> String {
        let token = self.exchange.token(caller).await.unwrap();
        token.expose().to_owned()
    }

    pub(super) async fn error(&self, caller: &Caller) -> IdentityError {
        self.exchange.token(caller).await.unwrap_err()
    }
}

pub(super) fn exchange(
    endpoint: &Endpoint,
    impersonate: Option<&str>,
    timeouts: Timeouts,
    clock: &ManualClock,
    tokens: &Arc<Mutex<Vec<SubjectToken>>>,
) -> Exchange {
    let options = ExchangeOptions {
        sts: endpoint.clone(),
        audience: AUDIENCE.parse().unwrap(),
        impersonate: impersonate.map(|account| Impersonate {
            account: account.parse().unwrap(),
            iamcredentials: endpoint.clone(),
        }),
    };
    let tokens = Arc::clone(tokens);
    let tokens: SubjectTokens = Arc::new(move || tokens.lock().unwrap().clone());
    let clock = Arc::new(clock.clone());
    Exchange::with_timeouts(&options, &Roots::none(), clock, tokens, timeouts).unwrap()
}

pub(super) fn noon() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

pub(super) fn caller(path: &Path) -> Caller {
    Caller::Workload(SubjectToken::File(path.into()))
}

/// A token of a service account in the namespace `default`, good for a day from noon.
pub(crate) fn token(account: &str, generation: u32) -> String {
    jwt(&json!({
        "iss": "https://issuer.example", "sub": format!("system:serviceaccount:default:{account}"),
        "aud": "demo.svc.id.goog", "jti": generation,
        "exp": noon().as_second() + 86_400,
    }))
}

/// The `number`-th good answer, by the service whose path it is.
pub(super) fn good(path: &str, number: usize) -> String {
    if path == "/v1/token" {
        json!({ "access_token": format!("federated-{number}"), "expires_in": 3600,
            "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token" })
        .to_string()
    } else {
        let until = noon() + SignedDuration::from_hours(1);
        json!({ "accessToken": format!("account-{number}"), "expireTime": until }).to_string()
    }
}

pub(super) fn refusal(code: &str) -> String {
    json!({ "error": code, "error_description": "no" }).to_string()
}
