use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[test]
fn five_at_once_then_one_each_fiftieth_of_the_validity() {
    let mut limit = RateLimit::default();
    for _ in 0..5 {
        assert_eq!(limit.take("a", HOUR, at(0)), Rate::Allowed);
    }
    let wait = Rate::Wait { until: at(72) };
    assert_eq!(limit.take("a", HOUR, at(0)), wait);
    assert_eq!(limit.take("a", HOUR, at(71)), wait, "waiting costs nothing");
    assert_eq!(limit.take("a", HOUR, at(72)), Rate::Allowed);
    assert_eq!(limit.take("a", HOUR, at(72)), Rate::Wait { until: at(144) });
    assert_eq!(limit.take("b", HOUR, at(72)), Rate::Allowed, "another pod");
}

#[test]
fn after_a_tenth_of_the_validity_the_five_are_there_again_and_no_more() {
    let mut limit = RateLimit::default();
    for start in [0, 360, 100_000] {
        for _ in 0..5 {
            assert_eq!(limit.take("a", HOUR, at(start)), Rate::Allowed);
        }
        let until = at(start + 72);
        assert_eq!(limit.take("a", HOUR, at(start)), Rate::Wait { until });
    }
}

#[test]
fn a_clock_that_was_stepped_back_costs_one_wait_and_not_the_step() {
    let mut limit = RateLimit::default();
    limit.take("a", HOUR, at(1_000_000));
    assert_eq!(limit.take("a", HOUR, at(0)), Rate::Wait { until: at(72) });
    assert_eq!(limit.take("a", HOUR, at(72)), Rate::Allowed);
}

#[test]
fn pods_whose_allowance_is_whole_are_forgotten() {
    let mut limit = RateLimit::default();
    assert!(limit.is_empty());
    for second in 0..100_000 {
        assert_eq!(
            limit.take(&second.to_string(), HOUR, at(second)),
            Rate::Allowed
        );
        // Each counts for 72 s.
        assert!(limit.len() <= 2 * 73, "{}", limit.len());
    }
}

#[test]
fn the_ends_of_time_do_not_panic() {
    for validity in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            let mut limit = RateLimit::default();
            for _ in 0..10 {
                limit.take("a", validity, now);
            }
        }
    }
}

proptest! {
    #[test]
    fn never_more_than_the_burst_and_one_for_each_fiftieth(
        validity in 50..100_000_u64, steps in prop::collection::vec(0..2_000_i64, 1..200),
    ) {
        let (mut limit, mut now, mut allowed) = (RateLimit::default(), 0, 0);
        let validity = Duration::from_secs(validity);
        for step in steps {
            now += step;
            match limit.take("a", validity, at(now)) {
                Rate::Allowed => allowed += 1,
                Rate::Wait { until } => {
                    prop_assert!(until > at(now));
                    // What it says is true, and not a moment too long.
                    let mut later = RateLimit { whole_at: limit.whole_at.clone(), sweep_at: 0 };
                    prop_assert_eq!(later.take("a", validity, until), Rate::Allowed);
                }
            }
            let most = 5 + Duration::from_secs(u64::try_from(now).unwrap()).as_nanos()
                / (validity / 50).as_nanos();
            prop_assert!(allowed <= most);
        }
    }
}

#[test]
fn what_was_not_used_is_given_back() {
    let now: Timestamp = "2026-11-21T01:00:00Z".parse().unwrap();
    let day = Duration::from_secs(86_400);
    let mut limit = RateLimit::default();
    for _ in 0..100 {
        assert_eq!(limit.take("a", day, now), Rate::Allowed);
        limit.give_back("a", day);
    }
    for _ in 0..5 {
        assert_eq!(limit.take("a", day, now), Rate::Allowed);
    }
    assert!(matches!(limit.take("a", day, now), Rate::Wait { .. }));
    // Nobody is remembered for what was never taken.
    limit.give_back("b", day);
    assert_eq!(limit.len(), 1);
}
