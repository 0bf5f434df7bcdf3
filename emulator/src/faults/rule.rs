//! Rules: one fault, which requests it befalls, how often and for how long.

use jiff::{SignedDuration, Timestamp};

use super::{CertificateFault, Fault, Method, PoolSelector};
use crate::pool::PoolName;

/// One fault, and for which requests.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRule {
    pub(crate) fault: Fault,
    pub(crate) on: Option<Method>,
    pub(crate) pool: Option<PoolSelector>,
    pub(crate) extent: Extent,
    pub(crate) share: Option<Share>,
}

/// How long a rule stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// For this many requests.
    Next(u32),
    /// For this long from when it was set, by the emulator's clock.
    During(SignedDuration),
    /// Until the rules are set anew.
    Always,
}

/// The part of the requests that a rule befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) percent: u8,
    pub(crate) seed: u64,
    drawn: u64,
}

impl FaultRule {
    /// `fault` for the next `times` requests.
    pub fn next(times: u32, fault: Fault) -> Self {
        Self::new(fault, Extent::Next(times))
    }

    /// `fault` for `span` from the moment when the rule is set, by the emulator's clock.
    pub fn during(span: SignedDuration, fault: Fault) -> Self {
        Self::new(fault, Extent::During(span))
    }

    /// `fault` for every request until the rules are set anew.
    pub fn always(fault: Fault) -> Self {
        Self::new(fault, Extent::Always)
    }

    pub(crate) fn new(fault: Fault, extent: Extent) -> Self {
        Self {
            fault,
            on: None,
            pool: None,
            extent,
            share: None,
        }
    }

    /// The same rule, but only for requests of one method.
    #[must_use]
    pub fn on(mut self, method: Method) -> Self {
        self.on = Some(method);
        self
    }

    /// The same rule, but only for requests about one pool, its CAs and its certificates.
    #[must_use]
    pub fn at(mut self, pool: PoolSelector) -> Self {
        self.pool = Some(pool);
        self
    }

    /// The same rule, but only for about `percent` of a hundred requests that it would befall. The
    /// draws follow from `seed` alone: the n-th request has the same fate in every run. Over 100 is
    /// as 100.
    #[must_use]
    pub fn share(mut self, percent: u8, seed: u64) -> Self {
        self.share = Some(Share {
            percent,
            seed,
            drawn: 0,
        });
        self
    }

    /// What goes wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

impl Share {
    /// The next draw.
    fn hits(&mut self) -> bool {
        self.drawn = self.drawn.wrapping_add(1);
        mix(self.seed, self.drawn) % 100 < u64::from(self.percent)
    }
}

/// The n-th number of the generator `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom
/// number generators", 2014).
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The rules that were set.
#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    rules: Vec<FaultRule>,
    set: Timestamp,
}

impl FaultBook {
    pub(crate) fn new(rules: Vec<FaultRule>, now: Timestamp) -> Self {
        Self { rules, set: now }
    }

    /// The rules that may still befall a request, each with what is left of it.
    pub(crate) fn in_force(&self, now: Timestamp) -> Vec<FaultRule> {
        let left = |rule: &FaultRule| {
            let extent = left(rule.extent, self.set, now)?;
            let mut rule = rule.clone();
            rule.extent = extent;
            Some(rule)
        };
        self.rules.iter().filter_map(left).collect()
    }

    /// What befalls a request of `method` on its way; `pool` is the one that it is about.
    pub(crate) fn take_transport(
        &mut self,
        method: Method,
        pool: Option<&PoolName>,
        now: Timestamp,
    ) -> Option<Fault> {
        self.take(method, pool, now, |fault| !fault.is_about_certificates())
    }

    /// What befalls the next certificate of `pool`.
    pub(crate) fn take_certificate(
        &mut self,
        pool: &PoolName,
        now: Timestamp,
    ) -> Option<CertificateFault> {
        let create = Method::CreateCertificate;
        match self.take(create, Some(pool), now, Fault::is_about_certificates)? {
            Fault::Certificate(fault) => Some(fault),
            _ => None,
        }
    }

    fn take(
        &mut self,
        method: Method,
        pool: Option<&PoolName>,
        now: Timestamp,
        fits: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        let is_at = |selector: &PoolSelector| pool.is_some_and(|pool| selector.selects(pool));
        let rule = self.rules.iter_mut().find_map(|rule| {
            let may = fits(&rule.fault)
                && rule.on.is_none_or(|on| on == method)
                && rule.pool.as_ref().is_none_or(is_at)
                && left(rule.extent, self.set, now).is_some();
            // Only what may befall the request at all is drawn.
            (may && rule.share.as_mut().is_none_or(Share::hits)).then_some(rule)
        })?;
        if let Extent::Next(times) = &mut rule.extent {
            *times -= 1;
        }
        Some(rule.fault.clone())
    }
}

