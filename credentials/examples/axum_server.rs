//! An axum server whose handlers know who calls.
//!
//! ```sh
//! cargo run --example axum_server -- DIR 127.0.0.1:8443
//! ```
#![expect(clippy::print_stderr, reason = "a program for people")]
use std::{sync::Arc, time::Duration};

use axum::{Extension, Router, routing::get};
use certagent_credentials::{Credentials, Event, SpiffeId, Subscription, authorize, peer_id};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection may stand: it keeps the certificate that it was made with. Well below the
/// lifetime of one.
const MAXIMUM_AGE: Duration = Duration::from_secs(600);

/// The handlers. The extension is who calls.
fn routes() -> Router {
    async fn hello(Extension(peer): Extension<SpiffeId>) -> String {
        format!("hello, {peer}")
    }
    Router::new().route("/", get(hello))
}

/// Serves everybody of the own trust domain, for ever.
pub(crate) async fn serve(credentials: Credentials, listener: TcpListener) -> Result<(), Error> {
    let mut config = credentials.server_config(authorize::same_trust_domain())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptor is left, for instance: connections that end give some back.
                eprintln!("accept: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let acceptor = acceptor.clone();
        let generations = credentials.subscribe();
        tokio::spawn(async move {
            if let Err(error) = connection(acceptor, stream, generations).await {
                eprintln!("{from}: {error}");
            }
        });
    }
}

async fn connection(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    mut generations: Subscription,
) -> Result<(), Error> {
    let stream = timeout(Duration::from_secs(10), acceptor.accept(stream)).await??;
    let peer = peer_id(stream.get_ref().1).ok_or("the peer has no SPIFFE ID")?;
    let service = TowerToHyperService::new(routes().layer(Extension(peer)));
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        () = sleep(MAXIMUM_AGE) => {}
        // The certificate was replaced, or roots were: this connection was made with the old ones.
        _newer = generations.changed() => {}
    }
    // What was begun is finished; the client makes a new connection, with new certificates.
    connection.as_mut().graceful_shutdown();
    connection.await
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_other| "there is a crypto provider already")?;
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: axum_server DIR ADDRESS".into());
    };
    let credentials = Credentials::builder(directory)
        .first_read_wait(Duration::from_secs(30))
        .on_event(|event| match event {
            Event::Reloaded(reload) => eprintln!("reloaded: {reload:?}"),
            Event::Failed { error, .. } => eprintln!("not reloaded: {error}"),
            other => eprintln!("{other:?}"),
        })
        .open()?;
    serve(credentials, TcpListener::bind(address).await?).await
}
