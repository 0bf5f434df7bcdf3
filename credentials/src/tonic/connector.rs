//! The connections of a channel.
use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

use super::{ALPN, HANDSHAKE};
use crate::{Authorize, Credentials, Error, Event};

/// What is sent as server name where the host of an address is none. It is checked against nothing.
const NAMELESS: &str = "spiffe.invalid";

/// Makes the connections of a tonic channel, for `Endpoint::connect_with_connector` and
/// `connect_with_connector_lazy`. Made by [`Credentials::tonic_connector`].
///
/// It speaks TLS for every address, whatever its scheme. Write `http://`: where some crate switches on
/// tonic's own TLS features, tonic takes `https://` for its own affair. Give the endpoint a
/// `connect_timeout`.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    credentials: Credentials,
}

impl Credentials {
    /// The connections of a tonic channel; `authorize` says which servers are the right ones.
    pub fn tonic_connector(&self, authorize: impl Authorize) -> Result<Connector, Error> {
        let mut config = self.client_config(authorize)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Connector {
            connector: TlsConnector::from(Arc::new(config)),
            credentials: self.clone(),
        })
    }
}

impl Connector {
    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
        let Some(host) = uri.host() else {
            return Err(invalid(format!(
                "{uri} has no host; write http://HOST:PORT"
            )));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(443);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{host}:{port} is not reached: {error}"),
            )
        })?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())
            .or_else(|_no_name| ServerName::try_from(NAMELESS))
            .map_err(|error| invalid(error.to_string()))?;
        let remote = stream.peer_addr().ok();
        let handshake = timeout(HANDSHAKE, self.connector.connect(name, stream));
        let failed = match handshake.await {
            Ok(Ok(stream)) => return Ok(TokioIo::new(stream)),
            Ok(Err(error)) => error,
            Err(_elapsed) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "{host}:{port} did not finish its handshake in {} s",
                    HANDSHAKE.as_secs()
                ),
            ),
        };
        self.credentials.shared().tell([Event::HandshakeFailed {
            remote,
            reason: failed.to_string(),
        }]);
        Err(failed)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
