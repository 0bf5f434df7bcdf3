use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{Router, body::Body as AxumBody};
use futures::{
    StreamExt as _,
    future::{join_all, try_join_all},
    stream,
};
use hyper_util::{rt::TokioIo, server::conn::auto::Builder, service::TowerToHyperService};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::{WatchEvent, WatchParams},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::kube::client::built;

const OBJECT: &str = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "resourceVersion": "7"}}"#;
const CALM: Pulse = Pulse {
    silence: Duration::from_secs(600),
    patience: Duration::from_secs(600),
};

/// An API server that has one object, and says so once to whoever watches.
struct Server {
    config: Config,
    connections: Arc<AtomicUsize>,
    /// Of connections with a lower number nobody is at the other end.
    frozen: watch::Sender<usize>,
    is_old: Arc<AtomicBool>,
}

impl Server {
    async fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let acceptor = |protocols: &[&[u8]]| {
            let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
            let mut tls = rustls::ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
            tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            TlsAcceptor::from(Arc::new(tls))
        };
        let (new, old) = (acceptor(&[b"h2", b"http/1.1"]), acceptor(&[b"http/1.1"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let mut config = Config::new(url.parse().unwrap());
        config.root_cert = Some(vec![cert.der().to_vec()]);
        let (frozen, freezes) = watch::channel(0);
        let server = Self {
            config,
            connections: Arc::default(),
            frozen,
            is_old: Arc::default(),
        };
        let (count, is_old) = (Arc::clone(&server.connections), Arc::clone(&server.is_old));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let is_old = is_old.load(Ordering::SeqCst);
                let acceptor = if is_old { &old } else { &new }.clone();
                let mut freezes = freezes.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = TowerToHyperService::new(Router::new().fallback(answer));
                    let builder = Builder::new(TokioExecutor::new());
                    let mut serving =
                        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                    tokio::select! {
                        _ = &mut serving => return,
                        _ = freezes.wait_for(|frozen| *frozen > number) => {}
                    }
                    // The connection stands, and nobody is there.
                    std::future::pending::<()>().await;
                });
            }
        });
        server
    }

    /// All connections that there are are dead, and nobody is told.
    fn freeze(&self) {
        self.frozen.send_replace(self.connections());
    }

    fn objects(&self, pulse: Pulse) -> Api<ConfigMap> {
        let client: Client = built(self.config.clone(), pulse).unwrap();
        Api::namespaced(client, "default")
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(uri: Uri) -> AxumBody {
    if is_watch(&uri) {
        let event = format!(r#"{{"type": "ADDED", "object": {OBJECT}}}"#) + "\n";
        let event = stream::once(async { Ok::<_, Infallible>(event) });
        AxumBody::from_stream(event.chain(stream::pending()))
    } else {
        AxumBody::from(OBJECT)
    }
}

/// So many watches, begun at once.
async fn begin(
    objects: &Api<ConfigMap>,
    count: usize,
) -> Vec<stream::BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>>> {
    join_all((0..count).map(|_| begun(objects))).await
}

/// A watch that has begun.
async fn begun(
    objects: &Api<ConfigMap>,
) -> stream::BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>> {
    let watch = objects.watch(&WatchParams::default(), "0").await.unwrap();
    let mut watch = watch.boxed();
    let first = watch.next().await.unwrap().unwrap();
    assert!(matches!(first, WatchEvent::Added(_)));
    watch
}

#[tokio::test]
async fn with_http2_watches_fill_few_connections_and_calls_have_one_of_their_own() {
    let server = Server::start().await;
    let objects = &server.objects(CALM);
    // One finds out that it is HTTP/2; then there is one for calls, and one for watches.
    let mut watches = begin(objects, WATCHES).await;
    assert_eq!(server.connections(), 2);
    try_join_all((0..2 * WATCHES).map(|_| objects.get("one")))
        .await
        .unwrap();
    assert_eq!(server.connections(), 3);
    watches.push(begun(objects).await);
    watches.push(begun(objects).await);
    assert_eq!(server.connections(), 4, "more than a connection takes");
    // Their places are free again.
    watches.clear();
    drop(begin(objects, WATCHES).await);
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn without_http2_all_of_it_works_too() {
    let server = Server::start().await;
    server.is_old.store(true, Ordering::SeqCst);
    let objects = server.objects(CALM);
    let watches = [begun(&objects).await, begun(&objects).await];
    try_join_all((0..4).map(|_| objects.get("one")))
        .await
        .unwrap();
    assert!(server.connections() > watches.len());
}

#[tokio::test]
async fn a_watch_ends_and_calls_go_on_when_nobody_is_at_the_other_end_any_more() {
    let server = Server::start().await;
    let objects = server.objects(Pulse {
        silence: Duration::from_millis(20),
        patience: Duration::from_secs(1),
    });
    // Whoever answers then may be older.
    for is_old in [false, true] {
        let mut watch = begun(&objects).await;
        objects.get("one").await.unwrap();
        server.is_old.store(is_old, Ordering::SeqCst);
        server.freeze();
        // For ever, if nothing tells it.
        while let Some(Ok(_)) = watch.next().await {}
        // Some calls find out, each at once or after a pulse.
        while objects.get("one").await.is_err() {}
    }
}

#[test]
fn what_a_watch_is() {
    let is = |uri: &str| is_watch(&uri.parse().unwrap());
    assert!(is("/api/v1/pods?&watch=true&resourceVersion=0"));
    assert!(!is("/api/v1/pods?resourceVersion=0"));
    assert!(!is("/api/v1/namespaces/a/pods/watch=true"));
    assert!(!is("/"));
}
