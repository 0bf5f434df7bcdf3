//! Credentials as rustls takes them.
pub mod authorize;
mod config;
mod material;
mod peer;
mod resolver;
mod verifier;

pub use peer::{PeerError, peer_certificate, peer_id, peer_id_of};
pub use resolver::Resolver;
pub use verifier::Verifier;

pub(crate) use material::{Material, Settings};
