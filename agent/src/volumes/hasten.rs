//! Volumes that are looked at before their time.
use jiff::Timestamp;

use super::{Entry, Set, Slot, Volumes};
use crate::{status::VolumeStatus, volume::VolumeId};

impl Entry {
    /// When it may be tried again at the earliest.
    pub(super) fn soonest(&self, now: Timestamp) -> Timestamp {
        self.alone_until.map_or(now, |until| until.max(now))
    }
}

impl Volumes {
    /// Tries a volume again now whose last attempt failed, because what it failed for may be better:
    /// a pod's token has come. Where a service asked to be left alone, it is tried when that time is
    /// over; and where it is being tried now, at once after another failure. A volume without trouble
    /// is left alone.
    pub fn hasten(&self, id: &VolumeId) {
        let now = self.context.clock.now();
        let mut set = self.lock();
        let Set {
            entries, schedule, ..
        } = &mut *set;
        let Some(entry) = entries.get_mut(id) else {
            return;
        };
        if matches!(entry.slot, Slot::Working(_)) {
            entry.hastened = true;
        } else if entry.status.failures > 0 {
            let at = entry.soonest(now);
            entry.status.next_attempt = entry.status.next_attempt.min(at);
            entry.status.is_hopeless &= entry.status.next_attempt > now;
            schedule.hasten(id, at);
            self.wake.notify_one();
            self.changed.notify_waiters();
        }
    }

    /// The same for a volume whose last attempt failed for want of a token.
    pub fn hasten_for_token(&self, id: &VolumeId) {
        let waits =
            |entry: &Entry| entry.status.needs_token || matches!(entry.slot, Slot::Working(_));
        if self.lock().entries.get(id).is_some_and(waits) {
            self.hasten(id);
        }
    }

    pub(super) fn hasten_all(&self, now: Timestamp, which: impl Fn(&VolumeStatus) -> bool) {
        let mut set = self.lock();
        let Set {
            entries, schedule, ..
        } = &mut *set;
        for (id, entry) in entries.iter_mut().filter(|(_, entry)| which(&entry.status)) {
            entry.status.next_attempt = entry.status.next_attempt.min(now);
            entry.status.is_hopeless = false;
            schedule.hasten(id, now);
        }
    }

    /// Every volume is looked at now; when it is tried again after a failure stays as it is.
    pub(super) fn look_again(&self, now: Timestamp) {
        let mut set = self.lock();
        let Set {
            entries, schedule, ..
        } = &mut *set;
        for id in entries.keys() {
            schedule.hasten(id, now);
        }
    }
}

#[cfg(test)]
#[path = "hasten_tests.rs"]
mod tests;
