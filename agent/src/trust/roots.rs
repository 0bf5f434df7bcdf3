//! From anchors to roots: what is known of each source, and the bundles that follow from it.
use std::collections::{BTreeMap, BTreeSet};

use certagent_core::config::{CertificatePolicy, Config, TrustAnchor, TrustPolicy};
use certagent_svid::{Certificate, TrustBundle, TrustBundles, TrustDomain};
use jiff::{SignedDuration, Timestamp};

use super::{
    distrust::{self, Distrust},
    kept::Kept,
    removal::{DomainMemory, Memory, Named, Rebuilding, Remembered},
    source::{Answer, Source, SourceError, SourceName},
};

/// What the roots that stand in the `TrustConfig` itself are named by in [`Memory`].
const INLINE: &str = "pemCertificate";

/// The roots of every trust domain of a `TrustConfig`, as far as they are known.
///
/// What a source once said stays until the source says something else, and a root that nobody
/// names any more stays for one validity: a bundle never shrinks because a source is away, and
/// peers with a certificate under the old root are believed as long as that may live.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust {
    policy: TrustPolicy,
    validity: SignedDuration,
    distrust: Distrust,
    sources: BTreeMap<SourceName, Source>,
    memory: Memory,
    bundles: TrustBundles,
    named: TrustBundles,
    /// The policy is what the controller has rendered, and not what somebody wrote.
    is_rendered: bool,
}

impl Trust {
    /// What is known before any source was asked: the roots that stand in the policy itself.
    pub fn new(policy: &TrustPolicy) -> Self {
        // Without anything to remember nothing can be leaving, so that the moment is of no account.
        let (kept, moment) = (Kept::default(), Timestamp::UNIX_EPOCH);
        Self::resume(
            policy,
            SignedDuration::ZERO,
            kept,
            Distrust::default(),
            moment,
        )
    }

    /// What the controller has rendered: all of it is known, and nothing is remembered here, for the
    /// controller removes late. Distrusted roots are in no bundle all the same.
    pub fn rendered(policy: &TrustPolicy, distrust: Distrust) -> Self {
        let (kept, moment) = (Kept::default(), Timestamp::UNIX_EPOCH);
        let trust = Self::resume(policy, SignedDuration::ZERO, kept, distrust, moment);
        Self {
            is_rendered: true,
            ..trust
        }
    }

