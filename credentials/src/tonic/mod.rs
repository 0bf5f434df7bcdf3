//! Credentials as tonic takes them.
//!
//! A server takes its connections from [`Incoming`], a client makes its channel with a
//! [`Connector`]. Both do TLS themselves, so tonic's own TLS features stay off.
//!
//! ```no_run
//! use certagent_credentials::{Credentials, authorize, tonic::PeerSpiffeId as _};
//! use tonic::{Request, Status, transport::{Endpoint, Server}};
//! # type Error = Box<dyn std::error::Error>;
//!
//! # async fn server<S>(service: S) -> Result<(), Error>
//! # where
//! #     S: tower_service::Service<
//! #             http::Request<tonic::body::Body>,
//! #             Response = http::Response<tonic::body::Body>,
//! #             Error = std::convert::Infallible,
//! #         > + tonic::server::NamedService + Clone + Send + Sync + 'static,
//! #     S::Future: Send + 'static,
//! # {
//! let credentials = Credentials::from_env()?;
//! let listener = tokio::net::TcpListener::bind("[::]:8443").await?;
//! let incoming = credentials.tonic_incoming(listener, authorize::same_trust_domain())?;
//! Server::builder()
//!     .max_connection_age(std::time::Duration::from_secs(600))
//!     .add_service(service)
//!     .serve_with_incoming(incoming)
//!     .await?;
//! # Ok(())
//! # }
//!
//! fn hello(request: &Request<()>) -> Result<String, Status> {
//!     let peer = request.peer_spiffe_id().ok_or_else(|| Status::unauthenticated("no peer"))?;
//!     Ok(format!("hello, {peer}"))
//! }
//!
//! # async fn client() -> Result<(), Error> {
//! let credentials = Credentials::from_env()?;
//! let connector = credentials.tonic_connector(authorize::id("spiffe://td.example/ns/a/sa/b")?)?;
//! // "http": tonic leaves TLS to the connector, which never speaks without it.
//! let channel = Endpoint::from_static("http://b.a.svc:8443")
//!     .connect_with_connector(connector)
//!     .await?;
//! # let _ = channel;
//! # Ok(())
//! # }
//! ```
mod connector;
mod incoming;
mod peer;

pub use connector::Connector;
pub use incoming::{Connection, Incoming};
pub use peer::{PeerInfo, PeerSpiffeId};

/// What tonic speaks.
const ALPN: &[u8] = b"h2";
/// How long a peer may take for its part of a handshake.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);
