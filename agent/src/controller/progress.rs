//! What is known of the purchase for one request: whose turn it is, what may have been sold, and what
//! was bought and is not written yet.
use std::fmt;

use certagent_core::{
    issued::IssuedChain,
    outcome::{self, Budget, Fate, Next, Sending},
    pool::CaPoolName,
    request::{PreparedRequest, REPLAY_WINDOW},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{
    reason,
    sign::{Attempt, Waiting},
};
use crate::{
    config::ClusterState,
    issuer::{IssueError, Issuer},
    provision::FIRST_BUDGET,
};

/// In what is said of a delay: nothing can have been sold. Whoever has said so says the other before it
/// asks for something. That and the pool are all that a process leaves for the next one.
const CLEAN: &str = "; nothing was issued yet";
/// What stands before the moment until which nothing can have been sold.
const NOTHING: &str = "; nothing was issued before ";
/// What stands before the moment of the next attempt.
const AGAIN: &str = "; it is tried again ";
/// What stands before the pool that is asked next, at the end.
const AT: &str = ", at ";

/// One attempt, and what is known from those before it.
#[derive(Debug)]
pub(super) struct Progress {
    /// Which pool's turn it is, and since when.
    turn: Option<(CaPoolName, Timestamp)>,
    /// The pools that have refused in this round.
    asked: Vec<CaPoolName>,
    /// The pool may have sold something for which nothing has come back.
    pub(super) is_open: bool,
    /// Attempts in a row that brought nothing.
    pub(super) failures: u32,
    /// Since when something may have been asked for: as long as that is not too long ago, CA Service
    /// recognises a repetition.
    pub(super) begun: Timestamp,
    /// It has let others go first.
    has_waited: bool,
    /// What was bought, and not written yet. Few have it, and thousands may wait.
    bought: Option<Box<(IssuedChain, PreparedRequest)>>,
}

impl Progress {
    /// Nothing was asked for before `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            turn: None,
            asked: Vec::new(),
            is_open: false,
            failures: 0,
            begun: now,
            has_waited: false,
            bought: None,
        }
    }

    /// What an earlier process left since it `approved`: the pool that it asked last stands in what it
    /// said, and how long ago the first thing can have been sold.
    pub(super) fn resumed(said: Option<&str>, approved: Timestamp, now: Timestamp) -> Self {
        let pool = said.and_then(told_pool);
        let begun = match said.and_then(told_sold) {
            Some(Sold::Nothing) => None,
            Some(Sold::Since(begun)) => Some(begun.max(approved)),
            None => Some(approved),
        };
        Self {
            turn: pool.map(|pool| (pool, now)),
            is_open: begun.is_some(),
            has_waited: true,
            ..Self::new(begun.unwrap_or(now).min(now))
        }
    }

    /// What can have been sold by `now`. Whoever waits for the `next` attempt says more before it asks
    /// for anything; whoever does not asks at once.
    pub(super) fn sold(&self, next: Option<Timestamp>, now: Timestamp) -> Sold {
        match next {
            _ if self.is_open() => Sold::Since(self.begun),
            Some(_) => Sold::Nothing,
            None => Sold::Since(now),
        }
    }

    /// A certificate may have been sold that nobody has.
    pub(super) fn is_open(&self) -> bool {
        self.is_open || self.bought.is_some()
    }

    /// Nothing is open any more: it was written, or counted.
    pub(super) fn close(&mut self) {
        (self.is_open, self.bought) = (false, None);
    }

    /// Keeps what was bought until it is written.
    pub(super) fn keep(&mut self, chain: &IssuedChain, request: &PreparedRequest) {
        self.bought = Some(Box::new((chain.clone(), request.clone())));
    }

    /// A certificate stands in the object, whoever wrote it. Whoever asks with the same ids gets the
    /// same one, so unless it is known to be another one, nothing is lost.
    pub(super) fn see(&mut self, there: &[u8]) {
        let is_ours = self
            .bought
            .as_ref()
            .is_none_or(|bought| bought.0.chain().to_pem().as_bytes() == there);
        if is_ours {
            self.close();
        }
    }

    /// What was bought already.
    pub(super) fn bought(&self) -> Option<Attempt> {
        let (chain, request) = *self.bought.clone()?;
        Some(Attempt::Issued {
            chain: Box::new(chain),
            request: Box::new(request),
        })
    }

    /// An old request that nobody has approved lets newer ones go first, once.
    pub(super) fn lets_others_go_first(
        &mut self,
        csr: &CertificateSigningRequest,
        now: Timestamp,
    ) -> bool {
        let made = csr.metadata.creation_timestamp.as_ref();
        let age = made.map_or(SignedDuration::ZERO, |made| now.duration_since(made.0));
        !std::mem::replace(&mut self.has_waited, true) && age >= REPLAY_WINDOW
    }

    /// The configuration no longer names the pool that may have sold something: gives whether one is
    /// lost with it.
    pub(super) fn lose_pool(&mut self, state: &ClusterState) -> bool {
        let Some(active) = &state.active else {
            return false;
        };
        let pools = &active.config.certificates.pools;
        let is_lost = self
            .turn
            .as_ref()
            .is_some_and(|(pool, _)| !pools.contains(pool));
        if is_lost {
            self.turn = None;
        }
        is_lost && std::mem::take(&mut self.is_open)
    }

    /// The pool that is asked next.
    pub(super) fn next_pool<'a>(&'a self, pools: &'a [CaPoolName]) -> Option<&'a CaPoolName> {
        let turn = self.turn.as_ref().map(|(pool, _)| pool);
        let not_asked = || pools.iter().find(|pool| !self.asked.contains(pool));
        turn.or_else(not_asked).or(pools.first())
    }

    /// The pool whose turn it is. With nothing open, one that has not answered for long gives way to
    /// another that was not asked yet.
    pub(super) fn choose(
        &mut self,
        pools: &[CaPoolName],
        issuer: &dyn Issuer,
        now: Timestamp,
    ) -> (Option<CaPoolName>, Timestamp) {
        self.asked.retain(|asked| pools.contains(asked));
        if self.is_open && self.turn.is_none() && self.asked.is_empty() {
            // An earlier process may have asked it, and named no other.
            self.turn = pools.first().map(|pool| (pool.clone(), now));
        }
        let open = || pools.iter().filter(|pool| !self.asked.contains(pool));
        let answers = |pool: &&CaPoolName| !issuer.is_away(pool) || issuer.may_probe(pool);
        let is_away = |(pool, _): &(CaPoolName, Timestamp)| {
            !self.is_open && open().nth(1).is_some() && !answers(&pool)
        };
        if self.turn.as_ref().is_none_or(is_away) {
            let has_choice = open().nth(1).is_some();
            let next = open().find(|pool| !has_choice || answers(pool));
            let next = next.or_else(|| open().next()).or(pools.first());
            self.turn = next.map(|pool| (pool.clone(), now));
        }
        match &self.turn {
            Some((pool, since)) => (Some(pool.clone()), (*since).min(now)),
            None => (None, now),
        }
    }

    /// What follows from a failure, by the table.
    pub(super) fn failed(
        &mut self,
        pools: &[CaPoolName],
        error: &IssueError,
        sending: Sending,
        since: Timestamp,
        now: Timestamp,
    ) -> Attempt {
        let budget = match (is_spent(since, now), pools.len() > 1) {
            (false, _) => Budget::Left,
            (true, true) => Budget::Spent,
            (true, false) => Budget::SpentAlone,
        };
        let ruling = outcome::rule(error.class(), sending, budget);
        let is_abandoned = ruling.fate == Fate::Abandoned;
        self.is_open = match ruling.fate {
            Fate::KeptOpen => true,
            Fate::Kept => self.is_open,
            Fate::Dropped | Fate::Abandoned => false,
        };
        if ruling.next == Next::NewKey {
            // The key is the node's: only another object has another one.
            return Attempt::Failed {
                reason: "CertificateLost",
                message: error.to_string(),
                is_abandoned,
            };
        }
        let waiting = Waiting {
            reason: reason::of_pool(error),
            message: error.to_string(),
            pace: ruling.pace,
            retry_after: error.retry_after().and_then(|wait| wait.try_into().ok()),
            is_abandoned,
        };
        if ruling.next == Next::NextPool {
            return self.pass_over(error.pool(), pools, waiting);
        }
        Attempt::Waiting(waiting)
    }

    /// Goes on with the next pool, at once if there is one that was not asked in this round.
    pub(super) fn pass_over(
        &mut self,
        pool: &CaPoolName,
        pools: &[CaPoolName],
        waiting: Waiting,
    ) -> Attempt {
        self.asked.push(pool.clone());
        self.turn = None;
        if pools.iter().any(|pool| !self.asked.contains(pool)) {
            return Attempt::Next(waiting);
        }
        self.asked.clear();
        Attempt::Waiting(waiting)
    }
}

