//! Which of several replicas works: the one that holds the Lease.
//!
//! It saves calls. That nothing is bought twice does not depend on it: the ids of a request derive
//! from the object that it is for.
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    clock::SharedClock,
    kube::{Trouble, answer, within},
};

/// Who does not renew it for so long has lost it.
const DURATION: SignedDuration = SignedDuration::from_secs(10);
/// So often the holder renews it, and the others look.
const RENEW: SignedDuration = SignedDuration::from_secs(3);
/// After a renewal that failed it is tried again so soon.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// The holder stops so long before others may begin.
const MARGIN: SignedDuration = SignedDuration::from_secs(2);
/// An answer to the holder that takes longer is not waited for: it tries again, and at the end of the
/// process leaves the Lease to run out.
const ANSWER: Duration = Duration::from_secs(2);

/// A Lease, and who wants it.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: SharedClock,
}

/// What somebody else's hold looks like from here: by our own clock, for clocks differ.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    holder: String,
    renewed: Option<MicroTime>,
    at: Timestamp,
}

impl Candidate {
    /// `identity` is what nobody else has: the pod's name.
    pub fn new(
        client: Client,
        namespace: &str,
        name: String,
        identity: String,
        clock: SharedClock,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name,
            identity,
            clock,
        }
    }

    /// Runs `lead` whenever this replica holds the Lease, with a token that is cancelled when it
    /// does not any more; until `cancel`.
    pub async fn run<F: Future<Output = ()>>(
        &self,
        mut lead: impl FnMut(CancellationToken) -> F,
        cancel: &CancellationToken,
    ) {
        let mut seen = None;
        while let Some(held) = cancel.run_until_cancelled(self.wait(&mut seen)).await {
            info!(
                lease = self.name,
                identity = self.identity,
                "this replica leads"
            );
            let leading = cancel.child_token();
            let work = lead(leading.clone());
            let hold = async {
                leading.run_until_cancelled(self.hold(held)).await;
                leading.cancel();
            };
            tokio::join!(work, hold);
        }
        let release = tokio::time::timeout(ANSWER, self.release()).await;
        if !matches!(release, Ok(Ok(()))) {
            info!(
                lease = self.name,
                "the lease was not given back; it runs out by itself"
            );
        }
    }

    /// Resolves when the Lease is ours.
    async fn wait(&self, seen: &mut Option<Seen>) -> Lease {
        let mut told = None;
        loop {
            match self.try_take(seen).await {
                Ok(Some(held)) => return held,
                Ok(None) => told = None,
                Err(trouble) => {
                    let text =
                        trouble.explain(&format!("the Lease {}", self.name), "controller.yaml");
                    if told.as_ref() != Some(&text) {
                        warn!("this replica cannot find out whether it leads: {text}");
                        told = Some(text);
                    }
                }
            }
            self.pause(RENEW).await;
        }
    }

    /// The Lease if it is free, or was ours.
    async fn try_take(&self, seen: &mut Option<Seen>) -> Result<Option<Lease>, Trouble> {
        let now = self.clock.now();
        let Some(there) = answer(self.api.get_opt(&self.name)).await? else {
            let new = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(None, now)),
            };
            return written(within(self.api.create(&PostParams::default(), &new)).await?);
        };
        let spec = there.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let is_free = holder.is_empty() || holder == self.identity;
        if !is_free {
            let here = seen.take().filter(|seen| {
                // One that lies ahead was seen before the clock was set back.
                seen.holder == holder && seen.renewed == spec.renew_time && seen.at <= now
            });
            let here = here.unwrap_or_else(|| Seen {
                holder,
                renewed: spec.renew_time.clone(),
                at: now,
            });
            let age = now.duration_since(here.at);
            *seen = Some(here);
            if age < DURATION {
                return Ok(None);
            }
        }
        self.replace(there, now).await
    }

    /// Renews it until somebody else has it, or others may soon begin.
    async fn hold(&self, mut held: Lease) {
        loop {
            // What was written, and not when the answer came: others reckon from before that.
            let now = self.clock.now();
            let renewed = held.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
            let renewed = renewed.map_or(now, |renewed| renewed.0.min(now));
            let end = renewed.saturating_add(DURATION - MARGIN).unwrap_or(now);
            let newer = tokio::select! {
                newer = self.renewed(held) => newer,
                () = self.clock.sleep_until(end) => {
                    warn!(
                        lease = self.name,
                        "this replica leads no more: it could not renew the lease"
                    );
                    return;
                }
            };
            let Some(newer) = newer else {
                warn!(
                    lease = self.name,
                    "this replica leads no more: somebody else has the lease"
                );
                return;
            };
            held = newer;
        }
    }

    /// The Lease after it was renewed, however often that is tried; none if somebody else has it.
    async fn renewed(&self, mut held: Lease) -> Option<Lease> {
        let mut wait = RENEW;
        loop {
            self.pause(wait).await;
            wait = AGAIN;
            let now = self.clock.now();
            let renewal = tokio::time::timeout(ANSWER, self.replace(held.clone(), now)).await;
            let renewal = renewal.unwrap_or_else(|_elapsed| {
                let seconds = ANSWER.as_secs();
                Err(Trouble::Unreachable(format!("no answer in {seconds} s")))
            });
            match renewal {
                Ok(Some(newer)) => return Some(newer),
                // Somebody has written it: whose it is, is read.
                Ok(None) => match answer(self.api.get_opt(&self.name)).await {
                    Ok(Some(there)) if holder(&there) == Some(&self.identity) => held = there,
                    Ok(_) => return None,
                    Err(_) => {}
                },
                Err(trouble) => {
                    let trouble =
                        trouble.explain(&format!("the Lease {}", self.name), "controller.yaml");
                    warn!("the lease could not be renewed: {trouble}");
                }
            }
        }
    }

    async fn release(&self) -> Result<(), Trouble> {
        let Some(mut there) = answer(self.api.get_opt(&self.name)).await? else {
            return Ok(());
        };
        if holder(&there) != Some(&self.identity) {
            return Ok(());
        }
        if let Some(spec) = &mut there.spec {
            spec.holder_identity = None;
        }
        answer(self.api.replace(&self.name, &PostParams::default(), &there)).await?;
        Ok(())
    }

    async fn replace(&self, mut lease: Lease, now: Timestamp) -> Result<Option<Lease>, Trouble> {
        lease.spec = Some(self.spec(lease.spec.as_ref(), now));
        lease.metadata.managed_fields = None;
        let post = PostParams::default();
        written(within(self.api.replace(&self.name, &post, &lease)).await?)
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let before = before.cloned().unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        let seconds = i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: before
                .acquire_time
                .filter(|_| is_ours)
                .or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if is_ours {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }
    }

    async fn pause(&self, wait: SignedDuration) {
        let now = self.clock.now();
        let until = now.saturating_add(wait).unwrap_or(now);
        self.clock.sleep_until(until).await;
    }
}

/// None if somebody was faster.
fn written(written: Result<Lease, kube::Error>) -> Result<Option<Lease>, Trouble> {
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(Trouble::from(&error)),
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref()
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
