//! For tests: an API server that knows `CertificateSigningRequest`s, and for the controller pods and
//! a Lease.
use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use futures::stream;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/certagent-system/leases";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// What the server holds, and how it behaves.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) csrs: BTreeMap<String, Value>,
    pub(crate) pods: BTreeMap<String, Value>,
    pub(crate) lease: Option<Value>,
    /// Answers every call with this.
    pub(crate) failure: Option<u16>,
    /// Refuses to write this part of objects, so often up to now.
    pub(crate) refuses: Option<&'static str>,
    pub(crate) refused: usize,
    /// A watch ends as soon as it begins.
    pub(crate) watches_break: bool,
    pub(crate) created: usize,
    pub(crate) events: Vec<Value>,
    /// Watches that were begun, and changes that they showed.
    pub(crate) watches: usize,
    pub(crate) shown: usize,
    /// Calls so far, without those that list or watch.
    pub(crate) calls: usize,
    /// Whoever makes the call of this number never hears of it again.
    pub(crate) dies_at: Option<(usize, Death)>,
    /// That was so.
    pub(crate) has_died: bool,
    /// Objects that were deleted, by the version of their end: a watch from an earlier one tells it.
    gone: Vec<(u64, String, Value)>,
    version: u64,
}

/// When whoever makes a call dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Before the call has come through.
    Before,
    /// When it has had its effect.
    After,
}

impl Store {
    fn version(&mut self) -> Value {
        self.version += 1;
        self.version.to_string().into()
    }

    /// Changes an object as the API server would.
    pub(crate) fn edit(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        let version = self.version();
        let object = self.csrs.get_mut(name).unwrap();
        edit(object);
        object["metadata"]["resourceVersion"] = version;
    }

    /// Somebody makes an object.
    pub(crate) fn add(&mut self, name: &str, mut object: Value) {
        self.created += 1;
        object["metadata"]["uid"] = format!("uid-{}", self.created).into();
        object["metadata"]["resourceVersion"] = self.version();
        self.csrs.insert(name.to_owned(), object);
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.version();
        let object = self.csrs.remove(name).unwrap();
        self.gone.push((self.version, name.to_owned(), object));
    }

    /// The first object.
    pub(crate) fn only(&self) -> &Value {
        self.csrs.values().next().unwrap()
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<&Value> {
        let conditions = self.only()["status"]["conditions"].as_array()?;
        conditions.iter().find(|one| one["type"] == kind)
    }
}

/// A condition as people or a controller write one.
pub(crate) fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

/// A client of what serves on loopback until the test ends.
pub(crate) async fn served(router: Router) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Client::try_from(Config::new(url.parse().unwrap())).unwrap()
}

#[derive(Clone)]
pub(crate) struct CsrServer {
    store: Arc<watch::Sender<Store>>,
    pub(crate) client: Client,
}

impl CsrServer {
    pub(crate) async fn start() -> Self {
        let store = Arc::new(watch::Sender::new(Store::default()));
        let router = Router::new()
            .route(CSRS, post(create).get(list))
            .route(&format!("{CSRS}/{{name}}"), get(read))
            .route(&format!("{CSRS}/{{name}}/{{part}}"), put(replace))
            .route("/api/v1/namespaces/{namespace}/pods/{name}", get(pod))
            .route(LEASES, post(create_lease))
            .route(
                &format!("{LEASES}/{{name}}"),
                get(read_lease).put(replace_lease),
            )
            .route(
                "/apis/events.k8s.io/v1/namespaces/{namespace}/events",
                post(event),
            )
            .layer(middleware::from_fn_with_state(Arc::clone(&store), deadly))
            .with_state(Arc::clone(&store));
        let client = served(router).await;
        Self { store, client }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut given = None;
        self.store.send_modify(|store| given = Some(change(store)));
        given.unwrap()
    }

