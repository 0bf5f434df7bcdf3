//! From anchors to roots: what is known of each pool, and the bundles that follow from it.
use std::collections::{BTreeMap, BTreeSet};

use certagent_core::{
    config::{TrustAnchor, TrustPolicy},
    pool::CaPoolName,
    trust,
};
use certagent_svid::{Certificate, TrustBundle, TrustBundles, TrustDomain};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::{
    cas::{CallError, CasClient},
    google::Caller,
};

/// How often a pool is asked for its roots.
pub const REFRESH: SignedDuration = SignedDuration::from_mins(5);
/// The first wait for a pool that never answered; it doubles up to [`REFRESH`].
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(5);

/// The roots of every trust domain of a `TrustConfig`, as far as they are known.
///
/// What a pool once said stays until the pool says something else: a bundle never shrinks because
/// a pool is away.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust {
    policy: TrustPolicy,
    bundles: TrustBundles,
    sources: BTreeMap<CaPoolName, Source>,
}

/// What is known of one pool that a `TrustConfig` names as an anchor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// Its roots by its last good answer; empty before the first.
    pub roots: Vec<Certificate>,
    /// When it last gave a good answer.
    pub last_success: Option<Timestamp>,
    /// Why the last attempt failed; none after a good answer.
    pub error: Option<SourceError>,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// When it is to be asked again; none before the first attempt.
    pub due: Option<Timestamp>,
}

/// Why a pool gave no roots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The pool has no CA.
    #[error(
        "the CA pool {pool} has no CA and so no root; create one in it, or remove the pool from the TrustConfig"
    )]
    NoRoots {
        /// The pool.
        pool: CaPoolName,
    },
    /// One of its chains ends in something that cannot be a root.
    #[error(
        "the CA pool {pool} gave \"{subject}\" as a root, which is not a CA certificate; look at the CAs of the pool"
    )]
    NotACa {
        /// The pool.
        pool: CaPoolName,
        /// The certificate's subject.
        subject: String,
    },
}

/// Asks every pool of `policy` once, at the same time, and gives what is known afterwards; for
/// pools that fail, what `previous` knew.
pub async fn refresh(
    client: &CasClient,
    policy: &TrustPolicy,
    previous: &Trust,
    now: Timestamp,
) -> Trust {
    let mut trust = previous.clone();
    trust.follow(policy);
    let answers = join_all(trust.sources.keys().map(|pool| fetch(client, pool))).await;
    let pools: Vec<CaPoolName> = trust.sources.keys().cloned().collect();
    for (pool, answer) in pools.iter().zip(answers) {
        trust.record(pool, answer, now);
    }
    trust
}

/// The roots of one pool: the last certificate of each chain.
pub(super) async fn fetch(
    client: &CasClient,
    pool: &CaPoolName,
) -> Result<Vec<Certificate>, SourceError> {
    let chains = client.fetch_ca_certs(pool, &Caller::Agent).await?;
    let roots: Vec<Certificate> = trust::roots(&chains).cloned().collect();
    if let Some(odd) = roots.iter().find(|root| !root.is_ca()) {
        let subject = odd.subject_text().to_owned();
        return Err(SourceError::NotACa {
            pool: pool.clone(),
            subject,
        });
    }
    if roots.is_empty() {
        return Err(SourceError::NoRoots { pool: pool.clone() });
    }
    Ok(roots)
}

impl Trust {
    /// What is known before any pool was asked: the roots that stand in the policy itself.
    pub fn new(policy: &TrustPolicy) -> Self {
        let mut trust = Self {
            policy: TrustPolicy {
                stores: BTreeMap::new(),
            },
            bundles: TrustBundles::default(),
            sources: BTreeMap::new(),
        };
        trust.follow(policy);
        trust
    }

    /// The bundles. A trust domain is there as soon as one of its anchors is known.
    pub fn bundles(&self) -> &TrustBundles {
        &self.bundles
    }

