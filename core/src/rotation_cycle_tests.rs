//! One volume over many certificates, beside a CA that answers: no sleeps, the clocks are numbers.
use proptest::{collection::vec, prelude::*};

use super::{at, floor, secs};
use crate::{
    backoff,
    issued::MAX_CLOCK_SKEW,
    rotation::{CertState, Step, due, next, spread, usable, window_start},
};
use jiff::{SignedDuration, Timestamp};

/// A CA with a clock that is right.
#[derive(Clone, Copy, Debug)]
struct Ca {
    backdated: SignedDuration,
    ends: Timestamp,
}

impl Ca {
    /// The dates of a certificate: whole seconds, cut to the CA's own end. None when it has ended.
    fn issue(&self, now: Timestamp, life: SignedDuration) -> Option<(Timestamp, Timestamp)> {
        let not_before = Timestamp::from_second(now.as_second()).unwrap() - self.backdated;
        let not_after = (not_before + life - secs(1)).min(self.ends);
        (now <= self.ends && not_before < not_after).then_some((not_before, not_after))
    }
}

/// What happens between two looks at the clock.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The time that was waited for passes.
    Nothing,
    /// The machine sleeps so much longer, or is so slow.
    Late(SignedDuration),
    /// Somebody moves the wall clock.
    Step(SignedDuration),
    /// The process starts again before the wait is over, and looks at once.
    Restart,
}

/// One volume and all that is seen of it from outside.
struct Volume {
    ca: Ca,
    life: SignedDuration,
    percentage: u8,
    /// The right time.
    truth: Timestamp,
    /// What the machine's clock is ahead of it.
    ahead: SignedDuration,
    state: Option<CertState>,
    /// Certificates received so far.
    issued: u32,
    /// Refused in a row.
    failures: u32,
    /// A clock step or a late look since the last look.
    jumped: bool,
    /// No jump since the last certificate.
    calm: bool,
}

/// What one look at the clock did.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Waited,
    Issued,
    Refused,
    CaEnding,
}

impl Volume {
    fn new(ca: Ca, life: SignedDuration, percentage: u8) -> Self {
        Self {
            ca,
            life,
            percentage,
            truth: at(0),
            ahead: SignedDuration::ZERO,
            state: None,
            issued: 0,
            failures: 0,
            jumped: false,
            calm: true,
        }
    }

    fn clock(&self) -> Timestamp {
        self.truth + self.ahead
    }

    /// Looks at the clock, acts, and says how long to wait.
    fn look(&mut self) -> (Seen, SignedDuration) {
        let now = self.clock();
        let step = self
            .state
            .map(|state| next(&state, Some(self.ca.ends), now));
        match (step, self.state) {
            (Some(Step::Wait { until }), _) => {
                assert!(until > now, "a wait that is over");
                // The wall clock is asked at least every minute; a longer life needs fewer looks.
                let longest = secs(60).max(self.life / 50);
                return (Seen::Waited, until.duration_since(now).min(longest));
            }
            (Some(Step::CaEnding { .. }), _) => return (Seen::CaEnding, secs(60)),
            (Some(Step::Renew), Some(state)) => {
                assert!(now >= window_start(&state), "asked before the window");
                assert!(now >= floor(&state), "asked before the floor");
                assert!(
                    now <= state.not_after,
                    "an expired certificate that says renew"
                );
            }
            (Some(Step::Expired), _) => assert!(
                self.jumped || self.failures > 0 || self.truth > self.ca.ends,
                "expired though the CA answers and nothing jumped"
            ),
            _ => {}
        }
        self.ask(now)
    }

