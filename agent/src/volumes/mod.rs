//! The set of volumes: one task that looks at each when it is due. What is done then is in `job`.
mod hasten;
mod job;
mod release;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certagent_core::backoff;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::{
    job::{Done, Job, Outcome, Versions},
    release::{Begun, Ended, Running},
};
use crate::{
    held::{Assignment, Held, HeldError},
    provision::{self, Context, Turn},
    schedule::{Priority, Schedule},
    status::VolumeStatus,
    volume::{StateDir, VolumeId},
};

/// How many volumes of each priority are worked on at once. Each has its own permits, so that one
/// whose certificate ends soon is never stuck behind others that wait for a quota or an answer.
const AT_ONCE: usize = 32;

/// The loop looks at the clock at least this often, to notice when it was set, and at the places
/// of the volumes.
const LONGEST_SLEEP: SignedDuration = SignedDuration::from_secs(60);

/// The volumes that the agent keeps supplied.
pub struct Volumes {
    context: Context,
    state: Arc<StateDir>,
    set: Mutex<Set>,
    wake: Notify,
    changed: Notify,
}

#[derive(Default)]
struct Set {
    entries: BTreeMap<VolumeId, Entry>,
    schedule: Schedule,
    /// Jobs of volumes that are no longer here.
    leaving: BTreeMap<VolumeId, Vec<Running>>,
    /// How many entries there were so far.
    made: u64,
}

struct Entry {
    /// Tells it from an earlier entry of the same volume, whose job may still run.
    number: u64,
    assignment: Assignment,
    status: VolumeStatus,
    turn: Option<Turn>,
    slot: Slot,
    /// After a failure: whoever was asked wants to be left alone until then.
    alone_until: Option<Timestamp>,
    /// Somebody wants it to be tried again soon, should the job at work fail.
    hastened: bool,
    /// Must not be worked on again: it was given up, or given to another identity, meanwhile.
    outdated: bool,
}

/// Where an entry's volume is.
enum Slot {
    /// It could not be opened yet.
    Closed,
    /// Here.
    Idle(Box<Held>),
    /// With the job that works on it.
    Working(Running),
}

