//! A request that waits: what is said at the object, and what ends the wait.
use certagent_core::{approval::Wanted, backoff, outcome::Pace, rotation};
use certagent_svid::TrustBundles;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use tokio::sync::watch;

use super::{Again, LONGEST_PAUSE, Requests, SAY_AGAIN};
use crate::{
    config::ClusterState,
    controller::{
        Authority, csrs,
        progress::{self, Progress},
        sign::{self, Waiting},
    },
};

/// What a request may wait for a change of.
pub(super) struct Marks {
    config: watch::Receiver<ClusterState>,
    authority: watch::Receiver<Option<Authority>>,
    rendered: watch::Receiver<TrustBundles>,
}

impl Requests {
    /// Whoever comes after a crash asks the pool that the object names, or else the first. So before
    /// another one is asked, the object has to name that.
    pub(super) async fn announce(
        &self,
        csr: CertificateSigningRequest,
        progress: &mut Progress,
    ) -> Result<CertificateSigningRequest, Again> {
        let active = self.config.borrow().active.clone();
        let authority = self.authority.borrow().clone();
        let Some((active, authority)) = active.zip(authority) else {
            return Ok(csr);
        };
        let pools = &active.config.certificates.pools;
        let now = self.clock.now();
        let (chosen, _) = progress.choose(pools, &*authority.issuer, now);
        let told = csrs::said(&csr).and_then(|said| progress::told_pool(said.message));
        let expected = told.or_else(|| pools.first().cloned());
        if chosen == expected {
            return Ok(csr);
        }
        let before = expected.map_or_else(String::new, |pool| pool.to_string());
        let waiting = Waiting {
            reason: sign::OTHER_POOL,
            message: format!("the CA pool {before} is passed over for now"),
            pace: Pace::Backoff,
            retry_after: None,
            is_abandoned: false,
        };
        self.say(csr, &waiting, progress, None).await
    }

    /// When it is tried again.
    pub(super) fn next(&self, waiting: &Waiting, failures: u32, wanted: &Wanted) -> Timestamp {
        let wait = match waiting.pace {
            Pace::Backoff => backoff::first_issue(failures).min(LONGEST_PAUSE),
            Pace::Slow => backoff::hopeless(failures, None),
        };
        let wait = backoff::jitter(wait, rotation::spread(wanted.csr_uid(), ""));
        self.after(waiting.retry_after.map_or(wait, |asked| wait.max(asked)))
    }

    /// Writes why there is no certificate yet, and which pool is asked next: at first, for another
    /// reason, for another pool, and now and then.
    pub(super) async fn say(
        &self,
        csr: CertificateSigningRequest,
        waiting: &Waiting,
        progress: &Progress,
        next: Option<Timestamp>,
    ) -> Result<CertificateSigningRequest, Again> {
        let now = self.clock.now();
        let active = self.config.borrow().active.clone();
        let pools = active.map(|active| active.config.certificates.pools.clone());
        let pools = pools.unwrap_or_default();
        let pool = progress.next_pool(&pools);
        let is_said = csrs::said(&csr).is_some_and(|said| {
            said.reason == waiting.reason
                && now.duration_since(said.at) < SAY_AGAIN
                && (pool.is_none() || progress::told_pool(said.message).as_ref() == pool)
        });
        if is_said {
            return Ok(csr);
        }
        let message = progress::Delay {
            why: &waiting.message,
            sold: progress.sold(next, now),
            next,
            pool,
        }
        .to_string();
        let _permit = self.calls.acquire().await;
        Ok(self.csrs.say(csr, waiting.reason, &message, now).await?)
    }

    /// Something is asked for next: what was said of that before is no more so.
    pub(super) async fn say_begun(
        &self,
        csr: CertificateSigningRequest,
    ) -> Result<CertificateSigningRequest, Again> {
        let now = self.clock.now();
        let said = csrs::said(&csr);
        let then = said.as_ref().and_then(|said| {
            let message = progress::dirtied(said.message, now)?;
            Some((said.reason.to_owned(), message))
        });
        let Some((reason, message)) = then else {
            return Ok(csr);
        };
        let _permit = self.calls.acquire().await;
        Ok(self.csrs.say(csr, &reason, &message, now).await?)
    }

    /// Until then, or until something has changed that may help.
    pub(super) async fn until(&self, moment: Timestamp, marks: Marks) {
        let Marks {
            mut config,
            mut authority,
            mut rendered,
        } = marks;
        tokio::select! {
            () = self.clock.sleep_until(moment) => {}
            Ok(()) = config.changed() => {}
            Ok(()) = authority.changed() => {}
            Ok(()) = rendered.changed() => {}
        }
    }

    /// All that may help, as it is now.
    pub(super) fn marks(&self) -> Marks {
        let mut marks = Marks {
            config: self.config.clone(),
            authority: self.authority.clone(),
            rendered: self.rendered.clone(),
        };
        marks.config.mark_unchanged();
        marks.authority.mark_unchanged();
        marks.rendered.mark_unchanged();
        marks
    }
}
