//! When each volume is looked at next, the urgent before the others.
use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::volume::VolumeId;

/// Who goes first among those that are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Its certificate ends soon.
    NearExpiry,
    /// It has no certificate yet.
    New,
    /// All else.
    Routine,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::NearExpiry, Self::New, Self::Routine];

    /// Of a certificate that ends then and lives so long.
    pub fn of_renewal(ends: Timestamp, lives: SignedDuration, now: Timestamp) -> Self {
        let near = (lives / 10).min(SignedDuration::from_mins(10));
        if ends.duration_since(now) < near {
            Self::NearExpiry
        } else {
            Self::Routine
        }
    }

    /// Its place in [`Priority::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The moments at which volumes are due. A volume is here once, or not at all while it is being
/// worked on.
#[derive(Debug, Default)]
pub struct Schedule {
    queues: [BTreeSet<(Timestamp, VolumeId)>; Priority::ALL.len()],
    places: HashMap<VolumeId, (Timestamp, Priority)>,
}

impl Schedule {
    /// Puts a volume at `at`, wherever it was before.
    pub fn set(&mut self, volume: VolumeId, at: Timestamp, priority: Priority) {
        self.remove(&volume);
        self.queues[priority.index()].insert((at, volume.clone()));
        self.places.insert(volume, (at, priority));
    }

    /// Brings a volume forward to `at`, if it is here and due later.
    pub fn hasten(&mut self, volume: &VolumeId, at: Timestamp) {
        let place = self.places.get(volume).copied();
        if let Some((_, priority)) = place.filter(|(due, _)| *due > at) {
            self.set(volume.clone(), at, priority);
        }
    }

    /// Takes a volume out.
    pub fn remove(&mut self, volume: &VolumeId) {
        if let Some((at, priority)) = self.places.remove(volume) {
            self.queues[priority.index()].remove(&(at, volume.clone()));
        }
    }

    /// Takes out the first of the volumes of this priority that are due at `now`.
    pub fn pop_due(&mut self, priority: Priority, now: Timestamp) -> Option<VolumeId> {
        let queue = &mut self.queues[priority.index()];
        let (at, _) = queue.first()?;
        if *at > now {
            return None;
        }
        let (_, volume) = queue.pop_first()?;
        self.places.remove(&volume);
        Some(volume)
    }

    /// When the next volume of this priority is due.
    pub fn next(&self, priority: Priority) -> Option<Timestamp> {
        self.queues[priority.index()].first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn id(name: &str) -> VolumeId {
        VolumeId::of(std::path::Path::new(name))
    }

    #[test]
    fn each_priority_has_its_own_order_and_a_volume_is_in_one_of_them() {
        let mut schedule = Schedule::default();
        schedule.set(id("/a"), at(5), Priority::Routine);
        schedule.set(id("/b"), at(3), Priority::Routine);
        schedule.set(id("/b"), at(9), Priority::NearExpiry);
        schedule.set(id("/c"), at(2), Priority::Routine);
        assert_eq!(schedule.next(Priority::Routine), Some(at(2)));
        assert_eq!(schedule.next(Priority::NearExpiry), Some(at(9)));
        assert_eq!(schedule.next(Priority::New), None);
        assert_eq!(schedule.pop_due(Priority::NearExpiry, at(8)), None);
        assert_eq!(schedule.pop_due(Priority::Routine, at(8)), Some(id("/c")));
        assert_eq!(schedule.pop_due(Priority::Routine, at(8)), Some(id("/a")));
        assert_eq!(schedule.pop_due(Priority::Routine, at(8)), None);
        schedule.hasten(&id("/b"), at(1));
        schedule.hasten(&id("/b"), at(4));
        schedule.hasten(&id("/a"), at(1));
        assert_eq!(
            schedule.pop_due(Priority::NearExpiry, at(1)),
            Some(id("/b"))
        );
        schedule.set(id("/d"), at(1), Priority::New);
        schedule.remove(&id("/d"));
        assert_eq!(schedule.next(Priority::New), None);
    }
}