impl Volumes {
    /// An empty set.
    pub fn new(context: Context, state: Arc<StateDir>) -> Self {
        Self {
            context,
            state,
            set: Mutex::default(),
            wake: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// Keeps a volume supplied from now on; the same volume given again with other settings is
    /// taken up anew. What is wrong with the volume now is given back, and tried again later.
    pub fn publish(&self, assignment: Assignment) -> Result<VolumeId, HeldError> {
        let id = VolumeId::of(&assignment.path);
        let now = self.context.clock.now();
        let mut set = self.lock();
        if let Some(entry) = set.entries.get_mut(&id) {
            if entry.assignment == assignment && !entry.outdated {
                return Ok(id);
            }
            // Until such an edit is corrected, the volume stays supplied as before.
            assignment.access()?;
            // Whoever works on it still has its lock; it is opened again when that ends.
            entry.outdated = matches!(entry.slot, Slot::Working(_));
            if !entry.outdated {
                entry.slot = Slot::Closed;
            }
            entry.status.path.clone_from(&assignment.path);
            entry.status.spiffe_id = assignment.spiffe_id.to_string();
            entry.status.next_attempt = now;
            entry.status.is_hopeless = false;
            entry.assignment = assignment;
            entry.turn = None;
            entry.alone_until = None;
            entry.hastened = false;
            if !entry.outdated {
                set.schedule.set(id.clone(), now, Priority::New);
            }
            self.wake.notify_one();
            self.changed.notify_waiters();
            return Ok(id);
        }
        let opened = Held::open(&assignment, &self.state, &self.policy(), now);
        let mut status = VolumeStatus::new(id.clone(), &assignment, now);
        let (slot, result) = match opened {
            Ok(held) => {
                status.see(&held, self.context.config.borrow().spread_rotation());
                (Slot::Idle(Box::new(held)), Ok(id.clone()))
            }
            Err(error) => {
                status.failures = 1;
                status.last_error = Some(error.to_string());
                (Slot::Closed, Err(error))
            }
        };
        let at = match &slot {
            Slot::Idle(_) => now,
            _ => now.saturating_add(backoff::first_issue(1)).unwrap_or(now),
        };
        status.next_attempt = at;
        set.schedule.set(id.clone(), at, Priority::New);
        set.made += 1;
        let number = set.made;
        set.entries.insert(
            id,
            Entry {
                number,
                assignment,
                status,
                turn: None,
                slot,
                alone_until: None,
                hastened: false,
                outdated: false,
            },
        );
        self.wake.notify_one();
        self.changed.notify_waiters();
        result
    }

    /// Every volume, as it stands.
    pub fn statuses(&self) -> Vec<VolumeStatus> {
        self.lock()
            .entries
            .values()
            .map(|entry| entry.status.clone())
            .collect()
    }

    /// One volume as it stands; none if it is not in the set.
    pub fn status(&self, id: &VolumeId) -> Option<VolumeStatus> {
        let set = self.lock();
        set.entries.get(id).map(|entry| entry.status.clone())
    }

    /// Resolves when the status of a volume has changed since the call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.changed.notified()
    }

    /// Supplies the volumes until `cancel`.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut config = self.context.config.clone();
        let mut trust = self.context.trust.clone();
        let mut trusted = Arc::clone(&trust.borrow_and_update());
        let mut rotation = config.borrow_and_update().spread_rotation();
        let mut jobs: JoinSet<Ended> = JoinSet::new();
        let permits = Priority::ALL.map(|_| Arc::new(Semaphore::new(AT_ONCE)));
        let mut seen = self.context.clock.now();
        let mut places_due = seen;
        loop {
            let now = self.context.clock.now();
            if now < seen {
                warn!(back_by = %(seen.duration_since(now)), "the clock was set back; looking at every volume");
                self.hasten_all(now, |_| true);
                places_due = now;
            }
            seen = now;
            if places_due <= now {
                self.look_for_volumes(now);
                places_due = now.saturating_add(LONGEST_SLEEP).unwrap_or(Timestamp::MAX);
            }
            for (priority, free) in Priority::ALL.into_iter().zip(&permits) {
                while let Ok(permit) = Arc::clone(free).try_acquire_owned()
                    && let Some(job) = self.next_job(priority, now, permit)
                {
                    jobs.spawn(job);
                }
            }
            let idle_until = now.saturating_add(LONGEST_SLEEP).unwrap_or(Timestamp::MAX);
            // A priority without a free permit has to wait for a job's end whatever is due in it.
            let with_room = Priority::ALL.into_iter().zip(&permits);
            let next = {
                let set = self.lock();
                with_room
                    .filter(|(_, free)| free.available_permits() > 0)
                    .filter_map(|(priority, _)| set.schedule.next(priority))
                    .min()
            };
            let until = next.unwrap_or(idle_until).min(idle_until);
            let sleep = self.context.clock.sleep_until(until);
            if self.context.clock.now() < now {
                // Set back since the look above: the sleep would not notice.
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(done) = jobs.join_next() => match done {
                    Ok(ended) => self.take_back(ended),
                    Err(error) => error!(%error, "a job ended without an answer"),
                },
                () = sleep => {}
                () = self.wake.notified() => {}
                Ok(()) = config.changed() => {
                    let now = self.context.clock.now();
                    // What was denied or invalid may be neither any more.
                    self.hasten_all(now, |status| status.failures > 0);
                    let newer = config.borrow_and_update().spread_rotation();
                    if std::mem::replace(&mut rotation, newer) != newer {
                        self.look_again(now);
                    }
                }
                Ok(()) = trust.changed() => {
                    let newer = Arc::clone(&trust.borrow_and_update());
                    let may_help = newer.may_help_after(&trusted);
                    let now = self.context.clock.now();
                    self.hasten_all(now, |status| may_help || status.failures == 0);
                    // The others get the new bundles, and ask nobody before their time.
                    self.look_again(now);
                    trusted = newer;
                }
            }
        }
        // A job is dropped between two of its writes: whatever it had begun is taken up again at
        // the next start. What had ended already counts.
        jobs.abort_all();
        while let Some(done) = jobs.join_next().await {
            if let Ok(ended) = done {
                self.take_back(ended);
            }
        }
    }

