//! The client of CA Service: its calls over one HTTP/2 connection.
//!
//! What an answer looks like is in [`wire`] and [`authority`], what can go wrong in [`error`]; what may be done after
//! a failure is decided in [`certagent_core::outcome`] and nowhere else.
pub mod authority;
pub mod ca_bundle;
pub mod client;
pub mod endpoint;
pub mod error;
#[cfg(test)]
#[cfg(feature = "emulator")]
pub(crate) mod lab;
pub(crate) mod retry_after;
#[cfg(test)]
#[cfg(feature = "emulator")]
pub(crate) mod tls_front;
pub mod transport;
pub mod wire;

pub use ca_bundle::{Roots, RootsError};
pub use client::{CasClient, Reply};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Call, CallError, Reason};
pub use transport::ClientError;