/// What can have been sold for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sold {
    Nothing,
    /// Nothing before that.
    Since(Timestamp),
}

/// What is said of a delay.
pub(super) struct Delay<'a> {
    pub(super) why: &'a str,
    pub(super) sold: Sold,
    /// When it is tried again; without it at once.
    pub(super) next: Option<Timestamp>,
    /// The pool that is asked then.
    pub(super) pool: Option<&'a CaPoolName>,
}

impl fmt::Display for Delay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)?;
        match self.sold {
            Sold::Nothing => f.write_str(CLEAN),
            Sold::Since(begun) => write!(f, "{NOTHING}{begun:.0}"),
        }?;
        f.write_str(AGAIN)?;
        match self.next {
            None => f.write_str("at once"),
            Some(next) => write!(f, "at {next:.0}"),
        }?;
        self.pool.map_or(Ok(()), |pool| write!(f, "{AT}{pool}"))
    }
}

/// The pool in what was said.
pub(super) fn told_pool(said: &str) -> Option<CaPoolName> {
    said.rsplit_once(AT)?.1.parse().ok()
}

/// What can have been sold, in what was said.
fn told_sold(said: &str) -> Option<Sold> {
    let (before, _) = said.rsplit_once(AGAIN)?;
    if before.ends_with(CLEAN) {
        return Some(Sold::Nothing);
    }
    let begun = before.rsplit_once(NOTHING)?.1.parse().ok()?;
    Some(Sold::Since(begun))
}

