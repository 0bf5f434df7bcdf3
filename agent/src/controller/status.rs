//! Keeps the status of the two objects true: whether each is ready and why not, and the roots that
//! the `TrustConfig` stands for.
use std::sync::Arc;

use ::kube::Client;
use certagent_core::{
    backoff,
    conditions::Statement,
    config::Config,
    plan::{IssuePlan, workload_id},
    pool::CaPoolName,
};
use certagent_svid::{TrustBundle, TrustBundles, TrustDomain};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Authority,
    judge::{self, Look, Ruled},
    render::{self, Renderer},
    write::{Desired, Writer, Written},
};
use crate::{
    clock::SharedClock,
    config::{ActiveConfig, ClusterState},
    issuer::{CasIssuer, IssueError},
    kube::{Kind, Trouble},
    trust::{Trust, roots::validity},
};

/// So often the pools are looked at.
const REFRESH: SignedDuration = SignedDuration::from_mins(5);
/// And so often when one of them would not issue.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// The watch brings an object that has changed by itself; where it does not, it is asked for.
const BEHIND: SignedDuration = SignedDuration::from_secs(5);

/// Namespace and service account of the identity that pools are asked about: nobody's.
const STAND_IN: (&str, &str) = ("default", "certagent-controller");

/// What the task works with.
#[derive(Clone)]
pub struct Settings {
    /// The API server.
    pub client: Client,
    /// This process among several, such as the pod's name; for events.
    pub instance: String,
    /// The workloads' own trust domain.
    pub trust_domain: TrustDomain,
    /// The two objects.
    pub config: watch::Receiver<ClusterState>,
    /// None until the first configuration is active.
    pub supply: watch::Receiver<Option<Authority>>,
    /// Is told the roots that stand in the `TrustConfig`: what nodes know, and so what may be
    /// issued below. Empty before the task has looked.
    pub rendered: watch::Sender<TrustBundles>,
    /// The time.
    pub clock: SharedClock,
}

/// Keeps the status of both objects true until `cancel`. Only one process may do it at a time;
/// that is the caller's affair, and a second one does no harm but to write in vain.
pub async fn run(settings: Settings, cancel: CancellationToken) {
    // Another may have written since this process did.
    settings.rendered.send_replace(TrustBundles::default());
    let task = Box::pin(Task::new(settings).run());
    cancel.run_until_cancelled(task).await;
}

struct Task {
    settings: Settings,
    writer: Writer,
    trust: Option<watch::Receiver<Arc<Trust>>>,
    renderer: Option<Renderer>,
    looks: Option<Looks>,
    failures: u32,
    told: Option<String>,
}

/// What the pools said.
struct Looks {
    of: Subject,
    pools: Vec<(CaPoolName, Look)>,
    at: Timestamp,
}

/// What the pools were asked for.
#[derive(Clone)]
struct Subject {
    config: Arc<Config>,
    /// The roots that they have to lead to; none if there are none, and why.
    bundle: Result<TrustBundle, String>,
    /// Every anchor has answered; why not otherwise.
    is_complete: Result<(), String>,
}

/// Something else has to be thought of first.
struct Interrupted;

impl Task {
    fn new(settings: Settings) -> Self {
        Self {
            writer: Writer::new(settings.client.clone(), &settings.instance),
            settings,
            trust: None,
            renderer: None,
            looks: None,
            failures: 0,
            told: None,
        }
    }

    async fn run(mut self) {
        loop {
            let state = self.settings.config.borrow_and_update().clone();
            let wait = match self.round(&state).await {
                Ok(Err(Interrupted)) => continue,
                Ok(Ok(wait)) => {
                    self.succeeded();
                    wait
                }
                Err(trouble) => self.failed(&trouble),
            };
            let now = self.settings.clock.now();
            let next = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
            let asleep = self.settings.clock.sleep_until(next);
            tokio::select! {
                () = asleep => {}
                () = self.news() => {}
            }
        }
    }

