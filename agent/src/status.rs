//! What the agent shows of its volumes: to the live view, the admin server and the log.
use std::path::PathBuf;

use certagent_core::spread_rotation::SpreadRotation;
use certagent_svid::PublicKeyKind;
use jiff::Timestamp;

use crate::{
    held::{Assignment, Held},
    volume::VolumeId,
};

/// One volume, as it stands.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says something that the others do not"
)]
pub struct VolumeStatus {
    /// The volume's id in the state directory.
    pub id: VolumeId,
    /// Where it is.
    pub path: PathBuf,
    /// Whose credential it holds or waits for.
    pub spiffe_id: String,
    /// The certificate that is there, if any; it may have expired.
    pub certificate: Option<CertificateStatus>,
    /// The generation that is published with it: a new one with each certificate, and with each
    /// change of the trust beside it.
    pub generation: Option<String>,
    /// The certificate leads to no root that is trusted: `--distrust` names those that it needs.
    pub is_distrusted: bool,
    /// The certificate has other names than the workload asks for now, and is used until there is
    /// another.
    pub is_misnamed: bool,
    /// How many certificates this process has written after the first one it found or wrote.
    pub rotations: u64,
    /// Failures in a row, 0 when all is well.
    pub failures: u32,
    /// The last failure, until the next success.
    pub last_error: Option<String>,
    /// The last failure waits for a change by somebody: of the configuration, a permission, a
    /// pool. No request is under way whose outcome is open, and nothing is being tried now. False
    /// as soon as it is tried again, and while it may heal by itself.
    pub is_hopeless: bool,
    /// The last failure was for want of a token.
    pub needs_token: bool,
    /// When the agent next does something about it.
    pub next_attempt: Timestamp,
}

/// The certificate in a volume.
#[derive(Clone, Debug)]
pub struct CertificateStatus {
    /// Lowercase hex.
    pub serial: String,
    /// Family and size of the key.
    pub key: PublicKeyKind,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// When it was received; after `not_before` where the pool backdates.
    pub issued_at: Timestamp,
    /// The effective end.
    pub not_after: Timestamp,
    /// When the configured window opens.
    pub window_start: Timestamp,
    /// When renewal begins.
    pub renew_at: Timestamp,
    /// It was issued before a moment that everything is to be renewed after.
    pub is_to_rotate: bool,
}

/// The states that volumes are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VolumeState {
    /// A valid certificate, and nothing failed.
    Ready,
    /// A valid certificate, but its renewal failed.
    Renewing,
    /// No certificate yet.
    Waiting,
    /// The certificate has ended.
    Expired,
}

impl VolumeState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Renewing, Self::Waiting, Self::Expired];

    /// The name in metrics and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Renewing => "renewing",
            Self::Waiting => "waiting",
            Self::Expired => "expired",
        }
    }
}

impl VolumeStatus {
    /// Of a volume that nothing was done about yet.
    pub(crate) fn new(id: VolumeId, assignment: &Assignment, now: Timestamp) -> Self {
        Self {
            id,
            path: assignment.path.clone(),
            spiffe_id: assignment.spiffe_id.to_string(),
            certificate: None,
            generation: None,
            is_distrusted: false,
            is_misnamed: false,
            rotations: 0,
            failures: 0,
            last_error: None,
            is_hopeless: false,
            needs_token: false,
            next_attempt: now,
        }
    }

    /// Shows what is in the volume now, where everybody may have been `asked` to renew ahead of time.
    pub(crate) fn see(&mut self, held: &Held, asked: Option<SpreadRotation>) {
        self.certificate = held.certificate_status(asked);
        self.generation = held.generation().map(str::to_owned);
        self.is_misnamed = held.is_misnamed();
    }

    /// The volume's state at `now`.
    pub fn state(&self, now: Timestamp) -> VolumeState {
        match &self.certificate {
            None => VolumeState::Waiting,
            Some(certificate) if now > certificate.not_after => VolumeState::Expired,
            Some(_) if self.failures > 0 => VolumeState::Renewing,
            Some(_) => VolumeState::Ready,
        }
    }

    /// The volume holds a credential that is valid at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        matches!(self.state(now), VolumeState::Ready | VolumeState::Renewing)
    }
}
