//! Who may connect, and to whom. There is no default: a rule is an argument of everything that
//! accepts peers.
//!
//! ```
//! use certagent_credentials::{SpiffeId, authorize};
//!
//! # fn main() -> Result<(), authorize::RuleError> {
//! let one = authorize::id("spiffe://td.example/ns/shop/sa/cart")?;
//! let some = authorize::any_of(["spiffe://td.example/ns/a/sa/b", "spiffe://td.example/ns/a/sa/c"])?;
//! let namespace = authorize::namespace("shop")?;
//! let own_domain = authorize::same_trust_domain();
//! let domains = authorize::trust_domains(["td.example", "partner.example"])?;
//! let by_code = |peer: &SpiffeId| peer.path().starts_with("/ns/shop/");
//! # fn takes(_: impl certagent_credentials::Authorize) {}
//! # takes(one); takes(some); takes(namespace); takes(own_domain); takes(domains); takes(by_code);
//! # Ok(())
//! # }
//! ```
use std::{borrow::Cow, collections::BTreeSet, fmt};

use certagent_svid::{SpiffeId, SpiffeIdError, TrustDomain};

/// Decides whether a peer is let in, whose certificate was verified already.
///
/// Every `Fn(&SpiffeId) -> bool` is one. It is asked at each handshake and must not block; what
/// should change while the program runs, it looks up.
pub trait Authorize: Send + Sync + 'static {
    /// Whether this workload, `own`, talks with `peer`.
    fn authorize(&self, own: &SpiffeId, peer: &SpiffeId) -> bool;

    /// The rule in words, for the message to who was not let in.
    fn describe(&self) -> Cow<'_, str> {
        "the application's rule does not let it in".into()
    }
}

impl<F: Fn(&SpiffeId) -> bool + Send + Sync + 'static> Authorize for F {
    fn authorize(&self, _own: &SpiffeId, peer: &SpiffeId) -> bool {
        self(peer)
    }
}

/// A rule that was made by a function of this module.
#[derive(Clone, Debug)]
pub struct Rule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Ids(BTreeSet<SpiffeId>),
    Namespace(String),
    SameTrustDomain,
    TrustDomains(BTreeSet<TrustDomain>),
}

/// Why something is not a rule.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A text is no SPIFFE ID.
    #[error(
        "\"{text}\" is no SPIFFE ID: {reason}; write it as spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
    )]
    Id {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: SpiffeIdError,
    },
    /// A SPIFFE ID names a whole trust domain.
    #[error("\"{text}\" names a trust domain and no workload; use authorize::trust_domains for it")]
    NoPath {
        /// The text.
        text: String,
    },
    /// A text is no trust domain.
    #[error("\"{text}\" is no trust domain: {reason}; write it as td.example")]
    TrustDomain {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: SpiffeIdError,
    },
    /// A text is no namespace.
    #[error(
        "\"{text}\" is no namespace; it is one segment of a path, as in /ns/NAMESPACE/sa/ACCOUNT"
    )]
    Namespace {
        /// The text.
        text: String,
    },
    /// A list is empty, so nobody would ever be let in.
    #[error("the list is empty, so nobody would be let in; name at least one")]
    Empty,
}

/// The message: a program whose `main` gives an error back prints it in this way.
impl fmt::Debug for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// This workload, and no other.
pub fn id(id: impl AsRef<str>) -> Result<Rule, RuleError> {
    any_of([id])
}

/// Each of these workloads.
pub fn any_of<I>(ids: I) -> Result<Rule, RuleError>
where
    I: IntoIterator<Item: AsRef<str>>,
{
    let ids = ids.into_iter().map(|id| workload(id.as_ref()));
    not_empty(ids.collect::<Result<_, _>>()?).map(|ids| Rule(Kind::Ids(ids)))
}

/// Each workload of a Kubernetes namespace of this workload's own trust domain:
/// `spiffe://OWN/ns/NAMESPACE/sa/...`.
pub fn namespace(namespace: impl AsRef<str>) -> Result<Rule, RuleError> {
    let name = namespace.as_ref();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || matches!(name, "." | "..") || !name.chars().all(allowed) {
        return Err(RuleError::Namespace {
            text: name.to_owned(),
        });
    }
    Ok(Rule(Kind::Namespace(name.to_owned())))
}

/// Each workload of this workload's own trust domain.
pub fn same_trust_domain() -> Rule {
    Rule(Kind::SameTrustDomain)
}

/// Each workload of these trust domains. The own one is among them only if it is named.
pub fn trust_domains<I>(domains: I) -> Result<Rule, RuleError>
where
    I: IntoIterator<Item: AsRef<str>>,
{
    let domains = domains.into_iter().map(|domain| {
        let text = domain.as_ref();
        TrustDomain::new(text).map_err(|reason| RuleError::TrustDomain {
            text: text.to_owned(),
            reason,
        })
    });
    not_empty(domains.collect::<Result<_, _>>()?).map(|all| Rule(Kind::TrustDomains(all)))
}

fn workload(text: &str) -> Result<SpiffeId, RuleError> {
    let text_of = || text.to_owned();
    let id = SpiffeId::new(text).map_err(|reason| RuleError::Id {
        text: text_of(),
        reason,
    })?;
    if id.path().is_empty() {
        return Err(RuleError::NoPath { text: text_of() });
    }
    Ok(id)
}

fn not_empty<T>(set: BTreeSet<T>) -> Result<BTreeSet<T>, RuleError> {
    if set.is_empty() {
        Err(RuleError::Empty)
    } else {
        Ok(set)
    }
}

impl Authorize for Rule {
    fn authorize(&self, own: &SpiffeId, peer: &SpiffeId) -> bool {
        let same_domain = own.trust_domain() == peer.trust_domain();
        match &self.0 {
            Kind::Ids(ids) => ids.contains(peer),
            Kind::Namespace(namespace) => same_domain && in_namespace(peer.path(), namespace),
            Kind::SameTrustDomain => same_domain,
            Kind::TrustDomains(domains) => domains.contains(peer.trust_domain()),
        }
    }

    fn describe(&self) -> Cow<'_, str> {
        match &self.0 {
            Kind::Ids(ids) => format!("allowed is {}", list(ids)).into(),
            Kind::Namespace(namespace) => {
                format!("allowed is the namespace {namespace} of the own trust domain").into()
            }
            Kind::SameTrustDomain => "allowed is the own trust domain".into(),
            Kind::TrustDomains(domains) => {
                format!("allowed are the trust domains {}", list(domains)).into()
            }
        }
    }
}

/// The path is `/ns/NAMESPACE/sa/ACCOUNT`.
fn in_namespace(path: &str, namespace: &str) -> bool {
    let mut parts = path.split('/');
    let parts = [(); 6].map(|()| parts.next());
    matches!(parts, [Some(""), Some("ns"), Some(name), Some("sa"), Some(account), None] if name == namespace && !account.is_empty())
}

/// The first few of a list.
fn list<T: fmt::Display>(all: &BTreeSet<T>) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = all.iter().take(SHOWN).map(T::to_string).collect();
    let rest = all.len().saturating_sub(SHOWN);
    let more = if rest == 0 {
        String::new()
    } else {
        format!(" and {rest} more")
    };
    shown.join(", ") + &more
}

#[cfg(test)]
#[path = "authorize_tests.rs"]
mod tests;
