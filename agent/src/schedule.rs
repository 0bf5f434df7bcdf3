//! When each volume is looked at next: one heap for all of them.
use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

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

/// The moments at which volumes are due. A volume is here once, or not at all while it is being
/// worked on.
#[derive(Debug, Default)]
pub struct Schedule {
    queue: BTreeSet<(Timestamp, Priority, VolumeId)>,
    places: HashMap<VolumeId, (Timestamp, Priority)>,
}

impl Schedule {
    /// Puts a volume at `at`, wherever it was before.
    pub fn set(&mut self, volume: VolumeId, at: Timestamp, priority: Priority) {
        self.remove(&volume);
        self.queue.insert((at, priority, volume.clone()));
        self.places.insert(volume, (at, priority));
    }

    /// Brings a volume forward to `at`, if it is here and due later.
    pub fn hasten(&mut self, volume: &VolumeId, at: Timestamp) {
        if let Some((due, priority)) = self
            .places
            .get(volume)
            .copied()
            .filter(|(due, _)| *due > at)
        {
            debug_assert!(due > at);
            self.set(volume.clone(), at, priority);
        }
    }

    /// Takes a volume out.
    pub fn remove(&mut self, volume: &VolumeId) {
        if let Some((at, priority)) = self.places.remove(volume) {
            self.queue.remove(&(at, priority, volume.clone()));
        }
    }

    /// Takes out the most urgent of the volumes that are due at `now`.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<VolumeId> {
        let (.., volume) = self
            .queue
            .iter()
            .take_while(|(at, ..)| *at <= now)
            .min_by_key(|(at, priority, _)| (*priority, *at))?;
        let volume = volume.clone();
        self.remove(&volume);
        Some(volume)
    }

    /// When the next volume is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, ..)| *at)
    }
}
