//! What is done about one volume when it is due: nothing, a new certificate, or the trust beside
//! the one that is there.
use std::sync::Arc;

use certagent_core::{
    backoff,
    rotation::{self, CertState, Step},
    spread_rotation::SpreadRotation,
};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
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

impl Versions {
    /// What failed with `earlier` may succeed with these.
    pub(super) fn may_help_after(&self, earlier: &Self) -> bool {
        !Arc::ptr_eq(&self.0, &earlier.0) || self.1.may_help_after(&earlier.1)
    }
}

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
        is_hopeless: bool,
        /// Whoever was asked wants to be left alone until then.
        alone_until: Option<Timestamp>,
    },
}

impl Volumes {
    /// Looks at one volume and does what is due. Nothing comes back, and nothing of the volume stays
    /// open, when it is released meanwhile.
    pub(super) async fn work(
        &self,
        mut held: Box<Held>,
        job: Job,
        released: &CancellationToken,
    ) -> Option<Done> {
        let mut turn = job.turn;
        let now = self.context.clock.now();
        let may_ask = job.not_before.is_none_or(|moment| now >= moment);
        let attempt = self.attempt(&mut held, &mut turn, may_ask);
        // Dropped between two writes, if at all.
        let Some(outcome) = released.run_until_cancelled(attempt).await else {
            provision::close(&self.context, &mut held);
            return None;
        };
        let now = self.context.clock.now();
        let rotation = job.saw.0.spread_rotation();
        let next = match (&outcome, job.not_before) {
            (Ok(Outcome::Untouched), Some(moment)) => moment,
            (Ok(_), _) => {
                let just_issued = matches!(outcome, Ok(Outcome::Issued));
                quiet_until(&held, rotation, just_issued, now)
            }
            (Err(error), _) => provision::next_attempt(error, job.failures + 1, &held, now),
        };
        let (prune, priority) = (held.prune(now), held.priority(now));
        // A directory that cannot be written may have been replaced: it is opened again by its
        // path.
        let stays = !matches!(outcome, Err(ProvisionError::Held(_)));
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed {
            reason: error.reason(),
            text: error.to_string(),
            is_hopeless: error.is_hopeless() && !provision::is_open(&held),
            alone_until: error
                .retry_after()
                .and_then(|wait| now.saturating_add(wait).ok()),
        });
        Some(Done {
            held: stays.then_some(held),
            turn,
            next,
            prune,
            priority,
            outcome,
            saw: job.saw,
        })
    }

    /// The trust beside the certificate comes first and needs no CA: it changes also while
    /// renewals fail, and while the CA asked to be left alone.
    async fn attempt(
        &self,
        held: &mut Held,
        turn: &mut Option<Turn>,
        may_ask: bool,
    ) -> Result<Outcome, ProvisionError> {
        let is_good = self.keep(held)?;
        if !may_ask {
            return Ok(Outcome::Untouched);
        }
        let step = self.step(held, self.context.clock.now()).await;
        if is_good
            && !held.is_misnamed()
            && matches!(step, Some(Step::Wait { .. } | Step::CaEnding { .. }))
            && !provision::resumes(&self.context, held)?
        {
            return Ok(Outcome::Nothing);
        }
        provision::provision(&self.context, held, turn).await?;
        Ok(Outcome::Issued)
    }

    /// What rotation says. Only a certificate that its CA cut short asks how long the pool's CAs
    /// live by now; the issuer remembers that for some minutes.
    async fn step(&self, held: &Held, now: Timestamp) -> Option<Step> {
        let state = held.cert_state()?;
        let asked = self.context.config.borrow().spread_rotation();
        let step = hastened(rotation::next(state, None, now), asked, state, now);
        let Step::CaEnding { .. } = step else {
            return Some(step);
        };
        let ca_until = provision::ca_until(&self.context, held).await;
        let step = rotation::next(state, ca_until, now);
        Some(hastened(step, asked, state, now))
    }

    /// Brings what stands beside the certificate in line with what is in force. Gives whether the
    /// certificate can stay, as far as roots are concerned.
    fn keep(&self, held: &mut Held) -> Result<bool, ProvisionError> {
        let trust = Arc::clone(&self.context.trust.borrow());
        if held.cert_state().is_none() {
            return Ok(true);
        }
        if trust.is_stripped(held.trust_domain()) {
            // Nothing can be written, and somebody has to hear of it.
            return Ok(false);
        }
        if held.is_unsettled(&trust) {
            match held.settle(&trust, self.context.clock.now()) {
                Ok(true) => info!(volume = %held.path().display(),
                    "the files were written anew with the trust, modes and owner in force"),
                Ok(false) => {}
                Err(HeldError::Volume(error @ VolumeError::Refused { .. })) => {
                    info!(volume = %held.path().display(), %error,
                        "the roots in force do not cover the certificate; it needs another");
                    return Ok(false);
                }
                Err(error) => return Err(Box::new(error).into()),
            }
        }
        Ok(!held.is_distrusted())
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
            is_hopeless: false,
            alone_until: None,
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

/// The step, where everybody may have been asked to renew ahead of time.
fn hastened(step: Step, asked: Option<SpreadRotation>, state: &CertState, now: Timestamp) -> Step {
    asked.map_or(step, |asked| asked.hasten(step, state, now))
}

/// When a volume without trouble is looked at next.
fn quiet_until(
    held: &Held,
    asked: Option<SpreadRotation>,
    just_issued: bool,
    now: Timestamp,
) -> Timestamp {
    let Some(state) = held.cert_state() else {
        return now;
    };
    match hastened(rotation::next(state, None, now), asked, state, now) {
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
