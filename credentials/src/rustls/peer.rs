//! Who the peer is, and why it was refused.
use std::{fmt, io};

use certagent_svid::{Certificate, SpiffeId, leaf, leaf::LeafError};
use jiff::Timestamp;
use rustls::{CertificateError, CommonState};

/// Why a peer was refused. rustls carries it in
/// [`CertificateError::Other`](rustls::CertificateError::Other), and [`PeerError::of`] finds it; the peer itself is told
/// `certificate_unknown` and no more.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// What it presented does not parse.
    #[error("the peer's certificate cannot be read: {0}")]
    Certificate(certagent_svid::CertificateError),
    /// What it presented is not the certificate of a workload.
    #[error("the peer's certificate is no X.509-SVID: {0}")]
    Svid(LeafError),
    /// There are no roots for its trust domain.
    #[error(
        "{peer} is of a trust domain without roots here; roots are there for {}: add the domain to the trust stores (trust_bundles.json), if it is to be trusted",
        known.join(", ")
    )]
    TrustDomain {
        /// Who it says it is.
        peer: SpiffeId,
        /// The trust domains with roots.
        known: Vec<String>,
    },
    /// Its certificate has ended.
    #[error(
        "the certificate of {peer} expired at {not_after}, and it is {now}: the peer does not reload, or its agent does not renew, or a clock is wrong"
    )]
    Expired {
        /// Who it says it is.
        peer: SpiffeId,
        /// The end of its certificate.
        not_after: Timestamp,
        /// When it connected.
        now: Timestamp,
    },
    /// Its certificate has not begun.
    #[error(
        "the certificate of {peer} is valid from {not_before}, and it is {now}: this machine's clock is behind the CA's"
    )]
    NotYetValid {
        /// Who it says it is.
        peer: SpiffeId,
        /// The start of its certificate.
        not_before: Timestamp,
        /// When it connected.
        now: Timestamp,
    },
    /// Its chain does not lead to a root of its trust domain.
    #[error(
        "the chain of {peer}, issued by \"{issuer}\", leads to no root of its trust domain ({roots}): {reason}"
    )]
    Chain {
        /// Who it says it is.
        peer: SpiffeId,
        /// Who issued its leaf.
        issuer: String,
        /// The roots of its trust domain here.
        roots: String,
        /// What the verifier said.
        reason: String,
    },
    /// It is who it says, and the application's rule does not let it in.
    #[error("{peer} is not authorised to talk with {own}: {rule}")]
    NotAuthorized {
        /// This workload.
        own: Box<SpiffeId>,
        /// The other one.
        peer: SpiffeId,
        /// The rule, in words.
        rule: String,
    },
    /// This side's own credentials cannot be used, so nobody can be verified.
    #[error("the peer cannot be verified: {0}")]
    Own(String),
}

impl PeerError {
    /// Why the peer was refused, out of the error of a handshake, of an HTTP client or of tonic: it
    /// stands below several others, some of which do not name it as their source.
    pub fn of<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) =
                error.downcast_ref()
            {
                return other.0.downcast_ref();
            }
            let inner = error.downcast_ref::<io::Error>();
            next = match inner.and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

/// The message: rustls shows errors that it does not know in this way.
impl fmt::Debug for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who is at the other end of a connection whose handshake is done, as server or as client:
/// `peer_id(&connection)`. `None` before, and if it was not made with a
/// [`Verifier`](crate::Verifier) and the peer has no SPIFFE ID.
pub fn peer_id(connection: &CommonState) -> Option<SpiffeId> {
    leaf::spiffe_id(&peer_certificate(connection)?).ok()
}

/// The certificate that the other end of a connection has presented: its serial number for a log, or
/// its end, which is when the connection should have gone. `None` before the handshake is done.
pub fn peer_certificate(connection: &CommonState) -> Option<Certificate> {
    parsed(connection.peer_certificates()?.first()?)
}

/// The SPIFFE ID in a certificate, in DER. **It verifies nothing**: give it what a handshake with a
/// [`Verifier`](crate::Verifier) has accepted, such as reqwest's `TlsInfo::peer_certificate`.
pub fn peer_id_of(certificate: &[u8]) -> Option<SpiffeId> {
    leaf::spiffe_id(&parsed(certificate)?).ok()
}

fn parsed(certificate: &[u8]) -> Option<Certificate> {
    let certificate = rustls::pki_types::CertificateDer::from(certificate).into_owned();
    Certificate::from_der(certificate).ok()
}
