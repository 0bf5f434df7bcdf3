//! One approved request becomes a certificate: which pool is asked, and what follows from an answer.
//!
//! The rules are the table in [`certagent_core::outcome`], as for the agent's own requests. What is
//! different: the ids derive from the object's UID, so that whoever signs it, and however often,
//! asks for the same certificate; and nothing is kept but the object itself.
use std::sync::Arc;

use certagent_core::{
    approval::Wanted,
    issued::{CheckError, IssuedChain, RawChain},
    outcome::{self, Budget, Fate, Next, Pace, Sending},
    plan::IssuePlan,
    pool::CaPoolName,
    request::{PreparedRequest, REPLAY_WINDOW, RequestForm},
};
use certagent_svid::{TrustBundle, TrustBundles, TrustDomain, verify::VerifyError};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{Authority, reason};
use crate::{
    clock::Clock,
    config::{ActiveConfig, ClusterState},
    google::Caller,
    issuer::{Behalf, IssueError, Issuer},
    provision::FIRST_BUDGET,
    schedule::Priority,
    trust::Trust,
};

/// The reason of a condition while there is nothing to sign by.
pub(super) const CONFIG_NOT_USABLE: &str = "ConfigNotUsable";

/// What every pool's name begins with.
const POOL_PREFIX: &str = "//privateca.googleapis.com/";

/// One attempt, and what is known from those before it.
#[derive(Debug)]
pub(super) struct Progress {
    /// Which pool's turn it is, and since when.
    turn: Option<(CaPoolName, Timestamp)>,
    /// The pools that have refused in this round.
    asked: Vec<CaPoolName>,
    /// The pool may have sold something for which nothing has come back.
    is_open: bool,
    /// Attempts in a row that brought nothing.
    pub(super) failures: u32,
    /// Since when something may have been asked for: as long as that is not too long ago, CA Service
    /// recognises a repetition.
    begun: Timestamp,
    /// It has let others go first.
    has_waited: bool,
    /// What was bought, and not written yet.
    bought: Option<(IssuedChain, PreparedRequest)>,
}

/// What came of an attempt.
pub(super) enum Attempt {
    /// It is ours, checked to what nodes go by.
    Issued {
        chain: Box<IssuedChain>,
        request: Box<PreparedRequest>,
    },
    /// There will be none for this object.
    Failed {
        reason: &'static str,
        message: String,
        /// One may have been sold all the same.
        is_abandoned: bool,
    },
    /// It is tried again.
    Waiting(Waiting),
    /// The next pool is asked at once, for this reason.
    Next(Waiting),
}

/// Why there is none yet.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) pace: Pace,
    /// Whoever was asked wants to be left alone for so long.
    pub(super) retry_after: Option<SignedDuration>,
    /// A certificate that may have been sold was given up.
    pub(super) is_abandoned: bool,
}

/// What is signed.
pub(super) struct Order<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) csr_pem: &'a str,
    pub(super) config: &'a ActiveConfig,
    pub(super) rendered: &'a TrustBundles,
    pub(super) authority: &'a Authority,
}

impl Waiting {
    fn new(reason: &'static str, message: String) -> Self {
        Self {
            reason,
            message,
            pace: Pace::Backoff,
            retry_after: None,
            is_abandoned: false,
        }
    }
}

/// What an attempt needs that does not depend on the pool.
struct Ready {
    plan: IssuePlan,
    bundle: TrustBundle,
}

