//! What is done about one volume when it is due: nothing, a new certificate, or the trust beside
//! the one that is there.
use std::sync::Arc;

use certagent_core::{
    backoff,
    rotation::{self, Step},
};
use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::Volumes;
use crate::{
    config::ActiveConfig,
    held::{Held, HeldError},
    provision::{self, ProvisionError, Turn},
    schedule::Priority,
    trust::Trust,
    volume::{VolumeError, VolumeId},
};

/// How often a volume whose CA ends asks whether the CA was replaced.
const CA_ENDING_POLL: SignedDuration = SignedDuration::from_mins(5);

/// What a job brings back.
pub(super) struct Done {
    pub(super) held: Option<Box<Held>>,
    pub(super) turn: Option<Turn>,
    /// When to try again, or to look again.
    pub(super) next: Timestamp,
    /// When an old generation has to go, if that is sooner.
    pub(super) prune: Option<Timestamp>,
    pub(super) priority: Priority,
    pub(super) outcome: Outcome,
    pub(super) saw: Versions,
}

/// What a job starts from.
pub(super) struct Job {
    pub(super) turn: Option<Turn>,
    pub(super) failures: u32,
    /// After a failure: nothing is asked of a CA before this moment.
    pub(super) not_before: Option<Timestamp>,
    pub(super) saw: Versions,
}

/// The configuration and the trust that a job worked with.
#[derive(Clone)]
pub(super) struct Versions(pub(super) Arc<ActiveConfig>, pub(super) Arc<Trust>);

impl PartialEq for Versions {
    fn eq(&self, other: &Self) -> bool {
        // Each answer of a source makes a new `Trust`; what counts is what would be written.
        Arc::ptr_eq(&self.0, &other.0) && self.1.publishes_as(&other.1)
    }
}

/// What became of a volume.
pub(super) enum Outcome {
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
    /// Looks at one volume and does what is due.
    pub(super) async fn work(&self, mut held: Box<Held>, job: Job) -> Done {
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
        let (prune, priority) = (held.prune(now), held.priority(now));
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
            return self.keep(held, turn).await;
        }
        self.replace(held, turn).await
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

    /// The certificate is good; what stands beside it may be older than what is in force.
    async fn keep(
        &self,
        held: &mut Held,
        turn: &mut Option<Turn>,
    ) -> Result<Outcome, ProvisionError> {
        let trust = Arc::clone(&self.context.trust.borrow());
        if trust.is_stripped(held.trust_domain()) {
            // Nothing can be written, and somebody has to hear of it.
            return self.replace(held, turn).await;
        }
        if held.is_unsettled(&trust) {
            match held.settle(&trust, self.context.clock.now()) {
                Ok(true) => info!(volume = %held.path().display(),
                    "the files were written anew with the trust, modes and owner in force"),
                Ok(false) => {}
                Err(HeldError::Volume(error @ VolumeError::Refused { .. })) => {
                    info!(volume = %held.path().display(), %error,
                        "the roots in force do not cover the certificate; asking for another");
                    return self.replace(held, turn).await;
                }
                Err(error) => return Err(Box::new(error).into()),
            }
        }
        if held.is_distrusted() {
            info!(volume = %held.path().display(),
                "the certificate needs a distrusted root; asking for another");
            return self.replace(held, turn).await;
        }
        Ok(Outcome::Nothing)
    }

    async fn replace(
        &self,
        held: &mut Held,
        turn: &mut Option<Turn>,
    ) -> Result<Outcome, ProvisionError> {
        provision::provision(&self.context, held, turn).await?;
        Ok(Outcome::Issued)
    }

    pub(super) fn still_closed(&self, id: &VolumeId, error: &HeldError, job: Job) -> Done {
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
