use proptest::prelude::*;

use super::*;

#[path = "rotation_cycle_tests.rs"]
mod cycles;

const fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// A moment so many milliseconds after the tests' own zero.
fn at_ms(ms: i64) -> Timestamp {
    let zero: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    zero + SignedDuration::from_millis(ms)
}

fn at(seconds: i64) -> Timestamp {
    at_ms(seconds * 1000)
}

/// A certificate that was received at 0: valid from `from` to `to`, asked for `validity` seconds.
fn state(from: i64, to: i64, validity: i64, percentage: u8, spread: f64) -> CertState {
    CertState {
        not_before: at(from),
        not_after: at(to),
        authorities_until: None,
        issued_at: at(0),
        validity: secs(validity),
        rotation_window_percentage: percentage,
        spread,
    }
}

const DAY: i64 = 86_400;

#[test]
fn renewal_begins_where_the_formulas_say() {
    for (name, state, window_start_ms, due_ms) in [
        (
            "a day, half",
            state(0, 86_399, DAY, 50, 0.0),
            43_199_500,
            43_199_500,
        ),
        (
            "a day, half, mid-spread",
            state(0, 86_399, DAY, 50, 0.5),
            43_199_500,
            47_519_450,
        ),
        (
            "a day, a fifth",
            state(0, 86_399, DAY, 20, 0.0),
            69_119_200,
            69_119_200,
        ),
        (
            "a day, the least window",
            state(0, 86_399, DAY, 1, 0.0),
            85_535_010,
            85_535_010,
        ),
        (
            "a day, the largest window",
            state(0, 86_399, DAY, 99, 0.0),
            863_990,
            863_990,
        ),
        (
            "backdated by an hour",
            state(-3600, 82_799, DAY, 50, 0.0),
            41_399_500,
            41_399_500,
        ),
        (
            "a CA that gave more",
            state(0, 7199, 3600, 50, 0.0),
            5_399_000,
            5_399_000,
        ),
        (
            "a CA that gave half",
            state(0, 43_199, DAY, 50, 0.0),
            21_599_500,
            21_599_500,
        ),
        (
            "a clock behind the CA's",
            state(200, 3799, 3600, 50, 0.0),
            1_999_500,
            1_999_500,
        ),
        // The floor: 30 s, or a hundredth, or half of a life under a minute.
        (
            "ten minutes, largest window",
            state(0, 599, 600, 99, 0.0),
            5990,
            30_000,
        ),
        (
            "ninety days, largest window",
            state(0, 7_775_999, 90 * DAY, 99, 0.0),
            77_759_990,
            77_759_990,
        ),
        ("a minute, half", state(0, 59, 60, 50, 0.0), 29_500, 29_500),
        (
            "a minute, largest window",
            state(0, 59, 60, 99, 0.0),
            590,
            29_500,
        ),
        ("a life of 60 s", state(0, 60, 60, 99, 0.0), 600, 30_000),
        (
            "ten seconds, half, mid-spread",
            state(0, 9, 10, 50, 0.5),
            4500,
            4950,
        ),
    ] {
        assert_eq!(
            window_start(&state),
            at_ms(window_start_ms),
            "{name}: window"
        );
        assert_eq!(due(&state), at_ms(due_ms), "{name}: due");
        assert_eq!(
            next(&state, None, at(0)),
            Step::Wait { until: due(&state) },
            "{name}"
        );
        assert_eq!(next(&state, None, due(&state)), Step::Renew, "{name}");
    }
}

#[test]
fn the_spread_moves_renewal_by_at_most_a_fifth_of_the_window() {
    let due_at = |spread| due(&state(0, 86_399, DAY, 50, spread));
    assert_eq!(due_at(0.0), at_ms(43_199_500));
    assert_eq!(due_at(1.0), at_ms(43_199_500 + 8_639_900));
    assert_eq!(due_at(-7.0), due_at(0.0));
    assert_eq!(due_at(7.0), due_at(1.0));
    assert_eq!(due_at(f64::NAN), due_at(0.0));
}

#[test]
fn a_certificate_is_renewed_up_to_its_last_moment_and_expired_behind_it() {
    let state = state(0, 3599, 3600, 50, 0.0);
    assert_eq!(next(&state, None, at(3599)), Step::Renew);
    assert_eq!(next(&state, None, at_ms(3_599_001)), Step::Expired);
    assert_eq!(
        next(&state, Some(Timestamp::MAX), at(1_000_000)),
        Step::Expired
    );
}

#[test]
fn a_clock_that_was_stepped_back_waits_for_the_same_moment() {
    let state = state(0, 3599, 3600, 50, 0.3);
    let wait = Step::Wait { until: due(&state) };
    for now in [-DAY * 365, -3600, 0, 60] {
        assert_eq!(next(&state, None, at(now)), wait, "{now}");
    }
}