    /// Brings both objects in line with what is known, and says how long that is good.
    async fn round(
        &mut self,
        state: &ClusterState,
    ) -> Result<Result<SignedDuration, Interrupted>, Trouble> {
        let supply = self.settings.supply.borrow_and_update().clone();
        self.trust = supply.as_ref().map(|supply| supply.trust.clone());
        let trust = self.trust.as_mut();
        let trust = trust.map(|trust| Arc::clone(&trust.borrow_and_update()));
        // Trust that still follows an earlier configuration is of no use; it will say so itself.
        let active = state.active.clone().zip(trust);
        let active = active.filter(|(active, trust)| trust.follows(&active.config.trust));
        let known = active.as_ref().map(|(active, trust)| (&**active, &**trust));
        // What keeps one object from being written may leave the other alone.
        let first = self.write_trust(state, known).await;
        let Ok(said) = self.judge_certificates(state, known, supply).await else {
            return Ok(Err(Interrupted));
        };
        let second = self.write_certificates(state, said).await;
        Ok(Ok(if [first?, second?].contains(&Written::Moved) {
            BEHIND
        } else {
            self.next_look()
        }))
    }

    /// What there is to say at the `WorkloadCertificateConfig`; none as long as that is not known.
    async fn judge_certificates(
        &mut self,
        state: &ClusterState,
        known: Option<(&ActiveConfig, &Trust)>,
        supply: Option<Authority>,
    ) -> Result<Option<Vec<Statement>>, Interrupted> {
        let looks = self.looks.take();
        let object = state.objects.get(&Kind::Certificates);
        let ruled = judge::by_rules(Kind::Certificates, state);
        let (Some(object), Some(ruled)) = (object, ruled) else {
            return Ok(None);
        };
        let warnings = match ruled {
            Ruled::NotReady(said) => return Ok(Some(said)),
            Ruled::Good(warnings) => warnings,
        };
        let known = known.filter(|(_, trust)| trust.is_resolved());
        let Some(((active, trust), supply)) = known.zip(supply) else {
            return Ok(None);
        };
        let subject = Subject::of(active, trust, &self.settings.trust_domain);
        self.looks = looks;
        let looks = self.look(subject, &supply.issuer).await?;
        Ok(Some(judge::certificates(
            object.generation,
            warnings,
            looks,
        )))
    }

    async fn write_trust(
        &mut self,
        state: &ClusterState,
        known: Option<(&ActiveConfig, &Trust)>,
    ) -> Result<Written, Trouble> {
        let Some(judged) = state.objects.get(&Kind::Trust) else {
            return Ok(Written::Right);
        };
        let now = self.settings.clock.now();
        let ruled = judge::by_rules(Kind::Trust, state);
        let memory = &mut self.renderer;
        let desire = |status: &Value| {
            let renderer = memory.get_or_insert_with(|| Renderer::new(&render::read(status)));
            let roots = known.map(|(active, trust)| {
                let lives = validity(&active.config.certificates);
                renderer.render(trust, lives, now)
            });
            let form = roots.as_ref().and_then(render::form);
            let said = match &ruled {
                None => None,
                Some(Ruled::NotReady(said)) => Some(said.clone()),
                Some(Ruled::Good(warnings)) => known.and_then(|(active, trust)| {
                    let roots = roots.as_ref().filter(|_| form.is_some());
                    let policy = &active.config.trust;
                    let warnings = warnings.clone();
                    judge::trust(judged.generation, warnings, policy, trust, roots)
                }),
            };
            let fields = form.map(|form| (render::FIELD, form));
            Desired {
                said,
                fields: fields.into_iter().chain(last_good(state)).collect(),
            }
        };
        let sender = &self.settings.rendered;
        let seen = |status: &Value| {
            let stands = render::read(status);
            sender.send_if_modified(|before| {
                let is_new = *before != stands;
                *before = stands;
                is_new
            });
        };
        self.writer
            .write(Kind::Trust, judged, now, desire, seen)
            .await
    }

    async fn write_certificates(
        &self,
        state: &ClusterState,
        said: Option<Vec<Statement>>,
    ) -> Result<Written, Trouble> {
        let judged = state.objects.get(&Kind::Certificates);
        let Some((judged, said)) = judged.zip(said) else {
            return Ok(Written::Right);
        };
        let now = self.settings.clock.now();
        let desire = |_: &Value| Desired {
            said: Some(said.clone()),
            fields: last_good(state).into_iter().collect(),
        };
        self.writer
            .write(Kind::Certificates, judged, now, desire, |_| ())
            .await
    }

    /// What the pools say, asked anew where that is due. News of the objects come first: a pool
    /// that does not answer must not hold them up.
    async fn look(
        &mut self,
        subject: Subject,
        issuer: &CasIssuer,
    ) -> Result<&[(CaPoolName, Look)], Interrupted> {
        let now = self.settings.clock.now();
        let earlier = self.looks.take();
        let earlier = earlier.filter(|looks| looks.is_good(&subject, now));
        let looks = if let Some(looks) = earlier {
            looks
        } else {
            let domain = self.settings.trust_domain.clone();
            let asked = Box::pin(subject.ask(&domain, issuer));
            let pools = tokio::select! {
                pools = asked => pools,
                () = changed(&mut self.settings.config) => return Err(Interrupted),
            };
            Looks {
                of: subject,
                pools,
                at: self.settings.clock.now(),
            }
        };
        Ok(&self.looks.insert(looks).pools)
    }

