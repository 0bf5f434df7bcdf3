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

use certagent_credentials::{
    Authorize, Certificate, Credentials, authorize, peer_certificate, peer_id,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Greets everybody whom the rule lets in, for ever.
pub(crate) async fn serve(
    credentials: Credentials,
    listener: TcpListener,
    rule: impl Authorize,
) -> Result<(), Error> {
    // Made once: each handshake takes what is newest.
    let acceptor = TlsAcceptor::from(Arc::new(credentials.server_config(rule)?));
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
    let connection = stream.get_ref().1;
    let peer = peer_id(connection).ok_or(io::ErrorKind::InvalidData)?;
    let certificate = peer_certificate(connection).ok_or(io::ErrorKind::InvalidData)?;
    let said = format!("hello, {peer} with {}", certificate.serial_hex());
    stream.write_all(said.as_bytes()).await?;
    stream.shutdown().await
}

/// What connects to one server. Make it once: each handshake takes what is newest.
pub(crate) fn connector(credentials: &Credentials, server: &str) -> Result<TlsConnector, Error> {
    let config = credentials.client_config(authorize::id(server)?)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What the server says, and the certificate that it showed.
pub(crate) async fn ask(
    connector: &TlsConnector,
    address: &str,
) -> Result<(String, Certificate), Error> {
    // Sent to the server, and checked against nothing: the id is what counts.
    let name = ServerName::try_from("spiffe.invalid")?;
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(name, stream).await?;
    let server = peer_certificate(stream.get_ref().1).ok_or("no peer")?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok((said, server))
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
            let rule = authorize::same_trust_domain();
            serve(Credentials::open(directory)?, listener, rule).await
        }
        [directory, "client", address, server] => {
            let connector = connector(&Credentials::open(directory)?, server)?;
            let (said, certificate) = ask(&connector, address).await?;
            println!("{server} with {} says: {said}", certificate.serial_hex());
            Ok(())
        }
        _ => Err("usage: tokio_rustls DIR server ADDRESS | DIR client ADDRESS SERVER_ID".into()),
    }
}