/// What is left of an extent that began at `set`; none if it is over.
fn left(extent: Extent, set: Timestamp, now: Timestamp) -> Option<Extent> {
    match extent {
        Extent::Next(0) => None,
        // A clock that stepped back begins anew: it never makes a rule longer than it was.
        Extent::During(span) => {
            let left = span - now.duration_since(set).max(SignedDuration::ZERO);
            left.is_positive().then_some(Extent::During(left))
        }
        Extent::Next(_) | Extent::Always => Some(extent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn pool(id: &str) -> PoolName {
        PoolName::new("p", "l", id).unwrap()
    }

    #[test]
    fn a_rule_for_a_pool_is_not_used_up_by_requests_for_others_or_for_none() {
        let rules = vec![
            FaultRule::next(1, Fault::Hang).at(pool("a").into()),
            FaultRule::next(1, Fault::Certificate(CertificateFault::IsCa)).at("a".parse().unwrap()),
        ];
        let mut book = FaultBook::new(rules, at(0));
        for other in [None, Some(&pool("b"))] {
            assert_eq!(
                book.take_transport(Method::GetCaPool, other, at(0)),
                None,
                "{other:?}"
            );
        }
        assert_eq!(book.take_certificate(&pool("b"), at(0)), None);
        assert_eq!(book.in_force(at(0)).len(), 2);
        assert_eq!(
            book.take_transport(Method::GetCaPool, Some(&pool("a")), at(0)),
            Some(Fault::Hang)
        );
        assert_eq!(
            book.take_certificate(&pool("a"), at(0)),
            Some(CertificateFault::IsCa)
        );
        assert_eq!(book.in_force(at(0)), []);
    }

    #[test]
    fn a_rule_is_used_up_and_the_next_takes_over() {
        let rules = vec![
            FaultRule::next(2, Fault::Hang).on(Method::GetCaPool),
            FaultRule::next(1, Fault::Certificate(CertificateFault::IsCa)),
            FaultRule::always(Fault::CloseBefore),
        ];
        let mut book = FaultBook::new(rules, at(0));
        for (method, fault) in [
            (Method::GetCaPool, Fault::Hang),
            (Method::FetchCaCerts, Fault::CloseBefore),
            (Method::GetCaPool, Fault::Hang),
            (Method::GetCaPool, Fault::CloseBefore),
        ] {
            assert_eq!(book.take_transport(method, None, at(0)), Some(fault));
        }
        let mut certificate = || book.take_certificate(&pool("a"), at(0));
        assert_eq!(certificate(), Some(CertificateFault::IsCa));
        assert_eq!(certificate(), None);
        assert_eq!(
            book.in_force(at(0)),
            [FaultRule::always(Fault::CloseBefore)]
        );
    }

    #[test]
    fn a_rule_for_a_while_ends_by_the_clock() {
        let span = SignedDuration::from_secs(60);
        let mut book = FaultBook::new(vec![FaultRule::during(span, Fault::Hang)], at(0));
        let mut takes = |second| {
            book.take_transport(Method::Other, None, at(second))
                .is_some()
                && book.in_force(at(second)).len() == 1
        };
        assert!(takes(-10) && takes(0) && takes(59));
        assert!(!takes(60) && !takes(1000));
        assert_eq!(
            book.in_force(at(45)),
            [FaultRule::during(
                SignedDuration::from_secs(15),
                Fault::Hang
            )]
        );
    }

    /// The fates of `count` requests under a share.
    fn draws(percent: u8, seed: u64, count: usize) -> Vec<bool> {
        let rule = FaultRule::always(Fault::LostReply).share(percent, seed);
        let mut book = FaultBook::new(vec![rule], at(0));
        let draw = || {
            book.take_transport(Method::CreateCertificate, None, at(0))
                .is_some()
        };
        std::iter::repeat_with(draw).take(count).collect()
    }

    #[test]
    fn a_share_is_the_same_in_every_run_and_near_its_percentage() {
        for seed in [0, 1, 7, u64::MAX] {
            let fates = draws(30, seed, 10_000);
            assert_eq!(fates, draws(30, seed, 10_000));
            let hits = fates.iter().filter(|hit| **hit).count();
            // Four standard deviations, and a bit.
            assert!((2_800..=3_200).contains(&hits), "{seed}: {hits}");
        }
        assert_ne!(draws(30, 1, 100), draws(30, 2, 100));
        assert!(draws(100, 1, 1_000).iter().all(|hit| *hit));
        assert!(!draws(0, 1, 1_000).iter().any(|hit| *hit));
    }

    #[test]
    fn a_share_counts_its_times_by_hits_and_leaves_the_rest_to_the_next_rule() {
        let rules = vec![
            FaultRule::next(5, Fault::Hang).share(50, 3),
            FaultRule::always(Fault::CloseBefore),
        ];
        let mut book = FaultBook::new(rules, at(0));
        let faults: Vec<_> = (0..100)
            .filter_map(|_| book.take_transport(Method::Other, None, at(0)))
            .collect();
        assert_eq!(faults.len(), 100);
        assert_eq!(
            faults.iter().filter(|fault| **fault == Fault::Hang).count(),
            5
        );
        assert_ne!(faults[..5], vec![Fault::Hang; 5], "half of them miss");
    }
}