    /// A volume that was replaced or emptied under the agent is opened again by its path.
    fn look_for_volumes(&self, now: Timestamp) {
        let mut set = self.lock();
        let Set {
            entries, schedule, ..
        } = &mut *set;
        let mut changed = false;
        for (id, entry) in entries.iter_mut() {
            if matches!(&entry.slot, Slot::Idle(held) if !held.is_in_place()) {
                warn!(volume = %entry.status.path.display(),
                    "the volume was replaced or emptied; it is taken up anew");
                entry.slot = Slot::Closed;
                entry.status.certificate = None;
                entry.status.generation = None;
                entry.status.is_hopeless = false;
                entry.status.next_attempt = now;
                schedule.set(id.clone(), now, Priority::New);
                changed = true;
            }
        }
        if changed {
            self.changed.notify_waiters();
        }
    }

    /// The first volume of this priority that is due, as a job that keeps its permit until it ends.
    fn next_job(
        self: &Arc<Self>,
        priority: Priority,
        now: Timestamp,
        permit: OwnedSemaphorePermit,
    ) -> Option<impl Future<Output = Ended> + Send + use<>> {
        let mut set = self.lock();
        loop {
            let id = set.schedule.pop_due(priority, now)?;
            let Some(entry) = set.entries.get_mut(&id) else {
                continue;
            };
            if matches!(entry.slot, Slot::Working(_)) {
                continue;
            }
            let (running, begun) = Running::begin(&mut entry.slot);
            let status = &mut entry.status;
            // Whoever only comes to look does not change what is known.
            status.is_hopeless &= status.next_attempt > now;
            let job = Job {
                turn: entry.turn,
                failures: status.failures,
                not_before: (status.failures > 0).then_some(status.next_attempt),
                saw: self.versions(),
            };
            let (assignment, number) = (entry.assignment.clone(), entry.number);
            let volumes = Arc::clone(self);
            return Some(async move {
                let _permit = permit;
                // In this order, so that the volume is closed before that is told.
                let Begun { gone, held } = begun;
                let held = match held {
                    Some(held) => Ok(held),
                    None => Held::open(&assignment, &volumes.state, &volumes.policy(), now)
                        .map(Box::new),
                };
                let done = match held {
                    Ok(held) => volumes.work(held, job, &running.released).await,
                    Err(error) => Some(volumes.still_closed(&id, &error, job)),
                };
                Ended {
                    id,
                    number,
                    done,
                    released: running.released,
                    gone,
                }
            });
        }
    }

