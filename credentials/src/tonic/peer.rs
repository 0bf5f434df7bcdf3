//! Who calls.
use std::{net::SocketAddr, sync::Arc};

use certagent_svid::{Certificate, SpiffeId};

/// Who is at the other end of a connection, in the extensions of each of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    pub(super) spiffe_id: SpiffeId,
    pub(super) certificate: Arc<Certificate>,
    pub(super) remote: SocketAddr,
}

impl PeerInfo {
    /// Its verified and authorised id.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The certificate that it has presented, of which each new one has another serial number.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its address, as the listener saw it. tonic's own `request.remote_addr()` knows only its own
    /// kinds of connections, and gives `None` for this one.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }
}

/// `request.peer_spiffe_id()`, for the requests of a server that takes its connections from
/// [`Incoming`](super::Incoming).
pub trait PeerSpiffeId {
    /// Who calls; `None` if the request came by another way.
    fn peer_spiffe_id(&self) -> Option<&SpiffeId>;
}

impl<T> PeerSpiffeId for tonic::Request<T> {
    fn peer_spiffe_id(&self) -> Option<&SpiffeId> {
        self.extensions().get::<PeerInfo>().map(PeerInfo::spiffe_id)
    }
}

impl<T> PeerSpiffeId for http::Request<T> {
    fn peer_spiffe_id(&self) -> Option<&SpiffeId> {
        self.extensions().get::<PeerInfo>().map(PeerInfo::spiffe_id)
    }
}
