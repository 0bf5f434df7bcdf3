//! How many requests a pool is sent: a token bucket whose rate shrinks when the pool says that it
//! is too much, and grows back. Pure: the time is an argument.
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A 429 leaves this share of the rate.
const SHRINK: f64 = 0.5;
/// However often the pool complains, this share of the nominal rate stays.
const LEAST: f64 = 1.0 / 32.0;
/// Seconds in which the rate grows by as much as the nominal rate.
const REGROWTH: f64 = 30.0;
/// What was sent before a complaint brings more of them: within this time they count as one.
const ONE_COMPLAINT: SignedDuration = SignedDuration::from_secs(1);
/// A wait longer than any that a pool is believed to mean comes from a clock that was set back.
const LONGEST_CLOSED: SignedDuration = SignedDuration::from_hours(1);

/// What rounding may take from a token.
const ROUNDING: f64 = 1e-9;

/// Seconds whose requests go at once. The pool takes a second's worth; what is less than that it has
/// left for requests that the network brings closer together than they were sent. Without it a single
/// one too early costs half of the rate.
const AT_ONCE: f64 = 0.8;

/// Requests per second, and so many at once.
#[derive(Debug)]
pub(super) struct Bucket {
    nominal: f64,
    rate: f64,
    tokens: f64,
    /// Nothing was taken yet.
    is_fresh: bool,
    seen: Timestamp,
    complained: Option<Timestamp>,
    closed_until: Option<Timestamp>,
}

impl Bucket {
    /// A full bucket of `nominal` requests per second.
    pub(super) fn new(nominal: f64, now: Timestamp) -> Self {
        Self {
            nominal,
            rate: nominal,
            tokens: burst(nominal),
            is_fresh: true,
            seen: now,
            complained: None,
            closed_until: None,
        }
    }

    /// The rate in force, in requests per second.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Another nominal rate, as more becomes known of the pool. A rate that was shrunk grows on
    /// from where it is.
    pub(super) fn set_nominal(&mut self, nominal: f64) {
        let was_whole = self.rate >= self.nominal;
        self.nominal = nominal;
        self.rate = if was_whole {
            nominal
        } else {
            self.rate.min(nominal)
        };
        self.tokens = if self.is_fresh {
            burst(self.rate)
        } else {
            self.tokens.min(burst(self.rate))
        };
    }

    /// How long the pool wants to be left alone from `now`, if it does.
    pub(super) fn closed_for(&mut self, now: Timestamp) -> Option<Duration> {
        self.advance(now);
        let until = self.closed_until?;
        Duration::try_from(until.duration_since(now)).ok()
    }

    /// When the next request may go; at or before `now` if it may go now.
    pub(super) fn next_slot(&mut self, now: Timestamp) -> Timestamp {
        self.advance(now);
        let missing = (1.0 - ROUNDING - self.tokens).max(0.0);
        let from = self.closed_until.map_or(now, |until| until.max(now));
        // A nanosecond more than reckoned, so that rounding never wakes anybody too early.
        let wait = SignedDuration::try_from_secs_f64(missing / self.rate)
            .unwrap_or(LONGEST_CLOSED)
            .saturating_add(SignedDuration::from_nanos(i64::from(missing > 0.0)));
        from.saturating_add(wait).unwrap_or(Timestamp::MAX)
    }

    /// One request goes.
    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
        self.is_fresh = false;
    }

    /// The pool said 429, and perhaps how long it wants to be left alone.
    pub(super) fn complaint(&mut self, now: Timestamp, wait: Option<Duration>) {
        self.advance(now);
        let wait = wait.and_then(|wait| SignedDuration::try_from(wait).ok());
        if let Some(wait) = wait.filter(SignedDuration::is_positive) {
            let until = now
                .saturating_add(wait.min(LONGEST_CLOSED))
                .unwrap_or(Timestamp::MAX);
            self.closed_until = self.closed_until.max(Some(until));
        }
        self.is_fresh = false;
        // What was saved up is what was too much.
        self.tokens = self.tokens.min(0.0);
        let is_the_same = self
            .complained
            .is_some_and(|at| now.duration_since(at) < ONE_COMPLAINT);
        if !is_the_same {
            self.complained = Some(now);
            self.rate = (self.rate * SHRINK).max(self.nominal * LEAST);
        }
    }

    /// Fills and grows up to `now`. A clock that was set back stops both until it runs on from
    /// there.
    fn advance(&mut self, now: Timestamp) {
        self.complained = self.complained.filter(|at| *at <= now);
        self.closed_until = self.closed_until.filter(|until| {
            let left = until.duration_since(now);
            left.is_positive() && left <= LONGEST_CLOSED
        });
        if self.closed_until.is_some() {
            // Nothing is saved up while the pool is left alone.
            self.seen = now;
            return;
        }
        let passed = now.duration_since(self.seen).as_secs_f64().max(0.0);
        self.seen = now;
        self.tokens = (self.tokens + passed * self.rate).min(burst(self.rate));
        self.rate = (self.rate + passed * self.nominal / REGROWTH).min(self.nominal);
    }
}

