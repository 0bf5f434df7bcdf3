//! The node driver as a whole: its sockets, real mounts, real certificates from the emulator, the
//! clock stepped by hand. As root, in a mount namespace of its own whose mounts are shared;
//! `.ci/run csi` makes one.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by a panic, as tests do"
)]
mod full;
mod hostile;
mod support;
mod waiting;
