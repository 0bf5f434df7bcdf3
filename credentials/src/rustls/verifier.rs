//! Whether a peer is who it must be.
use std::{fmt, sync::Arc};

use certagent_svid::{Certificate, SpiffeId, TrustBundle, leaf};
use jiff::Timestamp;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage};

use super::PeerError;
use crate::{Authorize, Credentials};

/// Verifies peers by the newest roots, and asks the application's rule. Made by
/// [`Credentials::verifier`].
///
/// As a server it demands a certificate of every client. It names no CAs to clients: they have one
/// certificate.
#[derive(Clone)]
pub struct Verifier {
    credentials: Credentials,
    provider: Arc<CryptoProvider>,
    rule: Arc<dyn Authorize>,
}

impl Verifier {
    pub(super) fn new(
        credentials: Credentials,
        provider: Arc<CryptoProvider>,
        rule: Arc<dyn Authorize>,
    ) -> Self {
        Self {
            credentials,
            provider,
            rule,
        }
    }

    /// Verifies a peer's chain for a purpose, and gives its id.
    fn peer(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: KeyUsage,
        now: UnixTime,
    ) -> Result<SpiffeId, PeerError> {
        let leaf = Certificate::from_der(end_entity.clone().into_owned())
            .map_err(PeerError::Certificate)?;
        let peer = leaf::svid(&leaf).map_err(PeerError::Svid)?;
        let current = self.credentials.shared().current();
        let material = self
            .credentials
            .material(&current)
            .map_err(|error| PeerError::Own(error.to_string()))?;
        let Some(anchors) = material.anchors.get(peer.trust_domain()) else {
            return Err(PeerError::TrustDomain {
                known: material.anchors.keys().map(ToString::to_string).collect(),
                peer,
            });
        };
        let moment = moment(now);
        in_time(&leaf, &peer, moment)?;
        let valid = anchors.at(moment);
        let algorithms = self.provider.signature_verification_algorithms.all;
        let verified = EndEntityCert::try_from(end_entity).and_then(|leaf| {
            leaf.verify_for_usage(algorithms, &valid, intermediates, now, purpose, None, None)
                .map(drop)
        });
        if let Err(reason) = verified {
            let bundle = current.snapshot.bundle_of(peer.trust_domain());
            let unusable = bundle
                .map(|bundle| bundle.roots().len())
                .unwrap_or_default()
                .saturating_sub(valid.len());
            let unusable = match unusable {
                0 => String::new(),
                some => format!("; {some} of these roots cannot be used: ended, or not begun"),
            };
            return Err(PeerError::Chain {
                issuer: leaf.issuer_text(),
                roots: bundle.map(TrustBundle::describe).unwrap_or_default(),
                reason: format!("{reason}{unusable}"),
                peer,
            });
        }
        let own = current.snapshot.spiffe_id();
        if self.rule.authorize(own, &peer) {
            return Ok(peer);
        }
        Err(PeerError::NotAuthorized {
            own: Box::new(own.clone()),
            rule: self.rule.describe().into_owned(),
            peer,
        })
    }
}

fn moment(now: UnixTime) -> Timestamp {
    i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The leaf's own dates, told with its name. Those of the CAs are the path's.
fn in_time(leaf: &Certificate, peer: &SpiffeId, now: Timestamp) -> Result<(), PeerError> {
    if now > leaf.not_after() {
        return Err(PeerError::Expired {
            peer: peer.clone(),
            not_after: leaf.not_after(),
            now,
        });
    }
    if now < leaf.not_before() {
        return Err(PeerError::NotYetValid {
            peer: peer.clone(),
            not_before: leaf.not_before(),
            now,
        });
    }
    Ok(())
}

fn refused(error: PeerError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.peer(end_entity, intermediates, KeyUsage::server_auth(), now)
            .map(|_id| ServerCertVerified::assertion())
            .map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.peer(end_entity, intermediates, KeyUsage::client_auth(), now)
            .map(|_id| ClientCertVerified::assertion())
            .map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("credentials", &self.credentials)
            .field("rule", &self.rule.describe())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