/// One attempt at one pool.
pub(super) async fn attempt(
    order: &Order<'_>,
    progress: &mut Progress,
    clock: &dyn Clock,
) -> Attempt {
    let ready = match Ready::of(order) {
        Ok(ready) => ready,
        Err(waiting) => return Attempt::Waiting(waiting),
    };
    let pools = &order.config.config.certificates.pools;
    let issuer = &*order.authority.issuer;
    let (pool, since) = progress.choose(pools, issuer, clock.now());
    let Some(pool) = pool else {
        let error = "the WorkloadCertificateConfig names no CA pool";
        return Attempt::Waiting(Waiting::new(CONFIG_NOT_USABLE, error.to_owned()));
    };
    let sending = if progress.is_open {
        Sending::Replay
    } else {
        Sending::First
    };
    match buy(order, &ready, &pool, progress, clock).await {
        Ok((raw, request)) => match judge(order, &ready, &raw, request, clock) {
            // For so long as its pool has the turn; then another one may do better.
            Attempt::Waiting(waiting) if is_spent(since, clock.now()) && pools.len() > 1 => {
                progress.is_open = false;
                let is_abandoned = true;
                progress.pass_over(
                    &pool,
                    pools,
                    Waiting {
                        is_abandoned,
                        ..waiting
                    },
                )
            }
            waiting @ Attempt::Waiting(_) => {
                progress.is_open = true;
                waiting
            }
            judged => judged,
        },
        Err(Unbought::Never(failed)) => failed,
        Err(Unbought::ForbidsConfig) => {
            let error = format!(
                "the CA pool {pool} forbids config-based issuance, and only with that nothing but \
                 the public key comes from a node; allow it in the pool's allowedIssuanceModes"
            );
            let waiting = Waiting {
                pace: Pace::Slow,
                ..Waiting::new(reason::FORBIDS_CONFIG, error)
            };
            progress.pass_over(&pool, pools, waiting)
        }
        Err(Unbought::Refused { error, was_sent }) => {
            // What may have been sold stays open, whatever a look says.
            let sending = match sending {
                Sending::First if !was_sent => Sending::Look,
                sending => sending,
            };
            progress.failed(pools, &error, sending, since, clock.now())
        }
    }
}

impl Ready {
    fn of(order: &Order<'_>) -> Result<Self, Waiting> {
        let config = &order.config.config;
        let id = order.wanted.spiffe_id().clone();
        let plan = IssuePlan::new(&config.certificates, &config.trust, id);
        let plan = plan.map_err(|error| Waiting::new(CONFIG_NOT_USABLE, error.to_string()))?;
        // Of the five kinds the request's own counts: an edit must not hit requests under way.
        let plan = IssuePlan {
            algorithm: order.wanted.algorithm(),
            ..plan
        };
        let trust = Arc::clone(&order.authority.trust.borrow());
        let bundle = bundle(&plan, order.rendered, &trust);
        let bundle =
            bundle.ok_or_else(|| Waiting::new("RootsNotRendered", not_rendered(&plan, &trust)))?;
        Ok(Self { plan, bundle })
    }
}

/// Why nothing was bought.
enum Unbought {
    /// Nothing will be for this object.
    Never(Attempt),
    /// The pool takes no requests in which we say what the certificate contains.
    ForbidsConfig,
    Refused {
        error: IssueError,
        was_sent: bool,
    },
}

async fn buy(
    order: &Order<'_>,
    ready: &Ready,
    pool: &CaPoolName,
    progress: &mut Progress,
    clock: &dyn Clock,
) -> Result<(RawChain, PreparedRequest), Unbought> {
    let Ready { plan, bundle } = ready;
    let behalf = Behalf {
        caller: Caller::Agent,
        priority: Priority::New,
        pod: None,
    };
    let issuer = &order.authority.issuer;
    let looked = |error| Unbought::Refused {
        error,
        was_sent: false,
    };
    let looks = issuer.preflight(plan, pool, bundle, &behalf).await;
    let form = looks.map_err(looked)?.form;
    if form != RequestForm::Config {
        return Err(Unbought::ForbidsConfig);
    }
    issuer.admit(pool, &behalf).await.map_err(looked)?;
    let uid = order.wanted.csr_uid();
    let (plan, pool) = (plan.clone(), pool.clone());
    if !progress.is_open {
        // Nothing that a repetition would have to be recognised as.
        progress.begun = clock.now();
    }
    let begun = progress.begun;
    let request = PreparedRequest::for_object(plan, pool, form, uid, order.csr_pem, begun);
    let request = PreparedRequest {
        outcome_unknown: progress.is_open,
        ..request
    };
    if !request.may_be_replayed(clock.now()) {
        return Err(Unbought::Never(Attempt::Failed {
            reason: "TooOld",
            message: "no certificate came for so long that CA Service would not recognise the \
                      request any more; the node asks anew"
                .to_owned(),
            is_abandoned: progress.is_open,
        }));
    }
    match issuer.issue(&request, &behalf).await {
        Ok(raw) => Ok((raw, request)),
        Err(error) => Err(Unbought::Refused {
            error,
            was_sent: true,
        }),
    }
}

