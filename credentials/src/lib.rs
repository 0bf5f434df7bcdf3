//! Read a workload's SPIFFE credential directory coherently.
//!
//! A directory of credentials is replaced while it is read. Whoever opens two of its paths one
//! after the other will, sooner or later, hold a key and a certificate of different generations.
//! [`read`] does not: it opens the generation behind `..data` once and reads every file through
//! that directory; where there is no `..data` it reads until nothing changes any more.
//!
//! ```
//! use std::path::Path;
//!
//! let error = certagent_credentials::read(Path::new("/nowhere/at/all")).unwrap_err();
//! assert!(error.to_string().contains("/nowhere/at/all"));
//! ```
mod error;
#[cfg(test)]
mod fixture;
mod place;
mod read;
mod snapshot;

pub use error::{FileProblem, ReadError};
#[cfg(unix)]
pub use read::read_generation;
pub use read::{Files, Layout, MAX_FILE_BYTES, read_files};
pub use snapshot::{Snapshot, read};
