//! `certagent inspect`: what is wrong with a credential directory, a CA pool, a configuration, a
//! node's driver or a pod of a cluster, why, and what to do next.
//!
//! One verdict, one cause. The checks of each subject run in the order in which they depend on
//! each other, and the cause is the first one that failed; the rest is evidence.
mod cluster;
mod config;
mod directory;
mod node;
mod pod;
mod pool;
mod report;
mod roots;
mod text;

pub(crate) use config::{ClusterWanted, cluster as cluster_config, inspect as config};
pub(crate) use directory::{RenewalHint, Report as DirectoryReport, inspect as directory};
pub(crate) use node::{Wanted as NodeWanted, inspect as node};
pub(crate) use pod::{Wanted as PodWanted, inspect as pod};
pub(crate) use pool::{Wanted, inspect as pool};
pub use report::Verdict;
pub(crate) use text::{clean, shell_word};

#[cfg(test)]
mod golden;
#[cfg(test)]
#[cfg(feature = "emulator")]
mod lab;

#[cfg(test)]
pub(crate) use directory::fixture;
