//! The path from a leaf to a root of one trust bundle, at one moment.
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, anchor_from_trusted_cert,
};

use crate::{Certificate, Chain, TrustBundle};

/// The signature algorithms that a caller accepts: the provider's, as rustls lists them.
pub type Algorithms<'a> = &'a [&'a dyn SignatureVerificationAlgorithm];

/// A path that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPath {
    root: Certificate,
    effective_not_after: Timestamp,
    authorities_not_after: Timestamp,
}

impl VerifiedPath {
    /// The root that the path ends in.
    pub fn root(&self) -> &Certificate {
        &self.root
    }

    /// When the first certificate of the path ends, the root's included: from then on a peer
    /// refuses the chain, whatever the leaf says.
    pub fn effective_not_after(&self) -> Timestamp {
        self.effective_not_after
    }

    /// When the first of the CAs above the leaf ends, the root included.
    pub fn authorities_not_after(&self) -> Timestamp {
        self.authorities_not_after
    }
}

/// Why a chain does not lead to a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The bundle has no root.
    #[error("the trust bundle of {trust_domain} has no root")]
    NoRoots {
        /// Whose bundle.
        trust_domain: String,
    },
    /// A certificate of the chain has ended.
    #[error("the certificate of \"{subject}\" expired at {not_after}, {ago} ago")]
    Expired {
        /// Its subject; for a leaf, its SPIFFE ID.
        subject: String,
        /// Its end.
        not_after: Timestamp,
        /// How long ago that was.
        ago: Age,
    },
    /// A certificate of the chain has not begun.
    #[error(
        "the certificate of \"{subject}\" is valid from {not_before}, in {ahead}: this machine's clock is behind the CA's, or the CA's is ahead"
    )]
    NotYetValid {
        /// Its subject; for a leaf, its SPIFFE ID.
        subject: String,
        /// Its start.
        not_before: Timestamp,
        /// How far ahead that is.
        ahead: Age,
    },
    /// No root of the bundle issued the chain.
    #[error(
        "the chain ends at \"{issuer}\", which is no root of the trust bundle of {trust_domain} ({roots})"
    )]
    UnknownIssuer {
        /// The issuer of the chain's last certificate.
        issuer: String,
        /// Whose bundle was asked.
        trust_domain: String,
        /// The roots that it has.
        roots: String,
    },
    /// The path breaks another rule of RFC 5280.
    #[error("the chain does not verify: {reason}")]
    Other {
        /// What the verifier said.
        reason: String,
    },
}

/// A span in whole seconds, printed as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(i64);

impl std::fmt::Display for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0)
    }
}

fn age(earlier: Timestamp, later: Timestamp) -> Age {
    Age(later
        .duration_since(earlier)
        .max(SignedDuration::ZERO)
        .as_secs())
}

/// Verifies that `chain` leads to a root of `bundle` at `now`, for a TLS server and a TLS client.
///
/// The dates of every certificate of the path count, the root's included.
pub fn path(
    chain: &Chain,
    bundle: &TrustBundle,
    algorithms: Algorithms<'_>,
    now: Timestamp,
) -> Result<VerifiedPath, VerifyError> {
    if bundle.roots().is_empty() {
        return Err(VerifyError::NoRoots {
            trust_domain: bundle.trust_domain().to_string(),
        });
    }
    dates(chain.leaf(), now)?;
    for certificate in chain.intermediates() {
        dates(certificate, now)?;
    }
    let root = signatures(chain, bundle, algorithms, now)?;
    dates(&root, now)?;
    let authorities_not_after = chain
        .authorities_not_after()
        .map_or(root.not_after(), |end| end.min(root.not_after()));
    let effective_not_after = authorities_not_after.min(chain.leaf().not_after());
    Ok(VerifiedPath {
        root,
        effective_not_after,
        authorities_not_after,
    })
}

fn dates(certificate: &Certificate, now: Timestamp) -> Result<(), VerifyError> {
    let subject = || match certificate.names().uris.first() {
        Some(uri) => uri.clone(),
        None => certificate.subject_text(),
    };
    if now > certificate.not_after() {
        let not_after = certificate.not_after();
        return Err(VerifyError::Expired {
            subject: subject(),
            not_after,
            ago: age(not_after, now),
        });
    }
    if now < certificate.not_before() {
        let not_before = certificate.not_before();
        let ahead = age(now, not_before);
        return Err(VerifyError::NotYetValid {
            subject: subject(),
            not_before,
            ahead,
        });
    }
    Ok(())
}

fn signatures(
    chain: &Chain,
    bundle: &TrustBundle,
    algorithms: Algorithms<'_>,
    now: Timestamp,
) -> Result<Certificate, VerifyError> {
    let other = |error: webpki::Error| VerifyError::Other {
        reason: error.to_string(),
    };
    let anchors = bundle
        .roots()
        .iter()
        .map(|root| anchor_from_trusted_cert(root.der()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(other)?;
    let intermediates: Vec<CertificateDer<'_>> = chain
        .intermediates()
        .iter()
        .map(|certificate| certificate.der().clone())
        .collect();
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let leaf = EndEntityCert::try_from(chain.leaf().der()).map_err(other)?;
    let unknown = || VerifyError::UnknownIssuer {
        issuer: chain
            .intermediates()
            .last()
            .unwrap_or(chain.leaf())
            .issuer_text(),
        trust_domain: bundle.trust_domain().to_string(),
        roots: bundle.describe(),
    };
    let verified = leaf
        .verify_for_usage(
            algorithms,
            &anchors,
            &intermediates,
            time,
            ServerAndClient,
            None,
            None,
        )
        .map_err(|error| match error {
            webpki::Error::UnknownIssuer => unknown(),
            error => other(error),
        })?;
    let anchor = verified.anchor();
    // A root that was renewed with its name and key is there twice, and only one of the two may be
    // valid now: the later one then is the path's.
    bundle
        .roots()
        .iter()
        .zip(&anchors)
        .filter(|(_, candidate)| {
            anchor.subject == candidate.subject
                && anchor.subject_public_key_info == candidate.subject_public_key_info
        })
        .map(|(root, _)| root)
        .max_by_key(|root| (root.not_before() <= now, root.not_after()))
        .cloned()
        .ok_or_else(unknown)
}

/// Both ends of mutual TLS at once: an extended key usage that is there must have both purposes.
struct ServerAndClient;

impl ExtendedKeyUsageValidator for ServerAndClient {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut present: Vec<Vec<usize>> = Vec::new();
        for purpose in purposes {
            present.push(purpose?.to_decoded_oid());
        }
        let has = |purpose: &[usize]| present.is_empty() || present.iter().any(|id| id == purpose);
        if !has(KeyUsage::SERVER_AUTH_REPR) {
            return Err(missing(KeyUsage::server_auth(), present));
        }
        if !has(KeyUsage::CLIENT_AUTH_REPR) {
            return Err(missing(KeyUsage::client_auth(), present));
        }
        Ok(())
    }
}

fn missing(required: KeyUsage, present: Vec<Vec<usize>>) -> webpki::Error {
    webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present })
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