    /// The same with what an earlier process knew.
    pub(super) fn resume(
        policy: &TrustPolicy,
        validity: SignedDuration,
        kept: Kept,
        distrust: Distrust,
        now: Timestamp,
    ) -> Self {
        let mut trust = Self {
            policy: policy.clone(),
            validity,
            distrust,
            sources: BTreeMap::new(),
            memory: kept.memory,
            bundles: TrustBundles::default(),
            named: TrustBundles::default(),
            is_rendered: false,
        };
        trust.name_sources(&kept.sequences);
        trust.settle(now);
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

    /// The roots of one trust domain under which new certificates may be issued: those that are
    /// still named. A certificate under one that is on its way out would outlive it.
    pub fn issuing_bundle(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.named.get(trust_domain)
    }

    /// What is known of each source.
    pub fn sources(&self) -> &BTreeMap<SourceName, Source> {
        &self.sources
    }

    /// The policy has anchors for the trust domain, known or not.
    pub fn is_anchored(&self, trust_domain: &TrustDomain) -> bool {
        self.policy.stores.contains_key(trust_domain)
    }

    /// Every anchor of the trust domain has answered to this process at least once.
    pub fn is_complete(&self, trust_domain: &TrustDomain) -> bool {
        self.policy
            .stores
            .get(trust_domain)
            .is_some_and(|anchors| anchors.iter().all(|anchor| self.has_answered(anchor)))
    }

    /// What an earlier process published for the trust domain is not known: a volume keeps the
    /// roots that it has beside those of the bundle, except [distrusted](Self::distrusts) ones.
    pub fn keeps_published(&self, trust_domain: &TrustDomain) -> bool {
        self.memory
            .domains
            .get(trust_domain)
            .is_some_and(|memory| memory.rebuilding != Rebuilding::No)
    }

    /// The root must be in no bundle, whoever names it.
    pub fn distrusts(&self, root: &Certificate) -> bool {
        self.distrust.has(root)
    }

    /// The trust domain has roots, and every one of them is distrusted.
    pub fn is_stripped(&self, trust_domain: &TrustDomain) -> bool {
        self.bundle(trust_domain).is_none() && self.distrusted(trust_domain).next().is_some()
    }

    /// It is the trust that this policy asks for, as opposed to an earlier one.
    pub(crate) fn follows(&self, policy: &TrustPolicy) -> bool {
        self.policy == *policy
    }

    /// Every source was asked at least once, with or without success.
    pub fn is_resolved(&self) -> bool {
        self.sources.values().all(|source| source.due.is_some())
    }

    /// Volumes have the same to do: to publish, and to ask for.
    pub fn publishes_as(&self, other: &Self) -> bool {
        self.bundles == other.bundles
            && self.named == other.named
            && self.rebuilding().eq(other.rebuilding())
    }

    /// The anchors of a trust domain for a message, as the `TrustConfig` names them.
    pub fn describe_anchors(&self, trust_domain: &TrustDomain) -> String {
        let anchors = self
            .policy
            .stores
            .get(trust_domain)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut names: Vec<String> = anchors.iter().map(|anchor| self.describe(anchor)).collect();
        names.extend(self.distrusted(trust_domain).map(|root| {
            format!(
                "but not {}, which --distrust names",
                distrust::describe(root)
            )
        }));
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }

    /// Why roots of a trust domain are not known: the first cause, and how many more there are.
    pub fn trouble(&self, trust_domain: &TrustDomain) -> String {
        let Some(anchors) = self.policy.stores.get(trust_domain) else {
            if self.is_rendered {
                return format!(
                    "the status of the TrustConfig has no rendered roots of {trust_domain}; its \
                     conditions say why: kubectl get trustconfig default -o yaml"
                );
            }
            return format!("the TrustConfig has no trustStores entry for {trust_domain}");
        };
        if self.is_stripped(trust_domain) {
            let roots: Vec<_> = self
                .distrusted(trust_domain)
                .map(distrust::describe)
                .collect();
            return format!(
                "--distrust names every root that there is: {}; add an anchor with another root to the TrustConfig, and have certificates issued below it",
                roots.join(", ")
            );
        }
        let mut causes = anchors.iter().filter_map(|anchor| self.why_unknown(anchor));
        let Some(first) = causes.next() else {
            return "every anchor has answered".to_owned();
        };
        match causes.count() {
            0 => first,
            more => format!("{first} (and {more} more of its anchors are not known)"),
        }
    }

    /// What has to outlive this process.
    pub(super) fn kept(&self) -> Kept {
        let sequences = self
            .sources
            .iter()
            .filter_map(|(name, source)| Some((name.exact(), source.sequence?)));
        Kept {
            memory: self.memory.clone(),
            sequences: sequences.collect(),
        }
    }

    /// Every root that is known, distrusted ones included, with its trust domain.
    pub(super) fn known(&self) -> impl Iterator<Item = (&TrustDomain, &Remembered)> {
        self.memory
            .domains
            .iter()
            .flat_map(|(domain, memory)| memory.roots.values().map(move |known| (domain, known)))
    }

    pub(super) fn distrust(&self) -> &Distrust {
        &self.distrust
    }

    /// The next moment at which the bundles change by themselves.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.memory.next_end()
    }

    /// Follows another configuration: its new sources are not known yet, sources that it no longer
    /// names are forgotten.
    pub(super) fn follow(&mut self, config: &Config, now: Timestamp) {
        let validity = validity(&config.certificates);
        if self.policy == config.trust && self.validity == validity {
            return;
        }
        self.validity = validity;
        self.policy.clone_from(&config.trust);
        self.name_sources(&BTreeMap::new());
        self.settle(now);
    }

    /// Takes the answer of one source.
    pub(super) fn record(
        &mut self,
        name: &SourceName,
        answer: Result<Answer, SourceError>,
        now: Timestamp,
    ) {
        // The policy may have dropped the source while it was asked.
        let Some(source) = self.sources.get_mut(name) else {
            return;
        };
        source.record(name, answer, now);
        self.settle(now);
    }