    fn take_back(&self, ended: Ended) {
        let Ended {
            gone: _gone,
            id,
            number,
            released,
            done,
        } = ended;
        let now = self.context.clock.now();
        let mut set = self.lock();
        let Set {
            entries, schedule, ..
        } = &mut *set;
        let entry = entries.get_mut(&id);
        let Some(entry) = entry.filter(|entry| entry.number == number) else {
            // Gone; or also given again meanwhile, and the lock that the other waits for is free
            // now.
            schedule.hasten(&id, now);
            if released.is_cancelled()
                && let Some(mut held) = done.and_then(|done| done.held)
            {
                // It came to its end just before it was released.
                provision::close(&self.context, &mut held);
            }
            return;
        };
        let Some(done) = done else {
            return;
        };
        if std::mem::take(&mut entry.outdated) {
            entry.slot = Slot::Closed;
            schedule.set(id, now, Priority::New);
            return;
        }
        self.settle(entry, &done, now);
        entry.turn = done.turn;
        entry.slot = done.held.map_or(Slot::Closed, Slot::Idle);
        // What changed while the job ran was not seen by it: it looks again at once. A failure
        // waits all the same, unless the change may help.
        let versions = self.versions();
        let is_current = done.saw == versions;
        let failed = entry.status.failures > 0;
        let hastened = std::mem::take(&mut entry.hastened) && failed;
        let next = if !is_current && (!failed || versions.may_help_after(&done.saw)) {
            now
        } else if hastened {
            entry.soonest(now).min(done.next)
        } else {
            done.next
        };
        entry.status.next_attempt = next;
        entry.status.is_hopeless &= next > now;
        let wake = if is_current {
            done.prune.map_or(next, |prune| prune.min(next))
        } else {
            now
        };
        schedule.set(id, wake, done.priority);
        self.changed.notify_waiters();
    }

    /// Brings the status up to date, and says once what went wrong.
    fn settle(&self, entry: &mut Entry, done: &Done, now: Timestamp) {
        let status = &mut entry.status;
        let had = status.certificate.is_some();
        if let Some(held) = &done.held {
            status.see(held, done.saw.0.spread_rotation());
            let stripped = done.saw.1.is_stripped(held.trust_domain());
            status.is_distrusted =
                status.certificate.is_some() && (stripped || held.is_distrusted());
        }
        match &done.outcome {
            Outcome::Untouched => {}
            Outcome::Nothing | Outcome::Issued => {
                if had && matches!(done.outcome, Outcome::Issued) {
                    status.rotations += 1;
                }
                status.failures = 0;
                status.last_error = None;
                status.is_hopeless = false;
                status.needs_token = false;
                entry.alone_until = None;
            }
            Outcome::Failed {
                reason,
                text,
                is_hopeless,
                alone_until,
            } => {
                self.context.metrics.failed(reason);
                status.failures = status.failures.saturating_add(1);
                let left = status
                    .certificate
                    .as_ref()
                    .map(|there| there.not_after.duration_since(now));
                let next_try_in = brief(done.next.duration_since(now));
                if let Some(left) = left.filter(SignedDuration::is_positive) {
                    warn!(volume = %status.path.display(), error = text, attempt = status.failures,
                        next_try_in, certificate_ends_in = brief(left),
                        "no new certificate; the one in the volume stays");
                } else {
                    error!(volume = %status.path.display(), error = text,
                        attempt = status.failures, next_try_in, "no valid certificate");
                }
                status.last_error = Some(text.clone());
                status.is_hopeless = *is_hopeless;
                // Without a token the roots cannot be asked for either.
                status.needs_token = matches!(*reason, "no_token" | "no_roots");
                entry.alone_until = *alone_until;
            }
        }
    }

    fn versions(&self) -> Versions {
        let config = Arc::clone(&self.context.config.borrow());
        Versions(config, Arc::clone(&self.context.trust.borrow()))
    }

    fn policy(&self) -> certagent_core::config::CertificatePolicy {
        self.context.config.borrow().config.certificates.clone()
    }

    /// A panic elsewhere while the lock was held cannot leave the set half-changed in a way that
    /// matters: every change of an entry is complete before the next begins.
    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A span as people read it, in whole seconds.
pub(crate) fn brief(span: SignedDuration) -> String {
    let whole = SignedDuration::from_secs(span.as_secs());
    if span.subsec_nanos() > 0 {
        return format!("{:#}", whole.saturating_add(SignedDuration::from_secs(1)));
    }
    format!("{whole:#}")
}

#[cfg(test)]
mod lab;

#[cfg(test)]
mod tests;
