use proptest::prelude::*;

use super::*;

const CLASSES: [Class; 11] = [
    Class::Busy,
    Class::Declined,
    Class::Denied,
    Class::Exists,
    Class::Invalid,
    Class::Lost,
    Class::NoToken { is_permanent: true },
    Class::NoToken {
        is_permanent: false,
    },
    Class::Refused,
    Class::Unknown,
    Class::Unreachable,
];
const SENDINGS: [Sending; 3] = [Sending::Look, Sending::First, Sending::Replay];
const BUDGETS: [Budget; 3] = [Budget::Left, Budget::Spent, Budget::SpentAlone];

fn answered(http: u16, status: &str, retry_after: Option<u64>) -> Class {
    Class::of(Attempt::Answer {
        http,
        status: Some(status),
        retry_after: retry_after.map(Duration::from_secs),
    })
}

/// What follows, and what becomes of the request.
type Consequence = (Next, Fate);

const STAYS: Consequence = (Next::SamePool, Fate::Kept);
const OPEN: Consequence = (Next::SamePool, Fate::KeptOpen);
const MOVES: Consequence = (Next::NextPool, Fate::Dropped);
const WAITS: Consequence = (Next::Wait, Fate::Dropped);
const ADOPTS: Consequence = (Next::Adopt, Fate::Kept);

/// Every canonical status with its HTTP status (google/rpc/code.proto), what it means, and what
/// follows on a first sending and on a replay while the budget lasts.
const STATUSES: [(u16, &str, Class, Consequence, Consequence); 17] = [
    (400, "INVALID_ARGUMENT", Class::Invalid, WAITS, STAYS),
    (400, "OUT_OF_RANGE", Class::Invalid, WAITS, STAYS),
    (400, "FAILED_PRECONDITION", Class::Refused, MOVES, STAYS),
    (412, "FAILED_PRECONDITION", Class::Refused, MOVES, STAYS),
    (401, "UNAUTHENTICATED", Class::Denied, MOVES, STAYS),
    (403, "PERMISSION_DENIED", Class::Denied, MOVES, STAYS),
    (404, "NOT_FOUND", Class::Refused, MOVES, STAYS),
    (409, "ALREADY_EXISTS", Class::Exists, ADOPTS, ADOPTS),
    (409, "ABORTED", Class::Unknown, OPEN, OPEN),
    (429, "RESOURCE_EXHAUSTED", Class::Busy, STAYS, STAYS),
    (499, "CANCELLED", Class::Unknown, OPEN, OPEN),
    (500, "UNKNOWN", Class::Unknown, OPEN, OPEN),
    (500, "INTERNAL", Class::Unknown, OPEN, OPEN),
    (500, "DATA_LOSS", Class::Unknown, OPEN, OPEN),
    (501, "UNIMPLEMENTED", Class::Refused, MOVES, STAYS),
    (503, "UNAVAILABLE", Class::Unknown, OPEN, OPEN),
    (504, "DEADLINE_EXCEEDED", Class::Unknown, OPEN, OPEN),
];

#[test]
fn every_canonical_status_has_its_class_and_its_consequences() {
    for (http, status, class, first, replay) in STATUSES {
        assert_eq!(answered(http, status, None), class, "{http} {status}");
        for (sending, expected) in [(Sending::First, first), (Sending::Replay, replay)] {
            let ruling = rule(class, sending, Budget::Left);
            assert_eq!((ruling.next, ruling.fate), expected, "{status} {sending:?}");
        }
    }
}

#[test]
fn what_was_not_sent_leaves_a_request_as_it_was() {
    let unreachable = Class::of(Attempt::NotSent);
    assert_eq!(unreachable, Class::Unreachable);
    for sending in SENDINGS {
        let ruling = rule(unreachable, sending, Budget::Left);
        assert_eq!((ruling.next, ruling.fate), (Next::SamePool, Fate::Kept));
        for is_permanent in [true, false] {
            let class = Class::of(Attempt::NoToken { is_permanent });
            for budget in BUDGETS {
                let ruling = rule(class, sending, budget);
                assert_eq!((ruling.next, ruling.fate), (Next::SamePool, Fate::Kept));
                assert_eq!(ruling.pace == Pace::Slow, is_permanent);
            }
        }
    }
    let spent = |sending| rule(unreachable, sending, Budget::Spent);
    assert_eq!(spent(Sending::First).fate, Fate::Dropped);
    assert_eq!(spent(Sending::Replay).fate, Fate::Abandoned);
}