fn judge(
    order: &Order<'_>,
    ready: &Ready,
    raw: &RawChain,
    request: PreparedRequest,
    clock: &dyn Clock,
) -> Attempt {
    let checked = IssuedChain::check(
        raw,
        order.wanted.public_key(),
        &ready.plan,
        &ready.bundle,
        webpki::ALL_VERIFICATION_ALGS,
        clock.now(),
    );
    match checked {
        Ok(chain) => Attempt::Issued {
            chain: Box::new(chain),
            request: Box::new(request),
        },
        // The same certificate is good when the clock is set, or the trust catches up.
        Err(
            reason @ (CheckError::NotYetValid { .. }
            | CheckError::Verify(VerifyError::UnknownIssuer { .. })),
        ) => {
            let message = refused(&request.pool, &reason);
            Attempt::Waiting(Waiting::new("CertificateNotUsableYet", message))
        }
        Err(reason) => Attempt::Failed {
            reason: "CertificateRefused",
            message: refused(&request.pool, &reason),
            is_abandoned: true,
        },
    }
}

impl Progress {
    /// Nothing was asked for before `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            turn: None,
            asked: Vec::new(),
            is_open: false,
            failures: 0,
            begun: now,
            has_waited: false,
            bought: None,
        }
    }

    /// What an earlier process left since `begun`: the pool that it asked last stands in what it said.
    pub(super) fn resumed(said: Option<&str>, begun: Timestamp, now: Timestamp) -> Self {
        let pool = said.and_then(|said| {
            let start = said.rfind(POOL_PREFIX)?;
            said.get(start..)?.split_whitespace().next()?.parse().ok()
        });
        Self {
            turn: pool.map(|pool| (pool, now)),
            is_open: true,
            has_waited: true,
            ..Self::new(begun.min(now))
        }
    }

    /// A certificate may have been sold that nobody has.
    pub(super) fn is_open(&self) -> bool {
        self.is_open || self.bought.is_some()
    }

    /// Nothing is open any more: it was written, or counted.
    pub(super) fn close(&mut self) {
        (self.is_open, self.bought) = (false, None);
    }

    /// Keeps what was bought until it is written.
    pub(super) fn keep(&mut self, chain: &IssuedChain, request: &PreparedRequest) {
        self.bought = Some((chain.clone(), request.clone()));
    }

    /// A certificate stands in the object, whoever wrote it. Whoever asks with the same ids gets the
    /// same one, so unless it is known to be another one, nothing is lost.
    pub(super) fn see(&mut self, there: &[u8]) {
        let is_ours = self
            .bought
            .as_ref()
            .is_none_or(|(chain, _)| chain.chain().to_pem().as_bytes() == there);
        if is_ours {
            self.close();
        }
    }

    /// What was bought already.
    pub(super) fn bought(&self) -> Option<Attempt> {
        let (chain, request) = self.bought.clone()?;
        Some(Attempt::Issued {
            chain: Box::new(chain),
            request: Box::new(request),
        })
    }

    /// An old request that nobody has approved lets newer ones go first, once.
    pub(super) fn lets_others_go_first(
        &mut self,
        csr: &CertificateSigningRequest,
        now: Timestamp,
    ) -> bool {
        let made = csr.metadata.creation_timestamp.as_ref();
        let age = made.map_or(SignedDuration::ZERO, |made| now.duration_since(made.0));
        !std::mem::replace(&mut self.has_waited, true) && age >= REPLAY_WINDOW
    }

    /// The configuration no longer names the pool that may have sold something: gives whether one is
    /// lost with it.
    pub(super) fn lose_pool(&mut self, state: &ClusterState) -> bool {
        let Some(active) = &state.active else {
            return false;
        };
        let pools = &active.config.certificates.pools;
        let is_lost = self
            .turn
            .as_ref()
            .is_some_and(|(pool, _)| !pools.contains(pool));
        if is_lost {
            self.turn = None;
        }
        is_lost && std::mem::take(&mut self.is_open)
    }

    /// The pool that is asked next.
    pub(super) fn next_pool<'a>(&'a self, pools: &'a [CaPoolName]) -> Option<&'a CaPoolName> {
        let turn = self.turn.as_ref().map(|(pool, _)| pool);
        let not_asked = || pools.iter().find(|pool| !self.asked.contains(pool));
        turn.or_else(not_asked).or(pools.first())
    }

    /// The pool whose turn it is. With nothing open, one that has not answered for long gives way to
    /// another that was not asked yet.
    fn choose(
        &mut self,
        pools: &[CaPoolName],
        issuer: &dyn Issuer,
        now: Timestamp,
    ) -> (Option<CaPoolName>, Timestamp) {
        self.asked.retain(|asked| pools.contains(asked));
        let open = || pools.iter().filter(|pool| !self.asked.contains(pool));
        let answers = |pool: &&CaPoolName| !issuer.is_away(pool) || issuer.may_probe(pool);
        let is_away = |(pool, _): &(CaPoolName, Timestamp)| {
            !self.is_open && open().nth(1).is_some() && !answers(&pool)
        };
        if self.turn.as_ref().is_none_or(is_away) {
            let has_choice = open().nth(1).is_some();
            let next = open().find(|pool| !has_choice || answers(pool));
            let next = next.or_else(|| open().next()).or(pools.first());
            self.turn = next.map(|pool| (pool.clone(), now));
        }
        match &self.turn {
            Some((pool, since)) => (Some(pool.clone()), (*since).min(now)),
            None => (None, now),
        }
    }

    /// What follows from a failure, by the table.
    fn failed(
        &mut self,
        pools: &[CaPoolName],
        error: &IssueError,
        sending: Sending,
        since: Timestamp,
        now: Timestamp,
    ) -> Attempt {
        let budget = match (is_spent(since, now), pools.len() > 1) {
            (false, _) => Budget::Left,
            (true, true) => Budget::Spent,
            (true, false) => Budget::SpentAlone,
        };
        let ruling = outcome::rule(error.class(), sending, budget);
        let is_abandoned = ruling.fate == Fate::Abandoned;
        self.is_open = match ruling.fate {
            Fate::KeptOpen => true,
            Fate::Kept => self.is_open,
            Fate::Dropped | Fate::Abandoned => false,
        };
        if ruling.next == Next::NewKey {
            // The key is the node's: only another object has another one.
            return Attempt::Failed {
                reason: "CertificateLost",
                message: error.to_string(),
                is_abandoned,
            };
        }
        let waiting = Waiting {
            reason: reason::of_pool(error),
            message: error.to_string(),
            pace: ruling.pace,
            retry_after: error.retry_after().and_then(|wait| wait.try_into().ok()),
            is_abandoned,
        };
        if ruling.next == Next::NextPool {
            return self.pass_over(error.pool(), pools, waiting);
        }
        Attempt::Waiting(waiting)
    }

    /// Goes on with the next pool, at once if there is one that was not asked in this round.
    fn pass_over(&mut self, pool: &CaPoolName, pools: &[CaPoolName], waiting: Waiting) -> Attempt {
        self.asked.push(pool.clone());
        self.turn = None;
        if pools.iter().any(|pool| !self.asked.contains(pool)) {
            return Attempt::Next(waiting);
        }
        self.asked.clear();
        Attempt::Waiting(waiting)
    }
}

