use proptest::prelude::*;

use super::*;
use crate::{
    cas::lab::{domain, now},
    trust::{
        Fingerprint,
        lab::{root, root_until, some_roots},
    },
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn at(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

/// Follows anchors of the domain `a`, with a validity of an hour.
fn follow(memory: &mut Memory, said: &[(&str, Option<&[Certificate]>)], now: Timestamp) {
    let named = said.iter().map(|(anchor, roots)| Named {
        anchor: (*anchor).to_owned(),
        roots: roots.map(|roots| roots.iter().collect()),
    });
    let said = BTreeMap::from([(domain("a"), named.collect())]);
    memory.follow(&said, HOUR, &Distrust::default(), now);
}

fn there(memory: &Memory) -> Vec<String> {
    let mut names: Vec<_> = memory
        .domains
        .values()
        .flat_map(|memory| memory.roots.values())
        .map(|known| known.root.subject_text().replace("CN=", ""))
        .collect();
    names.sort_unstable();
    names
}

fn one_and_two() -> (Certificate, Certificate) {
    (root("one"), root("two"))
}

#[test]
fn a_root_comes_at_once_and_goes_one_validity_after_it_was_first_missed() {
    let (one, two) = one_and_two();
    let (both, new) = ([one.clone(), two.clone()], [two]);
    let mut memory = Memory::default();
    follow(&mut memory, &[("p", Some(&both[..1]))], at(0));
    follow(&mut memory, &[("p", Some(&both))], at(5));
    assert_eq!(there(&memory), ["one", "two"]);
    assert_eq!(memory.next_end(), None);
    follow(&mut memory, &[("p", Some(&new))], at(10));
    assert_eq!(memory.next_end(), Some(at(70)));
    for minute in [15, 40, 69] {
        follow(&mut memory, &[("p", Some(&new))], at(minute));
        assert_eq!(there(&memory), ["one", "two"], "{minute}");
    }
    follow(&mut memory, &[("p", Some(&new))], at(70));
    assert_eq!(there(&memory), ["two"]);
    assert_eq!(memory.next_end(), None);
}

#[test]
fn a_root_that_comes_back_stays_and_its_time_begins_anew_later() {
    let (one, two) = one_and_two();
    let (both, new) = ([one, two.clone()], [two]);
    let mut memory = Memory::default();
    follow(&mut memory, &[("p", Some(&both))], at(0));
    follow(&mut memory, &[("p", Some(&new))], at(10));
    follow(&mut memory, &[("p", Some(&both))], at(60));
    assert_eq!(memory.next_end(), None);
    follow(&mut memory, &[("p", Some(&both))], at(600));
    assert_eq!(there(&memory), ["one", "two"]);
    follow(&mut memory, &[("p", Some(&new))], at(610));
    assert_eq!(memory.next_end(), Some(at(670)));
}

#[test]
fn a_root_stays_as_long_as_one_anchor_names_it_or_has_not_answered_since_it_did() {
    let one = [root("one")];
    let none: &[Certificate] = &[];
    let mut memory = Memory::default();
    follow(&mut memory, &[("p", Some(&one)), ("q", Some(&one))], at(0));
    follow(&mut memory, &[("p", Some(none)), ("q", Some(&one))], at(10));
    assert_eq!(memory.next_end(), None);
    // The next process: p, which named it no more, never answers; q, which did, is slow.
    follow(&mut memory, &[("p", None), ("q", None)], at(500));
    assert_eq!(memory.next_end(), None);
    follow(&mut memory, &[("p", None), ("q", Some(none))], at(510));
    assert_eq!(memory.next_end(), Some(at(570)));
}

#[test]
fn an_anchor_that_is_taken_out_takes_its_roots_with_it_after_their_time() {
    let (one, two) = one_and_two();
    let mut memory = Memory::default();
    let (one, two) = ([one], [two]);
    follow(&mut memory, &[("p", Some(&one)), ("q", Some(&two))], at(0));
    follow(&mut memory, &[("q", Some(&two))], at(10));
    assert_eq!(there(&memory), ["one", "two"]);
    follow(&mut memory, &[("q", Some(&two))], at(70));
    assert_eq!(there(&memory), ["two"]);
}

#[test]
fn a_trust_domain_that_is_taken_out_goes_at_once_and_comes_back_empty() {
    let mut memory = Memory::default();
    follow(&mut memory, &[("p", Some(&[root("one")]))], at(0));
    memory.follow(&BTreeMap::new(), HOUR, &Distrust::default(), at(1));
    assert_eq!(memory, Memory::default());
    follow(&mut memory, &[("p", None)], at(2));
    assert!(there(&memory).is_empty());
}

#[test]
fn an_expired_root_goes_at_once_and_one_that_ends_sooner_goes_then() {
    let ended = root_until("ended", at(5));
    let ending = root_until("ending", at(30));
    let mut memory = Memory::default();
    let none: &[Certificate] = &[];
    follow(&mut memory, &[("p", Some(&[ended, ending]))], at(0));
    follow(&mut memory, &[("p", Some(none))], at(10));
    assert_eq!(there(&memory), ["ending"]);
    assert_eq!(memory.next_end(), Some(at(30)));
    follow(&mut memory, &[("p", Some(none))], at(30));
    assert!(there(&memory).is_empty());
}

#[test]
fn a_distrusted_root_does_not_stay_once_nobody_names_it() {
    let one = root("one");
    let distrust: Distrust = [Fingerprint::of(&one)].into_iter().collect();
    let named = |roots| {
        let anchor = "p".to_owned();
        BTreeMap::from([(domain("a"), vec![Named { anchor, roots }])])
    };
    let mut memory = Memory::default();
    memory.follow(&named(Some(vec![&one])), HOUR, &distrust, at(0));
    assert_eq!(there(&memory), ["one"]);
    memory.follow(&named(Some(Vec::new())), HOUR, &distrust, at(1));
    assert!(there(&memory).is_empty());
}

#[test]
fn an_anchor_that_invents_roots_cannot_fill_the_bundle() {
    let mut memory = Memory::default();
    let template = some_roots();
    for minute in 0..30 {
        follow(&mut memory, &[("p", Some(&template[..1]))], at(minute));
    }
    let many: Vec<Certificate> = (0..MOST_LEAVING + 3)
        .map(|index| root(&format!("root {index}")))
        .collect();
    for (minute, one) in (30_i64..).zip(many.chunks(1)) {
        let minute = 30 + (minute - 30) / 3;
        follow(&mut memory, &[("p", Some(one))], at(minute));
    }
    let names = there(&memory);
    assert_eq!(names.len(), MOST_LEAVING + 1);
    // The newest is named, the oldest gave way.
    let has = |wanted| names.iter().any(|name| name == wanted);
    assert!(has("root 66") && !has("one"));
}

#[test]
fn what_was_lost_is_rebuilt_for_one_validity_after_every_anchor_answered() {
    let one = [root("one")];
    let mut memory = Memory::lost([&domain("a")]);
    let rebuilding = |memory: &Memory| memory.domains[&domain("a")].rebuilding;
    follow(&mut memory, &[("p", Some(&one)), ("q", None)], at(0));
    follow(&mut memory, &[("p", Some(&one)), ("q", None)], at(600));
    assert_eq!(rebuilding(&memory), Rebuilding::UntilKnown);
    let said: &[(&str, Option<&[Certificate]>)] = &[("p", Some(&one)), ("q", Some(&one))];
    follow(&mut memory, said, at(610));
    assert_eq!(memory.next_end(), Some(at(670)));
    // A restart in between changes nothing.
    follow(&mut memory, &[("p", None), ("q", None)], at(669));
    assert!(matches!(rebuilding(&memory), Rebuilding::Leaving(_)));
    follow(&mut memory, said, at(670));
    assert_eq!(rebuilding(&memory), Rebuilding::No);
}

#[test]
fn a_clock_that_was_ahead_and_is_set_back_keeps_a_root_for_one_validity_from_then() {
    let one = [root("one")];
    let none: &[Certificate] = &[];
    let mut memory = Memory::default();
    let year = 365 * 24 * 60;
    follow(&mut memory, &[("p", Some(&one))], at(year));
    follow(&mut memory, &[("p", Some(none))], at(year));
    follow(&mut memory, &[("p", Some(none))], at(0));
    assert_eq!(memory.next_end(), Some(at(60)));
    follow(&mut memory, &[("p", Some(none))], at(60));
    assert!(there(&memory).is_empty());
}

/// What one of two anchors says at a moment: which of five roots, or nothing yet.
fn said() -> impl Strategy<Value = (Option<Vec<usize>>, Option<Vec<usize>>, i64)> {
    let roots = || prop::option::weighted(0.8, prop::collection::vec(0..5_usize, 0..4));
    (roots(), roots(), -30..90_i64)
}

proptest! {
    #[test]
    fn whatever_anchors_and_clock_do(steps in prop::collection::vec(said(), 1..40)) {
        let pick = |which: &Option<Vec<usize>>| -> Option<Vec<Certificate>> {
            which.as_ref().map(|which| which.iter().map(|one| some_roots()[*one].clone()).collect())
        };
        let mut memory = Memory::default();
        let mut minute = 0;
        for (p, q, step) in &steps {
            minute += step;
            let before = memory.clone();
            let (p, q) = (pick(p), pick(q));
            follow(&mut memory, &[("p", p.as_deref()), ("q", q.as_deref())], at(minute));
            let roots = |memory: &Memory| memory.domains.get(&domain("a")).map(|memory| memory.roots.clone()).unwrap_or_default();
            let (old, new) = (roots(&before), roots(&memory));
            for named in p.iter().chain(&q).flatten() {
                // Early: at once, and not on the way out.
                prop_assert!(new[&named.fingerprint()].leaving.is_none());
            }
            for (id, known) in &new {
                // Never longer than one validity from here, whatever the clock did.
                if let Some(end) = known.end() {
                    prop_assert!(end > at(minute) && end <= at(minute + 60));
                    prop_assert!(known.anchors.is_empty());
                }
                prop_assert!(old.contains_key(id) || p.iter().chain(&q).flatten().any(|root| *root == known.root));
            }
            for (id, known) in &old {
                // Late: not before one validity after it was first missed.
                if !new.contains_key(id) {
                    let grace = known.leaving.expect("it was on the way out before");
                    prop_assert!(at(minute) >= grace.until());
                }
            }
            // Doing it again changes nothing.
            let settled = memory.clone();
            follow(&mut memory, &[("p", p.as_deref()), ("q", q.as_deref())], at(minute));
            prop_assert_eq!(&memory, &settled);
        }
    }
}
