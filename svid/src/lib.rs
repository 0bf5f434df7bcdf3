//! What an X.509-SVID, a trust bundle, a private key and a credential directory *are*.
//!
//! Everything here is pure: bytes in, values out. There is no clock (`now` is an argument), no
//! file (only the [`layout`] of a credential directory, as names), no network, and no
//! cryptography of our own: [`verify`] takes the signature algorithms as an argument, so that the
//! caller chooses the provider.
//!
//! The way of a credential through these types:
//!
//! 1. [`Certificate`]: one certificate, parsed once.
//! 2. [`Chain`]: a leaf and its intermediates, in order, whatever order they came in.
//! 3. [`leaf::svid`]: the rules of the X.509-SVID standard for the leaf.
//! 4. [`verify::path`]: the chain leads to a root of a [`TrustBundle`], now.
//!
//! ```
//! use certagent_svid::{Certificate, PrivateKey, bundle_map, TrustBundles};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! assert!(Certificate::parse_pem_list(b"no certificate here")?.is_empty());
//! assert!(PrivateKey::from_pem(b"no key here").is_err());
//! assert!(bundle_map::parse(br#"{"trust_domains":{}}"#)?.is_empty());
//! # Ok(())
//! # }
//! ```
pub mod bundle;
pub mod bundle_map;
pub mod certificate;
pub mod chain;
pub mod jwks;
pub mod key;
pub mod layout;
pub mod leaf;
pub mod verify;

#[cfg(test)]
mod testing;

pub use bundle::{TrustBundle, TrustBundles};
pub use certificate::{Certificate, CertificateError, PublicKeyKind};
pub use chain::{Chain, ChainError};
pub use key::{KeyError, PrivateKey};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
