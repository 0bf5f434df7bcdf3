use proptest::prelude::*;

use super::*;
use crate::volume::fixture::at;

fn found(seconds: i64) -> Found {
    Found {
        name: layout::generation_name(at(seconds)),
        modified: at(seconds),
    }
}

fn overdue(found: &[Found], now: i64, room: usize) -> Vec<String> {
    let current = found.last().map(|one| one.name.clone());
    let generations = Generations::sort(found.to_vec(), current.as_deref());
    generations
        .overdue(at(now), room)
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_replaced_generation_stays_for_sixty_seconds_after_the_swap() {
    let both = [found(0), found(1000)];
    assert!(overdue(&both, 1000, 0).is_empty());
    assert!(overdue(&both, 1059, 0).is_empty());
    assert_eq!(overdue(&both, 1060, 0), [both[0].name.clone()]);
}

#[test]
fn the_oldest_goes_early_when_there_are_more_than_three() {
    let four = [found(0), found(1), found(2), found(3)];
    assert_eq!(overdue(&four, 3, 0), [four[0].name.clone()]);
    assert_eq!(
        overdue(&four, 3, 1),
        [four[0].name.clone(), four[1].name.clone()]
    );
}

#[test]
fn what_is_newer_than_the_current_one_was_never_published() {
    let (old, current, unpublished) = (found(0), found(10), found(20));
    let all = vec![unpublished.clone(), current.clone(), old.clone()];
    let generations = Generations::sort(all, Some(&current.name));
    assert_eq!(generations.leftover, [unpublished.name]);
    assert_eq!(generations.replaced, [(old.name, at(70))]);
    assert_eq!(generations.next(at(69)), Some(at(70)));
    assert_eq!(generations.next(at(70)), None);
}

#[test]
fn without_a_current_one_nothing_was_published() {
    let generations = Generations::sort(vec![found(0)], None);
    assert_eq!(generations.leftover, [found(0).name]);
    assert_eq!(generations.next(at(0)), None);
}

#[test]
fn the_name_tells_the_swap_when_the_mtime_was_pushed_ahead() {
    // The clock was stepped back by an hour between the two.
    let old = found(3600);
    let new = Found {
        name: layout::generation_name(at(0)),
        modified: at(3601),
    };
    let generations = Generations::sort(vec![new.clone(), old], Some(&new.name));
    assert_eq!(generations.next(at(0)), Some(at(60)));
    let foreign = Found {
        name: "..2026_11_21_01_23_45.1234".to_owned(),
        modified: at(5),
    };
    assert_eq!(swapped_at(&foreign), at(5));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_is_free_and_tells_its_moment(
        nanoseconds in 0_i64..4_000_000_000_000_000_000,
        taken in 0_usize..5,
    ) {
        let now = Timestamp::from_nanosecond(nanoseconds.into()).unwrap();
        let mut names = Vec::new();
        for _ in 0..=taken {
            let name = free_name(now, &names);
            prop_assert!(layout::is_generation(&name) && !names.contains(&name));
            prop_assert!(moment_of(&name).unwrap().duration_since(now).as_nanos() <= 5);
            names.push(name);
        }
    }

    #[test]
    fn sorting_loses_nothing_and_keeps_the_current_one(
        moments in prop::collection::vec(0_i64..500, 1..12),
        pick in any::<prop::sample::Index>(),
        now in 0_i64..1000,
        room in 0_usize..2,
    ) {
        let mut all: Vec<Found> = Vec::new();
        for moment in moments {
            let taken: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
            all.push(Found { name: free_name(at(moment), &taken), modified: at(moment) });
        }
        let current = pick.get(&all).name.clone();
        let generations = Generations::sort(all.clone(), Some(&current));
        prop_assert_eq!(generations.replaced.len() + generations.leftover.len() + 1, all.len());
        let overdue: Vec<&str> = generations.overdue(at(now), room).collect();
        prop_assert!(!overdue.contains(&current.as_str()));
        let stay = generations.replaced.len() - overdue.len();
        prop_assert!(stay + 1 + room <= MAX_GENERATIONS);
    }
}

#[test]
fn the_end_of_time_has_names_too() {
    let first = free_name(Timestamp::MAX, &[]);
    assert_ne!(
        free_name(Timestamp::MAX, std::slice::from_ref(&first)),
        first
    );
}
