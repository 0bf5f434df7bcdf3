use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Asks for one; says until when it has to wait.
fn ask(limit: &mut RateLimit, pod: &str, validity: Duration, now: Timestamp) -> Option<Timestamp> {
    limit.take(pod, validity, now).err().map(|wait| wait.until)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[test]
fn five_at_once_then_one_each_fiftieth_of_the_validity() {
    let mut limit = RateLimit::default();
    for _ in 0..5 {
        assert_eq!(ask(&mut limit, "a", HOUR, at(0)), None);
    }
    let wait = Some(at(72));
    assert_eq!(ask(&mut limit, "a", HOUR, at(0)), wait);
    assert_eq!(
        ask(&mut limit, "a", HOUR, at(71)),
        wait,
        "waiting costs nothing"
    );
    assert_eq!(ask(&mut limit, "a", HOUR, at(72)), None);
    assert_eq!(ask(&mut limit, "a", HOUR, at(72)), Some(at(144)));
    assert_eq!(ask(&mut limit, "b", HOUR, at(72)), None, "another pod");
}

#[test]
fn after_a_tenth_of_the_validity_the_five_are_there_again_and_no_more() {
    let mut limit = RateLimit::default();
    for start in [0, 360, 100_000] {
        for _ in 0..5 {
            assert_eq!(ask(&mut limit, "a", HOUR, at(start)), None);
        }
        let until = at(start + 72);
        assert_eq!(ask(&mut limit, "a", HOUR, at(start)), Some(until));
    }
}

#[test]
fn a_clock_that_was_stepped_back_costs_one_wait_and_not_the_step() {
    let mut limit = RateLimit::default();
    assert_eq!(ask(&mut limit, "a", HOUR, at(1_000_000)), None);
    assert_eq!(ask(&mut limit, "a", HOUR, at(0)), Some(at(72)));
    assert_eq!(ask(&mut limit, "a", HOUR, at(72)), None);
}

#[test]
fn pods_whose_allowance_is_whole_are_forgotten() {
    let mut limit = RateLimit::default();
    assert!(limit.is_empty());
    for second in 0..100_000 {
        assert_eq!(ask(&mut limit, &second.to_string(), HOUR, at(second)), None);
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
                ask(&mut limit, "a", validity, now);
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
            match ask(&mut limit, "a", validity, at(now)) {
                None => allowed += 1,
                Some(until) => {
                    prop_assert!(until > at(now));
                    // What it says is true, and not a moment too long.
                    let mut later = RateLimit { whole_at: limit.whole_at.clone(), sweep_at: 0 };
                    prop_assert_eq!(ask(&mut later, "a", validity, until), None);
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
        let allowance = limit.take("a", day, now).unwrap();
        limit.give_back(allowance);
    }
    for _ in 0..5 {
        assert_eq!(ask(&mut limit, "a", day, now), None);
    }
    assert!(ask(&mut limit, "a", day, now).is_some());
}