    /// Brings the bundles in line with what is known at `now`.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let mut said: BTreeMap<TrustDomain, Vec<Named<'_>>> = BTreeMap::new();
        for (domain, anchors) in &self.policy.stores {
            let inline = anchors.iter().filter_map(|anchor| match anchor {
                TrustAnchor::Pem(root) => Some(root),
                TrustAnchor::Pool(_) | TrustAnchor::Endpoint(_) => None,
            });
            let named = said.entry(domain.clone()).or_default();
            named.push(Named {
                anchor: INLINE.to_owned(),
                roots: Some(inline.collect()),
            });
            for name in anchors.iter().filter_map(SourceName::of) {
                let source = self.sources.get(&name);
                let source = source.filter(|source| source.last_success.is_some());
                named.push(Named {
                    anchor: name.exact(),
                    roots: source.map(|source| source.roots.iter().collect()),
                });
            }
        }
        self.memory
            .follow(&said, self.validity, &self.distrust, now);
        self.bundles = self.bundles_of(|_| true);
        self.named = self.bundles_of(|known| known.leaving.is_none());
    }

    fn bundles_of(&self, wanted: impl Fn(&Remembered) -> bool) -> TrustBundles {
        let bundle = |(domain, memory): (&TrustDomain, &DomainMemory)| {
            let known = memory.roots.values();
            let known = known.filter(|one| wanted(one) && !self.distrust.has(&one.root));
            let bundle = TrustBundle::new(domain.clone(), known.map(|one| one.root.clone()));
            (!bundle.roots().is_empty()).then_some(bundle)
        };
        self.memory.domains.iter().filter_map(bundle).collect()
    }

    /// Whoever follows trust has something to do: more than dates changed.
    pub(super) fn is_news_after(&self, earlier: &Self) -> bool {
        !self.publishes_as(earlier) || self.may_help_after(earlier)
    }

    /// What failed before for want of roots may succeed now. That something which was on its way
    /// out is gone helps nobody.
    pub fn may_help_after(&self, earlier: &Self) -> bool {
        let errors = |trust: &Self| -> Vec<Option<SourceError>> {
            trust
                .sources
                .values()
                .map(|source| source.error.clone())
                .collect()
        };
        self.named != earlier.named
            || self.policy != earlier.policy
            || self.is_resolved() != earlier.is_resolved()
            || errors(self) != errors(earlier)
    }

    fn name_sources(&mut self, sequences: &BTreeMap<String, u64>) {
        let anchors = self.policy.stores.values().flatten();
        let named: BTreeSet<SourceName> = anchors.filter_map(SourceName::of).collect();
        self.sources.retain(|name, _| named.contains(name));
        for name in named {
            let sequence = sequences.get(&name.exact()).copied();
            self.sources
                .entry(name)
                .or_insert_with(|| Source::not_asked(sequence));
        }
    }

    fn rebuilding(&self) -> impl Iterator<Item = &TrustDomain> {
        let domains = self.memory.domains.keys();
        domains.filter(|domain| self.keeps_published(domain))
    }

    fn distrusted(&self, trust_domain: &TrustDomain) -> impl Iterator<Item = &Certificate> {
        let memory = self.memory.domains.get(trust_domain);
        let roots = memory.into_iter().flat_map(|memory| memory.roots.values());
        roots
            .map(|known| &known.root)
            .filter(|root| self.distrust.has(root))
    }

    fn source(&self, anchor: &TrustAnchor) -> Option<(SourceName, &Source)> {
        let name = SourceName::of(anchor)?;
        let source = self.sources.get(&name)?;
        Some((name, source))
    }

    fn has_answered(&self, anchor: &TrustAnchor) -> bool {
        self.source(anchor)
            .is_none_or(|(_, source)| source.last_success.is_some())
    }

    fn why_unknown(&self, anchor: &TrustAnchor) -> Option<String> {
        let (name, source) = self.source(anchor)?;
        match (&source.error, source.last_success) {
            (_, Some(_)) => None,
            (Some(error), None) => Some(error.to_string()),
            (None, None) => Some(format!("{} has not been asked yet", name.described())),
        }
    }

    fn describe(&self, anchor: &TrustAnchor) -> String {
        let remark = if self.has_answered(anchor) {
            ""
        } else {
            ", which has not answered yet"
        };
        match anchor {
            TrustAnchor::Pem(root) => format!("the pemCertificate \"{}\"", root.subject_text()),
            TrustAnchor::Pool(pool) => format!("the pool {pool}{remark}"),
            TrustAnchor::Endpoint(endpoint) => format!("the bundle endpoint {endpoint}{remark}"),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
impl Trust {
    /// For tests of others: one source was asked, and failed.
    pub(crate) fn after_failure(
        policy: &TrustPolicy,
        name: &SourceName,
        error: SourceError,
        now: Timestamp,
    ) -> Self {
        let mut trust = Self::new(policy);
        trust.record(name, Err(error), now);
        trust
    }

    /// For tests of others: one root is distrusted.
    pub(crate) fn distrusting(policy: &TrustPolicy, root: &Certificate) -> Self {
        let distrust = std::iter::once(super::Fingerprint::of(root)).collect();
        let (kept, moment) = (Kept::default(), Timestamp::UNIX_EPOCH);
        Self::resume(policy, SignedDuration::ZERO, kept, distrust, moment)
    }
}

/// How long certificates live that were issued under a root while it was still named.
pub(crate) fn validity(policy: &CertificatePolicy) -> SignedDuration {
    SignedDuration::try_from(policy.validity).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "roots_tests.rs"]
mod tests;
