//! SPIFFE mTLS for rustls and tonic from a directory of credentials, reloaded while certificates
//! rotate.
//!
//! ```toml
//! [dependencies]
//! # Where this repository is, beside yours.
//! certagent-credentials = { path = "../certagent/credentials", features = ["aws-lc-rs"] }
//! rustls = { version = "0.23", default-features = false, features = ["std"] }
//! ```
//!
//! ```no_run
//! # #[cfg(feature = "rustls")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use certagent_credentials::{Credentials, authorize};
//!
//! let credentials = Credentials::open("/var/run/secrets/workload-spiffe-credentials")?;
//! let server = credentials.server_config(authorize::same_trust_domain())?;
//! let client = credentials.client_config(authorize::id("spiffe://td.example/ns/a/sa/b")?)?;
//! # let _: (rustls::ServerConfig, rustls::ClientConfig) = (server, client);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "rustls"))]
//! # fn main() {}
//! ```
//!
//! The feature `aws-lc-rs` brings a crypto provider. A program that has another one gives it to
//! [`Builder::crypto_provider`], or installs it by `install_default()`, before it makes the first
//! configuration.
//!
//! Both configurations present the newest certificate and trust the newest roots at every
//! handshake, for as long as they live.
//!
//! # Reading
//!
//! A directory of credentials is replaced while it is read. Whoever opens two of its paths one
//! after the other will, sooner or later, hold a key and a certificate of different generations.
//! [`read`] does not: it opens the generation behind `..data` once and reads every file through
//! that directory; where there is no `..data` (plain files, rewritten one by one) it reads until
//! nothing changes any more and the key fits the certificate. Key and chain are taken from
//! `credential-bundle.pem`, which is one file, where there is one.
//!
//! # Reloading
//!
//! [`Credentials`] holds the newest [`Snapshot`]. Its thread listens to the directory, and looks at
//! it every 10 seconds in any case; where the system has no watch to give, that look is all. What
//! cannot be used never replaces what can: the last good generation stays, the directory is tried again
//! every second, and [`Credentials::health`] and [`Builder::on_event`] say why.
//!
//! # What is checked of a peer
//!
//! - It is an X.509-SVID: exactly one URI name, a SPIFFE ID; no CA; no `keyCertSign`; extended key
//!   usage, if there is one, for servers and for clients; the other rules of the standard.
//! - Its chain leads to a root **of its own trust domain** at this moment: a root of one domain
//!   never vouches for a peer of another.
//! - The application's rule lets it in: there is no default, see [`authorize`].
//!
//! **Names are not looked at**, by design: neither DNS names nor IP addresses, in either
//! direction. A SPIFFE peer is who its id says, wherever it was reached. The server name that a
//! client gives to rustls is sent to the server, and means nothing else.
//!
//! # Connections that live long
//!
//! A connection is checked when it is made. One that stands keeps its old certificate, and its
//! peer stays in after a root was removed or a rule changed. Give connections a maximum age, well
//! below the lifetime of a certificate (tonic's `max_connection_age`, a timer around a hyper
//! connection, `pool_idle_timeout` in clients), and let [`Event::Reloaded`] tell when it is
//! time to drain early. For the same reason sessions are not resumed, unless
//! [`Builder::allow_resumption`] says so.
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `rustls` (default) | configurations, [`Resolver`], [`Verifier`] |
//! | `tonic` | module `tonic`: a server's incoming connections with `request.peer_spiffe_id()`, and a channel's connector |
//! | `aws-lc-rs` | a crypto provider, if the process has none |
//!
//! Without features, it reads and reloads.
#[cfg(all(doctest, feature = "rustls"))]
#[doc = include_str!("../../docs/library.md")]
mod library {}
#[cfg(all(doctest, feature = "rustls"))]
#[doc = include_str!("../README.md")]
mod readme {}

mod access;
mod credentials;
mod error;
mod event;
#[cfg(test)]
mod fixture;
mod health;
mod pair;
mod place;
mod read;
mod read_error;
mod reload;
#[cfg(feature = "rustls")]
mod rustls;
mod snapshot;
mod subscription;
#[cfg(feature = "tonic")]
pub mod tonic;
mod watch;

#[cfg(feature = "rustls")]
pub use self::rustls::{
    PeerError, Resolver, Verifier,
    authorize::{self, Authorize},
    peer_certificate, peer_id, peer_id_of,
};
pub use access::Access;
/// What chains, keys and bundles are, and their errors.
pub use certagent_svid;
pub use certagent_svid::{Certificate, Chain, SpiffeId, TrustBundle, TrustBundles, TrustDomain};
pub use credentials::{Builder, Credentials, DIRECTORY_VARIABLE, WELL_KNOWN_DIRECTORY};
pub use error::Error;
pub use event::{Event, Reload};
pub use health::Health;
pub use jiff::Timestamp;
#[cfg(unix)]
pub use read::read_generation;
pub use read::{Files, Layout, MAX_FILE_BYTES, read, read_files};
pub use read_error::{FileProblem, ReadError};
pub use snapshot::Snapshot;
pub use subscription::Subscription;