    /// Waits until what the server holds is so, and looks at it.
    pub(crate) async fn until(
        &self,
        is_so: impl FnMut(&Store) -> bool,
    ) -> impl std::ops::Deref<Target = Store> {
        let mut receiver = self.store.subscribe();
        receiver.wait_for(is_so).await.unwrap();
        self.store.borrow()
    }

    /// Waits until somebody has made an object, and gives its name.
    pub(crate) async fn made(&self) -> String {
        let there = self.until(|store| !store.csrs.is_empty()).await;
        there.csrs.keys().next().unwrap().clone()
    }
}

type Shared = State<Arc<watch::Sender<Store>>>;

fn answered(
    store: &Arc<watch::Sender<Store>>,
    call: impl FnOnce(&mut Store) -> Response,
) -> Response {
    let mut answer = None;
    store.send_modify(|store| {
        answer = Some(match store.failure {
            Some(code) => refusal(code),
            None => call(store),
        });
    });
    answer.unwrap()
}

/// Counts the calls, and lets one of them hang for ever.
async fn deadly(State(store): Shared, request: Request, next: Next) -> Response {
    if request.uri().path() == CSRS && request.method() == Method::GET {
        return next.run(request).await;
    }
    let mut death = None;
    store.send_if_modified(|store| {
        store.calls += 1;
        let dies = store.dies_at.filter(|(call, _)| *call == store.calls);
        death = dies.map(|(_, death)| death);
        store.has_died |= death == Some(Death::Before);
        store.has_died
    });
    match death {
        None => next.run(request).await,
        Some(Death::Before) => std::future::pending().await,
        Some(Death::After) => {
            drop(next.run(request).await);
            store.send_modify(|store| store.has_died = true);
            std::future::pending().await
        }
    }
}

async fn create(State(store): Shared, Json(object): Json<Value>) -> Response {
    answered(&store, |store| {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if store.csrs.contains_key(&name) {
            return refusal(409);
        }
        store.add(&name, object);
        (StatusCode::CREATED, Json(store.csrs[&name].clone())).into_response()
    })
}

async fn read(State(store): Shared, Path(name): Path<String>) -> Response {
    answered(&store, |store| match store.csrs.get(&name) {
        Some(object) => Json(object).into_response(),
        None => refusal(404),
    })
}

async fn replace(
    State(store): Shared,
    Path((name, part)): Path<(String, String)>,
    Json(newer): Json<Value>,
) -> Response {
    answered(&store, |store| {
        if store.refuses == Some(&part) {
            store.refused += 1;
            return refusal(403);
        }
        let Some(there) = store.csrs.get(&name) else {
            return refusal(404);
        };
        if there["metadata"]["resourceVersion"] != newer["metadata"]["resourceVersion"] {
            return refusal(409);
        }
        let decides = |value: &Value| {
            let all = value["status"]["conditions"].as_array().cloned();
            let mut all = all.unwrap_or_default();
            all.retain(|one| one["type"] == "Approved" || one["type"] == "Denied");
            all
        };
        // As a real one: only this part of the object decides.
        if part == "status" && decides(there) != decides(&newer) {
            return refusal(422);
        }
        store.edit(&name, |object| object["status"] = newer["status"].clone());
        Json(store.csrs[&name].clone()).into_response()
    })
}