    fn ask(&mut self, now: Timestamp) -> (Seen, SignedDuration) {
        let good = self
            .ca
            .issue(self.truth, self.life)
            .filter(|(not_before, not_after)| {
                now <= *not_after && not_before.duration_since(now) <= MAX_CLOCK_SKEW
            });
        let Some((not_before, not_after)) = good else {
            self.failures += 1;
            return match self.state {
                Some(state) if now <= state.not_after => {
                    let remaining = state.not_after.duration_since(now);
                    (
                        Seen::Refused,
                        backoff::renewal(self.failures, remaining).min(remaining),
                    )
                }
                _ => (Seen::Refused, backoff::first_issue(self.failures)),
            };
        };
        if let Some(before) = self.state
            && self.calm
        {
            let gap = now.duration_since(before.issued_at);
            let floor = floor(&before).duration_since(before.issued_at);
            assert!(
                gap >= floor,
                "two requests within the floor: {gap} < {floor}"
            );
        }
        self.issued += 1;
        self.failures = 0;
        self.calm = true;
        self.state = Some(CertState {
            not_before,
            not_after,
            authorities_until: None,
            issued_at: now,
            validity: self.life,
            rotation_window_percentage: self.percentage,
            spread: spread("volume", &self.issued.to_string()),
        });
        (Seen::Issued, SignedDuration::ZERO)
    }

    fn pass(&mut self, wait: SignedDuration, event: Event) {
        self.jumped = false;
        match event {
            Event::Nothing => self.truth += wait,
            Event::Restart => self.truth += wait / 2,
            Event::Late(longer) => {
                self.truth += wait + longer;
                self.jumped = true;
            }
            Event::Step(by) => {
                self.truth += wait;
                self.ahead += by;
                self.jumped = true;
                self.calm = false;
            }
        }
    }
}

fn long_lived(backdated: SignedDuration) -> Ca {
    Ca {
        backdated,
        ends: Timestamp::MAX - secs(100_000_000_000),
    }
}

#[test]
fn a_certificate_of_a_minute_is_renewed_about_twice_a_minute_for_a_day() {
    let mut volume = Volume::new(long_lived(SignedDuration::ZERO), secs(60), 50);
    while volume.truth < at(86_400) {
        let (_, wait) = volume.look();
        volume.pass(wait, Event::Nothing);
    }
    // Each lives for 29.5 s to 35.4 s of its 59 s.
    assert!((2440..=2930).contains(&volume.issued), "{}", volume.issued);
}

#[test]
fn backdating_by_most_of_the_life_makes_no_loop() {
    let mut volume = Volume::new(long_lived(secs(3240)), secs(3600), 50);
    while volume.truth < at(86_400) {
        let (_, wait) = volume.look();
        volume.pass(wait, Event::Nothing);
    }
    // 359 s remain of each when it comes: one each 179 s to 215 s.
    assert!((395..=490).contains(&volume.issued), "{}", volume.issued);
}

#[test]
fn a_ca_that_ends_is_asked_a_few_more_times_and_not_for_ever() {
    let ca = Ca {
        backdated: SignedDuration::ZERO,
        ends: at(10 * 86_400),
    };
    let mut volume = Volume::new(ca, secs(86_400), 50);
    let mut cut = 0;
    let mut ending = false;
    while volume.truth <= ca.ends {
        let (seen, wait) = volume.look();
        ending |= seen == Seen::CaEnding;
        assert!(
            !ending || seen == Seen::CaEnding,
            "asked again while the CA ends"
        );
        cut += u32::from(
            seen == Seen::Issued && volume.state.is_some_and(|state| state.not_after == ca.ends),
        );
        volume.pass(wait, Event::Nothing);
    }
    assert!(ending);
    // Halving from a whole life to a tenth.
    assert!((1..=5).contains(&cut), "{cut}");
    assert!(matches!(volume.look(), (Seen::Refused, _)));
}

