//! Add early, remove late: a root is trusted as soon as a source names it, and for one validity
//! after the last source stopped.
//!
//! Certificates that were issued under a root live that long, and so do the peers that show them.
//! All of it is pure: the moment is an argument, and what has to outlive the process is kept by
//! [`super::kept`].
use std::collections::{BTreeMap, BTreeSet};

use certagent_svid::{Certificate, TrustDomain};
use jiff::{SignedDuration, Timestamp};

use super::distrust::Distrust;

/// The most roots of one trust domain that are kept though nobody names them any more. A source
/// that invents a root each time it is asked must not fill the bundles.
pub(super) const MOST_LEAVING: usize = 64;

/// The roots of every trust domain that are named, or were until lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) domains: BTreeMap<TrustDomain, DomainMemory>,
}

/// The roots of one trust domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DomainMemory {
    pub(super) roots: BTreeMap<[u8; 32], Remembered>,
    pub(super) rebuilding: Rebuilding,
}

/// One root.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Remembered {
    pub(super) root: Certificate,
    /// The anchors that name it, as far as they are known.
    pub(super) anchors: BTreeSet<String>,
    /// Nobody names it any more.
    pub(super) leaving: Option<Grace>,
}

/// A time that has an end, whatever becomes of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grace {
    pub(super) since: Timestamp,
    pub(super) length: SignedDuration,
}

/// What was remembered is lost: roots that are published and that nobody names may have been
/// removed while nobody looked. Each volume keeps its own meanwhile; they are never put together,
/// as one who can write in a volume must not give roots to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rebuilding {
    /// Nothing is lost.
    #[default]
    No,
    /// Not every anchor has answered yet.
    UntilKnown,
    /// Every anchor has; what none of them names is on its way out.
    Leaving(Grace),
}

/// What one anchor says.
pub(super) struct Named<'a> {
    /// What no other anchor is called.
    pub(super) anchor: String,
    /// Its roots; none if it did not answer to this process yet.
    pub(super) roots: Option<Vec<&'a Certificate>>,
}

impl Grace {
    pub(super) fn until(self) -> Timestamp {
        self.since
            .saturating_add(self.length)
            .unwrap_or(Timestamp::MAX)
    }

    /// The same, seen at `now`: a beginning that lies ahead was written before the clock was set
    /// back, and the whole time counts from the clock as it is.
    fn seen(self, now: Timestamp) -> Self {
        Self {
            since: self.since.min(now),
            ..self
        }
    }
}

impl Memory {
    /// Nothing is known of what was published in these trust domains.
    pub(super) fn lost<'a>(trust_domains: impl IntoIterator<Item = &'a TrustDomain>) -> Self {
        let lost = |domain: &TrustDomain| {
            let memory = DomainMemory {
                rebuilding: Rebuilding::UntilKnown,
                ..DomainMemory::default()
            };
            (domain.clone(), memory)
        };
        Self {
            domains: trust_domains.into_iter().map(lost).collect(),
        }
    }

    /// Follows what the anchors of each trust domain say at `now`. A domain that has no anchors
    /// any more is forgotten with all its roots: to take it out of the `TrustConfig` is to end the
    /// relationship. `validity` is how long a root stays that nobody names any more; a distrusted
    /// one goes at once.
    pub(super) fn follow(
        &mut self,
        said: &BTreeMap<TrustDomain, Vec<Named<'_>>>,
        validity: SignedDuration,
        distrust: &Distrust,
        now: Timestamp,
    ) {
        self.domains.retain(|domain, _| said.contains_key(domain));
        for (domain, named) in said {
            let memory = self.domains.entry(domain.clone()).or_default();
            memory.follow(named, validity, distrust, now);
        }
    }

    /// The next moment at which something ends by itself.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.domains
            .values()
            .flat_map(|memory| {
                let rebuilding = match memory.rebuilding {
                    Rebuilding::Leaving(grace) => Some(grace.until()),
                    Rebuilding::No | Rebuilding::UntilKnown => None,
                };
                let leaving = memory.roots.values().filter_map(Remembered::end);
                leaving.chain(rebuilding)
            })
            .min()
    }
}

impl DomainMemory {
    fn follow(
        &mut self,
        named: &[Named<'_>],
        validity: SignedDuration,
        distrust: &Distrust,
        now: Timestamp,
    ) {
        let grace = Grace {
            since: now,
            length: validity,
        };
        for Named { anchor, roots } in named {
            for root in roots.iter().flatten() {
                let known = self.roots.entry(root.fingerprint());
                let known = known.or_insert_with(|| Remembered {
                    root: (*root).clone(),
                    anchors: BTreeSet::new(),
                    leaving: None,
                });
                known.anchors.insert(anchor.clone());
            }
        }
        for known in self.roots.values_mut() {
            let Remembered {
                root,
                anchors,
                leaving,
            } = known;
            // An anchor that has not answered yet still names what it named to an earlier process.
            anchors.retain(|anchor| {
                named.iter().any(|one| {
                    one.anchor == *anchor
                        && one
                            .roots
                            .as_ref()
                            .is_none_or(|roots| roots.contains(&&*root))
                })
            });
            *leaving = anchors
                .is_empty()
                .then(|| leaving.unwrap_or(grace).seen(now));
        }
        self.roots.retain(|_, known| {
            known.end().is_none_or(|end| now < end)
                && (known.leaving.is_none() || !distrust.has(&known.root))
        });
        self.drop_excess();
        self.rebuilding = match self.rebuilding {
            Rebuilding::UntilKnown if named.iter().all(|one| one.roots.is_some()) => {
                Rebuilding::Leaving(grace)
            }
            Rebuilding::Leaving(grace) if now >= grace.seen(now).until() => Rebuilding::No,
            Rebuilding::Leaving(grace) => Rebuilding::Leaving(grace.seen(now)),
            unchanged => unchanged,
        };
    }

    /// Those that would go first go now.
    fn drop_excess(&mut self) {
        let mut ends: Vec<_> = self
            .roots
            .iter()
            .filter_map(|(id, known)| Some((known.end()?, *id)))
            .collect();
        ends.sort_unstable();
        let excess = ends.len().saturating_sub(MOST_LEAVING);
        for (_, id) in ends.into_iter().take(excess) {
            self.roots.remove(&id);
        }
    }
}

impl Remembered {
    /// When a root that is leaving is gone: after its time, and not later than its own end.
    pub(super) fn end(&self) -> Option<Timestamp> {
        self.leaving
            .map(|grace| grace.until().min(self.root.not_after()))
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "removal_tests.rs"]
mod tests;
