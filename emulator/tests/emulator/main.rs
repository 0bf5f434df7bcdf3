//! The emulator from outside: in process for the rules, over loopback for the REST face.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows tests by their attribute, not the functions that they share"
)]

mod access;
mod activation;
mod authorities;
mod certificates;
mod faults;
mod gcloud;
mod identities;
mod issuer;
mod issuing;
mod pools;
mod rest;
mod state;
mod support;
mod world;
