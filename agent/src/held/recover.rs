//! Whose volume it is, by what is published in it.
use std::path::Path;

use certagent_core::plan;
use certagent_svid::{SpiffeId, verify};
use jiff::Timestamp;
use tracing::debug;

use crate::{trust::Trust, volume::VolumeDir};

/// The identity of the credential that is published in a volume's directory, for a volume whose
/// record is lost.
///
/// Whoever reads a volume may be able to write in it, so that what it says counts only as far as it
/// proves itself: the key is that of the leaf, the chain leads to a root in force of the identity's
/// own trust domain, whether or not its time is over, and no link leads to the credential of
/// somebody else. None without such a credential, or while the roots are not known.
pub fn recover(data: &Path, trust: &Trust, now: Timestamp) -> Option<SpiffeId> {
    let read = VolumeDir::peek(data);
    let snapshot = read
        .inspect_err(|error| debug!(%error, "no identity can be recovered"))
        .ok()??;
    let bundle = trust.bundle(&plan::trust_domain(snapshot.spiffe_id())?)?;
    let leaf = snapshot.chain().leaf();
    let moment = now.min(leaf.not_after()).max(leaf.not_before());
    verify::path(
        snapshot.chain(),
        bundle,
        webpki::ALL_VERIFICATION_ALGS,
        moment,
    )
    .inspect_err(|error| debug!(volume = %data.display(), %error, "its identity is not proven"))
    .ok()?;
    Some(snapshot.spiffe_id().clone())
}
