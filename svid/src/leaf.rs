//! The rules of the X.509-SVID standard for an end-entity certificate.
//!
//! Source: the SPIFFE X509-SVID standard, sections 2 to 5.
use spiffe::{SpiffeId, SpiffeIdError};

use crate::Certificate;

/// Why a certificate is not an X.509-SVID of a workload.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// It is a CA.
    #[error("the leaf is a CA certificate (CA:TRUE); a workload's certificate must not be")]
    IsCa,
    /// It has no URI name.
    #[error("the leaf has no URI in its subject alternative names, so no SPIFFE ID")]
    NoUri,
    /// It has more than one URI name.
    #[error("the leaf has {count} URIs in its subject alternative names; exactly one is allowed")]
    SeveralUris {
        /// How many.
        count: usize,
    },
    /// Its URI is not a SPIFFE ID.
    #[error("the leaf's URI is not a SPIFFE ID: {reason}")]
    NotSpiffe {
        /// What is wrong with it.
        reason: SpiffeIdError,
    },
    /// Its URI is a SPIFFE ID in another spelling than the standard's normal one: peers that compare
    /// texts would not know it.
    #[error("the leaf's URI is not spelt as {id} (scheme and trust domain in lower case)")]
    Spelling {
        /// The id as it should be spelt.
        id: SpiffeId,
    },
    /// Its SPIFFE ID has no path: it names the trust domain itself.
    #[error("the leaf's SPIFFE ID {id} has no path; only a signing certificate may have none")]
    NoPath {
        /// The id.
        id: SpiffeId,
    },
    /// Its subject is empty, but the names are not critical.
    #[error("the leaf has an empty subject, so its subject alternative names must be critical")]
    NamesNotCritical,
    /// It has no key usage.
    #[error("the leaf has no key usage extension")]
    NoKeyUsage,
    /// Its key usage is not critical.
    #[error("the leaf's key usage extension is not critical")]
    KeyUsageNotCritical,
    /// Its key usage lacks `digitalSignature`.
    #[error("the leaf's key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// Its key usage allows signing certificates.
    #[error("the leaf's key usage has keyCertSign; a workload must not sign certificates")]
    KeyCertSign,
    /// Its key usage allows signing revocation lists.
    #[error("the leaf's key usage has cRLSign; a workload must not sign revocation lists")]
    CrlSign,
    /// Its extended key usage lacks one of the two purposes.
    #[error("the leaf's extended key usage lacks {missing}; mutual TLS needs both purposes")]
    ExtendedKeyUsage {
        /// `serverAuth` or `clientAuth`.
        missing: &'static str,
    },
}

/// Checks the leaf's rules and gives its SPIFFE ID.
pub fn svid(leaf: &Certificate) -> Result<SpiffeId, LeafError> {
    if leaf.is_ca() {
        return Err(LeafError::IsCa);
    }
    let id = spiffe_id(leaf)?;
    if leaf.subject_is_empty() && !leaf.names().critical {
        return Err(LeafError::NamesNotCritical);
    }
    let usage = leaf.key_usage().ok_or(LeafError::NoKeyUsage)?;
    if usage.key_cert_sign {
        return Err(LeafError::KeyCertSign);
    }
    if usage.crl_sign {
        return Err(LeafError::CrlSign);
    }
    if !usage.digital_signature {
        return Err(LeafError::NoDigitalSignature);
    }
    if !usage.critical {
        return Err(LeafError::KeyUsageNotCritical);
    }
    match leaf.extended_key_usage() {
        Some(purposes) if !purposes.server_auth => Err(LeafError::ExtendedKeyUsage {
            missing: "serverAuth",
        }),
        Some(purposes) if !purposes.client_auth => Err(LeafError::ExtendedKeyUsage {
            missing: "clientAuth",
        }),
        _ => Ok(id),
    }
}

/// The one SPIFFE ID of a certificate, without the other rules: for telling whose it is.
pub fn spiffe_id(leaf: &Certificate) -> Result<SpiffeId, LeafError> {
    let uri = match leaf.names().uris.as_slice() {
        [] => return Err(LeafError::NoUri),
        [uri] => uri,
        several => {
            return Err(LeafError::SeveralUris {
                count: several.len(),
            });
        }
    };
    let id = SpiffeId::new(uri).map_err(|reason| LeafError::NotSpiffe { reason })?;
    if id.to_string() != *uri {
        Err(LeafError::Spelling { id })
    } else if id.path().is_empty() {
        Err(LeafError::NoPath { id })
    } else {
        Ok(id)
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
