//! Every `CertificateSigningRequest` of our signer: approved or denied, and signed.
//!
//! One task follows the objects and keeps nothing of those that are over. Each of the others has a
//! task of its own, which reads the object anew whenever it has to decide: `decide`. What is said while
//! it waits is in `wait`.
mod decide;
mod wait;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certagent_core::{
    approval::{Approved, RateLimit, Settings, Wanted},
    backoff,
    outcome::Pace,
    rotation,
};
use certagent_svid::TrustBundles;
use futures::{StreamExt as _, pin_mut};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{
    Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch},
    task::{self, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Authority,
    csrs::{self, Csrs, WriteError},
    facts,
    news::News,
    progress::{self, Progress},
    sign::{self, Attempt, Order, Waiting},
};
use crate::{
    admin::Metrics, clock::SharedClock, config::ClusterState, kube::Trouble, schedule::Priority,
};

/// Calls to the API server at one moment.
const CALLS: usize = 32;
/// Requests for certificates of one priority under way at one moment: those that are urgent are never
/// stuck behind others. How many a pool takes the limiter knows.
const PURCHASES: usize = 32;
/// Objects that are looked at at one moment. Of all others next to nothing is in memory.
const STEPS: usize = 2 * PURCHASES * Priority::ALL.len();
/// The API server is asked again after at most so long.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// The same reason for a delay is written anew so often.
const SAY_AGAIN: SignedDuration = SignedDuration::from_mins(5);
/// Before there is a configuration that says how long certificates live.
const DEFAULT_VALIDITY: Duration = Duration::from_secs(86_400);
/// Objects of one page of a list.
const PAGE: u32 = 200;

/// What the requests are decided by.
pub struct Deciding {
    /// The API server.
    pub client: Client,
    /// Whose requests are approved.
    pub settings: Settings,
    /// What certificates are issued by.
    pub config: watch::Receiver<ClusterState>,
    /// Who signs.
    pub authority: watch::Receiver<Option<Authority>>,
    /// The roots that nodes have.
    pub rendered: watch::Receiver<TrustBundles>,
    /// This process among several, for events.
    pub instance: String,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: SharedClock,
}

/// The requests of a cluster.
pub struct Requests {
    settings: Settings,
    csrs: Csrs,
    pods: Client,
    config: watch::Receiver<ClusterState>,
    authority: watch::Receiver<Option<Authority>>,
    rendered: watch::Receiver<TrustBundles>,
    rate: Mutex<RateLimit>,
    /// The trouble with the API server that the log has heard of.
    told: Mutex<Option<(String, Timestamp)>>,
    calls: Semaphore,
    purchases: [Semaphore; Priority::ALL.len()],
    steps: Arc<Semaphore>,
    news: News,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

/// One object.
#[derive(Clone, Debug)]
struct Subject {
    name: String,
    uid: String,
}

/// An object as the watch has brought it, and the permit to look at it.
struct Seen {
    csr: Box<CertificateSigningRequest>,
    permit: OwnedSemaphorePermit,
}

/// Why a request is looked at again.
enum Again {
    /// It has changed, or somebody was faster.
    Changed,
    /// The API server did not answer.
    Trouble(Trouble),
    /// There is nothing to do before that.
    At(Timestamp),
    /// Something is in the way, and may be no more by then.
    Hindered(Timestamp),
    /// Others as urgent are signed first.
    Turn(Priority),
}

impl From<Trouble> for Again {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<WriteError> for Again {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Changed => Self::Changed,
            WriteError::Trouble(trouble) => Self::Trouble(trouble),
        }
    }
}

impl Requests {
    /// Nothing is read yet.
    pub fn new(by: Deciding) -> Self {
        let Deciding {
            client,
            settings,
            config,
            authority,
            rendered,
            instance,
            metrics,
            clock,
        } = by;
        Self {
            settings,
            csrs: Csrs::new(client.clone()),
            news: News::new(client.clone(), &instance),
            pods: client,
            config,
            authority,
            rendered,
            rate: Mutex::default(),
            told: Mutex::default(),
            calls: Semaphore::new(CALLS),
            purchases: Priority::ALL.map(|_| Semaphore::new(PURCHASES)),
            steps: Arc::new(Semaphore::new(STEPS)),
            metrics,
            clock,
        }
    }

