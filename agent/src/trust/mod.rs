//! Whose roots are trusted: resolved from the `TrustConfig`, kept fresh, never merged over trust
//! domains.
pub mod roots;
pub mod task;

pub use roots::{Source, SourceError, Trust, refresh};
pub use task::{Stopped, TrustTask, wait_ready};
