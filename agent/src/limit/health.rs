//! Whether a pool answers at all. Pure: the time is an argument.
//!
//! A pool that has been silent for a whole budget is away: whoever has nothing under way there
//! begins with the next pool, for nothing can have been sold to it there. One of them at a time is
//! let through to find out, and the first answer brings the pool back for all.
use jiff::{SignedDuration, Timestamp};

/// How long a pool must be silent to be away: the budget of a first issue.
const BUDGET: SignedDuration = SignedDuration::from_secs(60);
/// And how many attempts must have failed: two blips with a pause between them are no outage.
const ATTEMPTS: u32 = 3;
/// The first probe comes after this time; the pauses double.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// The longest pause between two probes.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// What was asked when no answer came, or one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// For a certificate.
    Purchase,
    /// To be looked at.
    Look,
}

/// What is remembered of a pool's silence.
#[derive(Debug, Default)]
pub(super) struct Health {
    silence: Option<Silence>,
    away: Option<Away>,
}

#[derive(Debug)]
struct Silence {
    since: Timestamp,
    attempts: u32,
    /// A purchase was among them, so that only the answer to a purchase ends it.
    purchase: bool,
}

#[derive(Debug)]
struct Away {
    next_probe: Timestamp,
    pause: SignedDuration,
}

impl Health {
    /// The pool is away.
    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// An answer came, a no as well as a yes. Gives whether that brought the pool back.
    pub(super) fn answered(&mut self, asked: Asked) -> bool {
        // Some outages leave the looks alone.
        let ends = asked == Asked::Purchase || !self.silence.as_ref().is_some_and(|s| s.purchase);
        if !ends {
            return false;
        }
        self.silence = None;
        self.away.take().is_some()
    }

    /// No usable answer came to an attempt that began at `began`. Gives whether that made the
    /// pool away.
    pub(super) fn silent(&mut self, asked: Asked, began: Timestamp, now: Timestamp) -> bool {
        let silence = self.silence.get_or_insert(Silence {
            since: began,
            attempts: 0,
            purchase: false,
        });
        // A clock that was set back must not make a silence longer than it is.
        silence.since = silence.since.min(began).min(now);
        silence.attempts = silence.attempts.saturating_add(1);
        silence.purchase |= asked == Asked::Purchase;
        let is_long = now.duration_since(silence.since) >= BUDGET && silence.attempts >= ATTEMPTS;
        if !is_long || self.away.is_some() {
            return false;
        }
        self.away = Some(Away {
            next_probe: after(now, FIRST_PAUSE),
            pause: FIRST_PAUSE,
        });
        true
    }

    /// Whether the caller may find out if a pool that is away is back. Nobody else may for a
    /// while then.
    pub(super) fn may_probe(&mut self, now: Timestamp) -> bool {
        let Some(away) = &mut self.away else {
            return false;
        };
        let wait = away.next_probe.duration_since(now);
        // A longer wait than any comes from a clock that was set back.
        if wait.is_positive() && wait <= LONGEST_PAUSE {
            return false;
        }
        away.pause = (away.pause * 2).min(LONGEST_PAUSE);
        away.next_probe = after(now, away.pause);
        true
    }
}

fn after(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Asked::*, *};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// Away since second 63.
    fn away() -> Health {
        let mut health = Health::default();
        for (began, now) in [(0, 20), (21, 41), (43, 63)] {
            let became = health.silent(Purchase, at(began), at(now));
            assert_eq!(became, now == 63);
        }
        health
    }

    #[test]
    fn a_budget_of_silence_makes_a_pool_away_and_one_answer_brings_it_back() {
        let mut health = away();
        assert!(health.is_away());
        assert!(
            !health.silent(Purchase, at(63), at(64)),
            "it is away already"
        );
        assert!(health.answered(Purchase));
        assert!(!health.is_away());
        assert!(!health.answered(Purchase));
        assert!(!health.silent(Purchase, at(65), at(85)), "it begins anew");
    }

    #[test]
    fn two_blips_with_a_pause_between_them_are_no_outage() {
        let mut health = Health::default();
        assert!(!health.silent(Purchase, at(0), at(0)));
        assert!(!health.silent(Purchase, at(3600), at(3600)));
        assert!(health.silent(Purchase, at(3601), at(3601)));
    }

    #[test]
    fn an_answer_to_a_look_says_nothing_about_purchases() {
        let mut health = away();
        assert!(!health.answered(Look));
        assert!(health.is_away());
        let mut health = Health::default();
        for now in [0, 30, 61] {
            health.silent(Look, at(now), at(now));
        }
        assert!(health.is_away());
        assert!(health.answered(Look));
    }

    #[test]
    fn one_at_a_time_probes_after_30_seconds_and_then_ever_more_rarely() {
        let mut health = away();
        let mut probes = Vec::new();
        for second in 63..1500 {
            if health.may_probe(at(second)) {
                assert!(!health.may_probe(at(second)), "one at a time");
                health.silent(Purchase, at(second), at(second));
                probes.push(second - 63);
            }
        }
        assert_eq!(probes, [30, 90, 210, 450, 750, 1050, 1350]);
        assert!(
            !Health::default().may_probe(at(0)),
            "nobody asks about a healthy pool"
        );
    }

    #[test]
    fn a_clock_that_was_set_back_puts_no_probe_off() {
        let mut health = away();
        assert!(health.may_probe(at(-86_400)));
        assert!(!health.may_probe(at(-86_400)));
    }
}
