//! The driver over its sockets, with real mounts. As root, in a mount namespace of its own whose
//! mounts are shared; `.ci/run csi` makes one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]
mod mounts;
mod rules;
mod sanity;
mod support;
