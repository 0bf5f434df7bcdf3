use proptest::prelude::*;

use super::*;
use crate::rotation;

const NOON: i64 = 1_796_040_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOON + seconds).unwrap()
}

fn rotation(after: i64, over: &str, written: Option<i64>) -> SpreadRotation {
    SpreadRotation::parse(&format!("{}/{over}", at(after)), written.map(at)).unwrap()
}

/// A certificate of a day.
fn certificate(issued: i64, spread: f64) -> CertState {
    CertState {
        not_before: at(issued - 3600),
        not_after: at(issued + 86_400),
        authorities_until: None,
        issued_at: at(issued),
        validity: SignedDuration::from_hours(24),
        rotation_window_percentage: 50,
        spread,
    }
}

#[test]
fn the_text_is_a_time_and_perhaps_a_span() {
    let plain = SpreadRotation::parse("2026-11-30T10:00:00Z", None).unwrap();
    assert_eq!(plain.from(), plain.issued_before());
    assert_eq!(
        plain.to_string(),
        "what was issued before 2026-11-30T10:00:00Z is renewed from 2026-11-30T10:00:00Z to \
         2026-11-30T12:00:00Z"
    );
    let spans = SpreadRotation::parse("2026-11-30T12:00:00+02:00/30m", None).unwrap();
    assert_eq!(spans.issued_before(), plain.issued_before());
    assert_eq!(spans.until(), "2026-11-30T10:30:00Z".parse().unwrap());
    let long = SpreadRotation::parse("2026-11-30T10:00:00Z/30d", None).unwrap();
    assert_eq!(long.until(), "2026-12-30T10:00:00Z".parse().unwrap());
    let at_once = SpreadRotation::parse("2026-11-30T10:00:00Z/0s", None).unwrap();
    assert_eq!(at_once.until(), plain.from());
}

#[test]
fn what_is_no_time_or_no_span_is_named() {
    for (text, wrong) in [
        ("", "\"\" is not a time"),
        ("now", "\"now\" is not a time"),
        ("2026-11-30", "\"2026-11-30\" is not a time"),
        ("2026-11-30T10:00:00", "is not a time"),
        ("2026-11-30T10:00:00Z/", "\"\" is not a span of time"),
        ("2026-11-30T10:00:00Z/two", "\"two\" is not a span of time"),
        ("2026-11-30T10:00:00Z/1mo", "\"1mo\" is not a span of time"),
        ("2026-11-30T10:00:00Z/-1h", "\"-1h\" is out of range"),
        ("2026-11-30T10:00:00Z/721h", "\"721h\" is out of range"),
        ("2026-11-30T10:00:00Z/31d", "\"31d\" is out of range"),
    ] {
        let error = SpreadRotation::parse(text, None).unwrap_err().to_string();
        assert!(error.contains(wrong), "{text}: {error}");
    }
}

#[test]
fn only_what_was_issued_before_is_due_and_each_at_its_place_in_the_span() {
    let rotation = rotation(0, "2h", None);
    assert_eq!(rotation.due(&certificate(0, 0.0)), None);
    assert_eq!(rotation.due(&certificate(-1, 0.0)), Some(at(0)));
    assert_eq!(rotation.due(&certificate(-1, 0.25)), Some(at(1800)));
}

#[test]
fn an_annotation_about_the_past_begins_when_it_is_written() {
    let late = rotation(-86_400, "2h", Some(60));
    assert_eq!((late.from(), late.until()), (at(60), at(7260)));
    assert_eq!(late.due(&certificate(-86_401, 0.0)), Some(at(60)));
    // What was issued between the two stays.
    assert_eq!(late.due(&certificate(-10, 0.0)), None);
    let ahead = rotation(3600, "2h", Some(0));
    assert_eq!(ahead.from(), at(3600));
}

#[test]
fn a_step_is_only_ever_hastened() {
    let rotation = rotation(0, "2h", None);
    let state = certificate(-3600, 0.5);
    let (early, late) = (at(3599), at(3600));
    let wait = |seconds| Step::Wait { until: at(seconds) };
    let ending = Step::CaEnding { at: at(9000) };
    for (step, now, hastened) in [
        (wait(40_000), early, wait(3600)),
        (wait(40_000), late, Step::Renew),
        (wait(3000), at(10), wait(3000)),
        (ending, early, ending),
        (ending, late, Step::Renew),
        (Step::Renew, early, Step::Renew),
        (Step::Expired, late, Step::Expired),
    ] {
        assert_eq!(rotation.hasten(step, &state, now), hastened, "{step:?}");
    }
    let fresh = certificate(0, 0.5);
    assert_eq!(rotation.hasten(wait(40_000), &fresh, late), wait(40_000));
}

proptest! {
    /// Whatever the text: whoever is renewed because of it is not renewed because of it again.
    #[test]
    fn nothing_is_renewed_twice(
        after in -200_000_i64..200_000,
        over in 0_i64..100_000,
        written in proptest::option::of(-200_000_i64..200_000),
        issued in -80_000_i64..0,
        spread in 0.0_f64..1.0,
        now in 0_i64..400_000,
    ) {
        let rotation = rotation(after, &format!("{over}s"), written);
        let state = certificate(issued, spread);
        let step = rotation::next(&state, None, at(now));
        if rotation.hasten(step, &state, at(now)) == Step::Renew && step != Step::Renew {
            prop_assert_eq!(rotation.due(&certificate(now, spread)), None);
        }
    }

    #[test]
    fn no_text_is_too_much(text in ".{0,60}") {
        let _parsed = SpreadRotation::parse(&text, None);
    }
}
