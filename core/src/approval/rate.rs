//! A12: how often one pod may have a certificate.
use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// Certificates that a pod may have in the time in which one is valid, on average.
const PER_VALIDITY: u32 = 50;

/// Certificates that a pod may have at once.
const BURST: i32 = 5;

/// The limit for all pods: for each UID one approval per fiftieth of the validity, and five at
/// once. A stolen node may ask for its pods' certificates, but must not use up the pool's quota.
///
/// It knows only the pods whose approvals count at present; a restart forgets them all.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// By pod UID, when its allowance will be whole again.
    whole_at: HashMap<String, Timestamp>,
    /// How many pods there may be before the whole ones are looked for.
    sweep_at: usize,
}

/// One approval that a pod may have, counted already. [`RateLimit::take`] is its only maker.
///
/// It is for one request of one pod: whoever approves takes it away.
#[derive(Debug)]
#[must_use = "it is counted: use it, or give it back"]
pub struct Allowance {
    pod_uid: String,
    one: SignedDuration,
}

/// The pod was given several certificates lately. Never a reason to deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When there is an allowance for it.
    pub until: Timestamp,
}

impl RateLimit {
    /// Asks for one approval for a pod whose certificates are valid for so long. To be called when
    /// all other rules hold, so that only pods that exist are counted.
    ///
    /// # Errors
    ///
    /// It has to wait; nothing was counted.
    pub fn take(
        &mut self,
        pod_uid: &str,
        validity: Duration,
        now: Timestamp,
    ) -> Result<Allowance, Wait> {
        let one = SignedDuration::try_from(validity / PER_VALIDITY).unwrap_or(SignedDuration::MAX);
        let all = one.saturating_mul(BURST);
        self.sweep(now);
        let whole_at = self.whole_at.entry(pod_uid.to_owned()).or_insert(now);
        // A clock that was stepped back leaves an allowance that is empty, not one in debt.
        *whole_at = (*whole_at).clamp(now, later(now, all));
        room(*whole_at, one, all, now)?; // A12
        *whole_at = later(*whole_at, one);
        let pod_uid = pod_uid.to_owned();
        Ok(Allowance { pod_uid, one })
    }

    /// Gives back what nobody used: the approval was not written.
    pub fn give_back(&mut self, Allowance { pod_uid, one }: Allowance) {
        if let Some(whole_at) = self.whole_at.get_mut(&pod_uid) {
            *whole_at = whole_at.saturating_sub(one).unwrap_or(Timestamp::MIN);
        }
    }

    /// Pods that are remembered.
    pub fn len(&self) -> usize {
        self.whole_at.len()
    }

    /// No pod is remembered.
    pub fn is_empty(&self) -> bool {
        self.whole_at.is_empty()
    }

    /// Forgets the pods whose allowance is whole, each time that their number has doubled: at most
    /// twice as many are remembered as count, at a constant price for each call.
    fn sweep(&mut self, now: Timestamp) {
        const LEAST: usize = 64;
        if self.whole_at.len() < self.sweep_at.max(LEAST) {
            return;
        }
        self.whole_at.retain(|_, whole_at| *whole_at > now);
        self.whole_at.shrink_to(self.whole_at.len() * 2);
        self.sweep_at = self.whole_at.len() * 2;
    }
}

/// Whether one more is left of an allowance that will be whole at `whole_at`.
fn room(
    whole_at: Timestamp,
    one: SignedDuration,
    all: SignedDuration,
    now: Timestamp,
) -> Result<(), Wait> {
    if later(whole_at, one) <= later(now, all) {
        return Ok(());
    }
    let until = later(whole_at, one.saturating_sub(all));
    Err(Wait { until })
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(if by.is_negative() {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