#[test]
fn percentages_that_the_configuration_forbids_are_still_harmless() {
    for (wrong, right) in [(0, 1), (100, 99), (255, 99)] {
        assert_eq!(
            due(&state(0, 3599, 3600, wrong, 0.0)),
            due(&state(0, 3599, 3600, right, 0.0))
        );
    }
}

#[test]
fn a_certificate_that_got_a_tenth_of_its_life_is_not_renewed_while_its_ca_ends() {
    // 8639 s of 86400 s: less than a tenth.
    let short = state(0, 8639, DAY, 50, 0.0);
    let ending = Step::CaEnding { at: at(8639) };
    for now in [0, 4000, 8639] {
        assert_eq!(next(&short, None, at(now)), ending);
        assert_eq!(next(&short, Some(at(8639)), at(now)), ending);
        assert_eq!(next(&short, Some(at(8639 + 8639)), at(now)), ending);
    }
    assert_eq!(next(&short, None, at(8640)), Step::Expired);

    // With a CA that could give a tenth more it goes on as ever.
    let longer = Some(at(8639 + 8640));
    assert_eq!(
        next(&short, longer, at(0)),
        Step::Wait { until: due(&short) }
    );
    assert_eq!(next(&short, longer, due(&short)), Step::Renew);

    // It was cut short by something else: its own CAs last.
    let mut cut = short;
    cut.authorities_until = longer;
    assert_eq!(next(&cut, None, at(0)), Step::Wait { until: due(&cut) });
    assert_eq!(next(&cut, None, due(&cut)), Step::Renew);
    cut.authorities_until = Some(at(8639 + 8639));
    assert_eq!(next(&cut, None, at(0)), ending);

    // A tenth exactly is enough.
    let enough = state(0, 8640, DAY, 50, 0.0);
    assert_eq!(next(&enough, Some(at(8640)), at(8639)), Step::Renew);
}

#[test]
fn usable_life_begins_with_the_later_of_validity_and_receipt() {
    assert_eq!(usable(&state(0, 100, 101, 50, 0.0)), secs(100));
    assert_eq!(usable(&state(-50, 100, 151, 50, 0.0)), secs(100));
    assert_eq!(usable(&state(50, 100, 51, 50, 0.0)), secs(50));
    // Received behind its own end: the clock was wrong, and its dates say more.
    assert_eq!(usable(&state(-50, 0, 51, 50, 0.0)), secs(50));
    assert_eq!(usable(&state(-50, -10, 41, 50, 0.0)), secs(40));
    // Dates the wrong way round.
    assert_eq!(usable(&state(-10, -50, 41, 50, 0.0)), secs(0));
}

#[test]
fn the_spread_is_drawn_once_from_volume_and_serial() {
    assert_eq!(
        spread("volume", "0aff").to_bits(),
        spread("volume", "0aff").to_bits()
    );
    assert_ne!(
        spread("volume", "0aff").to_bits(),
        spread("volume", "0afe").to_bits()
    );
    assert_ne!(
        spread("volume", "0aff").to_bits(),
        spread("other", "0aff").to_bits()
    );
    assert_ne!(spread("a", "bc").to_bits(), spread("ab", "c").to_bits());
}

#[test]
fn the_spread_is_even_over_volumes_and_over_serials() {
    let by_serial = (0..10_000).map(|serial| spread("volume", &format!("{serial:x}")));
    let by_volume = (0..10_000).map(|volume| spread(&format!("volume-{volume}"), "0aff"));
    for draws in [by_serial.collect::<Vec<_>>(), by_volume.collect()] {
        let mut tenths = [0_u32; 10];
        for draw in draws {
            assert!((0.0..1.0).contains(&draw), "{draw}");
            let tenth = (0..9)
                .find(|tenth| draw < f64::from(tenth + 1) / 10.0)
                .unwrap_or(9);
            tenths[usize::try_from(tenth).unwrap()] += 1;
        }
        // A thousand each, give or take five standard deviations.
        assert!(
            tenths.iter().all(|count| (850..1150).contains(count)),
            "{tenths:?}"
        );
    }
}

/// Any moment at all.
fn any_moment() -> impl Strategy<Value = Timestamp> {
    let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    prop_oneof![
        4 => (-3_000_000_000_i64..3_000_000_000).prop_map(at_ms),
        1 => (least..=most).prop_map(|second| Timestamp::from_second(second).unwrap()),
        1 => prop::sample::select(&[Timestamp::MIN, Timestamp::MAX]),
    ]
}