    /// Follows the objects until `cancel`. What is under way then is taken up by whoever comes
    /// next.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let only = watcher::Config::default()
            .fields(&format!("spec.signerName={}", self.settings.signer_name))
            .page_size(PAGE);
        let events = watcher::watcher(self.csrs.api().clone(), only).default_backoff();
        pin_mut!(events);
        let mut jobs = JoinSet::new();
        let mut working: HashMap<String, task::Id> = HashMap::new();
        let mut is_told = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(ended) = jobs.join_next_with_id() => {
                    let id = match &ended {
                        Ok((id, ())) => *id,
                        Err(failed) => failed.id(),
                    };
                    if let Err(failed) = ended && failed.is_panic() {
                        error!(%failed, "the work on a CertificateSigningRequest ended badly");
                    }
                    working.retain(|_, job| *job != id);
                }
                event = events.next() => match event {
                    Some(Ok(Event::Apply(csr) | Event::InitApply(csr))) => {
                        is_told = false;
                        self.take(csr, &mut jobs, &mut working);
                    }
                    // Whoever works on it finds out, and counts what may have been sold for it.
                    Some(Ok(Event::Delete(_) | Event::Init | Event::InitDone)) => is_told = false,
                    Some(Err(failed)) => {
                        if let Some(trouble) = Trouble::of(&failed).filter(|_| !is_told) {
                            let what = "the CertificateSigningRequests";
                            warn!("{}", trouble.explain(what, "controller.yaml"));
                            is_told = true;
                        }
                    }
                    None => return,
                },
            }
        }
    }

    fn take(
        self: &Arc<Self>,
        csr: CertificateSigningRequest,
        jobs: &mut JoinSet<()>,
        working: &mut HashMap<String, task::Id>,
    ) {
        let Some(uid) = csr.uid() else { return };
        if csrs::is_over(&csr) || working.contains_key(&uid) {
            return;
        }
        let subject = Subject {
            name: csr.name_any(),
            uid: uid.clone(),
        };
        let this = Arc::clone(self);
        // Whoever has to wait first reads it then; until it is approved, a write shows whether this
        // is still how it is.
        let permit = Arc::clone(&self.steps).try_acquire_owned().ok();
        let seen = permit
            .filter(|_| !csrs::is(&csr, "Approved"))
            .map(|permit| Seen {
                csr: Box::new(csr),
                permit,
            });
        let job = jobs.spawn(async move { this.work(&subject, seen).await });
        working.insert(uid, job.id());
    }

    /// Until the object is over.
    async fn work(&self, subject: &Subject, mut seen: Option<Seen>) {
        let mut progress = None;
        let mut troubles: u32 = 0;
        let mut turn = None;
        loop {
            // What changes during the step counts.
            let marks = self.marks();
            let step = {
                let (csr, _permit) = match seen.take() {
                    Some(Seen { csr, permit }) => (Some(csr), Ok(permit)),
                    None => (None, Arc::clone(&self.steps).acquire_owned().await),
                };
                // In a place of its own: most wait most of the time, and need none of it then.
                Box::pin(self.step(subject, csr, &mut progress, turn.take())).await
            };
            match step {
                Ok(()) => break,
                Err(Again::At(moment)) => {
                    troubles = 0;
                    self.clock.sleep_until(moment).await;
                }
                Err(Again::Hindered(moment)) => {
                    troubles = 0;
                    Box::pin(self.until(moment, marks)).await;
                }
                // Then the rules are asked again: they hold at the moment of signing, not only at
                // that of approving.
                Err(Again::Turn(priority)) => {
                    troubles = 0;
                    turn = self.turns(priority).acquire().await.ok();
                }
                // Usually somebody was faster, and that shows at once.
                Err(Again::Changed) if troubles == 0 => troubles = 1,
                Err(again) => {
                    troubles = troubles.saturating_add(1);
                    if let Again::Trouble(trouble) = again {
                        self.tell(&trouble);
                    }
                    let wait = backoff::first_issue(troubles).min(LONGEST_PAUSE);
                    let wait = backoff::jitter(wait, rotation::spread(&subject.uid, ""));
                    self.clock.sleep_until(self.after(wait)).await;
                }
            }
        }
        if progress.is_some_and(|progress: Progress| progress.is_open()) {
            self.metrics.abandoned();
            warn!(
                csr = subject.name,
                uid = subject.uid,
                "a certificate that CA Service may have issued for it is abandoned"
            );
        }
    }

    /// The permits to buy.
    fn turns(&self, priority: Priority) -> &Semaphore {
        let [near_expiry, new, routine] = &self.purchases;
        match priority {
            Priority::NearExpiry => near_expiry,
            Priority::New => new,
            Priority::Routine => routine,
        }
    }

    /// The log hears of the same trouble of all requests now and then.
    fn tell(&self, trouble: &Trouble) {
        let text = trouble.explain("the requests, or their pods", "controller.yaml");
        let now = self.clock.now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = told
            .as_ref()
            .is_some_and(|(before, at)| *before == text && now.duration_since(*at) < SAY_AGAIN);
        if !is_told {
            warn!("requests wait: {text}");
            *told = Some((text, now));
        }
    }

    /// Asks for the certificate, of one pool after the other.
    async fn sign(
        &self,
        csr: CertificateSigningRequest,
        approved: &Approved,
        progress: &mut Progress,
        turn: SemaphorePermit<'_>,
    ) -> Result<(), Again> {
        let wanted = approved.wanted();
        let mut csr = csr;
        let mut turn = Some(turn);
        loop {
            let attempt = if let Some(bought) = progress.bought() {
                bought
            } else {
                self.lose_pool(wanted, progress);
                csr = self.announce(csr, progress).await?;
                self.attempt(&csr, wanted, progress).await
            };
            match attempt {
                Attempt::Announce => csr = self.say_begun(csr).await?,
                // Whoever comes after a crash has to know which pool may have sold something.
                Attempt::Next(waiting) => {
                    self.count(&waiting);
                    csr = self.say(csr, &waiting, progress, None).await?;
                }
                Attempt::Issued { chain, request } => {
                    // Should it not be written now, nobody has to be asked again.
                    progress.keep(&chain, &request);
                    // An API server that is slow must not hold up who buys next.
                    drop(turn.take());
                    let pem = chain.chain().to_pem();
                    {
                        let _permit = self.calls.acquire().await;
                        self.csrs.publish(csr, pem).await?;
                    }
                    progress.close();
                    self.metrics.decided("signed", "");
                    self.news.signed(self.clock.now()).await;
                    let leaf = chain.chain().leaf();
                    info!(csr = wanted.csr_name(), uid = wanted.csr_uid(),
                        spiffe_id = %wanted.spiffe_id(), node = wanted.node(),
                        pod_uid = wanted.pod_uid(), serial = leaf.serial_hex(),
                        not_after = %chain.effective_not_after(), pool = %request.pool,
                        request_id = request.request_id, "signed");
                    return Ok(());
                }
                Attempt::Failed {
                    reason,
                    message,
                    is_abandoned,
                } => {
                    let now = self.clock.now();
                    {
                        let _permit = self.calls.acquire().await;
                        self.csrs.fail(csr, reason, &message, now).await?;
                    }
                    // Not before it is written: until then the same may come again.
                    if is_abandoned {
                        self.metrics.abandoned();
                    }
                    progress.close();
                    self.metrics.decided("failed", reason);
                    warn!(csr = wanted.csr_name(), uid = wanted.csr_uid(), reason,
                        spiffe_id = %wanted.spiffe_id(), node = wanted.node(),
                        pod_uid = wanted.pod_uid(), "failed: {message}");
                    return Ok(());
                }
                Attempt::Waiting(waiting) => {
                    progress.failures += 1;
                    self.count(&waiting);
                    let next = self.next(&waiting, progress.failures, wanted);
                    self.say(csr, &waiting, progress, Some(next)).await?;
                    let now = self.clock.now();
                    self.news
                        .waiting(waiting.reason, &waiting.message, now)
                        .await;
                    return Err(Again::Hindered(next));
                }
            }
        }
    }

    /// A pool that the configuration names no more cannot be asked what it has sold.
    fn lose_pool(&self, wanted: &Wanted, progress: &mut Progress) {
        if progress.lose_pool(&self.config.borrow()) {
            self.metrics.abandoned();
            warn!(
                csr = wanted.csr_name(),
                "a certificate of a pool that the configuration names no more is abandoned"
            );
        }
    }

    async fn attempt(
        &self,
        csr: &CertificateSigningRequest,
        wanted: &Wanted,
        progress: &mut Progress,
    ) -> Attempt {
        let state = self.config.borrow().clone();
        let authority = self.authority.borrow().clone();
        let rendered = self.rendered.borrow().clone();
        let Some((active, authority)) = state.active.clone().zip(authority) else {
            let problem = state
                .problem
                .unwrap_or_else(|| "it was not read yet".to_owned());
            return Attempt::Waiting(Waiting {
                reason: sign::CONFIG_NOT_USABLE,
                message: format!("there is no configuration to sign by: {problem}"),
                pace: Pace::Backoff,
                retry_after: None,
                is_abandoned: false,
            });
        };
        let order = Order {
            wanted,
            csr_pem: &String::from_utf8_lossy(&csr.spec.request.0),
            priority: facts::priority(csr, self.validity(), self.clock.now()),
            is_told_clean: csrs::said(csr).is_some_and(|said| progress::is_clean(said.message)),
            config: &active,
            rendered: &rendered,
            authority: &authority,
        };
        sign::attempt(&order, progress, self.clock.as_ref()).await
    }

    fn count(&self, waiting: &Waiting) {
        if waiting.is_abandoned {
            self.metrics.abandoned();
        }
    }

    fn after(&self, wait: SignedDuration) -> Timestamp {
        let now = self.clock.now();
        now.saturating_add(wait).unwrap_or(now)
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "requests_tests.rs"]
mod tests;
