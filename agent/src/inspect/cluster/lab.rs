//! For tests: an API server that has these objects, and lets nobody do some things.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use ::kube::{Client, Config};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What it answers, by path; what is not there is not found, `null` is forbidden, and `false` is of
/// a kind that it does not know. A text is what a pod answers.
pub(in crate::inspect) type Answers = BTreeMap<String, Value>;

#[derive(Clone)]
pub(in crate::inspect) struct ApiServer {
    pub(in crate::inspect) client: Client,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Shared {
    answers: Arc<Answers>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ApiServer {
    pub(in crate::inspect) async fn start(mut answers: Answers) -> Self {
        let version = json!({"major": "1", "minor": "37", "gitVersion": "v1.37.1", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
        answers.entry("/version".to_owned()).or_insert(version);
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let shared = Shared {
            answers: Arc::new(answers),
            asked: Arc::clone(&asked),
        };
        let router = Router::new().fallback(answer).with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        Self { client, asked }
    }

    /// Everything that was asked for, in the form of `/path?query`, decoded.
    pub(in crate::inspect) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Shared>, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes());
    let query: Vec<_> = query
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let query = query.join("&");
    shared
        .asked
        .lock()
        .unwrap()
        .push(format!("{}?{query}", uri.path()));
    // A page of its own for each token.
    let page = query.split('&').find(|one| one.starts_with("continue="));
    let key = page.map_or_else(
        || uri.path().to_owned(),
        |page| format!("{}?{page}", uri.path()),
    );
    match shared.answers.get(&key) {
        Some(Value::Null) => refusal(403, "Forbidden"),
        Some(Value::String(text)) => text.clone().into_response(),
        Some(Value::Bool(_)) => (StatusCode::NOT_FOUND, "404 page not found").into_response(),
        Some(answer) => Json(answer).into_response(),
        None => refusal(404, "NotFound"),
    }
}

fn refusal(code: u16, reason: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": format!("refused with {code}")});
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}

/// A list of objects.
pub(in crate::inspect) fn list(kind: &str, api: &str, items: &[Value]) -> Value {
    json!({"kind": format!("{kind}List"), "apiVersion": api, "metadata": {"resourceVersion": "1"},
        "items": items})
}

pub(in crate::inspect) const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A request as a node makes it, with these conditions.
pub(in crate::inspect) fn csr(name: &str, request: &str, conditions: &[Value]) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    json!({
        "metadata": {
            "name": name,
            "creationTimestamp": "2026-11-20T14:00:00Z",
            "annotations": {"certagent.dev/pod-name": "cart-7d9f"},
        },
        "spec": {
            "request": STANDARD.encode(request),
            "signerName": "spiffe.gke.io/spiffe-leaf-signer",
            "extra": {"authentication.kubernetes.io/node-name": ["node-1"]},
        },
        "status": {"conditions": conditions},
    })
}

/// A condition as the controller writes it.
pub(in crate::inspect) fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "as it says",
        "lastUpdateTime": "2026-11-20T14:00:01Z"})
}