async fn list(State(store): Shared, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let only = query
        .get("fieldSelector")
        .and_then(|selector| selector.strip_prefix("metadata.name="))
        .map(str::to_owned);
    if !query.contains_key("watch") {
        return answered(&store, |store| {
            let items: Vec<_> = store.csrs.values().cloned().collect();
            let version = store.version.to_string();
            Json(json!({
                "apiVersion": "certificates.k8s.io/v1",
                "kind": "CertificateSigningRequestList",
                "metadata": {"resourceVersion": version},
                "items": items,
            }))
            .into_response()
        });
    }
    store.send_modify(|store| store.watches += 1);
    {
        let store = store.borrow();
        if let Some(code) = store.failure {
            return refusal(code);
        }
        if store.watches_break {
            return Body::empty().into_response();
        }
    }
    let after = query.get("resourceVersion").cloned().unwrap_or_default();
    let after: u64 = after.parse().unwrap_or(0);
    let seen: BTreeMap<String, Value> = {
        let store = store.borrow();
        let known = |object: &Value| {
            let version = object["metadata"]["resourceVersion"].as_str().unwrap();
            version.parse::<u64>().unwrap() <= after
        };
        let known = store.csrs.iter().filter(|(_, object)| known(object));
        let known = known.map(|(name, one)| (name.clone(), one.clone()));
        let gone = store.gone.iter().filter(|(version, ..)| *version > after);
        let gone = gone.map(|(_, name, one)| (name.clone(), one.clone()));
        known.chain(gone).collect()
    };
    let state = (store.subscribe(), seen, only, store);
    let events = stream::unfold(state, |(mut receiver, mut seen, only, store)| async move {
        loop {
            let now = receiver.borrow_and_update().csrs.clone();
            let is_wanted = |name: &String| only.as_ref().is_none_or(|only| only == name);
            let next = now
                .iter()
                .filter(|(name, _)| is_wanted(name))
                .find(|(name, object)| seen.get(*name) != Some(object))
                .map(|(name, object)| (name.clone(), Some(object.clone())));
            let gone = seen
                .keys()
                .find(|name| is_wanted(name) && !now.contains_key(*name))
                .map(|name| (name.clone(), None));
            let event = match next.or(gone) {
                Some((name, Some(object))) => {
                    let kind = if seen.contains_key(&name) {
                        "MODIFIED"
                    } else {
                        "ADDED"
                    };
                    seen.insert(name, object.clone());
                    json!({"type": kind, "object": object})
                }
                Some((name, None)) => {
                    let object = seen.remove(&name);
                    json!({"type": "DELETED", "object": object})
                }
                None => {
                    receiver.changed().await.ok()?;
                    continue;
                }
            };
            store.send_modify(|store| store.shown += 1);
            let line = format!("{event}\n");
            return Some((Ok::<_, std::io::Error>(line), (receiver, seen, only, store)));
        }
    });
    Body::from_stream(events).into_response()
}

async fn pod(State(store): Shared, Path((namespace, name)): Path<(String, String)>) -> Response {
    answered(&store, |store| {
        match store.pods.get(&format!("{namespace}/{name}")) {
            Some(pod) => Json(pod).into_response(),
            None => refusal(404),
        }
    })
}

async fn create_lease(State(store): Shared, Json(mut lease): Json<Value>) -> Response {
    answered(&store, |store| {
        if store.lease.is_some() {
            return refusal(409);
        }
        lease["metadata"]["resourceVersion"] = store.version();
        store.lease = Some(lease.clone());
        (StatusCode::CREATED, Json(lease)).into_response()
    })
}

async fn read_lease(State(store): Shared) -> Response {
    answered(&store, |store| match &store.lease {
        Some(lease) => Json(lease).into_response(),
        None => refusal(404),
    })
}

async fn replace_lease(State(store): Shared, Json(mut lease): Json<Value>) -> Response {
    answered(&store, |store| {
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        if store.lease.as_ref().map(version) != Some(version(&lease)) {
            return refusal(409);
        }
        lease["metadata"]["resourceVersion"] = store.version();
        store.lease = Some(lease.clone());
        Json(lease).into_response()
    })
}

async fn event(State(store): Shared, Json(event): Json<Value>) -> Response {
    store.send_modify(|store| store.events.push(event.clone()));
    (StatusCode::CREATED, Json(event)).into_response()
}

fn refusal(code: u16) -> Response {
    let reason = match code {
        404 => "NotFound",
        _ => "Test",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "code": code, "reason": reason, "message": format!("refused with {code}"),
    });
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}
