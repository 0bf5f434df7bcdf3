//! What happened to the credentials, for metrics, logs and draining.
use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::{Error, Snapshot};

/// What happened to the credentials. Give a function to [`Builder::on_event`](crate::Builder::on_event)
/// to hear of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Another generation is in use from now on.
    Reloaded(Reload),
    /// The directory was looked at and could not be used; the last good generation stays. Said at
    /// every try.
    #[non_exhaustive]
    Failed {
        /// Since when.
        since: Timestamp,
        /// Why.
        error: Arc<Error>,
    },
    /// The directory can be used again.
    Recovered,
    /// The certificate in use, or the last root of the own trust domain, has ended, and there is no
    /// other: peers refuse it, or are refused, from now on.
    #[non_exhaustive]
    Expired {
        /// When it ended.
        since: Timestamp,
    },
    /// A TLS handshake of the tonic server or channel failed: with a peer that is not authorised,
    /// for instance. `reason` names both ids then.
    #[non_exhaustive]
    HandshakeFailed {
        /// Where the peer is.
        remote: Option<std::net::SocketAddr>,
        /// What went wrong.
        reason: String,
    },
}

/// The change from one generation to the next.
#[derive(Clone)]
pub struct Reload {
    pub(crate) previous: Arc<Snapshot>,
    pub(crate) current: Arc<Snapshot>,
}

impl Reload {
    /// What was in use before.
    pub fn previous(&self) -> &Arc<Snapshot> {
        &self.previous
    }

    /// What is in use from now on.
    pub fn current(&self) -> &Arc<Snapshot> {
        &self.current
    }

    /// There is another certificate. Connections that stand keep the old one, which ends at
    /// `previous().not_after()`: drain them before.
    pub fn certificate_changed(&self) -> bool {
        self.previous.chain() != self.current.chain()
    }

    /// A root that was trusted is trusted no more. Connections that stand were made when it was:
    /// whoever wants them to go at once closes them now.
    pub fn roots_removed(&self) -> bool {
        self.previous.all_bundles().any(|old| {
            let kept = self.current.bundle_of(old.trust_domain());
            let kept = kept.map(certagent_svid::TrustBundle::roots);
            old.roots()
                .iter()
                .any(|root| !kept.unwrap_or_default().contains(root))
        })
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload")
            .field("spiffe_id", self.current.spiffe_id())
            .field("previous", &self.previous.chain().leaf().serial_hex())
            .field("current", &self.current.chain().leaf().serial_hex())
            .finish_non_exhaustive()
    }
}
