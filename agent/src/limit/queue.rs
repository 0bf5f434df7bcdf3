//! Who is next: strictly by priority, first come first served within one, but nobody waits for
//! ever. Pure.
use std::collections::VecDeque;

use crate::schedule::Priority;

/// A class that has waiters is passed over at most this often in a row.
const PATIENCE: u32 = 9;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    number: u64,
    priority: Priority,
}

/// Those who wait, the most urgent class first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    classes: [Class; Priority::ALL.len()],
    given: u64,
}

#[derive(Debug, Default)]
struct Class {
    waiting: VecDeque<u64>,
    passed_over: u32,
}

impl Queue {
    /// Takes a place at the end of its class.
    pub(super) fn join(&mut self, priority: Priority) -> Ticket {
        self.given += 1;
        let number = self.given;
        self.classes[priority.index()].waiting.push_back(number);
        Ticket { number, priority }
    }

    /// Gives a place back.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let class = &mut self.classes[ticket.priority.index()];
        class.waiting.retain(|number| *number != ticket.number);
        if class.waiting.is_empty() {
            class.passed_over = 0;
        }
    }

    /// Whether it is this one's turn.
    pub(super) fn is_next(&self, ticket: Ticket) -> bool {
        let next = self.next_class();
        next == Some(ticket.priority.index())
            && self.classes[ticket.priority.index()].waiting.front() == Some(&ticket.number)
    }

    /// The one whose turn it is goes.
    pub(super) fn go(&mut self, ticket: Ticket) {
        let gone = ticket.priority.index();
        for class in &mut self.classes[gone + 1..] {
            class.passed_over += u32::from(!class.waiting.is_empty());
        }
        self.classes[gone].passed_over = 0;
        self.leave(ticket);
    }

    /// The least urgent of those who were passed over for too long, else the most urgent.
    fn next_class(&self) -> Option<usize> {
        let waiting = |index: &usize| !self.classes[*index].waiting.is_empty();
        let patient = |index: &usize| self.classes[*index].passed_over < PATIENCE;
        let all = 0..self.classes.len();
        let overdue = all.clone().rev().filter(waiting).find(|i| !patient(i));
        overdue.or_else(|| all.clone().find(waiting))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::Priority::{NearExpiry, New, Routine};

    /// Serves as many as are there, in order.
    fn serve(queue: &mut Queue, tickets: &mut Vec<Ticket>) -> Vec<Priority> {
        let mut served = Vec::new();
        while let Some(place) = tickets.iter().position(|ticket| queue.is_next(*ticket)) {
            let ticket = tickets.remove(place);
            queue.go(ticket);
            served.push(ticket.priority);
        }
        served
    }

    #[test]
    fn the_urgent_go_first_and_within_a_class_the_first_to_come() {
        let mut queue = Queue::default();
        let order = [Routine, New, NearExpiry, New, NearExpiry];
        let mut tickets: Vec<_> = order.map(|priority| queue.join(priority)).to_vec();
        let all = tickets.clone();
        let first: Vec<_> = tickets.iter().filter(|one| queue.is_next(**one)).collect();
        assert_eq!(first, [&all[2]]);
        queue.go(all[2]);
        assert!(queue.is_next(all[4]));
        tickets.remove(2);
        assert_eq!(
            serve(&mut queue, &mut tickets),
            [NearExpiry, New, New, Routine]
        );
        assert!(tickets.is_empty());
    }

    #[test]
    fn a_place_that_is_given_back_holds_nobody_up() {
        let mut queue = Queue::default();
        let (first, second) = (queue.join(New), queue.join(New));
        assert!(queue.is_next(first) && !queue.is_next(second));
        queue.leave(first);
        assert!(queue.is_next(second) && !queue.is_next(first));
        queue.leave(first);
        queue.leave(second);
        assert_eq!(queue.next_class(), None);
    }

    #[test]
    fn a_routine_renewal_gets_a_tenth_while_others_never_end() {
        let mut queue = Queue::default();
        let mut routine = 0;
        let mut waiting = queue.join(Routine);
        let mut urgent = queue.join(New);
        for _ in 0..1000 {
            if queue.is_next(waiting) {
                queue.go(waiting);
                routine += 1;
                waiting = queue.join(Routine);
            } else {
                assert!(queue.is_next(urgent));
                queue.go(urgent);
                urgent = queue.join(New);
            }
        }
        assert_eq!(routine, 100);
    }

    fn priority() -> impl Strategy<Value = Priority> {
        prop_oneof![Just(NearExpiry), Just(New), Just(Routine)]
    }

    proptest! {
        #[test]
        fn exactly_one_is_next_and_nobody_is_passed_over_for_ever(
            events in prop::collection::vec(
                prop_oneof![
                    3 => priority().prop_map(Some),
                    2 => Just(None),
                ],
                1..300,
            ),
            leavers in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut queue = Queue::default();
            let mut waiting: Vec<(Ticket, u32)> = Vec::new();
            for (index, event) in events.into_iter().enumerate() {
                if leavers.contains(&u8::try_from(index % 256).unwrap()) && !waiting.is_empty() {
                    let (ticket, _) = waiting.remove(index % waiting.len());
                    queue.leave(ticket);
                }
                if let Some(priority) = event {
                    waiting.push((queue.join(priority), 0));
                    continue;
                }
                let next: Vec<usize> = (0..waiting.len())
                    .filter(|place| queue.is_next(waiting[*place].0))
                    .collect();
                prop_assert_eq!(next.len(), usize::from(!waiting.is_empty()));
                let Some(place) = next.first().copied() else { continue };
                let (ticket, _) = waiting.remove(place);
                // Nobody overtakes within a class; a less urgent one goes only when it is owed.
                prop_assert!(waiting[..place].iter().all(|(w, _)| w.priority != ticket.priority));
                queue.go(ticket);
                for class in [NearExpiry, New, Routine] {
                    if let Some((head, passed)) =
                        waiting.iter_mut().find(|(one, _)| one.priority == class)
                    {
                        *passed = if head.priority == ticket.priority { 0 } else { *passed + 1 };
                        prop_assert!(*passed <= 2 * PATIENCE + 2, "{:?}", class);
                    }
                }
            }
        }
    }
}