#[test]
fn a_refusal_of_a_replay_does_not_prove_that_nothing_was_sold() {
    for class in [Class::Denied, Class::Refused] {
        let rule = |sending, budget| rule(class, sending, budget);
        let (left, spent, alone) = (
            rule(Sending::Replay, Budget::Left),
            rule(Sending::Replay, Budget::Spent),
            rule(Sending::Replay, Budget::SpentAlone),
        );
        assert_eq!((left.next, left.pace), (Next::SamePool, Pace::Backoff));
        assert_eq!((spent.next, spent.fate), (Next::NextPool, Fate::Abandoned));
        // With nowhere to go, the request is kept for as long as it may be sent again.
        assert_eq!(
            (alone.next, alone.fate, alone.pace),
            (Next::SamePool, Fate::Kept, Pace::Slow)
        );
        assert_eq!(rule(Sending::First, Budget::Spent).fate, Fate::Dropped);
    }
}

#[test]
fn a_pool_that_is_busy_for_long_counts_as_refusing() {
    let busy = |seconds| answered(429, "RESOURCE_EXHAUSTED", Some(seconds));
    assert_eq!(busy(30), Class::Busy);
    assert_eq!(busy(31), Class::Refused);
}

/// The properties that keep a certificate from being bought twice, over the whole table.
#[test]
fn nothing_that_may_have_been_sold_is_given_up_before_its_budget_is_spent() {
    for class in CLASSES {
        for sending in SENDINGS {
            for budget in BUDGETS {
                let what = format!("{class:?} {sending:?} {budget:?}");
                let Ruling { next, fate, .. } = rule(class, sending, budget);
                let goes = matches!(fate, Fate::Dropped | Fate::Abandoned);
                let may_be_sold = sending == Sending::Replay
                    || (sending == Sending::First
                        && matches!(class, Class::Unknown | Class::Exists | Class::Lost));

                // A new key, and only a new key, means that the old request goes.
                let has_new_key = matches!(next, Next::NextPool | Next::NewKey | Next::Wait);
                assert_eq!(goes, has_new_key, "{what}");
                // Whoever declined it has sold nothing for it, and never will.
                let may_be_sold = may_be_sold && class != Class::Declined;
                if goes {
                    assert_eq!(fate == Fate::Abandoned, may_be_sold, "{what}");
                }
                // The one exception is certain: it was sold, and cannot be had.
                if may_be_sold && budget == Budget::Left && class != Class::Lost {
                    assert!(matches!(next, Next::SamePool | Next::Adopt), "{what}");
                }
                if next == Next::NextPool && class == Class::Unknown {
                    assert_eq!(budget, Budget::Spent, "{what}");
                }
                if budget == Budget::SpentAlone && sending == Sending::Replay {
                    assert_ne!(next, Next::NextPool, "{what}");
                }
                // An outcome that becomes open is remembered.
                if class == Class::Unknown && sending != Sending::Look && !goes {
                    assert_eq!(fate, Fate::KeptOpen, "{what}");
                }
                if sending == Sending::Look {
                    assert!(matches!(fate, Fate::Kept | Fate::Dropped), "{what}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a_first_sending_leaves_a_pool_only_after_an_answer_that_is_a_definite_no(
        http in 100..=999_u16,
        status in proptest::option::of(prop_oneof![
            Just("FAILED_PRECONDITION"), Just("ALREADY_EXISTS"), Just("UNAVAILABLE"),
            Just("NOT_FOUND"), Just("PERMISSION_DENIED"), Just("made up"),
        ]),
        wait in proptest::option::of(0..=7200_u64),
    ) {
        let retry_after = wait.map(Duration::from_secs);
        let class = Class::of(Attempt::Answer { http, status, retry_after });
        if rule(class, Sending::First, Budget::Left).next == Next::NextPool {
            let definite = matches!(http, 300..=399 | 401 | 403 | 404 | 412 | 501)
                || (http == 400 && status == Some("FAILED_PRECONDITION"))
                || (http == 429 && wait.is_some_and(|wait| wait > 30));
            prop_assert!(definite, "{http} {status:?} {wait:?}");
        }
        // Whoever answers 5xx may have done the work.
        if (500..=599).contains(&http) && http != 501 {
            prop_assert_eq!(rule(class, Sending::First, Budget::Left).fate, Fate::KeptOpen);
        }
    }
}
