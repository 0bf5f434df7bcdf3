//! certagent gives every workload a SPIFFE X.509 certificate and keeps it fresh.
//!
//! The main path, in the order in which a newcomer reads it: [`main`] (`run/mod.rs`, one match
//! that names every command) -> [`run::agent::start`] (builds the parts in order) ->
//! [`volumes::Volumes::publish`] -> [`provision::provision`]: plan, key, request, issue, check,
//! write. What is decided, and why, is in the pure crate `certagent_core`; what a certificate, a
//! bundle and a credential directory are, in `certagent_svid`.
#[cfg(not(target_os = "linux"))]
compile_error!(
    "the agent is for Linux: it confines its writes by openat2 and asks for tmpfs; \
     certagent-svid, -core, -credentials and -emulator build elsewhere"
);

pub mod admin;
pub mod cas;
mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod crash;
pub mod google;
pub mod held;
pub mod hooks;
pub mod inspect;
pub mod issuer;
pub mod keys;
pub mod kube;
pub mod limit;
mod logging;
pub mod node;
pub mod provision;
pub mod run;
pub mod schedule;
mod shutdown;
pub mod small_file;
pub mod status;
pub mod trust;
pub mod volume;
pub mod volumes;

pub use run::main;