fn any_span() -> impl Strategy<Value = SignedDuration> {
    prop_oneof![
        (-10_i64..10_000_000).prop_map(secs),
        (any::<i64>(), 0..1_000_000_000_i32).prop_map(|(s, ns)| {
            SignedDuration::from_secs(s).saturating_add(SignedDuration::from_nanos(ns.into()))
        }),
        prop::sample::select(&[
            SignedDuration::MIN,
            SignedDuration::MAX,
            SignedDuration::ZERO
        ]),
    ]
}

prop_compose! {
    fn any_state()(
        not_before in any_moment(),
        not_after in any_moment(),
        authorities_until in proptest::option::of(any_moment()),
        issued_at in any_moment(),
        validity in any_span(),
        rotation_window_percentage: u8,
        spread in prop_oneof![0.0..1.0, any::<f64>()],
    ) -> CertState {
        CertState { not_before, not_after, authorities_until, issued_at, validity, rotation_window_percentage, spread }
    }
}

prop_compose! {
    /// A certificate as a CA may give it: backdated, cut, longer than asked for, received by a
    /// clock that is up to 5 minutes behind the CA's or anywhere ahead within its life.
    fn plausible_state()(
        validity in 1_i64..40_000_000,
        given in 1..=1500_i64,
        backdated in 0..90_i64,
        behind in 0..300_000_i64,
        ahead in any::<bool>(),
        ahead_share in 0..1000_i64,
        rotation_window_percentage in 1_u8..100,
        spread in 0.0..1.0_f64,
    ) -> CertState {
        let life = (validity * given / 1000).max(1);
        let not_before = at(-validity * backdated / 100).min(at(life - 1));
        let not_after = not_before + secs(life);
        let issued_at = if ahead {
            not_before + SignedDuration::from_millis(life * ahead_share)
        } else {
            not_before - SignedDuration::from_millis(behind)
        };
        CertState {
            not_before,
            not_after,
            authorities_until: None,
            issued_at,
            validity: secs(validity),
            rotation_window_percentage,
            spread,
        }
    }
}

/// The floor, by the words of the module's documentation.
fn floor(state: &CertState) -> Timestamp {
    let usable = usable(state);
    let age = if usable < secs(60) {
        usable / 2
    } else {
        secs(30).max(usable / 100)
    };
    // Where a clock that is wrong leaves no room before it, the end itself.
    (state.issued_at + age).min(state.not_after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_state_and_no_clock_panics_and_the_step_fits_the_date(
        state in any_state(),
        ca_until in prop::option::of(any_moment()),
        now in any_moment(),
    ) {
        let due = due(&state);
        prop_assert!(due <= state.not_after);
        match next(&state, ca_until, now) {
            Step::Expired => prop_assert!(now > state.not_after),
            Step::Renew => prop_assert!(due <= now && now <= state.not_after),
            Step::Wait { until } => prop_assert!(until == due && now < due),
            Step::CaEnding { at } => {
                prop_assert!(at == state.not_after && now <= at);
                prop_assert!(usable(&state) < state.validity / 10);
            }
        }
    }

    #[test]
    fn renewal_begins_within_the_window_behind_the_floor_and_before_the_end(
        state in plausible_state(),
    ) {
        let (start, due) = (window_start(&state), due(&state));
        let window = state.not_after.duration_since(start);
        prop_assert!(due >= start, "before the window");
        prop_assert!(due >= floor(&state), "before the floor");
        prop_assert!(due < state.not_after, "not before the end");
        let latest = start + window / 5 + SignedDuration::from_millis(1);
        prop_assert!(due <= latest.max(floor(&state)), "later than the spread says");

        let share = f64::from(state.rotation_window_percentage) / 100.0;
        let least = state.validity.min(usable(&state)).as_secs_f64();
        prop_assert!((window.as_secs_f64() - share * least).abs() < 1e-3, "another window");
    }

    #[test]
    fn a_larger_percentage_never_renews_later(
        state in plausible_state(), other in 1_u8..100,
    ) {
        let mut larger = state;
        larger.rotation_window_percentage = other.max(state.rotation_window_percentage);
        prop_assert!(window_start(&larger) <= window_start(&state));
        prop_assert!(due(&larger) <= due(&state));
    }

    #[test]
    fn without_a_new_certificate_the_steps_only_go_forward(
        state in plausible_state(),
        ca_until in prop::option::of(any_moment()),
        one in -1000..40_000_000_i64,
        two in -1000..40_000_000_i64,
    ) {
        let rank = |now| match next(&state, ca_until, at(now)) {
            Step::Wait { .. } => 0,
            Step::CaEnding { .. } | Step::Renew => 1,
            Step::Expired => 2,
        };
        prop_assert!(rank(one.min(two)) <= rank(one.max(two)));
    }
}
