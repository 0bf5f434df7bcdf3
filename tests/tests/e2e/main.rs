//! End to end on loopback: the real agent against the real emulator, the clock stepped by hand.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by a panic, as tests do"
)]
mod bad_certificates;
mod bundle_outages;
mod bundle_server;
mod ca_faults;
mod clock;
mod config;
mod distrust;
mod exactly_once;
mod hooks;
mod identity_outages;
mod issuer;
mod limits;
mod main_path;
mod mtls;
mod names;
mod outages;
mod pools;
mod readiness;
mod reflected;
mod restart;
mod root_rotation;
mod rotation;
mod support;
mod trust;
mod volume_outages;
mod workloads;
