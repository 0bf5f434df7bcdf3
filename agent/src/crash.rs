//! Named write points, for tests that kill the process between two writes.
//!
//! In every build but the workspace's own tests (feature `testing`) a point is nothing at all.

/// Every write point of the main path, in the order in which one issuance passes them.
pub const POINTS: &[&str] = &[
    "pending-key",
    "pending-request",
    "request-sent",
    "answer-received",
    "generation-begun",
    "generation-written",
    "swap-begun",
    "swapped",
    "links-written",
    "record-begun",
    "record-written",
    "pending-cleared",
];

/// Passes the write point `name`.
///
/// With the feature `testing` and `CERTAGENT_TEST_KILL_AT=name` in the environment the process
/// ends here as by `kill -9`: no destructor runs, nothing is flushed.
#[cfg(feature = "testing")]
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "an unlisted write point: {name}");
    if std::env::var_os("CERTAGENT_TEST_KILL_AT").is_some_and(|wanted| wanted == name) {
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        debug_assert!(killed.is_ok(), "the process cannot kill itself");
    }
}

/// Passes the write point `name`: nothing happens in this build.
#[cfg(not(feature = "testing"))]
#[inline]
pub fn point(_name: &'static str) {}
