//! How a command ends.
use std::process::ExitCode;

/// The exit codes of every command; the only place where they are chosen.
///
/// A second SIGINT or SIGTERM, which cuts the orderly end short, exits with 130 or 143.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All is well; also after SIGINT and SIGTERM, which are the usual way to end an agent.
    Ok = 0,
    /// It failed, or what was looked at has a problem.
    Problem = 1,
    /// It could not be checked, so nothing is known.
    NotChecked = 2,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
