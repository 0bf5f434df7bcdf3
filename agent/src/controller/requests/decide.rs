//! One request: what the table says of it, and what is written then.
use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use certagent_core::approval::{self, Approved, Denial, NEEDED_BY, RateLimit, Wait, Wanted};
use jiff::SignedDuration;
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Pod};
use kube::{Api, Resource as _, ResourceExt as _};
use tokio::sync::SemaphorePermit;
use tracing::{info, warn};

use super::{Again, DEFAULT_VALIDITY, Requests, Subject};
use crate::{
    controller::{
        csrs::{self, Refused},
        facts,
        news::Told,
        progress::Progress,
    },
    kube::{Trouble, answer},
};

/// A request that is so old that whoever made it may have made another one meanwhile lets newer
/// ones go first: after a long time without a controller a pod has many, and not many approvals.
const OLD_ONES_WAIT: SignedDuration = SignedDuration::from_secs(60);

impl Requests {
    /// Reads the object, unless it was just `seen`, and does what is due. `turn` is the permit to
    /// buy, if it was waited for.
    pub(super) async fn step(
        &self,
        subject: &Subject,
        seen: Option<Box<CertificateSigningRequest>>,
        progress: &mut Option<Progress>,
        turn: Option<SemaphorePermit<'_>>,
    ) -> Result<(), Again> {
        let csr = match seen {
            Some(csr) => Some(*csr),
            None => self.read(subject).await?,
        };
        let Some(csr) = csr else { return Ok(()) };
        if csrs::is_over(&csr) {
            if let (Some(progress), Some(there)) = (progress, csrs::certificate(&csr)) {
                progress.see(there);
            }
            return Ok(());
        }
        let facts = facts::of_csr(&csr);
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let wanted = match approval::check_request(&facts, &self.settings, algorithms) {
            None => return Ok(()),
            Some(Err(denial)) => return self.refuse(csr, None, None, &denial).await,
            Some(Ok(wanted)) => wanted,
        };
        let pod = self.pod(&wanted).await?;
        let there = pod.as_ref().map(facts::of_pod);
        let approved = match wanted.check_pod(there.as_ref(), &self.settings) {
            Err(denial) => {
                return self.refuse(csr, Some(&wanted), pod.as_ref(), &denial).await;
            }
            Ok(approved) => approved,
        };
        let now = self.clock.now();
        let progress = progress.get_or_insert_with(|| {
            if csrs::is(&csr, "Approved") {
                // Another process may have asked for it already, as long ago as it was approved.
                let said = csrs::said(&csr).map(|said| said.message);
                Progress::resumed(said, csrs::approved_at(&csr).unwrap_or(now), now)
            } else {
                Progress::new(now)
            }
        });
        if progress.lets_others_go_first(&csr, now) {
            return Err(Again::At(self.after(OLD_ONES_WAIT)));
        }
        let is_new = !csrs::is(&csr, "Approved");
        // A renewal is no news.
        let is_first = is_new && !csr.annotations().contains_key(NEEDED_BY);
        let csr = if is_new {
            self.approve(csr, &approved).await?
        } else {
            csr
        };
        let signed = async {
            let priority = facts::priority(&csr, self.validity(), now);
            let turn = turn.or_else(|| self.turns(priority).try_acquire().ok());
            let turn = turn.ok_or(Again::Turn(priority))?;
            self.sign(csr, &approved, progress, turn).await
        };
        let told = async {
            if let Some(pod) = pod.as_ref().filter(|_| is_first) {
                self.tell_first(&approved, pod).await;
            }
        };
        // Nobody waits for an event.
        futures::join!(Box::pin(signed), told).0
    }

    async fn read(&self, subject: &Subject) -> Result<Option<CertificateSigningRequest>, Trouble> {
        let _permit = self.calls.acquire().await;
        self.csrs.get(&subject.name, &subject.uid).await
    }

    /// The pod as it is now: a cache could still have one that moved.
    async fn pod(&self, wanted: &Wanted) -> Result<Option<Pod>, Trouble> {
        let _permit = self.calls.acquire().await;
        let pods: Api<Pod> = Api::namespaced(self.pods.clone(), wanted.namespace());
        answer(pods.get_opt(wanted.pod_name())).await
    }

    async fn refuse(
        &self,
        csr: CertificateSigningRequest,
        wanted: Option<&Wanted>,
        pod: Option<&Pod>,
        denial: &Denial,
    ) -> Result<(), Again> {
        let (name, uid) = (csr.name_any(), csr.uid().unwrap_or_default());
        let username = csr.spec.username.clone().unwrap_or_default();
        let refused = {
            let _permit = self.calls.acquire().await;
            self.csrs.refuse(csr, denial, self.clock.now()).await?
        };
        let spiffe_id = wanted.map(|wanted| wanted.spiffe_id().to_string());
        let (node, pod_uid) = (wanted.map(Wanted::node), wanted.map(Wanted::pod_uid));
        // The rule that is broken, also where the object says that it was approved before.
        let reason = denial.reason().as_str();
        let message = denial.message();
        let (decision, action, before) = match refused {
            Refused::Denied => ("denied", "Deny", String::new()),
            Refused::Failed => ("failed", "Fail", format!("{}: ", csrs::NOT_VALID)),
        };
        warn!(
            csr = name,
            uid, username, reason, spiffe_id, node, pod_uid, "{decision}: {before}{message}"
        );
        self.metrics.decided(decision, reason);
        if let Some(pod) = pod {
            let told = Told {
                is_warning: true,
                reason,
                action,
                note: message,
            };
            let now = self.clock.now();
            self.news.tell(pod.object_ref(&()), told, now).await;
        }
        Ok(())
    }

    async fn approve(
        &self,
        csr: CertificateSigningRequest,
        approved: &Approved,
    ) -> Result<CertificateSigningRequest, Again> {
        let wanted = approved.wanted();
        let now = self.clock.now();
        let taken = self.rate().take(wanted.pod_uid(), self.validity(), now);
        let allowance = taken.map_err(|Wait { until }| {
            info!(csr = wanted.csr_name(), pod_uid = wanted.pod_uid(), %until,
                "the pod was given several certificates lately, so this one waits");
            Again::At(until)
        })?;
        let approved = {
            let _permit = self.calls.acquire().await;
            self.csrs.approve(csr, allowance, now).await
        };
        let approved = approved.map_err(|(not_written, allowance)| {
            self.rate().give_back(allowance);
            not_written
        })?;
        self.metrics.decided("approved", "");
        Ok(approved)
    }

    fn rate(&self) -> MutexGuard<'_, RateLimit> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell_first(&self, approved: &Approved, pod: &Pod) {
        if facts::of_pod(pod).phase != "Pending" {
            return;
        }
        let id = approved.wanted().spiffe_id();
        let told = Told {
            is_warning: false,
            reason: "CertificateApproved",
            action: "Approve",
            note: &format!("the certificate for {id} was approved"),
        };
        let now = self.clock.now();
        self.news.tell(pod.object_ref(&()), told, now).await;
    }

    pub(super) fn validity(&self) -> Duration {
        let config = self.config.borrow();
        let validity = config
            .active
            .as_ref()
            .map(|active| active.config.certificates.validity);
        validity.unwrap_or(DEFAULT_VALIDITY)
    }
}