#[test]
fn a_ca_that_was_replaced_in_time_ends_the_wait() {
    let ca = Ca {
        backdated: SignedDuration::ZERO,
        ends: at(86_400),
    };
    let mut volume = Volume::new(ca, secs(86_400), 50);
    while volume.look().0 != Seen::CaEnding {
        let (_, wait) = volume.look();
        volume.pass(wait, Event::Nothing);
    }
    volume.ca.ends = at(86_400 * 365);
    let before = volume.issued;
    while volume.issued == before {
        let (seen, wait) = volume.look();
        assert_ne!(seen, Seen::CaEnding);
        volume.pass(wait, Event::Nothing);
    }
    assert!(
        volume.clock() < at(86_400),
        "renewed before the old CA's end"
    );
    assert_eq!(
        volume.state.map(|state| usable(&state) > secs(86_000)),
        Some(true)
    );
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => Just(Event::Nothing),
        2 => Just(Event::Restart),
        1 => (0..3_i64).prop_map(|s| Event::Late(secs(s))),
        1 => (0..200_000_i64).prop_map(|s| Event::Late(secs(s))),
        1 => (-7200..7200_i64).prop_map(|s| Event::Step(secs(s))),
        1 => prop::sample::select(&[-3600, 3600]).prop_map(|s| Event::Step(secs(s))),
    ]
}

fn any_life() -> impl Strategy<Value = i64> {
    prop_oneof![10..120_i64, 60..7200_i64, 3600..8_000_000_i64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // The asserts of `look` and `ask` are the property.
    #[test]
    fn whatever_happens_to_the_clock_renewal_keeps_to_window_floor_and_end(
        life in any_life(),
        backdated in 0..=90_i64,
        percentage in 1_u8..100,
        events in vec(any_event(), 200..600),
    ) {
        let ca = long_lived(secs(life * backdated / 100));
        let mut volume = Volume::new(ca, secs(life), percentage);
        for event in events {
            let (seen, wait) = volume.look();
            prop_assert_ne!(seen, Seen::CaEnding);
            volume.pass(wait, event);
        }
        prop_assert!(volume.issued > 0);
    }

    #[test]
    fn with_a_good_clock_there_is_a_valid_certificate_at_every_moment_and_few_requests(
        life in any_life(),
        backdated in 0..=80_i64,
        percentage in 1_u8..100,
        looks in vec(prop_oneof![9 => Just(Event::Nothing), 1 => Just(Event::Restart)], 200..600),
    ) {
        // Below that the floor is a fraction of a second, and the bound at the end counts seconds.
        prop_assume!(life - life * backdated / 100 >= 6);
        let ca = long_lived(secs(life * backdated / 100));
        let mut volume = Volume::new(ca, secs(life), percentage);
        for event in looks {
            let (_, wait) = volume.look();
            let state = volume.state.unwrap();
            prop_assert!(volume.truth <= state.not_after && volume.truth >= state.not_before);
            prop_assert!(volume.truth <= due(&state));
            volume.pass(wait, event);
        }
        prop_assert_eq!(volume.failures, 0);
        // No certificate is bought before the floor of the one before it.
        let life_left = (life - life * backdated / 100 - 2).max(1);
        let least = if life_left < 60 { life_left / 2 } else { (life_left / 100).max(30) };
        let elapsed = volume.truth.duration_since(at(0)).as_secs();
        prop_assert!(i64::from(volume.issued) <= 1 + elapsed / least.max(1) + 1);
    }

    #[test]
    fn near_the_ca_s_end_requests_are_few_for_every_window(
        life in prop_oneof![600..7200_i64, 3600..8_000_000_i64],
        lives in 1..5_i64,
        percentage in 1_u8..100,
    ) {
        let ca = Ca { backdated: SignedDuration::ZERO, ends: at(life * lives) };
        let mut volume = Volume::new(ca, secs(life), percentage);
        let (mut cut, mut ending) = (0, false);
        while volume.truth <= ca.ends {
            let (seen, wait) = volume.look();
            ending |= seen == Seen::CaEnding;
            prop_assert!(!ending || seen == Seen::CaEnding, "asked again while the CA ends");
            let is_cut = volume.state.is_some_and(|state| state.not_after == ca.ends);
            cut += u32::from(seen == Seen::Issued && is_cut);
            volume.pass(wait, Event::Nothing);
        }
        // Each leaves at most 99% of what remained: ln(10) / -ln(0.99) = 229 at the very most.
        prop_assert!(cut <= 231, "{cut}");
    }
}
