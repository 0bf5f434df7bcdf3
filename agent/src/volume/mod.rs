//! A volume: the directory in which one workload finds its credential, and what the agent keeps
//! beside it.
//!
//! - [`VolumeDir`] is the directory. It holds generations, swapped whole by a rename of `..data`.
//! - [`StateDir`] is the agent's own directory, where workloads cannot look: per volume a
//!   [`Record`] of what was issued and how, and [`Pending`], the one request that is under way.
//!   These two may also be elsewhere, with the volume: that is a [`VolumeState`].
//!
//! A volume is written as if its workload were hostile: once its directory is open, no path is
//! resolved again; every call names one component below a descriptor and follows no link.
mod at;
mod dir;
mod error;
mod generation;
mod hooks;
pub mod owner;
mod pending;
mod record;
mod retention;
mod state;

pub use dir::{VolumeDir, Written};
pub use error::{Room, VolumeError};
pub use generation::{Access, Content};
pub use hooks::{HookFailure, HookRecord};
pub use pending::{Incomplete, Pending, PendingError};
pub use record::{Corruption, PodRecord, Record, RecordError, Sequence, read_record};
pub use retention::{KEPT_FOR, MAX_GENERATIONS};
pub use state::{StateDir, StateError, VolumeId, VolumeState};

#[cfg(test)]
mod fixture;
