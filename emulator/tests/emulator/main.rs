//! The emulator from outside: in process for the rules, over loopback for the REST face.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows tests by their attribute, not the functions that they share"
)]

mod admin;
mod authorities;
mod faults;
mod gcloud;
mod issuing;
mod pools;
mod quotas;
mod rest;
mod state;
mod support;
mod transport;
