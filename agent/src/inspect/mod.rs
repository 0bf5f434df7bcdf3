//! `certagent inspect`: what is wrong with a credential directory, why, and what to do next.
//!
//! One verdict, one cause. The checks run in the order in which they depend on each other
//! ([`CheckId`]), and the cause is the first one that failed; the rest is evidence. It works on
//! any directory with GKE's file names, whoever wrote it, and it never prints a key.
//!
//! A directory that does not exist is a [`Verdict::Problem`], not an unknown: it was looked for,
//! and a workload that mounts it has no credential. [`Verdict::Unknown`] is for what this user may
//! not see.
mod checks;
mod credential;
mod next;
mod report;
mod surroundings;
mod text;
mod trust;

use std::path::Path;

use certagent_svid::{Certificate, SpiffeId};
use jiff::{SignedDuration, Timestamp};

pub use report::{CheckId, Report, Verdict};
pub(crate) use text::{clean, shell_word};

/// What the agent's own record says of the volume: without it, nobody can tell when the
/// certificate will be renewed. With it, a key on a disk is nothing to warn of: the agent writes
/// one there only where `allowDisk` says so.
#[derive(Clone, Debug, PartialEq)]
pub struct RenewalHint {
    /// The volume's id in the state directory, which decides its place in the window.
    pub volume: String,
    /// The certificate that the record is of: its serial number, lowercase hex. For another one
    /// it says nothing.
    pub serial: String,
    /// When the certificate was received.
    pub issued_at: Timestamp,
    /// The lifetime that was asked for.
    pub validity: SignedDuration,
    /// The share of the life that remains when renewal may begin, 1 to 99.
    pub window_percentage: u8,
}

/// Inspects the credential directory `dir` as of `now`. Reads only, and blocks while it does;
/// whatever is there, it ends with a report.
pub fn directory(dir: &Path, now: Timestamp, renewal: Option<&RenewalHint>) -> Report {
    let files = certagent_credentials::read_files(dir);
    let contents = files.as_ref().map(checks::Contents::of);
    let surroundings = surroundings::look(dir, files.as_ref().ok());
    judge(dir, contents, &surroundings, now, renewal)
}

/// From here on everything is pure.
fn judge(
    dir: &Path,
    contents: Result<checks::Contents<'_>, &certagent_credentials::ReadError>,
    surroundings: &surroundings::Surroundings,
    now: Timestamp,
    renewal: Option<&RenewalHint>,
) -> Report {
    let (checks, evidence) = checks::run(dir, contents, surroundings, now, renewal);
    let (verdict, cause) = report::verdict(&checks);
    let next_steps = cause
        .map(|cause| next::steps(dir, cause, &evidence))
        .unwrap_or_default();
    Report {
        directory: clean(&dir.to_string_lossy()),
        checked_at: now,
        verdict,
        cause: cause.cloned(),
        next_steps,
        checks,
        evidence,
    }
}

/// Whom a certificate names, for a message.
fn who(certificate: &Certificate) -> String {
    certagent_svid::leaf::spiffe_id(certificate)
        .as_ref()
        .map_or_else(
            |_| certificate.subject_text().to_owned(),
            SpiffeId::to_string,
        )
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
