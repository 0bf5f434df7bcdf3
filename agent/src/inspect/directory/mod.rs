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

use certagent_core::{
    names::SubjectNames,
    rotation::{self, CertState},
};
use certagent_svid::{Certificate, SpiffeId};
use jiff::{SignedDuration, Timestamp};

use crate::{
    trust::Distrust,
    volume::{HookRecord, Record, VolumeId},
};

pub(super) use checks::chain_problem;
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
    /// How the workload's hooks stand; nothing is known where it has none.
    pub(crate) hooks: HookRecord,
    /// The names that are asked for now, where the certificate has others.
    pub(crate) asked_names: Option<SubjectNames>,
    /// Why that cannot be read, if so.
    pub(crate) hooks_error: Option<String>,
}

impl RenewalHint {
    /// What the record of the volume with this id says.
    pub(crate) fn of(record: &Record, volume: &VolumeId) -> Option<Self> {
        let validity = i64::try_from(record.validity_seconds).ok()?;
        Some(Self {
            volume: volume.as_str().to_owned(),
            serial: record.serial.clone(),
            issued_at: record.issued_at,
            validity: SignedDuration::from_secs(validity),
            window_percentage: record.rotation_window_percentage,
            hooks: HookRecord::default(),
            asked_names: record.asked_names.clone(),
            hooks_error: None,
        })
    }

    /// The same with what is known of the hooks, or why it cannot be read.
    pub(crate) fn with_hooks(self, hooks: Result<HookRecord, String>) -> Self {
        let (hooks, hooks_error) = match hooks {
            Ok(hooks) => (hooks, None),
            Err(error) => (HookRecord::default(), Some(error)),
        };
        Self {
            hooks,
            hooks_error,
            ..self
        }
    }

    /// When the certificate will be renewed, if its path lasts until `not_after`.
    pub(super) fn due(&self, leaf: &Certificate, not_after: Timestamp) -> Option<Timestamp> {
        let state = CertState {
            not_before: leaf.not_before(),
            not_after,
            authorities_until: None,
            issued_at: self.issued_at,
            validity: self.validity.max(SignedDuration::ZERO),
            rotation_window_percentage: self.window_percentage,
            spread: rotation::spread(&self.volume, &leaf.serial_hex()),
        };
        Timestamp::from_second(rotation::due(&state).as_second()).ok()
    }
}

/// How long the certificate lasts when it was received, and with how much of that left somebody
/// should have renewed it. A pool may backdate: that part of the life was never usable.
pub(super) fn life(
    leaf: &Certificate,
    not_after: Timestamp,
    hint: Option<&RenewalHint>,
) -> (SignedDuration, SignedDuration) {
    let begin = leaf.not_before();
    let begin = hint.map_or(begin, |hint| begin.max(hint.issued_at).min(not_after));
    let life = not_after.duration_since(begin);
    let window = hint.map_or(20, |hint| i32::from(hint.window_percentage));
    // Half of a window that is smaller than usual: whoever asked for 5% is not late at 9%.
    (life, life / 200 * window.clamp(1, 20))
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
        .map_or_else(|_| certificate.subject_text(), SpiffeId::to_string)
}

#[cfg(test)]
mod distrust_tests;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod surroundings_tests;
#[cfg(test)]
mod tests;
