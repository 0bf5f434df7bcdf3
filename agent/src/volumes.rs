//! The set of volumes: one task that looks at each when it is due.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certagent_core::{
    backoff,
    rotation::{self, Step},
};
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::ActiveConfig,
    held::{Assignment, Held, HeldError},
    provision::{self, Context, ProvisionError, Turn},
    schedule::{Priority, Schedule},
    status::VolumeStatus,
    trust::Trust,
    volume::{StateDir, VolumeId},
};

/// How many volumes are worked on at once.
const AT_ONCE: usize = 32;

/// The loop looks at the clock at least this often, to notice when it was set.
const LONGEST_SLEEP: SignedDuration = SignedDuration::from_secs(60);

/// How often a volume whose CA ends asks whether the CA was replaced.
const CA_ENDING_POLL: SignedDuration = SignedDuration::from_mins(5);

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
    Working,
}

/// What a job brings back.
struct Done {
    held: Option<Box<Held>>,
    turn: Option<Turn>,
    /// When to try again, or to look again.
    next: Timestamp,
    /// When an old generation has to go, if that is sooner.
    prune: Option<Timestamp>,
    priority: Priority,
    outcome: Outcome,
    saw: Versions,
}

/// What a job starts from.
struct Job {
    turn: Option<Turn>,
    failures: u32,
    /// After a failure: nothing is asked of a CA before this moment.
    not_before: Option<Timestamp>,
    saw: Versions,
}

/// The configuration and the trust that a job worked with.
#[derive(Clone)]
struct Versions(Arc<ActiveConfig>, Arc<Trust>);

impl PartialEq for Versions {
    fn eq(&self, other: &Self) -> bool {
        // Each answer of a pool makes a new `Trust`; what counts is what would be written.
        Arc::ptr_eq(&self.0, &other.0) && self.1.bundles() == other.1.bundles()
    }
}

