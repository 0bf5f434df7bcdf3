//! Mutual TLS with tokio-rustls and nothing else: a server that greets, a client that listens.
//!
//! ```sh
//! cargo run --example tokio_rustls -- DIR server 127.0.0.1:8443
//! cargo run --example tokio_rustls -- DIR client 127.0.0.1:8443 spiffe://TD/ns/NS/sa/SERVER
//! ```
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]
use std::{io, sync::Arc, time::Duration};

use certagent_credentials::{Credentials, SpiffeId, authorize, peer_id};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Greets everybody of the own trust domain, for ever.
pub(crate) async fn serve(credentials: Credentials, listener: TcpListener) -> Result<(), Error> {
    let config = credentials.server_config(authorize::same_trust_domain())?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, from) = listener.accept().await?;
        let acceptor = acceptor.clone();
        // Not one after the other: a peer may take its time.
        tokio::spawn(async move {
            let greeted = timeout(Duration::from_secs(10), greet(acceptor, stream)).await;
            if let Err(error) = greeted.map_err(io::Error::from).flatten() {
                eprintln!("{from}: {error}");
            }
        });
    }
}

async fn greet(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let peer = peer_id(stream.get_ref().1).ok_or(io::ErrorKind::InvalidData)?;
    stream
        .write_all(format!("hello, {peer}").as_bytes())
        .await?;
    stream.shutdown().await
}

/// What the server says, and who it is.
pub(crate) async fn ask(
    credentials: &Credentials,
    address: &str,
    server: &str,
) -> Result<(String, SpiffeId), Error> {
    let config = credentials.client_config(authorize::id(server)?)?;
    let connector = TlsConnector::from(Arc::new(config));
    // Sent to the server, and checked against nothing: the id is what counts.
    let name = ServerName::try_from("spiffe.invalid")?;
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(name, stream).await?;
    let peer = peer_id(stream.get_ref().1).ok_or("no peer")?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok((said, peer))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_other| "there is a crypto provider already")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [directory, "server", address] => {
            let listener = TcpListener::bind(address).await?;
            serve(Credentials::open(directory)?, listener).await
        }
        [directory, "client", address, server] => {
            let (said, peer) = ask(&Credentials::open(directory)?, address, server).await?;
            println!("{peer} says: {said}");
            Ok(())
        }
        _ => Err("usage: tokio_rustls DIR server ADDRESS | DIR client ADDRESS SERVER_ID".into()),
    }
}
