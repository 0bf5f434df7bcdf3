//! THE MAIN PATH: one certificate, the first or a renewal, the same function.
//!
//! plan -> key -> request -> issue -> check -> write. Between two calls nothing is lost: the key
//! and the exact request are on disk before the first byte leaves, so that a retry, by this
//! process or the next, buys nothing twice.
use std::sync::Arc;

use certagent_core::{
    backoff,
    config::CertificatePolicy,
    issued::{CheckError, IssuedChain},
    outcome::{Class, Next},
    plan::{IssuePlan, PlanError},
    pool::CaPoolName,
    request::PreparedRequest,
    rotation,
};
use certagent_svid::{PrivateKey, TrustBundle, TrustDomain, verify::VerifyError};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    admin::Metrics,
    clock::SharedClock,
    config::ActiveConfig,
    crash,
    held::{Held, HeldError},
    issuer::{IssueError, Issuer},
    keys::{self, Keys, NewKeyError},
    trust::Trust,
    volume::PendingError,
};

/// How long one pool alone is asked for a first certificate while outcomes stay unknown.
const FIRST_BUDGET: SignedDuration = SignedDuration::from_secs(60);

/// All that the main path works with.
pub struct Context {
    /// The time.
    pub clock: SharedClock,
    /// Who signs.
    pub issuer: Arc<dyn Issuer>,
    /// Who makes keys.
    pub keys: Keys,
    /// The configuration that is active.
    pub config: watch::Receiver<Arc<ActiveConfig>>,
    /// The roots that are active.
    pub trust: watch::Receiver<Arc<Trust>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The pool whose turn it is for a volume, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pool: usize,
    since: Timestamp,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// The configuration allows none for this workload.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The roots of the workload's trust domain are not known.
    #[error("the roots of {trust_domain} are not known yet, so nothing could be checked: {reason}")]
    NoRoots {
        /// The workload's trust domain.
        trust_domain: TrustDomain,
        /// What the sources said.
        reason: String,
    },
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] NewKeyError),
    /// The CA gave none.
    #[error(transparent)]
    Issue(#[from] Box<IssueError>),
    /// What the CA gave is refused.
    #[error("{pool} sent a certificate that is refused: {reason}")]
    Check {
        /// The pool.
        pool: CaPoolName,
        /// Why.
        reason: Box<CheckError>,
    },
    /// The volume or the state cannot be written.
    #[error(transparent)]
    Held(#[from] Box<HeldError>),
}

impl ProvisionError {
    /// The name under which metrics count it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::NoRoots { .. } => "no_roots",
            Self::Key(_) => "key",
            Self::Issue(error) => error.class().as_str(),
            Self::Check { .. } => "refused_certificate",
            Self::Held(_) => "volume",
        }
    }

    /// When to try again after the `failures`-th failure in a row.
    fn wait(&self, failures: u32, remaining: Option<SignedDuration>) -> SignedDuration {
        let hopeless = match self {
            Self::Plan(_) => true,
            Self::Check { reason, .. } => !may_heal(reason),
            Self::Issue(error) => {
                matches!(
                    error.class(),
                    Class::Denied | Class::Invalid | Class::Refused
                )
            }
            Self::NoRoots { .. } | Self::Key(_) | Self::Held(_) => false,
        };
        let wait = match remaining {
            _ if hopeless => backoff::hopeless(remaining),
            Some(remaining) => backoff::renewal(failures, remaining),
            None => backoff::first_issue(failures),
        };
        let asked = match self {
            Self::Issue(error) => error.retry_after().and_then(|wait| wait.try_into().ok()),
            _ => None,
        };
        asked.map_or(wait, |asked: SignedDuration| wait.max(asked))
    }
}