/// What became of a volume.
enum Outcome {
    /// Nothing was looked at; what was wrong still is.
    Untouched,
    Nothing,
    Issued,
    Failed {
        reason: &'static str,
        text: String,
    },
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
            // Whoever works on it still has its lock; it is opened again when that ends.
            entry.outdated = matches!(entry.slot, Slot::Working);
            entry.slot = if entry.outdated {
                Slot::Working
            } else {
                Slot::Closed
            };
            entry.status.path.clone_from(&assignment.path);
            entry.status.spiffe_id = assignment.spiffe_id.to_string();
            entry.status.next_attempt = now;
            entry.assignment = assignment;
            entry.turn = None;
            if !entry.outdated {
                set.schedule.set(id.clone(), now, Priority::New);
            }
            self.wake.notify_one();
            self.changed.notify_waiters();
            return Ok(id);
        }
        let opened = Held::open(&assignment, &self.state, &self.policy(), now);
        let mut status = VolumeStatus {
            id: id.clone(),
            path: assignment.path.clone(),
            spiffe_id: assignment.spiffe_id.to_string(),
            certificate: None,
            rotations: 0,
            failures: 0,
            last_error: None,
            next_attempt: now,
        };
        let (slot, result) = match opened {
            Ok(held) => {
                status.certificate = held.certificate_status();
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
                outdated: false,
            },
        );
        self.wake.notify_one();
        self.changed.notify_waiters();
        result
    }

    /// Stops keeping a volume supplied. Its files stay as they are.
    pub fn forget(&self, id: &VolumeId) {
        let mut set = self.lock();
        set.schedule.remove(id);
        // A job that works on it finds no entry when it comes back.
        if set.entries.remove(id).is_some() {
            info!(volume = %id, "no longer supplied; its files stay");
            self.changed.notify_waiters();
        }
    }

    /// Every volume, as it stands.
    pub fn statuses(&self) -> Vec<VolumeStatus> {
        self.lock()
            .entries
            .values()
            .map(|entry| entry.status.clone())
            .collect()
    }

    /// Resolves when the status of a volume has changed since the call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.changed.notified()
    }

    /// Supplies the volumes until `cancel`.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut config = self.context.config.clone();
        let mut trust = self.context.trust.clone();
        let mut jobs: JoinSet<(VolumeId, u64, Done)> = JoinSet::new();
        let mut seen = self.context.clock.now();
        loop {
            let now = self.context.clock.now();
            if now < seen {
                warn!(back_by = %(seen.duration_since(now)), "the clock was set back; looking at every volume");
                self.hasten(now, |_| true);
            }
            seen = now;
            while jobs.len() < AT_ONCE
                && let Some(job) = self.next_job(now)
            {
                jobs.spawn(job);
            }
            let idle_until = now.saturating_add(LONGEST_SLEEP).unwrap_or(Timestamp::MAX);
            let next = self.lock().schedule.next().unwrap_or(idle_until);
            let full = jobs.len() >= AT_ONCE;
            let sleep = self.context.clock.sleep_until(next.min(idle_until));
            if self.context.clock.now() < now {
                // Set back since the look above: the sleep would not notice.
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(done) = jobs.join_next() => match done {
                    Ok((id, number, done)) => self.take_back(id, number, done),
                    Err(error) => error!(%error, "a job ended without an answer"),
                },
                () = sleep, if !full => {}
                () = self.wake.notified() => {}
                Ok(()) = config.changed() => {
                    // What was denied or invalid may be neither any more.
                    self.hasten(self.context.clock.now(), |status| status.failures > 0);
                }
                Ok(()) = trust.changed() => self.hasten(self.context.clock.now(), |_| true),
            }
        }
        // A job is dropped between two of its writes: whatever it had begun is taken up again.
        jobs.shutdown().await;
    }

    fn hasten(&self, now: Timestamp, which: impl Fn(&VolumeStatus) -> bool) {
        let mut set = self.lock();
        let Set {
            entries, schedule, ..
        } = &mut *set;
        for (id, entry) in entries.iter_mut().filter(|(_, entry)| which(&entry.status)) {
            entry.status.next_attempt = entry.status.next_attempt.min(now);
            schedule.hasten(id, now);
        }
    }

    /// The most urgent volume that is due, as a job.
    fn next_job(
        self: &Arc<Self>,
        now: Timestamp,
    ) -> Option<impl Future<Output = (VolumeId, u64, Done)> + Send + use<>> {
        let mut set = self.lock();
        loop {
            let id = set.schedule.pop_due(now)?;
            let Some(entry) = set.entries.get_mut(&id) else {
                continue;
            };
            let slot = match std::mem::replace(&mut entry.slot, Slot::Working) {
                Slot::Working => continue,
                slot => slot,
            };
            let status = &entry.status;
            let job = Job {
                turn: entry.turn,
                failures: status.failures,
                not_before: (status.failures > 0).then_some(status.next_attempt),
                saw: self.versions(),
            };
            let (assignment, number) = (entry.assignment.clone(), entry.number);
            let volumes = Arc::clone(self);
            return Some(async move {
                let held = match slot {
                    Slot::Idle(held) => Ok(held),
                    Slot::Closed | Slot::Working => {
                        Held::open(&assignment, &volumes.state, &volumes.policy(), now)
                            .map(Box::new)
                    }
                };
                let done = match held {
                    Ok(held) => volumes.work(held, job).await,
                    Err(error) => volumes.still_closed(&id, &error, job),
                };
                (id, number, done)
            });
        }
    }

    /// Looks at one volume and does what is due.
    async fn work(&self, mut held: Box<Held>, job: Job) -> Done {
        let mut turn = job.turn;
        let now = self.context.clock.now();
        let outcome = if job.not_before.is_some_and(|moment| now < moment) {
            Ok(Outcome::Untouched)
        } else {
            self.attempt(&mut held, &mut turn).await
        };
        let now = self.context.clock.now();
        let next = match (&outcome, job.not_before) {
            (Ok(Outcome::Untouched), Some(moment)) => moment,
            (Ok(_), _) => quiet_until(&held, matches!(outcome, Ok(Outcome::Issued)), now),
            (Err(error), _) => provision::next_attempt(error, job.failures + 1, &held, now),
        };
        let (prune, priority) = (held.prune(now), priority(&held, now));
        // A directory that cannot be written may have been replaced: it is opened again by its
        // path.
        let stays = !matches!(outcome, Err(ProvisionError::Held(_)));
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed {
            reason: error.reason(),
            text: error.to_string(),
        });
        Done {
            held: stays.then_some(held),
            turn,
            next,
            prune,
            priority,
            outcome,
            saw: job.saw,
        }
    }

    async fn attempt(
        &self,
        held: &mut Held,
        turn: &mut Option<Turn>,
    ) -> Result<Outcome, ProvisionError> {
        let step = self.step(held, self.context.clock.now()).await;
        if matches!(step, Some(Step::Wait { .. } | Step::CaEnding { .. }))
            && !provision::resumes(&self.context, held)?
        {
            return self.keep(held);
        }
        provision::provision(&self.context, held, turn).await?;
        Ok(Outcome::Issued)
    }

    /// What rotation says. Only a certificate that its CA cut short asks how long the pool's CAs
    /// live by now; the issuer remembers that for some minutes.
    async fn step(&self, held: &Held, now: Timestamp) -> Option<Step> {
        let state = held.cert_state()?;
        let step = rotation::next(state, None, now);
        let Step::CaEnding { .. } = step else {
            return Some(step);
        };
        let ca_until = provision::ca_until(&self.context, held).await;
        Some(rotation::next(state, ca_until, now))
    }

    /// The certificate is good; the trust beside it may be older than the one that is active.
    fn keep(&self, held: &mut Held) -> Result<Outcome, ProvisionError> {
        let trust = Arc::clone(&self.context.trust.borrow());
        if held.trust_differs(&trust) {
            held.republish_trust(&trust, self.context.clock.now())
                .map_err(Box::new)?;
            info!(volume = %held.path().display(), "the trust bundles in the volume were renewed");
        }
        Ok(Outcome::Nothing)
    }

    fn still_closed(&self, id: &VolumeId, error: &HeldError, job: Job) -> Done {
        let wait = backoff::jitter(
            backoff::first_issue(job.failures + 1),
            rotation::spread(id.as_str(), ""),
        );
        let next = self
            .context
            .clock
            .now()
            .saturating_add(wait)
            .unwrap_or(Timestamp::MAX);
        let outcome = Outcome::Failed {
            reason: "volume",
            text: error.to_string(),
        };
        Done {
            held: None,
            turn: job.turn,
            next,
            prune: None,
            priority: Priority::New,
            outcome,
            saw: job.saw,
        }
    }

    fn take_back(&self, id: VolumeId, number: u64, done: Done) {
        let now = self.context.clock.now();
        let mut set = self.lock();
        let Set {
            entries, schedule, ..
        } = &mut *set;
        let Some(entry) = entries.get_mut(&id) else {
            return;
        };
        if entry.number != number {
            // Forgotten and given again meanwhile: its lock, which the other waits for, is free now.
            schedule.hasten(&id, now);
            return;
        }
        if std::mem::take(&mut entry.outdated) {
            entry.slot = Slot::Closed;
            schedule.set(id, now, Priority::New);
            return;
        }
        self.settle(entry, &done, now);
        entry.turn = done.turn;
        entry.slot = done.held.map_or(Slot::Closed, Slot::Idle);
        // What changed while the job ran was not seen by it.
        let next = if done.saw == self.versions() {
            done.next
        } else {
            now
        };
        entry.status.next_attempt = next;
        let wake = done.prune.map_or(next, |prune| prune.min(next));
        schedule.set(id, wake, done.priority);
        self.changed.notify_waiters();
    }

    /// Brings the status up to date, and says once what went wrong.
    fn settle(&self, entry: &mut Entry, done: &Done, now: Timestamp) {
        let status = &mut entry.status;
        let had = status.certificate.is_some();
        if let Some(held) = &done.held {
            status.certificate = held.certificate_status();
        }
        match &done.outcome {
            Outcome::Untouched => {}
            Outcome::Nothing | Outcome::Issued => {
                if had && matches!(done.outcome, Outcome::Issued) {
                    status.rotations += 1;
                }
                status.failures = 0;
                status.last_error = None;
            }
            Outcome::Failed { reason, text } => {
                self.context.metrics.failed(reason);
                status.failures = status.failures.saturating_add(1);
                let next_try_in = done.next.duration_since(now);
                let left = status
                    .certificate
                    .as_ref()
                    .map(|there| there.not_after.duration_since(now));
                let next_try_in = format!("{next_try_in:#}");
                if let Some(left) = left.filter(SignedDuration::is_positive) {
                    warn!(volume = %status.path.display(), error = text, attempt = status.failures,
                        next_try_in, certificate_ends_in = %format!("{left:#}"),
                        "no new certificate; the one in the volume stays");
                } else {
                    error!(volume = %status.path.display(), error = text,
                        attempt = status.failures, next_try_in, "no valid certificate");
                }
                status.last_error = Some(text.clone());
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

/// When a volume without trouble is looked at next.
fn quiet_until(held: &Held, just_issued: bool, now: Timestamp) -> Timestamp {
    let Some(state) = held.cert_state() else {
        return now;
    };
    match rotation::next(state, None, now) {
        Step::Wait { until } => until,
        Step::CaEnding { at } => {
            if just_issued {
                warn!(volume = %held.path().display(), ends_at = %at,
                    "the CA, or the root above it, ends then, and every renewal with it: \
                     replace the CA before that");
            }
            // When the CA was replaced, the usual moment counts again; and nobody sleeps past
            // the end.
            let poll = now.saturating_add(CA_ENDING_POLL).unwrap_or(at);
            let over = at
                .saturating_add(SignedDuration::from_secs(1))
                .unwrap_or(at);
            let due = Some(rotation::due(state)).filter(|due| *due > now);
            due.map_or(poll, |due| due.min(poll)).min(over)
        }
        Step::Renew | Step::Expired => now,
    }
}

fn priority(held: &Held, now: Timestamp) -> Priority {
    let Some(state) = held.cert_state() else {
        return Priority::New;
    };
    let near = (rotation::usable(state) / 10).min(SignedDuration::from_mins(10));
    if state.not_after.duration_since(now) < near {
        Priority::NearExpiry
    } else {
        Priority::Routine
    }
}