    /// The bundle of one trust domain.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.bundles.get(trust_domain)
    }

    /// What is known of each pool.
    pub fn sources(&self) -> &BTreeMap<CaPoolName, Source> {
        &self.sources
    }

    /// The policy has anchors for the trust domain, known or not.
    pub fn is_anchored(&self, trust_domain: &TrustDomain) -> bool {
        self.policy.stores.contains_key(trust_domain)
    }

    /// Every anchor of the trust domain has answered at least once. Before that, its bundle may
    /// lack roots that an earlier run of the program published.
    pub fn is_complete(&self, trust_domain: &TrustDomain) -> bool {
        self.policy.stores.get(trust_domain).is_some_and(|anchors| {
            anchors.iter().all(|anchor| match anchor {
                TrustAnchor::Pem(_) => true,
                TrustAnchor::Pool(pool) => self
                    .sources
                    .get(pool)
                    .is_some_and(|source| source.last_success.is_some()),
            })
        })
    }

    /// Every pool was asked at least once, with or without success.
    pub fn is_resolved(&self) -> bool {
        self.sources.values().all(|source| source.due.is_some())
    }

    /// The anchors of a trust domain for a message, as the `TrustConfig` names them.
    pub fn describe_anchors(&self, trust_domain: &TrustDomain) -> String {
        let anchors = self
            .policy
            .stores
            .get(trust_domain)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let names: Vec<String> = anchors.iter().map(|anchor| self.describe(anchor)).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }

    /// Why roots of a trust domain are not known: the first cause, and how many more there are.
    pub fn trouble(&self, trust_domain: &TrustDomain) -> String {
        let Some(anchors) = self.policy.stores.get(trust_domain) else {
            return format!("the TrustConfig has no trustStores entry for {trust_domain}");
        };
        let mut causes = anchors.iter().filter_map(|anchor| self.why_unknown(anchor));
        let Some(first) = causes.next() else {
            return "every anchor has answered".to_owned();
        };
        match causes.count() {
            0 => first,
            more => format!("{first} (and {more} more of its anchors are not known)"),
        }
    }

    fn why_unknown(&self, anchor: &TrustAnchor) -> Option<String> {
        let TrustAnchor::Pool(pool) = anchor else {
            return None;
        };
        let source = self.sources.get(pool)?;
        match (&source.error, source.last_success) {
            (_, Some(_)) => None,
            (Some(error), None) => Some(error.to_string()),
            (None, None) => Some(format!("the CA pool {pool} has not been asked yet")),
        }
    }

    fn describe(&self, anchor: &TrustAnchor) -> String {
        match anchor {
            TrustAnchor::Pem(root) => format!("the pemCertificate \"{}\"", root.subject_text()),
            TrustAnchor::Pool(pool) => {
                let is_known = self
                    .sources
                    .get(pool)
                    .is_some_and(|source| source.last_success.is_some());
                let remark = if is_known {
                    ""
                } else {
                    ", which has not answered yet"
                };
                format!("the pool {pool}{remark}")
            }
        }
    }

    /// Follows another policy: its new pools are not known yet, pools that it no longer names are
    /// forgotten.
    pub(super) fn follow(&mut self, policy: &TrustPolicy) {
        if self.policy == *policy {
            return;
        }
        self.policy = policy.clone();
        let named: BTreeSet<&CaPoolName> = policy
            .stores
            .values()
            .flatten()
            .filter_map(|anchor| match anchor {
                TrustAnchor::Pool(pool) => Some(pool),
                TrustAnchor::Pem(_) => None,
            })
            .collect();
        self.sources.retain(|pool, _| named.contains(pool));
        for pool in named {
            self.sources.entry(pool.clone()).or_default();
        }
        self.rebuild();
    }

    /// Takes the answer of one pool. The log hears of it when something begins or ends, not each
    /// time.
    pub(super) fn record(
        &mut self,
        pool: &CaPoolName,
        answer: Result<Vec<Certificate>, SourceError>,
        now: Timestamp,
    ) {
        // The policy may have dropped the pool while it was asked.
        let Some(source) = self.sources.get_mut(pool) else {
            return;
        };
        match answer {
            Ok(roots) => {
                if source.error.is_some() {
                    tracing::info!(%pool, "the roots of the CA pool are known again");
                }
                *source = Source {
                    roots,
                    last_success: Some(now),
                    due: Some(later(now, REFRESH)),
                    ..Source::default()
                };
            }
            Err(error) => {
                if source.error.is_none() {
                    let kept = source.roots.len();
                    tracing::warn!(%error, kept, "cannot refresh the roots of a CA pool; roots that are known are kept");
                }
                source.failures = source.failures.saturating_add(1);
                source.due = Some(later(now, source.wait()));
                source.error = Some(error);
            }
        }
        self.rebuild();
    }

    /// Whoever follows trust has something to do: more than dates changed.
    pub(super) fn is_news_after(&self, earlier: &Self) -> bool {
        let errors = |trust: &Self| -> Vec<Option<SourceError>> {
            trust
                .sources
                .values()
                .map(|source| source.error.clone())
                .collect()
        };
        self.bundles != earlier.bundles
            || self.policy != earlier.policy
            || self.is_resolved() != earlier.is_resolved()
            || errors(self) != errors(earlier)
    }

    fn rebuild(&mut self) {
        let bundle = |(trust_domain, anchors): (&TrustDomain, &Vec<TrustAnchor>)| {
            let roots = anchors.iter().flat_map(|anchor| match anchor {
                TrustAnchor::Pem(root) => std::slice::from_ref(root),
                TrustAnchor::Pool(pool) => self
                    .sources
                    .get(pool)
                    .map(|source| source.roots.as_slice())
                    .unwrap_or_default(),
            });
            let bundle = TrustBundle::new(trust_domain.clone(), roots.cloned());
            (!bundle.roots().is_empty()).then_some(bundle)
        };
        self.bundles = self.policy.stores.iter().filter_map(bundle).collect();
    }
}

impl Source {
    /// It is to be asked at `now`. A moment too far ahead was set before the clock was set back.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.due
            .is_none_or(|due| due <= now || due > later(now, REFRESH))
    }

    /// How long to wait after the failures so far. A pool whose roots are known is not urgent.
    fn wait(&self) -> SignedDuration {
        if self.last_success.is_some() {
            return REFRESH;
        }
        let doubled = 2_i32.saturating_pow(self.failures.saturating_sub(1));
        FIRST_WAIT.saturating_mul(doubled).min(REFRESH)
    }
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "roots_tests.rs"]
mod tests;
