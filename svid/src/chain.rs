//! A leaf and its intermediates, in order, whatever order they came in.
use jiff::Timestamp;

use crate::{Certificate, CertificateError};

/// The longest chain that is accepted: a leaf and nine CAs.
pub const MAX_CHAIN: usize = 10;

/// A leaf, then the intermediates that lead away from it, without the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    leaf: Certificate,
    intermediates: Vec<Certificate>,
    repaired: bool,
}

/// Why certificates are not one chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There is no certificate at all.
    #[error("there is no certificate")]
    Empty,
    /// A certificate does not parse.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There are more certificates than [`MAX_CHAIN`].
    #[error("the chain has {length} certificates; at most {MAX_CHAIN} are accepted")]
    TooLong {
        /// How many there are.
        length: usize,
    },
    /// Several certificates of the list are end entities. (A list of nothing but CAs has its
    /// first for a leaf, and [`crate::leaf::svid`] says what is wrong with it.)
    #[error("the chain has {count} end-entity certificates; exactly one is allowed")]
    Leaves {
        /// How many there are.
        count: usize,
    },
    /// A certificate is not on the way from the leaf up.
    #[error("the certificate of \"{subject}\" is no part of the leaf's chain")]
    Stray {
        /// Its subject.
        subject: String,
    },
}

impl Chain {
    /// Reads a PEM text and brings it into order, see [`Chain::order`].
    pub fn parse_pem(pem: &[u8]) -> Result<Self, ChainError> {
        Self::order(Certificate::parse_pem_list(pem)?)
    }

    /// Builds a chain from certificates in any order: the leaf is the first one, or else the only
    /// one that is no CA; issuers follow by name and key id; self-issued roots are dropped and
    /// duplicates too.
    pub fn order(certificates: Vec<Certificate>) -> Result<Self, ChainError> {
        if certificates.len() > MAX_CHAIN {
            return Err(ChainError::TooLong {
                length: certificates.len(),
            });
        }
        let mut given: Vec<Certificate> = Vec::new();
        for certificate in certificates {
            if !given.contains(&certificate) {
                given.push(certificate);
            }
        }
        let mut rest = given.clone();
        let leaf = take_leaf(&mut rest)?;
        rest.retain(|certificate| !certificate.is_self_issued());
        given.retain(|certificate| *certificate == leaf || !certificate.is_self_issued());
        let mut intermediates: Vec<Certificate> = Vec::new();
        while let Some(position) = {
            let last = intermediates.last().unwrap_or(&leaf);
            rest.iter()
                .position(|candidate| last.names_issuer(candidate))
        } {
            intermediates.push(rest.remove(position));
        }
        if let Some(stray) = rest.first() {
            return Err(ChainError::Stray {
                subject: stray.subject_text(),
            });
        }
        let repaired = !given
            .iter()
            .eq(std::iter::once(&leaf).chain(&intermediates));
        Ok(Self {
            leaf,
            intermediates,
            repaired,
        })
    }

    /// The end-entity certificate.
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The CAs between the leaf and the root, from the leaf up.
    pub fn intermediates(&self) -> &[Certificate] {
        &self.intermediates
    }

    /// The certificates had come in another order.
    pub fn was_repaired(&self) -> bool {
        self.repaired
    }

    /// The chain as PEM: leaf, then intermediates, LF line ends, no root.
    pub fn to_pem(&self) -> String {
        let mut pem = self.leaf.to_pem();
        for certificate in &self.intermediates {
            pem.push_str(&certificate.to_pem());
        }
        pem
    }

    /// The moment at which the first certificate of the chain ends. The root's end counts too:
    /// see [`crate::verify::VerifiedPath::effective_not_after`].
    pub fn earliest_not_after(&self) -> Timestamp {
        let leaf = self.leaf.not_after();
        self.authorities_not_after()
            .map_or(leaf, |end| end.min(leaf))
    }

    /// The moment at which the first of the CAs between leaf and root ends; none if there is none.
    pub fn authorities_not_after(&self) -> Option<Timestamp> {
        self.intermediates.iter().map(Certificate::not_after).min()
    }
}

/// The first certificate is the leaf even if it is (wrongly) a CA, so that the leaf's rules can
/// say so; only a list that begins with a CA and holds exactly one end entity is reordered.
fn take_leaf(certificates: &mut Vec<Certificate>) -> Result<Certificate, ChainError> {
    let mut ends = certificates.iter().enumerate().filter(|(_, c)| !c.is_ca());
    match (ends.next().map(|(index, _)| index), ends.next()) {
        _ if certificates.is_empty() => Err(ChainError::Empty),
        (Some(index), None) => Ok(certificates.remove(index)),
        (None, _) => Ok(certificates.remove(0)),
        (Some(_), Some(_)) => Err(ChainError::Leaves {
            count: certificates.iter().filter(|c| !c.is_ca()).count(),
        }),
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
