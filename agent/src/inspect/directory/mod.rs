//! A credential directory: what is wrong with it, why, and what to do next.
//!
//! It works on any directory with GKE's file names, whoever wrote it, and it never prints a key.
//!
//! A directory that does not exist is a problem, not an unknown: it was looked for, and a workload
//! that mounts it has no credential. [`Verdict::Unknown`](super::Verdict) is for what this user
//! may not see.
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

use crate::trust::Distrust;

pub(crate) use report::Report;

/// What the agent's own record says of the volume: without it, nobody can tell when the
/// certificate will be renewed. With it, a key on a disk is nothing to warn of: the agent writes
/// one there only where `allowDisk` says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RenewalHint {
    /// The volume's id in the state directory, which decides its place in the window.
    pub(crate) volume: String,
    /// The certificate that the record is of: its serial number, lowercase hex. For another one
    /// it says nothing.
    pub(crate) serial: String,
    /// When the certificate was received.
    pub(crate) issued_at: Timestamp,
    /// The lifetime that was asked for.
    pub(crate) validity: SignedDuration,
    /// The share of the life that remains when renewal may begin, 1 to 99.
    pub(crate) window_percentage: u8,
}

/// Inspects the credential directory `dir` as of `now`, where the roots of `distrust` are not to be
/// trusted. Reads only, and blocks while it does;
/// whatever is there, it ends with a report.
pub(crate) fn inspect(
    dir: &Path,
    now: Timestamp,
    renewal: Option<&RenewalHint>,
    distrust: &Distrust,
) -> Report {
    let files = certagent_credentials::read_files(dir);
    let contents = files.as_ref().map(checks::Contents::of);
    let surroundings = surroundings::look(dir, files.as_ref().ok());
    judge(dir, contents, &surroundings, now, renewal, distrust)
}

/// From here on everything is pure.
fn judge(
    dir: &Path,
    contents: Result<checks::Contents<'_>, &certagent_credentials::ReadError>,
    surroundings: &surroundings::Surroundings,
    now: Timestamp,
    renewal: Option<&RenewalHint>,
    distrust: &Distrust,
) -> Report {
    let (checks, evidence) = checks::run(dir, contents, surroundings, now, renewal, distrust);
    let next = |cause: &_, evidence: &_| next::steps(dir, cause, evidence);
    Report::new(&dir.to_string_lossy(), now, checks, evidence, next)
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
mod distrust_tests;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