/// A pool has had its time.
fn is_spent(since: Timestamp, now: Timestamp) -> bool {
    now >= since.saturating_add(FIRST_BUDGET).unwrap_or(Timestamp::MAX)
}

/// The roots that nodes have and that are still named: what a certificate has to lead to.
fn bundle(plan: &IssuePlan, rendered: &TrustBundles, trust: &Trust) -> Option<TrustBundle> {
    let domain = certagent_core::plan::trust_domain(&plan.spiffe_id)?;
    let named = trust.issuing_bundle(&domain)?.roots().iter();
    let there = rendered.get(&domain)?.roots();
    let roots: Vec<_> = named.filter(|root| there.contains(root)).cloned().collect();
    (!roots.is_empty()).then(|| TrustBundle::new(domain, roots))
}

fn not_rendered(plan: &IssuePlan, trust: &Trust) -> String {
    let domain = TrustDomain::new(plan.spiffe_id.trust_domain_name());
    let why = domain.map_or_else(|error| error.to_string(), |domain| {
        if trust.issuing_bundle(&domain).is_some() {
            "the controller knows them and has not written them there; is there a TrustConfig, and \
             does the API server let the controller patch its status?"
                .to_owned()
        } else {
            trust.trouble(&domain)
        }
    });
    format!(
        "the roots that nodes would check the certificate by are not in the status of TrustConfig/\
         default yet: {why}"
    )
}

fn refused(pool: &CaPoolName, reason: &CheckError) -> String {
    let step = reason.next_step();
    let step = step.map_or_else(String::new, |step| format!("; {step}"));
    format!("{pool} sent a certificate that is refused: {reason}{step}")
}
