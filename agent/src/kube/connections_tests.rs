use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body as AxumBody};
use futures::{StreamExt as _, future::try_join_all, stream};
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
    frozen: watch::Sender<bool>,
}

impl Server {
    async fn start(protocols: &[&[u8]]) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let mut config = Config::new(url.parse().unwrap());
        config.root_cert = Some(vec![cert.der().to_vec()]);
        let connections = Arc::<AtomicUsize>::default();
        let (frozen, freezes) = watch::channel(false);
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, mut freezes) = (acceptor.clone(), freezes.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let service = TowerToHyperService::new(Router::new().fallback(answer));
                    let builder = Builder::new(TokioExecutor::new());
                    let mut served =
                        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                    tokio::select! {
                        _ = &mut served => return,
                        _ = freezes.wait_for(|frozen| *frozen) => {}
                    }
                    // The connection stands, and nobody is there.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self {
            config,
            connections,
            frozen,
        }
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
    let server = Server::start(&[b"h2", b"http/1.1"]).await;
    let objects = server.objects(CALM);
    objects.get("one").await.unwrap();
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        watches.push(begun(&objects).await);
    }
    assert_eq!(server.connections(), 2);
    watches.push(begun(&objects).await);
    assert_eq!(server.connections(), 3, "one more than a connection takes");
    try_join_all((0..2 * WATCHES).map(|_| objects.get("one")))
        .await
        .unwrap();
    assert_eq!(server.connections(), 3);
    // Their places are free again.
    watches.clear();
    for _ in 0..WATCHES {
        watches.push(begun(&objects).await);
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn without_http2_all_of_it_works_too() {
    for protocols in [&[b"http/1.1".as_slice()][..], &[]] {
        let server = Server::start(protocols).await;
        let objects = server.objects(CALM);
        let watches = [begun(&objects).await, begun(&objects).await];
        try_join_all((0..4).map(|_| objects.get("one")))
            .await
            .unwrap();
        assert!(server.connections() > watches.len());
    }
}

#[tokio::test]
async fn a_watch_ends_when_nobody_is_at_the_other_end_any_more() {
    let server = Server::start(&[b"h2"]).await;
    let objects = server.objects(Pulse {
        silence: Duration::from_millis(20),
        patience: Duration::from_secs(1),
    });
    let mut watch = begun(&objects).await;
    server.frozen.send_replace(true);
    // For ever, if nothing tells it.
    while let Some(event) = watch.next().await {
        if event.is_err() {
            break;
        }
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