/// What goes at once, but never less than one request.
fn burst(rate: f64) -> f64 {
    (rate * AT_ONCE).max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    /// How many requests go at once.
    fn grants(bucket: &mut Bucket, now: Timestamp) -> u32 {
        let mut count = 0;
        while bucket.next_slot(now) <= now {
            bucket.take();
            count += 1;
        }
        count
    }

    #[test]
    fn most_of_a_second_s_worth_goes_at_once_and_then_as_many_a_second() {
        let mut bucket = Bucket::new(25.0, at(0));
        assert_eq!(grants(&mut bucket, at(0)), 20);
        assert_eq!(
            bucket.next_slot(at(0)).duration_since(at(0)).as_millis(),
            40
        );
        assert_eq!(grants(&mut bucket, at(39)), 0);
        assert_eq!(grants(&mut bucket, at(41)), 1);
        assert_eq!(grants(&mut bucket, at(801)), 19);
        assert_eq!(grants(&mut bucket, at(3_600_000)), 20);
    }

    #[test]
    fn a_complaint_halves_the_rate_once_a_second_and_it_grows_back() {
        let mut bucket = Bucket::new(25.0, at(0));
        for _ in 0..10 {
            bucket.complaint(at(0), None);
        }
        assert!((bucket.rate() - 12.5).abs() < 1e-9);
        assert_eq!(grants(&mut bucket, at(0)), 0, "the burst is gone");
        for second in 1..100 {
            bucket.complaint(at(second * 1000), None);
        }
        assert!((0.78..2.0).contains(&bucket.rate()), "{}", bucket.rate());
        for millis in (0..31_000).step_by(100) {
            bucket.next_slot(at(100_000 + millis));
        }
        assert!((bucket.rate() - 25.0).abs() < 1e-9);
    }

    #[test]
    fn a_pool_that_wants_to_be_left_alone_is_and_nothing_is_saved_up_meanwhile() {
        let mut bucket = Bucket::new(7.0, at(0));
        bucket.complaint(at(0), Some(Duration::from_secs(20)));
        bucket.complaint(at(0), Some(Duration::from_secs(10)));
        assert_eq!(bucket.closed_for(at(0)), Some(Duration::from_secs(20)));
        assert_eq!(grants(&mut bucket, at(19_999)), 0);
        let slot = bucket.next_slot(at(19_999)).duration_since(at(0));
        assert!(slot.as_millis() > 20_000, "{slot:?}");
        assert_eq!(bucket.closed_for(at(20_000)), None);
        assert_eq!(grants(&mut bucket, at(20_000)), 0);
        assert_eq!(grants(&mut bucket, at(20_600)), 2);
    }

    #[test]
    fn a_clock_that_was_set_back_closes_nothing_for_longer_than_an_hour() {
        let mut bucket = Bucket::new(7.0, at(0));
        bucket.complaint(at(0), Some(Duration::from_secs(3600)));
        let long_ago = at(-36_000_000);
        assert_eq!(bucket.closed_for(long_ago), None);
        assert_eq!(grants(&mut bucket, long_ago), 0);
        assert_eq!(grants(&mut bucket, at(-35_999_000)), 2);
    }

    #[test]
    fn what_becomes_known_of_a_pool_changes_the_rate() {
        let mut bucket = Bucket::new(7.0, at(0));
        bucket.set_nominal(25.0);
        assert_eq!(grants(&mut bucket, at(0)), 20, "nothing was taken before");
        bucket.set_nominal(50.0);
        assert!((bucket.rate() - 50.0).abs() < 1e-9);
        assert_eq!(grants(&mut bucket, at(0)), 0);
        assert_eq!(grants(&mut bucket, at(1000)), 40);
        bucket.complaint(at(1000), None);
        bucket.set_nominal(100.0);
        assert!((bucket.rate() - 25.0).abs() < 1e-9);
        bucket.set_nominal(7.0);
        assert!((bucket.rate() - 7.0).abs() < 1e-9);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Step(u32),
        Ask,
        Complaint(Option<u64>),
        Nominal(u16),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0..5000_u32).prop_map(Event::Step),
            Just(Event::Ask),
            Just(Event::Ask),
            proptest::option::of(0..100_u64).prop_map(Event::Complaint),
            (1..60_u16).prop_map(Event::Nominal),
        ]
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_its_share_and_one_burst(
            events in prop::collection::vec(event(), 1..300),
        ) {
            const MOST: f64 = 60.0;
            let mut now = at(0);
            let mut bucket = Bucket::new(25.0, now);
            let mut granted: Vec<Timestamp> = Vec::new();
            for event in events {
                match event {
                    Event::Step(millis) => now += SignedDuration::from_millis(millis.into()),
                    Event::Ask => {
                        while bucket.next_slot(now) <= now {
                            bucket.take();
                            granted.push(now);
                        }
                    }
                    Event::Complaint(wait) => bucket.complaint(now, wait.map(Duration::from_secs)),
                    Event::Nominal(nominal) => bucket.set_nominal(nominal.into()),
                }
                prop_assert!(bucket.rate() <= MOST && bucket.rate() > 0.0);
                prop_assert!(bucket.tokens <= burst(bucket.rate.max(bucket.nominal)));
            }
            for (first, start) in granted.iter().enumerate() {
                for (last, end) in granted.iter().enumerate().skip(first) {
                    let span = end.duration_since(*start).as_secs_f64();
                    let count = u32::try_from(last - first + 1).unwrap();
                    prop_assert!(f64::from(count) <= MOST * span + burst(MOST) + 1e-6);
                }
            }
        }

        #[test]
        fn waiting_for_the_slot_that_was_named_is_always_enough(
            nominal in 1..4000_u16, spend in 0..200_u32, wait in proptest::option::of(0..3600_u64),
        ) {
            let mut bucket = Bucket::new(f64::from(nominal) / 10.0, at(0));
            for _ in 0..spend {
                if bucket.next_slot(at(0)) <= at(0) {
                    bucket.take();
                }
            }
            if spend % 3 == 0 {
                bucket.complaint(at(0), wait.map(Duration::from_secs));
            }
            let slot = bucket.next_slot(at(0));
            prop_assert!(slot.duration_since(at(0)).as_secs() <= 3600 + 33 * 10);
            prop_assert!(bucket.next_slot(slot) <= slot);
        }
    }
}
