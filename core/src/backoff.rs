//! How long to wait after a failure: total, pure functions.
use jiff::SignedDuration;

const LONGEST: SignedDuration = SignedDuration::from_mins(5);
const SHORTEST_RENEWAL: SignedDuration = SignedDuration::from_secs(5);
const LONGEST_HOPELESS: SignedDuration = SignedDuration::from_mins(10);
const SHORTEST_IN_VAIN: SignedDuration = SignedDuration::from_mins(1);

/// After the `failures`-th failure in a row (from 1) to get a first certificate: 1 s, doubling,
/// at most 5 minutes.
pub fn first_issue(failures: u32) -> SignedDuration {
    doubling(failures.saturating_sub(1)).min(LONGEST)
}

/// After the `failures`-th failure in a row (from 1) to renew a certificate that lives for
/// `remaining`: doubling, at most a tenth of what remains, 5 s to 5 minutes.
pub fn renewal(failures: u32, remaining: SignedDuration) -> SignedDuration {
    doubling(failures)
        .min(LONGEST)
        .min(remaining / 10)
        .clamp(SHORTEST_RENEWAL, LONGEST)
}

/// While nothing but a change of the cause helps (denied, invalid): a tenth of what remains, at
/// most 10 minutes. Without a certificate, where somebody waits, as for any first one. At least
/// 5 s.
pub fn hopeless(failures: u32, remaining: Option<SignedDuration>) -> SignedDuration {
    remaining
        .map_or_else(|| first_issue(failures), |remaining| remaining / 10)
        .clamp(SHORTEST_RENEWAL, LONGEST_HOPELESS)
}

/// While every attempt buys a certificate that is of no use, and nothing but a change of the cause
/// helps: a quarter of what remains, 1 to 10 minutes; 10 minutes without a certificate.
pub fn in_vain(remaining: Option<SignedDuration>) -> SignedDuration {
    remaining
        .map_or(LONGEST_HOPELESS, |remaining| remaining / 4)
        .clamp(SHORTEST_IN_VAIN, LONGEST_HOPELESS)
}

/// Spreads a wait upward by at most a quarter; `spread` in `[0, 1)` is the volume's own.
pub fn jitter(wait: SignedDuration, spread: f64) -> SignedDuration {
    let share = spread.clamp(0.0, 1.0) / 4.0;
    wait.saturating_add(
        SignedDuration::try_from_secs_f64(wait.as_secs_f64() * share).unwrap_or_default(),
    )
}

fn doubling(exponent: u32) -> SignedDuration {
    SignedDuration::from_secs(1_i64 << exponent.min(30))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_first_issue_is_tried_again_after_1_2_4_seconds_and_so_on_up_to_5_minutes() {
        let waits: Vec<i64> = (1..=11).map(|k| first_issue(k).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn who_has_no_certificate_is_not_left_waiting_when_the_cause_is_gone() {
        let waits: Vec<i64> = (1..=10).map(|k| hopeless(k, None).as_secs()).collect();
        assert_eq!(waits, [5, 5, 5, 8, 16, 32, 64, 128, 256, 300]);
        let day = SignedDuration::from_hours(24);
        assert_eq!(hopeless(1, Some(day)).as_secs(), 600);
    }

    #[test]
    fn what_is_bought_in_vain_is_bought_seldom_also_without_a_certificate_or_near_its_end() {
        let waits = [None, Some(3600), Some(1200), Some(20), Some(-5)]
            .map(|left| in_vain(left.map(SignedDuration::from_secs)).as_secs());
        assert_eq!(waits, [600, 600, 300, 60, 60]);
    }

    #[test]
    fn a_renewal_near_expiry_is_tried_more_often_but_never_faster_than_every_5_seconds() {
        assert_eq!(renewal(20, SignedDuration::from_hours(24)).as_secs(), 300);
        assert_eq!(renewal(20, SignedDuration::from_secs(600)).as_secs(), 60);
        assert_eq!(renewal(20, SignedDuration::from_secs(-5)).as_secs(), 5);
    }

    proptest! {
        #[test]
        fn every_wait_is_bounded_and_jitter_only_adds(
            failures in any::<u32>(), remaining in any::<i32>(), spread in 0.0..1.0f64,
        ) {
            let remaining = SignedDuration::from_secs(remaining.into());
            for wait in [first_issue(failures), renewal(failures, remaining), hopeless(failures, Some(remaining)), hopeless(failures, None)] {
                prop_assert!(wait >= SignedDuration::from_secs(1));
                prop_assert!(wait <= SignedDuration::from_mins(10));
                let spread_out = jitter(wait, spread);
                prop_assert!(spread_out >= wait && spread_out <= wait + wait / 4 + SignedDuration::from_secs(1));
            }
        }
    }
}
