//! The program as a process: command lines, signals, kills.
//!
//! What needs root, openssl or many rounds is ignored here and run by
//! `cargo test --release -p certagent-tests --test process -- --ignored`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails; clippy exempts only the test functions themselves"
)]
mod agreement;
mod command_line;
mod configuration;
mod distrust;
mod emulator;
mod hooks;
mod identity;
mod inspect;
mod kill;
mod lifecycle;
mod node;
mod node_away;
mod node_kill;
mod plain_files;
mod program;
mod quickstart;
mod readers;
mod reflected;
mod root;
mod secrets;
mod site;
mod state_dir;
mod torture;
mod volumes;