/// When to try again after a failure: the rules of the kind of failure, spread upward by the
/// volume's own share.
pub fn next_attempt(
    error: &ProvisionError,
    failures: u32,
    held: &Held,
    now: Timestamp,
) -> Timestamp {
    let remaining = remaining(held, now);
    let spread = rotation::spread(held.id().as_str(), &failures.to_string());
    let wait = backoff::jitter(error.wait(failures, remaining), spread);
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// Gets and writes one certificate. `turn` is the pool to ask, and is moved on by the rules of
/// [`certagent_core::outcome`].
pub async fn provision(
    context: &Context,
    held: &mut Held,
    turn: &mut Option<Turn>,
) -> Result<(), ProvisionError> {
    let began = context.clock.now();
    let config = Arc::clone(&context.config.borrow().config);
    let trust = Arc::clone(&context.trust.borrow());
    let plan = held.plan(&config)?;
    let bundle = trust
        .bundle(held.trust_domain())
        .ok_or_else(|| ProvisionError::NoRoots {
            trust_domain: held.trust_domain().clone(),
            reason: trust.trouble(held.trust_domain()),
        })?;

    let bought = buy(context, held, turn, &plan, &config.certificates, bundle).await?;

    let now = context.clock.now();
    let replaced = match held.publish(&bought.key, &bought.issued, &bought.request, &trust, now) {
        Ok(replaced) => replaced,
        Err(error) => {
            // The same certificate comes back when the volume can be written again.
            note_sold(held, bought.request);
            return Err(Box::new(error).into());
        }
    };
    *turn = None;
    context.metrics.issued(now.duration_since(began));
    report(held, &bought, replaced);
    Ok(())
}

/// A request of an earlier process waits to be sent again. One that may not be sent any more is
/// given up.
pub fn resumes(context: &Context, held: &mut Held) -> Result<bool, ProvisionError> {
    let now = context.clock.now();
    Ok(held.must_resume() && usable_pending(context, held, now)?.is_some())
}

/// The latest end that the first pool could give to a certificate now; none if it cannot be told.
pub async fn ca_until(context: &Context, held: &Held) -> Option<Timestamp> {
    let config = Arc::clone(&context.config.borrow().config);
    let trust = Arc::clone(&context.trust.borrow());
    let plan = held.plan(&config).ok()?;
    let bundle = trust.bundle(held.trust_domain())?;
    let pool = config.certificates.pools.first()?;
    let behalf = held.behalf(context.clock.now());
    context
        .issuer
        .preflight(&plan, pool, bundle, &behalf)
        .await
        .ok()?
        .ca_until
}

/// A certificate that was checked, with its key and the request that brought it.
struct Bought {
    key: PrivateKey,
    request: PreparedRequest,
    issued: IssuedChain,
}

/// Asks the pools in order, each at most once in a call, until one gives a certificate that is
/// ours, or the rules say to wait.
async fn buy(
    context: &Context,
    held: &mut Held,
    turn: &mut Option<Turn>,
    plan: &IssuePlan,
    policy: &CertificatePolicy,
    bundle: &TrustBundle,
) -> Result<Bought, ProvisionError> {
    let mut asked = 1;
    loop {
        let error = match try_pool(context, held, turn, plan, policy, bundle).await {
            Ok(bought) => return Ok(bought),
            Err(error) => error,
        };
        let now = context.clock.now();
        let spent = turn.is_none_or(|turn| now >= turn.until(held));
        let moves_on = match &error {
            ProvisionError::Issue(error) => match error.class().next() {
                Next::NextPool => true,
                Next::SamePool => spent && policy.pools.iter().any(|pool| pool != error.pool()),
                // The issuer tried to adopt it, and could not.
                Next::Adopt => {
                    abandon(context, held)?;
                    false
                }
                Next::Wait => {
                    drop_pending(context, held)?;
                    false
                }
            },
            // The same certificate comes again, and neither clock nor trust caught up with it.
            ProvisionError::Check { reason, .. } => spent && may_heal(reason),
            _ => false,
        };
        if !moves_on {
            return Err(error);
        }
        drop_pending(context, held)?;
        let next = (turn.map_or(0, |turn| turn.pool) + 1) % policy.pools.len();
        *turn = Some(Turn {
            pool: next,
            since: now,
        });
        if asked == policy.pools.len() {
            return Err(error);
        }
        warn!(volume = %held.path().display(), pool = ?policy.pools.get(next).map(ToString::to_string),
            %error, "asking the next pool");
        asked += 1;
    }
}

/// One attempt at one pool: the pending request if there is one, else a new one.
async fn try_pool(
    context: &Context,
    held: &mut Held,
    turn: &mut Option<Turn>,
    plan: &IssuePlan,
    policy: &CertificatePolicy,
    bundle: &TrustBundle,
) -> Result<Bought, ProvisionError> {
    let now = context.clock.now();
    let turn = turn.get_or_insert(Turn {
        pool: 0,
        since: now,
    });
    // A clock that was set back must not make the wait for a pool longer.
    turn.since = turn.since.min(now);
    let (key, request) = match usable_pending(context, held, now)? {
        Some((key, request)) => {
            turn.follow(&request, policy);
            (key, request)
        }
        None => prepare(context, held, turn, plan, policy, bundle).await?,
    };
    crash::point("request-sent");
    let raw = match context.issuer.issue(&request, &held.behalf(now)).await {
        Ok(raw) => raw,
        Err(error) => {
            if error.class() == Class::Unknown {
                note_sold(held, request);
            }
            return Err(Box::new(error).into());
        }
    };
    crash::point("answer-received");
    let checked = IssuedChain::check(
        &raw,
        key.public_key(),
        &request.plan,
        bundle,
        webpki::ALL_VERIFICATION_ALGS,
        context.clock.now(),
    );
    match checked {
        Ok(issued) => Ok(Bought {
            key,
            request,
            issued,
        }),
        Err(reason) => {
            let pool = request.pool.clone();
            if may_heal(&reason) {
                note_sold(held, request);
            } else {
                abandon(context, held)?;
            }
            Err(ProvisionError::Check {
                pool,
                reason: Box::new(reason),
            })
        }
    }
}

/// The request that is under way, if it may still be sent: young enough to be recognised, and for
/// this identity.
fn usable_pending(
    context: &Context,
    held: &mut Held,
    now: Timestamp,
) -> Result<Option<(PrivateKey, PreparedRequest)>, ProvisionError> {
    let Some((key, mut request)) = pending(context, held)? else {
        return Ok(None);
    };
    if held.is_installed(&key) {
        // It is in use, and only its book-keeping was not finished.
        held.clear_pending().map_err(Box::new)?;
        return Ok(None);
    }
    if !held.is_for_us(&request) || !request.may_be_replayed(now) {
        drop_pending(context, held)?;
        return Ok(None);
    }
    // Whether an earlier process had sent it is not known.
    request.outcome_unknown |= held.must_resume();
    Ok(Some((key, request)))
}

/// A new key and a new request, kept before anything is sent.
async fn prepare(
    context: &Context,
    held: &mut Held,
    turn: &Turn,
    plan: &IssuePlan,
    policy: &CertificatePolicy,
    bundle: &TrustBundle,
) -> Result<(PrivateKey, PreparedRequest), ProvisionError> {
    // The list is never empty and the index within it: an edit may have made it shorter.
    let pool = policy.pools.get(turn.pool).or(policy.pools.first());
    let Some(pool) = pool else {
        return Err(NewKeyError::Ending.into());
    };
    let behalf = held.behalf(context.clock.now());
    let ready = context
        .issuer
        .preflight(plan, pool, bundle, &behalf)
        .await
        .map_err(Box::new)?;
    let key = context.keys.generate(plan.algorithm).await?;
    let csr = keys::csr_pem(plan, &key)?;
    let now = context.clock.now();
    let request = PreparedRequest::new(
        plan.clone(),
        pool.clone(),
        ready.form,
        key.public_key(),
        &csr,
        now,
    );
    held.keep_pending(&key, &request).map_err(Box::new)?;
    Ok((key, request))
}

/// The request that is under way. One that does not read back is given up.
fn pending(
    context: &Context,
    held: &mut Held,
) -> Result<Option<(PrivateKey, PreparedRequest)>, ProvisionError> {
    match held.pending() {
        Err(HeldError::Pending(error @ PendingError::Incomplete { .. })) => {
            warn!(volume = %held.path().display(), %error);
            abandon(context, held)?;
            Ok(None)
        }
        pending => Ok(pending.map_err(Box::new)?),
    }
}

/// Drops the pending request; if a certificate may have been sold for it, that is counted.
fn drop_pending(context: &Context, held: &mut Held) -> Result<(), ProvisionError> {
    match pending(context, held)? {
        Some((_, request)) if request.outcome_unknown || held.must_resume() => {
            abandon(context, held)
        }
        Some(_) => Ok(held.clear_pending().map_err(Box::new)?),
        None => Ok(()),
    }
}

/// Keeps in mind that a certificate was, or may have been, sold for the request. Not more than a
/// count depends on it, so that a state that cannot be written is no reason to fail once more.
fn note_sold(held: &mut Held, mut request: PreparedRequest) {
    if request.outcome_unknown {
        return;
    }
    request.outcome_unknown = true;
    if let Err(error) = held.update_pending(&request) {
        warn!(volume = %held.path().display(), %error, "what is known of a request could not be kept");
    }
}

fn abandon(context: &Context, held: &mut Held) -> Result<(), ProvisionError> {
    context.metrics.abandoned();
    warn!(volume = %held.path().display(),
        "a certificate that the CA may have issued is abandoned; the next request has a new key");
    Ok(held.clear_pending().map_err(Box::new)?)
}

/// The same certificate may be good later: when the clock is set, or the trust catches up. All
/// other refusals are for ever, and the next request has new ids.
fn may_heal(reason: &CheckError) -> bool {
    matches!(
        reason,
        CheckError::NotYetValid { .. } | CheckError::Verify(VerifyError::UnknownIssuer { .. })
    )
}

fn remaining(held: &Held, now: Timestamp) -> Option<SignedDuration> {
    held.cert_state()
        .map(|state| state.not_after.duration_since(now))
        .filter(SignedDuration::is_positive)
}

fn budget(held: &Held, now: Timestamp) -> SignedDuration {
    remaining(held, now).map_or(FIRST_BUDGET, |left| left / 4)
}

impl Turn {
    /// Makes it the turn of the pool that a request under way was sent to, and reckons from the
    /// request's own time if that is earlier. A pool that the configuration no longer names comes
    /// before the first.
    fn follow(&mut self, request: &PreparedRequest, policy: &CertificatePolicy) {
        let last = policy.pools.len().saturating_sub(1);
        self.pool = policy
            .pools
            .iter()
            .position(|pool| *pool == request.pool)
            .unwrap_or(last);
        self.since = self.since.min(request.created_at);
    }

    fn until(self, held: &Held) -> Timestamp {
        self.since
            .saturating_add(budget(held, self.since))
            .unwrap_or(Timestamp::MAX)
    }
}

/// One audit line per certificate.
fn report(held: &Held, bought: &Bought, replaced: bool) {
    for remark in bought.issued.remarks() {
        warn!(volume = %held.path().display(), "{remark}");
    }
    let leaf = bought.issued.chain().leaf();
    info!(
        volume = %held.path().display(),
        spiffe_id = %held.spiffe_id(),
        serial = leaf.serial_hex(),
        key = leaf.public_key_kind().to_string(),
        not_after = %bought.issued.effective_not_after(),
        renews_at = %held.cert_state().map(rotation::due).unwrap_or_default(),
        pool = %bought.request.pool,
        request_id = bought.request.request_id,
        "{}", if replaced { "renewed" } else { "issued" }
    );
}
