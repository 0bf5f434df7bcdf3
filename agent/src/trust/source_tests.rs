use super::*;
use crate::{
    cas::{
        Call, Reason,
        lab::{enterprise, now},
    },
    google::IdentityError,
    trust::lab::root,
};

fn endpoint() -> SourceName {
    SourceName::Endpoint("https://example.org/b".parse().unwrap())
}

fn answer(roots: &[Certificate], sequence: Option<u64>, hint: Option<u64>) -> Answer {
    Answer {
        roots: roots.to_vec(),
        sequence,
        refresh_hint: hint.map(Duration::from_secs),
    }
}

fn failed() -> Result<Answer, SourceError> {
    Err(SourceError::NoRoots { pool: enterprise() })
}

fn waits(source: &mut Source, failures: usize) -> Vec<i64> {
    let mut record = || {
        source.record(&endpoint(), failed(), now());
        source.due.unwrap().duration_since(now()).as_secs()
    };
    (0..failures).map(|_| record()).collect()
}

#[test]
fn a_source_that_never_answered_is_asked_after_5_seconds_doubling_to_5_minutes() {
    let mut source = Source::default();
    assert_eq!(waits(&mut source, 8), [5, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(source.failures, 8);
}

#[test]
fn a_source_that_was_not_asked_for_want_of_a_token_is_tried_every_5_seconds() {
    let no_token = || {
        let reason = Reason::NoToken(IdentityError::passing("no pod yet".to_owned()));
        Err(CallError::new(Call::FetchCaCerts, &enterprise(), reason, None).into())
    };
    let mut source = Source::default();
    for _ in 0..100 {
        source.record(&endpoint(), no_token(), now());
        assert_eq!(source.due.unwrap().duration_since(now()).as_secs(), 5);
    }
    // With roots from an answer there is no hurry.
    source.record(&endpoint(), Ok(answer(&[root("a")], None, None)), now());
    source.record(&endpoint(), no_token(), now());
    assert_eq!(source.due.unwrap().duration_since(now()).as_secs(), 300);
}

#[test]
fn a_source_that_asks_to_be_left_alone_is_left_alone_for_as_long() {
    let mut source = Source::default();
    for (asked, waited) in [(60, 60), (1, 10), (3600, 3600)] {
        let reason = Reason::Answer {
            http: 429,
            status: Some("RESOURCE_EXHAUSTED".to_owned()),
            message: String::new(),
            permission: None,
        };
        let wait = Some(Duration::from_secs(asked));
        let busy = CallError::new(Call::FetchCaCerts, &enterprise(), reason, wait);
        source.record(&endpoint(), Err(busy.into()), now());
        assert_eq!(source.due.unwrap().duration_since(now()).as_secs(), waited);
        assert!(!source.is_due(now()), "{asked} s");
    }
}

#[test]
fn a_hint_is_honoured_between_30_seconds_and_an_hour_and_is_5_minutes_if_missing() {
    for (hint, wait) in [
        (None, 300),
        (Some(0), 30),
        (Some(29), 30),
        (Some(31), 31),
        (Some(3599), 3599),
        (Some(86_400), 3600),
        (Some(u64::MAX), 3600),
    ] {
        let mut source = Source::default();
        source.record(&endpoint(), Ok(answer(&[root("a")], None, hint)), now());
        let due = source.due.unwrap();
        assert_eq!(due.duration_since(now()).as_secs(), wait, "{hint:?}");
        assert!(!source.is_due(now()));
        assert!(source.is_due(due));
        // A clock that was set back must not make it wait longer than that.
        assert!(source.is_due(now() - SignedDuration::from_hours(2)));
    }
}

#[test]
fn a_known_source_that_fails_is_asked_at_its_own_pace_then_ever_less_often() {
    for (hint, expected) in [
        (Some(30), [30, 60, 120, 240, 300]),
        (None, [300; 5]),
        (Some(3600), [300; 5]),
    ] {
        let mut source = Source::default();
        source.record(&endpoint(), Ok(answer(&[root("a")], None, hint)), now());
        assert_eq!(waits(&mut source, 5), expected);
        assert_eq!(source.roots.len(), 1);
    }
}

#[test]
fn a_sequence_never_goes_back() {
    let (old, new) = ([root("old")], [root("new")]);
    let mut source = Source::default();
    let mut record = |roots: &[Certificate], sequence| {
        source.record(&endpoint(), Ok(answer(roots, sequence, None)), now());
        (
            source.clone(),
            source.error.as_ref().map(ToString::to_string),
        )
    };
    assert_eq!(record(&new, Some(7)).1, None);
    let (refused, said) = record(&old, Some(6));
    let said = said.unwrap();
    assert!(
        said.contains("https://example.org/b went back from spiffe_sequence 7 to 6"),
        "{said}"
    );
    assert!(said.contains("put it back in"), "{said}");
    assert_eq!((refused.roots, refused.failures), (new.to_vec(), 1));
    // Whoever leaves the number out for once, or does not raise it, is believed ...
    let (source, said) = record(&old, None);
    assert_eq!((source.roots, said), (old.to_vec(), None));
    let (source, said) = record(&new, Some(7));
    assert_eq!((source.roots, said), (new.to_vec(), None));
    // ... and that changes nothing of what was seen.
    assert!(record(&old, Some(6)).1.is_some());
    assert_eq!(record(&old, Some(u64::MAX)).1, None);
    assert!(record(&new, Some(u64::MAX - 1)).1.is_some());
}

mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::trust::lab::some_roots;

    proptest! {
        #[test]
        fn whatever_an_endpoint_says_its_accepted_numbers_never_fall(
            said in prop::collection::vec((prop::option::of(0..6_u64), 0..5_usize, prop::option::of(any::<u64>())), 1..30),
        ) {
            let mut source = Source::default();
            for (sequence, which, hint) in said {
                let before = source.clone();
                let roots = &some_roots()[which..=which];
                source.record(&endpoint(), Ok(answer(roots, sequence, hint)), now());
                let stale = sequence.is_some_and(|found| before.sequence.is_some_and(|known| found < known));
                prop_assert_eq!(source.error.is_some(), stale);
                prop_assert_eq!(&source.roots[..], if stale { &before.roots[..] } else { roots });
                prop_assert!(source.sequence >= before.sequence);
                let wait = source.due.unwrap().duration_since(now());
                prop_assert!(wait >= SignedDuration::from_secs(5) && wait <= SignedDuration::from_hours(1));
            }
        }
    }
}
