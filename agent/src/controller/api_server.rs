//! For tests: an API server that knows the two objects and takes events.
use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, patch, post},
};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{issuer::csr_lab::served, kube::Kind};

/// What the server holds, and what it was asked.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: std::collections::BTreeMap<String, Value>,
    /// Done to an object right after it was read, once.
    meddle: Option<fn(&mut Value)>,
    /// Answers everything with this.
    pub(super) failure: Option<u16>,
    /// The bodies of the patches.
    pub(super) patches: Vec<Value>,
    pub(super) events: Vec<Value>,
    /// The resources that were read.
    pub(super) read: Vec<String>,
    pub(super) failed: usize,
    version: u64,
}

impl Store {
    pub(super) fn object(&self, kind: Kind) -> &Value {
        &self.objects[kind.plural()]
    }

    pub(super) fn condition(&self, kind: Kind, r#type: &str) -> Option<&Value> {
        let conditions = self.object(kind)["status"]["conditions"].as_array()?;
        conditions.iter().find(|one| one["type"] == r#type)
    }

    /// Status and reason of `Ready`, and the generation that it is of.
    pub(super) fn ready(&self, kind: Kind) -> Option<(&str, &str, i64)> {
        let one = self.condition(kind, "Ready")?;
        let text = |field: &str| one[field].as_str().unwrap();
        let generation = one["observedGeneration"].as_i64().unwrap();
        Some((text("status"), text("reason"), generation))
    }

    /// How often an object was written to.
    pub(super) fn patches_of(&self, kind: Kind) -> usize {
        let of_it = |patch: &&Value| patch["metadata"]["uid"] == uid(kind);
        self.patches.iter().filter(of_it).count()
    }

    /// The reasons of the events so far.
    pub(super) fn told(&self) -> Vec<(&str, &str)> {
        let told = |event| {
            let event: &Value = event;
            let kind = event["regarding"]["kind"].as_str().unwrap();
            (kind, event["reason"].as_str().unwrap())
        };
        self.events.iter().map(told).collect()
    }

    fn next_version(&mut self) -> Value {
        self.version += 1;
        self.version.to_string().into()
    }
}

#[derive(Clone)]
pub(super) struct ApiServer {
    store: Arc<watch::Sender<Store>>,
    pub(super) client: Client,
}

impl ApiServer {
    pub(super) async fn start() -> Self {
        let store = Arc::new(watch::Sender::new(Store::default()));
        let objects = "/apis/security.cloud.google.com/v1/{plural}/default";
        let router = Router::new()
            .route(objects, get(read))
            .route(&format!("{objects}/status"), patch(write))
            .route(
                "/apis/events.k8s.io/v1/namespaces/default/events",
                post(event),
            )
            .with_state(Arc::clone(&store));
        let client = served(router).await;
        Self { store, client }
    }

    /// Someone applies an object of this generation.
    pub(super) fn apply(&self, kind: Kind, generation: i64) {
        self.change(|store| {
            let version = store.next_version();
            let object = store.objects.entry(kind.plural().to_owned());
            let object = object.or_insert_with(|| {
                json!({
                    "apiVersion": "security.cloud.google.com/v1",
                    "kind": kind.name(),
                    "metadata": {"name": "default", "uid": uid(kind)},
                    "spec": {},
                })
            });
            object["metadata"]["generation"] = generation.into();
            object["metadata"]["resourceVersion"] = version;
        });
    }

    /// Something stands in an object's status from the beginning.
    pub(super) fn stands(&self, kind: Kind, status: Value) {
        self.change(|store| store.objects.get_mut(kind.plural()).unwrap()["status"] = status);
    }

    /// Someone changes an object between the next read and the write after it.
    pub(super) fn meddle(&self, how: fn(&mut Value)) {
        self.change(|store| store.meddle = Some(how));
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Store)) {
        self.store.send_modify(change);
    }

    /// Waits until what the server holds is so, and looks at it.
    pub(super) async fn until(
        &self,
        is_so: impl FnMut(&Store) -> bool,
    ) -> impl std::ops::Deref<Target = Store> {
        // The receiver must outlive what it shows.
        let mut receiver = self.store.subscribe();
        receiver.wait_for(is_so).await.unwrap();
        self.store.borrow()
    }

    pub(super) fn now(&self) -> impl std::ops::Deref<Target = Store> {
        self.store.borrow()
    }
}

pub(super) fn uid(kind: Kind) -> String {
    format!("{}-uid", kind.plural())
}

type Shared = State<Arc<watch::Sender<Store>>>;

async fn read(State(store): Shared, Path(plural): Path<String>) -> Response {
    let mut answer = None;
    store.send_modify(|store| {
        if let Some(code) = store.failure {
            store.failed += 1;
            answer = Some(refusal(code));
            return;
        }
        store.read.push(plural.clone());
        let Some(object) = store.objects.get(&plural).cloned() else {
            answer = Some(refusal(404));
            return;
        };
        if let Some(meddle) = store.meddle.take() {
            let version = store.next_version();
            let object = store.objects.get_mut(&plural).unwrap();
            meddle(object);
            object["metadata"]["resourceVersion"] = version;
        }
        answer = Some(Json(object).into_response());
    });
    answer.unwrap()
}

async fn write(
    State(store): Shared,
    Path(plural): Path<String>,
    Json(patch): Json<Value>,
) -> Response {
    let mut answer = None;
    store.send_modify(|store| {
        let version = store.next_version();
        let object = store.objects.get_mut(&plural).unwrap();
        let is_same = ["uid", "resourceVersion"]
            .iter()
            .all(|field| object["metadata"][field] == patch["metadata"][field]);
        if !is_same {
            answer = Some(refusal(409));
            return;
        }
        for (field, value) in patch["status"].as_object().unwrap() {
            object["status"][field] = value.clone();
        }
        object["metadata"]["resourceVersion"] = version;
        answer = Some(Json(object.clone()).into_response());
        store.patches.push(patch);
    });
    answer.unwrap()
}

async fn event(State(store): Shared, Json(event): Json<Value>) -> Response {
    // What a real one insists on.
    let name = event["metadata"]["generateName"].as_str().unwrap();
    if !name.ends_with('-') || event["eventTime"].is_null() || event["action"].is_null() {
        return refusal(422);
    }
    store.send_modify(|store| store.events.push(event.clone()));
    (StatusCode::CREATED, Json(event)).into_response()
}

fn refusal(code: u16) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "code": code, "reason": "Test", "message": format!("refused with {code}"),
    });
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}
