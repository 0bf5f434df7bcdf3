//! A gRPC server that knows who calls, and its client. The service is gRPC's own health check, so
//! that no code is generated here; yours takes its place.
//!
//! ```sh
//! cargo run --features tonic --example tonic_pair -- DIR server 127.0.0.1:8443
//! cargo run --features tonic --example tonic_pair -- DIR client 127.0.0.1:8443 spiffe://TD/ns/NS/sa/SERVER
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]
use std::time::Duration;

use certagent_credentials::{Credentials, authorize, tonic::PeerSpiffeId as _};
use tokio::net::TcpListener;
use tonic::{
    Request, Status,
    service::InterceptorLayer,
    transport::{Channel, Endpoint, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection may stand: it keeps the certificate that it was made with. Well below the
/// lifetime of one.
const MAXIMUM_AGE: Duration = Duration::from_secs(600);

/// Serves everybody of the own trust domain, for ever.
pub(crate) async fn serve(credentials: Credentials, listener: TcpListener) -> Result<(), Error> {
    let incoming = credentials.tonic_incoming(listener, authorize::same_trust_domain())?;
    let (_reporter, service) = tonic_health::server::health_reporter();
    Server::builder()
        .max_connection_age(MAXIMUM_AGE)
        .layer(InterceptorLayer::new(who))
        .add_service(service)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// A handler asks in the same way. Here it is for all methods, and finer than a rule for
/// connections can be.
fn who(request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request
        .peer_spiffe_id()
        .ok_or_else(|| Status::unauthenticated("this connection has no peer"))?;
    if peer.path().ends_with("/sa/banned") {
        return Err(Status::permission_denied(format!("{peer} may not ask")));
    }
    Ok(request)
}

/// A channel to a server. Make it once: its connections are made with what is newest.
pub(crate) async fn channel(
    credentials: &Credentials,
    address: &str,
    server: &str,
) -> Result<Channel, Error> {
    let connector = credentials.tonic_connector(authorize::id(server)?)?;
    // "http": tonic leaves TLS to the connector, which never speaks without it.
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(10))
        .connect_with_connector(connector)
        .await?)
}

/// Whether the server serves.
pub(crate) async fn check(channel: Channel) -> Result<String, Status> {
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let response = HealthClient::new(channel).check(request).await?;
    Ok(format!("{:?}", response.into_inner().status()))
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
            let channel = channel(&Credentials::open(directory)?, address, server).await?;
            println!("{}", check(channel).await?);
            Ok(())
        }
        _ => Err("usage: tonic_pair DIR server ADDRESS | DIR client ADDRESS SERVER_ID".into()),
    }
}
