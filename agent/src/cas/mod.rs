//! The client of CA Service: its calls over one HTTP/2 connection.
//!
//! What an answer looks like is in [`wire`] and [`authority`], what can go wrong in [`error`]; what may be done after
//! a failure is decided in [`certagent_core::outcome`] and nowhere else.
pub mod authority;
pub mod client;
pub mod endpoint;
pub mod error;
#[cfg(test)]
#[cfg(feature = "emulator")]
pub(crate) mod lab;
mod retry_after;
pub mod wire;

pub use client::{CasClient, ClientError, Reply};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Call, CallError, Reason};
