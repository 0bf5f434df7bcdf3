//! Trust as the controller has rendered it into the status of the `TrustConfig`: what nodes go by,
//! which reach no CA and no bundle endpoint.
use std::{collections::BTreeMap, sync::Arc};

use certagent_core::config::{TrustAnchor, TrustPolicy};
use certagent_svid::{Certificate, CertificateError, TrustDomain};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::watch;

use super::{Distrust, Trust, news};
use crate::kube::schema::{RenderedTrustAnchor, RenderedTrustStore};

/// The most trust domains, and the most certificates of one, that are read.
const MAX_STORES: usize = 256;
const MAX_ROOTS: usize = 1024;

/// Why rendered trust cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderedError {
    /// It has another form.
    #[error("status.renderedTrustStores of the TrustConfig does not have its form: {0}")]
    Form(String),
    /// It is larger than anything that the controller writes.
    #[error(
        "status.renderedTrustStores of the TrustConfig has more than {MAX_STORES} trust domains, or one with more than {MAX_ROOTS} roots"
    )]
    TooLarge,
    /// A trust domain is none, or is there twice.
    #[error(
        "status.renderedTrustStores of the TrustConfig: {0:?} is no trust domain, or is there twice"
    )]
    TrustDomain(String),
    /// A certificate does not parse.
    #[error(
        "status.renderedTrustStores of the TrustConfig: a root of {trust_domain} does not parse: {source}"
    )]
    Root {
        /// Whose root.
        trust_domain: TrustDomain,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// A certificate is no CA's.
    #[error(
        "status.renderedTrustStores of the TrustConfig: {subject:?} of {trust_domain} is no CA certificate"
    )]
    NotCa {
        /// Whose root.
        trust_domain: TrustDomain,
        /// Its subject.
        subject: String,
    },
}

/// The rendered roots in an object's `status`; none if nothing is rendered.
pub fn parse(status: Option<&Value>) -> Result<Option<TrustPolicy>, RenderedError> {
    let Some(stores) = status.and_then(|status| status.get("renderedTrustStores")) else {
        return Ok(None);
    };
    let read = Vec::<RenderedTrustStore>::deserialize(stores);
    let read = read.map_err(|error| RenderedError::Form(error.to_string()))?;
    if read.len() > MAX_STORES {
        return Err(RenderedError::TooLarge);
    }
    let mut stores = BTreeMap::new();
    for store in read {
        let Ok(trust_domain) = TrustDomain::new(&store.trust_domain) else {
            return Err(RenderedError::TrustDomain(store.trust_domain));
        };
        let roots = roots(&trust_domain, &store.trust_anchors)?;
        if !roots.is_empty() && stores.insert(trust_domain, roots).is_some() {
            return Err(RenderedError::TrustDomain(store.trust_domain));
        }
    }
    Ok((!stores.is_empty()).then_some(TrustPolicy { stores }))
}

fn roots(
    trust_domain: &TrustDomain,
    anchors: &[RenderedTrustAnchor],
) -> Result<Vec<TrustAnchor>, RenderedError> {
    let mut roots = Vec::new();
    for pem in anchors.iter().flat_map(|anchor| &anchor.pem_certificates) {
        let parsed = Certificate::parse_pem_list(pem.as_bytes());
        for root in parsed.map_err(|source| RenderedError::Root {
            trust_domain: trust_domain.clone(),
            source,
        })? {
            if !root.is_ca() {
                return Err(RenderedError::NotCa {
                    trust_domain: trust_domain.clone(),
                    subject: root.subject_text(),
                });
            }
            if roots.len() == MAX_ROOTS {
                return Err(RenderedError::TooLarge);
            }
            roots.push(TrustAnchor::Pem(root));
        }
    }
    Ok(roots)
}

/// Hands out the trust in force, by what is rendered.
pub struct RenderedTrust {
    distrust: Distrust,
    sender: watch::Sender<Arc<Trust>>,
}

impl RenderedTrust {
    /// Begins with what is rendered first.
    pub fn new(policy: &TrustPolicy, distrust: Distrust) -> (Self, watch::Receiver<Arc<Trust>>) {
        let nothing = TrustPolicy {
            stores: BTreeMap::new(),
        };
        let before = Trust::rendered(&nothing, distrust.clone());
        let first = Trust::rendered(policy, distrust.clone());
        news::tell(&before, &first);
        let (sender, receiver) = watch::channel(Arc::new(first));
        (Self { distrust, sender }, receiver)
    }

    /// Follows what is rendered now.
    pub fn take(&self, policy: &TrustPolicy) {
        let now = Trust::rendered(policy, self.distrust.clone());
        let before = Arc::clone(&self.sender.borrow());
        if now != *before {
            news::tell(&before, &now);
            self.sender.send_replace(Arc::new(now));
        }
    }
}

#[cfg(test)]
#[path = "rendered_tests.rs"]
mod tests;
