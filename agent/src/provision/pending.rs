//! The request under way, and the book of what may have been sold: whatever is given up here is
//! counted.
use std::path::Path;

use certagent_core::{outcome::Fate, request::PreparedRequest};
use certagent_svid::PrivateKey;
use jiff::Timestamp;
use tracing::warn;

use super::{Context, ProvisionError};
use crate::{
    held::{Held, HeldError},
    volume::{PendingError, VolumeState},
};

/// The request that is under way, if it may still be sent: young enough to be recognised, and for
/// this identity.
pub(super) fn usable(
    context: &Context,
    held: &mut Held,
    now: Timestamp,
) -> Result<Option<(PrivateKey, PreparedRequest)>, ProvisionError> {
    let Some((key, mut request)) = load(context, held)? else {
        return Ok(None);
    };
    if held.is_installed(&key) {
        // It is in use, and only its book-keeping was not finished.
        held.clear_pending().map_err(Box::new)?;
        return Ok(None);
    }
    // Whether an earlier process had sent it is not known.
    request.outcome_unknown |= held.must_resume();
    if !held.is_for_us(&request) || !request.may_be_replayed(now) {
        give_up(context, held, &request)?;
        return Ok(None);
    }
    Ok(Some((key, request)))
}

/// Drops a request that will not be sent any more; if a certificate may have been sold for it,
/// that is counted.
pub(super) fn give_up(
    context: &Context,
    held: &mut Held,
    request: &PreparedRequest,
) -> Result<(), ProvisionError> {
    if request.outcome_unknown {
        abandon(context, held)
    } else {
        Ok(held.clear_pending().map_err(Box::new)?)
    }
}

/// A certificate may have been sold for the request under way. One that cannot be read counts.
pub fn is_open(held: &Held) -> bool {
    match held.pending() {
        Ok(None) => false,
        Ok(Some((key, request))) => !held.is_installed(&key) && may_be_sold(held, &request),
        Err(_) => true,
    }
}

fn may_be_sold(held: &Held, request: &PreparedRequest) -> bool {
    request.outcome_unknown || held.is_sending() || held.must_resume()
}

/// The volume goes away, and the key of a request under way with it. Called also where the main
/// path was dropped between two of its steps.
pub fn close(context: &Context, held: &mut Held) {
    let closed = load(context, held).and_then(|pending| match pending {
        None => Ok(()),
        Some((key, request)) => {
            if may_be_sold(held, &request) && !held.is_installed(&key) {
                abandon(context, held)
            } else {
                Ok(held.clear_pending().map_err(Box::new)?)
            }
        }
    });
    if let Err(error) = closed {
        warn!(volume = %held.path().display(), %error, "a request under way could not be given up");
    }
}

/// The same for a volume that could not be opened: nothing more is known of a request that is
/// there.
pub fn close_unopened(context: &Context, path: &Path, state: &VolumeState) {
    let pending = state.pending();
    let closed = match pending.load() {
        Ok(None) => Ok(()),
        Ok(Some(_)) | Err(PendingError::Incomplete { .. }) => {
            note_abandoned(context, path);
            pending.clear().map_err(PendingError::from)
        }
        Err(error) => Err(error),
    };
    if let Err(error) = closed {
        warn!(volume = %path.display(), %error, "a request under way could not be given up");
    }
}

/// Does with the request what the table says.
pub(super) fn settle(
    context: &Context,
    held: &mut Held,
    request: Option<PreparedRequest>,
    fate: Fate,
) -> Result<(), ProvisionError> {
    let Some(request) = request else {
        return Ok(());
    };
    match fate {
        Fate::Kept => Ok(()),
        Fate::KeptOpen => {
            note_sold(held, request);
            Ok(())
        }
        Fate::Dropped => Ok(held.clear_pending().map_err(Box::new)?),
        Fate::Abandoned => abandon(context, held),
    }
}

/// Keeps in mind that a certificate was, or may have been, sold for the request. Not more than a
/// count depends on it, so that a state that cannot be written is no reason to fail once more.
pub(super) fn note_sold(held: &mut Held, mut request: PreparedRequest) {
    if request.outcome_unknown {
        return;
    }
    request.outcome_unknown = true;
    if let Err(error) = held.update_pending(&request) {
        warn!(volume = %held.path().display(), %error, "what is known of a request could not be kept");
    }
}

/// Drops the request, and counts the certificate that the CA may have issued for it.
pub(super) fn abandon(context: &Context, held: &mut Held) -> Result<(), ProvisionError> {
    note_abandoned(context, held.path());
    Ok(held.clear_pending().map_err(Box::new)?)
}

fn note_abandoned(context: &Context, path: &Path) {
    context.metrics.abandoned();
    warn!(volume = %path.display(),
        "a certificate that the CA may have issued is abandoned; the next request has a new key");
}

/// The request that is under way. One that does not read back is given up.
fn load(
    context: &Context,
    held: &mut Held,
) -> Result<Option<(PrivateKey, PreparedRequest)>, ProvisionError> {
    match held.pending() {
        Err(HeldError::Pending(error @ PendingError::Incomplete { .. })) => {
            warn!(volume = %held.path().display(), %error);
            abandon(context, held)?;
            Ok(None)
        }
        pending => Ok(pending.map_err(Box::new)?),
    }
}
