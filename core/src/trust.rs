//! What can be said about trust before a key is made.
use certagent_svid::{Certificate, TrustBundle};
use jiff::Timestamp;

/// The CA chains of a pool as `fetchCaCerts` gives them: each from the pool's CA to its root.
pub type CaChains = [Vec<Certificate>];

/// The roots of a pool: the last certificate of each chain. A pool that holds a subordinate CA has
/// the root above it, as GKE renders it.
pub fn roots(chains: &CaChains) -> impl Iterator<Item = &Certificate> {
    chains.iter().filter_map(|chain| chain.last())
}

/// At least one CA of the pool leads to a root of the bundle, by name and key: what the pool
/// issues can be verified by those who trust the bundle.
pub fn is_anchored(chains: &CaChains, bundle: &TrustBundle) -> bool {
    chains.iter().flatten().any(|certificate| {
        bundle
            .roots()
            .iter()
            .any(|root| certificate == root || certificate.names_issuer(root))
    })
}

/// The latest end that a certificate issued by this pool could have: of the CA whose whole chain
/// lives longest.
pub fn latest_end(chains: &CaChains) -> Option<Timestamp> {
    chains
        .iter()
        .filter_map(|chain| chain.iter().map(Certificate::not_after).min())
        .max()
}
