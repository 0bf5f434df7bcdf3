//! Whose roots are trusted: resolved from the `TrustConfig`, kept fresh, never merged over trust
//! domains. Added early, removed late, and dropped at once in an emergency.
pub mod distrust;
pub mod endpoint;
mod keeper;
mod kept;
#[cfg(test)]
#[cfg(feature = "emulator")]
pub(crate) mod lab;
mod news;
mod removal;
pub mod rendered;
pub mod roots;
pub mod source;
pub mod task;

pub use distrust::{Distrust, Fingerprint, FingerprintError};
pub use endpoint::EndpointClient;
pub use roots::Trust;
pub use source::{Source, SourceError, SourceName};
pub use task::{Sources, Stopped, TrustTask, wait_ready};