/// It was said that nothing was sold.
pub(super) fn is_clean(said: &str) -> bool {
    told_sold(said) == Some(Sold::Nothing)
}

/// What has to be said before something is asked for, where it was said that nothing was sold; none
/// where it was not.
pub(super) fn dirtied(said: &str, now: Timestamp) -> Option<String> {
    let (before, _) = said.rsplit_once(AGAIN)?;
    let pool = told_pool(said);
    let delay = Delay {
        why: before.strip_suffix(CLEAN)?,
        sold: Sold::Since(now),
        next: None,
        pool: pool.as_ref(),
    };
    Some(delay.to_string())
}

/// A pool has had its time.
pub(super) fn is_spent(since: Timestamp, now: Timestamp) -> bool {
    now >= since.saturating_add(FIRST_BUDGET).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_next_process_needs_can_be_read_back_from_what_is_said() {
        let name = |id| {
            format!(
                "//privateca.googleapis.com/projects/my-project/locations/us-central1/caPools/{id}"
            )
        };
        let pool: CaPoolName = name("next").parse().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let why = format!(
            "nobody answers at {}, at last, at {}",
            name("one"),
            name("two")
        );
        for (next, sold) in [(None, Sold::Since(now)), (Some(now), Sold::Nothing)] {
            let mut delay = Delay {
                why: &why,
                sold,
                next,
                pool: Some(&pool),
            };
            let said = delay.to_string();
            assert_eq!(told_pool(&said), Some(pool.clone()), "{said}");
            assert_eq!(told_sold(&said), Some(sold), "{said}");
            let then = dirtied(&said, now);
            assert_eq!(then.is_some(), sold == Sold::Nothing, "{said}");
            if let Some(then) = then {
                assert_eq!(told_pool(&then), Some(pool.clone()), "{then}");
                assert_eq!(told_sold(&then), Some(Sold::Since(now)), "{then}");
                assert!(then.starts_with(&why), "{then}");
            }
            delay.pool = None;
            let said = delay.to_string();
            assert_eq!(told_pool(&said), None, "{said}");
            assert_eq!(told_sold(&said), Some(sold), "{said}");
        }
        // What a CA says is in it, too: only the end of it counts.
        for end in [CLEAN, "; nothing was issued before 2999-01-01T00:00:00Z"] {
            let why = format!("{why}{end}{AGAIN}at once{end}");
            let delay = Delay {
                why: &why,
                sold: Sold::Since(now),
                next: None,
                pool: None,
            };
            assert_eq!(told_sold(&delay.to_string()), Some(Sold::Since(now)));
        }
        assert_eq!(told_sold(&why), None);
        assert_eq!(told_pool(""), None);
    }
}
