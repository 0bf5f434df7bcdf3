//! The roots of one trust domain, and of several: never merged.
use std::collections::BTreeMap;

use spiffe::TrustDomain;

use crate::Certificate;

/// The roots that vouch for one trust domain, without duplicates, in a stable order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    roots: Vec<Certificate>,
}

impl TrustBundle {
    /// A bundle of these roots; duplicates go, and the order is by fingerprint so that the same
    /// roots always give the same bytes.
    pub fn new(trust_domain: TrustDomain, roots: impl IntoIterator<Item = Certificate>) -> Self {
        let by_fingerprint: BTreeMap<[u8; 32], Certificate> = roots
            .into_iter()
            .map(|root| (root.fingerprint(), root))
            .collect();
        Self {
            trust_domain,
            roots: by_fingerprint.into_values().collect(),
        }
    }

    /// Whose roots these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots.
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// The roots as PEM, one after the other, LF line ends.
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(Certificate::to_pem).collect()
    }

    /// The roots' subjects, for a message.
    pub fn describe(&self) -> String {
        let names: Vec<String> = self
            .roots
            .iter()
            .map(|root| format!("\"{}\"", root.subject_text()))
            .collect();
        if names.is_empty() {
            "no roots".to_owned()
        } else {
            names.join(", ")
        }
    }
}

/// The bundles of every trusted domain. There is no way to get all roots together: a root of one
/// domain must never vouch for another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustBundles(BTreeMap<TrustDomain, TrustBundle>);

impl TrustBundles {
    /// The bundle of one trust domain.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.0.get(trust_domain)
    }

    /// Puts a bundle in, and gives back the one that it replaces.
    pub fn insert(&mut self, bundle: TrustBundle) -> Option<TrustBundle> {
        self.0.insert(bundle.trust_domain.clone(), bundle)
    }

    /// The bundles, by trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.0.values()
    }

    /// No trust domain is here.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many trust domains there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<TrustBundle> for TrustBundles {
    fn from_iter<I: IntoIterator<Item = TrustBundle>>(bundles: I) -> Self {
        let mut all = Self::default();
        for bundle in bundles {
            all.insert(bundle);
        }
        all
    }
}
