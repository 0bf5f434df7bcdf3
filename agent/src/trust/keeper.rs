//! Keeps what has to outlive the process in the state directory.
use std::sync::Arc;

use certagent_svid::TrustDomain;
use tracing::{info, warn};

use super::{
    kept::{self, Kept},
    removal::Memory,
};
use crate::volume::StateDir;

/// The file, and what is in it.
pub(super) struct Keeper {
    state: Arc<StateDir>,
    kept: Option<Kept>,
    failing: bool,
}

impl Keeper {
    /// Opens the file. If there is none, or it cannot be read, what was published in
    /// `trust_domains` is not known; the log hears of the latter.
    pub(super) fn open<'a>(
        state: Arc<StateDir>,
        trust_domains: impl Iterator<Item = &'a TrustDomain>,
    ) -> (Self, Kept) {
        let known = Self::load(&state);
        let kept = known.clone().unwrap_or_else(|| Kept {
            memory: Memory::lost(trust_domains),
            ..Kept::default()
        });
        let keeper = Self {
            state,
            kept: known,
            failing: false,
        };
        (keeper, kept)
    }

    fn load(state: &StateDir) -> Option<Kept> {
        let read = state.load_trust().map_err(|error| error.to_string());
        let decoded = read.and_then(|text| {
            let kept = text.map(|text| kept::decode(&text)).transpose();
            kept.map_err(|error| error.to_string())
        });
        decoded.unwrap_or_else(|reason| {
            warn!(file = %state.trust_path().display(), reason,
                "what is known of roots that are being removed cannot be read; it is set aside, and \
                 every volume keeps the roots that are published in it for one validity");
            if let Err(error) = state.set_trust_aside() {
                warn!(%error, "it cannot be set aside either; it is overwritten");
            }
            None
        })
    }

    /// Keeps it, if it is not what is in the file already.
    pub(super) fn keep(&mut self, kept: &Kept) {
        if self.kept.as_ref() == Some(kept) {
            return;
        }
        let text = kept::encode(kept).map_err(|error| error.to_string());
        let saved = text.and_then(|text| {
            let saved = self.state.save_trust(&text);
            saved.map_err(|error| error.to_string())
        });
        match saved {
            Ok(()) => {
                self.kept = Some(kept.clone());
                if std::mem::take(&mut self.failing) {
                    info!("the roots that are known are kept over a restart again");
                }
            }
            // Tried again with the next change, or the next answer.
            Err(error) if !self.failing => {
                self.failing = true;
                warn!(
                    error,
                    "the roots that are known cannot be kept over a restart"
                );
            }
            Err(_told) => {}
        }
    }
}