    /// How long until the pools are looked at again.
    fn next_look(&self) -> SignedDuration {
        let now = self.settings.clock.now();
        let looks = self.looks.as_ref();
        let left = looks.map(|looks| looks.wait() - now.duration_since(looks.at));
        left.map_or(REFRESH, |left| left.clamp(SignedDuration::ZERO, REFRESH))
    }

    /// Something that a status depends on has changed.
    async fn news(&mut self) {
        let trust = async {
            match &mut self.trust {
                Some(trust) => changed(trust).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed(&mut self.settings.config) => {}
            () = changed(&mut self.settings.supply) => {}
            () = trust => {}
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        if self.told.take().is_some() {
            info!("the status of both objects is written again");
        }
    }

    /// The log hears of the same trouble once.
    fn failed(&mut self, trouble: &Trouble) -> SignedDuration {
        self.failures = self.failures.saturating_add(1);
        let text = trouble.explain_write("the status of the two objects");
        if self.told.as_ref() != Some(&text) {
            warn!("{text}");
            self.told = Some(text);
        }
        backoff::first_issue(self.failures)
    }
}

impl Looks {
    /// How long it is good.
    fn wait(&self) -> SignedDuration {
        let would = |(_, look): &(CaPoolName, Look)| matches!(look, Look::Issues(_));
        if self.pools.iter().all(would) {
            REFRESH
        } else {
            AGAIN
        }
    }

    /// A moment ahead was noted before the clock was set back.
    fn is_good(&self, subject: &Subject, now: Timestamp) -> bool {
        let age = now.duration_since(self.at);
        let is_fresh = age >= SignedDuration::ZERO && age < self.wait();
        is_fresh && self.of.is_same(subject)
    }
}

impl Subject {
    fn of(active: &ActiveConfig, trust: &Trust, domain: &TrustDomain) -> Self {
        let bundle = trust.issuing_bundle(domain).cloned();
        let trouble = || trust.trouble(domain);
        Self {
            config: Arc::clone(&active.config),
            bundle: bundle.ok_or_else(|| {
                format!(
                    "no root of the trust domain {domain} is known: {}",
                    trouble()
                )
            }),
            is_complete: if trust.is_complete(domain) {
                Ok(())
            } else {
                Err(trouble())
            },
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
            && self.bundle == other.bundle
            && self.is_complete == other.is_complete
    }

    async fn ask(&self, domain: &TrustDomain, issuer: &CasIssuer) -> Vec<(CaPoolName, Look)> {
        let pools = &self.config.certificates.pools;
        let asked = pools.iter().map(|pool| self.ask_one(pool, domain, issuer));
        pools.iter().cloned().zip(join_all(asked).await).collect()
    }

    async fn ask_one(&self, pool: &CaPoolName, domain: &TrustDomain, issuer: &CasIssuer) -> Look {
        let bundle = match &self.bundle {
            Ok(bundle) => bundle,
            Err(why) => return Look::NoRoots(why.clone()),
        };
        let Config {
            certificates,
            trust,
            ..
        } = &*self.config;
        let (namespace, service_account) = STAND_IN;
        let plan = workload_id(domain, namespace, service_account)
            .and_then(|id| IssuePlan::new(certificates, trust, id));
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return Look::NoRoots(error.to_string()),
        };
        match (issuer.survey(&plan, pool, bundle).await, &self.is_complete) {
            (Ok(survey), _) => Look::Issues(survey),
            // An anchor that did not answer may be the one.
            (Err(IssueError::NotAnchored(_)), Err(why)) => Look::NoRoots(format!(
                "it is not known whether the CA pool {pool} leads to a root of the trust domain \
                 {domain}: {why}"
            )),
            (Err(error), _) => Look::Refuses(error),
        }
    }
}

/// What is in force, for whoever starts while an object is not good.
fn last_good(state: &ClusterState) -> Option<(&'static str, Value)> {
    let form = state.last_good.as_ref()?;
    Some(("lastGood", (**form).clone()))
}

/// The next value. Whoever has no more to say is not heard of again.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "status_tests.rs"]
mod tests;
