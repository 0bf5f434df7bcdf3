//! The library with tonic: a server that says whose certificate it saw, and a client that asks for
//! ever, by a new channel each time and by one that it keeps.
//!
//! ```sh
//! consumer-tonic server|client ADDRESS VOLUME PEER_SPIFFE_ID
//! ```
#![expect(clippy::print_stderr, reason = "run.sh keeps it beside the lines")]
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certagent_consumers::{Arguments, Error, Seen, pause, print};
use certagent_credentials::{
    Certificate, Credentials, authorize, peer_certificate,
    tonic::{Connector, PeerInfo},
};
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status,
    codegen::tokio_stream::{self, Stream},
    transport::{Channel, Endpoint, Server},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::ServiceExt as _;

/// In this header the server says which certificate the client showed.
const CLIENT_SERIAL: &str = "x-client-serial";

/// Far below the lifetime of a certificate, here 60 seconds.
const MAXIMUM_AGE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::take()?;
    let credentials = Credentials::open(&arguments.volume)?;
    if arguments.is_server {
        let listener = TcpListener::bind(&arguments.address).await?;
        return serve(&credentials, listener, &arguments.peer).await;
    }
    let connector = credentials.tonic_connector(authorize::id(&arguments.peer)?)?;
    let endpoint = endpoint(&arguments.address)?;
    let lasting = Client::new(&endpoint, &connector);
    loop {
        print(Client::new(&endpoint, &connector).request("")).await;
        print(lasting.request("lasting-")).await;
        pause().await;
    }
}

async fn serve(
    credentials: &Credentials,
    listener: TcpListener,
    client: &str,
) -> Result<(), Error> {
    let incoming = credentials.tonic_incoming(listener, authorize::any_of([client])?)?;
    Server::builder()
        // A connection keeps the certificates that it was made with.
        .max_connection_age(MAXIMUM_AGE)
        .add_service(HealthServer::new(Service))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// gRPC's health check, which tells besides who has asked.
struct Service;

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let peer: &PeerInfo = request
            .extensions()
            .get()
            .ok_or_else(|| Status::unauthenticated("this connection has no peer"))?;
        let serial = peer.certificate().serial_hex();
        let serial = serial.parse().map_err(|_no| Status::internal("a serial"))?;
        let mut response = Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        });
        response.metadata_mut().insert(CLIENT_SERIAL, serial);
        Ok(response)
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    // "http": tonic leaves TLS to the connector, which never speaks without it.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(5)))
}

/// A channel, and the certificate that the server showed to its last connection.
struct Client {
    channel: Channel,
    server: Arc<Mutex<Option<Certificate>>>,
}

impl Client {
    fn new(endpoint: &Endpoint, connector: &Connector) -> Self {
        let server = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&server);
        // An application gives the connector as it is.
        let connector = connector.clone().map_response(move |stream| {
            let certificate = peer_certificate(stream.inner().get_ref().1);
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
            stream
        });
        Self {
            channel: endpoint.connect_with_connector_lazy(connector),
            server,
        }
    }

    async fn request(&self, prefix: &'static str) -> Result<Seen, Error> {
        let response = ask(&self.channel).await?;
        let client = response.metadata().get(CLIENT_SERIAL);
        let client = client.ok_or("the server did not say whose certificate it saw")?;
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.as_ref().ok_or("the server showed no certificate")?;
        Ok(Seen::new(prefix, server, client.to_str()?))
    }
}

/// Asks, and once more if the connection had come to its end before the request was sent: the channel
/// makes another one.
async fn ask(channel: &Channel) -> Result<Response<HealthCheckResponse>, Status> {
    let mut client = HealthClient::new(channel.clone());
    match client.check(HealthCheckRequest::default()).await {
        Err(status) if status.code() == Code::Cancelled => {
            eprintln!("once more after: {status}");
            client.check(HealthCheckRequest::default()).await
        }
        answer => answer,
    }
}
