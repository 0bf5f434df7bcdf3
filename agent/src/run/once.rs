//! How long `--once` tries, what it is still waiting for, and what it says when that does not come.
use std::fmt;

use certagent_core::plan;
use certagent_svid::{SpiffeId, TrustDomain};
use jiff::{SignedDuration, Timestamp};
use tracing::error;

use crate::{cas::transport::ATTEMPT, provision, status::VolumeStatus, trust::Trust};

/// How long `--once` tries: for each pool the time that is spent on it before the next one is
/// asked, and the attempt that is under way by then.
pub(super) fn patience(pools: usize) -> SignedDuration {
    let attempt = SignedDuration::try_from(ATTEMPT).unwrap_or_default();
    let each = provision::FIRST_BUDGET.saturating_add(attempt);
    each.saturating_mul(i32::try_from(pools.max(1)).unwrap_or(i32::MAX))
}

/// The volumes without a credential that is valid and leads to a trusted root.
pub(super) struct Missing<'a> {
    trust: &'a Trust,
    volumes: Vec<&'a VolumeStatus>,
    /// How many of them hold a valid credential all the same.
    distrusted: usize,
    all: usize,
}

impl<'a> Missing<'a> {
    pub(super) fn of(statuses: &'a [VolumeStatus], trust: &'a Trust, now: Timestamp) -> Self {
        let is_distrusted = |status: &&VolumeStatus| status.is_valid(now) && status.is_distrusted;
        let volumes = statuses.iter();
        Self {
            trust,
            distrusted: statuses.iter().filter(is_distrusted).count(),
            volumes: volumes
                .filter(|status| !status.is_valid(now) || status.is_distrusted)
                .collect(),
            all: statuses.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.volumes.is_empty()
    }

    /// Nothing more will be tried before `give_up`, or nothing that is tried helps: every root is
    /// distrusted, and no anchor has still to answer.
    pub(super) fn is_hopeless(&self, give_up: Timestamp) -> bool {
        let is_over = |status: &&VolumeStatus| {
            let stripped = trust_domain(status).is_some_and(|domain| {
                self.trust.is_stripped(&domain) && self.trust.is_complete(&domain)
            });
            let waits = status.is_hopeless || status.next_attempt > give_up;
            status.failures > 0 && (stripped || waits)
        };
        !self.is_empty() && self.volumes.iter().all(is_over)
    }

    /// Names the volumes of which nothing was said yet; a failure was when it happened.
    pub(super) fn tell(&self) {
        for status in &self.volumes {
            if status.last_error.is_none() {
                error!(volume = %status.path.display(), "it was not reached in time");
            }
        }
    }

    /// What is said at the end: because the time is over, or because nothing is to be waited for.
    pub(super) fn at_last(&self, is_hopeless: bool) -> String {
        match (self.distrusted, is_hopeless) {
            (0, false) => format!("{self}; the errors above say why"),
            (0, true) => format!(
                "{self}; the errors above say why, and --once does not wait for a change of that"
            ),
            _ => self.to_string(),
        }
    }

    /// What is said where a signal came first.
    pub(super) fn interrupted(&self) -> String {
        let left = if self.is_empty() {
            "a renewal that is due is not done".to_owned()
        } else {
            self.to_string()
        };
        format!(
            "a signal ended --once before it was done: {left}; what was begun is taken up at the next start"
        )
    }

    /// The first trust domain of which no root is left.
    fn stripped(&self) -> Option<TrustDomain> {
        let mut domains = self
            .volumes
            .iter()
            .filter_map(|status| trust_domain(status));
        domains.find(|domain| self.trust.is_stripped(domain))
    }
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            all, distrusted, ..
        } = *self;
        let without = self.volumes.len() - distrusted;
        if without > 0 {
            let (volumes, have) = (plural(all), if without == 1 { "has" } else { "have" });
            write!(f, "{without} of {all} {volumes} {have} no valid credential")?;
        }
        if distrusted == 0 {
            return Ok(());
        }
        if without > 0 {
            f.write_str(", and ")?;
        }
        let (volumes, keep) = (plural(all), if distrusted == 1 { "keeps" } else { "keep" });
        write!(f, "{distrusted} of {all} {volumes} {keep} ")?;
        match self.stripped() {
            Some(domain) => write!(
                f,
                "all files as they were, with a certificate below a root that is not to be trusted \
                 and with that root, because --distrust names every root of {domain}; add an \
                 anchor with another root to the TrustConfig, and a pool below it as endpointURI \
                 or in fallbackURIs, and run this again"
            ),
            None => f.write_str(
                "a certificate and key that need a root which --distrust names: that root is out \
                 of the bundle, and peers with the same bundle refuse the certificate; name a pool \
                 below another root as endpointURI or in fallbackURIs, and run this again",
            ),
        }
    }
}

fn plural(volumes: usize) -> &'static str {
    if volumes == 1 { "volume" } else { "volumes" }
}

fn trust_domain(status: &VolumeStatus) -> Option<TrustDomain> {
    let id: SpiffeId = status.spiffe_id.parse().ok()?;
    plan::trust_domain(&id)
}

#[cfg(test)]
mod tests {
    use certagent_core::config::TrustPolicy;

    use super::*;
    use crate::admin::fixture::{at, status};

    #[test]
    fn one_volume_is_told_as_one_and_more_as_more() {
        let trust = Trust::new(&TrustPolicy {
            stores: std::collections::BTreeMap::new(),
        });
        let told = |statuses: &[VolumeStatus]| Missing::of(statuses, &trust, at(5)).at_last(false);
        let (good, bad) = (status("/a", Some(60), 0), status("/b", None, 1));
        assert_eq!(
            told(std::slice::from_ref(&bad)),
            "1 of 1 volume has no valid credential; the errors above say why"
        );
        assert_eq!(
            told(&[good.clone(), bad.clone()]),
            "1 of 2 volumes has no valid credential; the errors above say why"
        );
        assert_eq!(
            told(&[good.clone(), bad.clone(), bad.clone()]),
            "2 of 3 volumes have no valid credential; the errors above say why"
        );
        let dropped = VolumeStatus {
            is_distrusted: true,
            ..good.clone()
        };
        let said = told(&[good.clone(), bad, dropped.clone()]);
        assert!(
            said.starts_with(
                "1 of 3 volumes has no valid credential, and 1 of 3 volumes keeps a certificate"
            ),
            "{said}"
        );
        assert!(Missing::of(&[good], &trust, at(5)).is_empty());
        let dropped = [dropped];
        let missing = Missing::of(&dropped, &trust, at(5));
        assert!(missing.interrupted().contains("taken up at the next start"));
    }
}
