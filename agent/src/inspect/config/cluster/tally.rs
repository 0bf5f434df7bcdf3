//! The requests of a signer in numbers.
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::super::cluster::{Request, Requests, SETTLING, State};

/// What was refused longer ago is history.
const LATELY: SignedDuration = SignedDuration::from_hours(1);
/// More reasons than the controller knows are counted together.
const MOST_REASONS: usize = 32;
const OTHER: &str = "other reasons";

/// How many there are of each kind, with their reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tally {
    pub(super) pending: usize,
    /// Approved, and not signed; by what the controller says of it.
    pub(super) unsigned: BTreeMap<String, usize>,
    /// In the last hour.
    pub(super) denied: BTreeMap<String, usize>,
    /// In the last hour.
    pub(super) failed: BTreeMap<String, usize>,
    pub(super) signed: usize,
    /// There are more than were counted.
    pub(super) is_cut: bool,
}

/// The first of those that something is wrong with.
#[derive(Clone, Debug, Default)]
pub(super) struct Firsts<'a> {
    /// Nobody has decided for too long; the oldest.
    pub(super) undecided: Option<&'a Request>,
    /// Not signed for a reason, or for too long; the oldest.
    pub(super) unsigned: Option<&'a Request>,
    /// Denied or failed lately; the newest.
    pub(super) refused: Option<&'a Request>,
    /// A node asked for another's pod; the newest.
    pub(super) alarm: Option<&'a Request>,
}

impl Tally {
    pub(super) fn of(requests: &Requests, now: Timestamp) -> (Self, Firsts<'_>) {
        let mut tally = Self {
            is_cut: requests.is_cut,
            ..Self::default()
        };
        let mut firsts = Firsts::default();
        // The newest comes first.
        for one in &requests.all {
            let since = one.since.or(one.created);
            let is_within = |span| since.is_some_and(|since| now.duration_since(since) < span);
            match &one.state {
                State::Pending => {
                    tally.pending += 1;
                    if !is_within(SETTLING) {
                        firsts.undecided = Some(one);
                    }
                }
                State::Unsigned(reason) => {
                    let said = reason.as_ref().map_or("not said why", |one| &one.reason);
                    add(&mut tally.unsigned, said);
                    if reason.is_some() || !is_within(SETTLING) {
                        firsts.unsigned = Some(one);
                    }
                }
                State::Denied(reason) if is_within(LATELY) => {
                    add(&mut tally.denied, &reason.reason);
                    if one.is_alarm() {
                        firsts.alarm = firsts.alarm.or(Some(one));
                    }
                    firsts.refused = firsts.refused.or(Some(one));
                }
                State::Failed(reason) if is_within(LATELY) => {
                    add(&mut tally.failed, &reason.reason);
                    firsts.refused = firsts.refused.or(Some(one));
                }
                State::Denied(_) | State::Failed(_) => {}
                State::Signed => tally.signed += 1,
            }
        }
        (tally, firsts)
    }
}

fn add(counts: &mut BTreeMap<String, usize>, reason: &str) {
    let reason = if counts.len() < MOST_REASONS || counts.contains_key(reason) {
        reason
    } else {
        OTHER
    };
    *counts.entry(reason.to_owned()).or_default() += 1;
}

/// How many in all.
pub(super) fn all(counts: &BTreeMap<String, usize>) -> usize {
    counts.values().sum()
}
