//! THE MAIN PATH: one certificate, the first or a renewal, the same function.
//!
//! plan -> look at the pool -> key -> request -> issue -> check -> write. Between two calls nothing is lost: the key
//! and the exact request are on disk before the first byte leaves, so that a retry, by this
//! process or the next, buys nothing twice. Which pool is asked is in `pools`, what becomes of the
//! request under way in `pending`.
mod pending;
mod pools;

use std::sync::Arc;

use certagent_core::{
    backoff, issued::CheckError, outcome::Pace, plan::PlanError, pool::CaPoolName, rotation,
};
use certagent_svid::TrustDomain;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    admin::Metrics,
    clock::SharedClock,
    config::ActiveConfig,
    held::{Held, HeldError},
    issuer::{IssueError, Issuer},
    keys::{Keys, NewKeyError},
    trust::Trust,
};

pub(crate) use self::pools::FIRST_BUDGET;
use self::pools::{Bought, Order, buy};
pub use self::{
    pending::{close, close_unopened, is_open},
    pools::Turn,
};

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
    /// The roots of the workload's trust domain are known, and none of them is to be trusted.
    #[error("no root of {trust_domain} is left, so nothing was asked for: {reason}")]
    Stripped {
        /// The workload's trust domain.
        trust_domain: TrustDomain,
        /// Which roots there are.
        reason: String,
    },
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] NewKeyError),
    /// The CA gave none.
    #[error("{error}")]
    Issue {
        /// What the pool that was asked last said.
        error: Box<IssueError>,
        /// How soon it is worth trying again, with all that the pools said.
        pace: Pace,
    },
    /// What the CA gave is refused.
    #[error("{}", refused(pool, csr.as_deref(), reason))]
    Check {
        /// The pool.
        pool: CaPoolName,
        /// The `CertificateSigningRequest` that it stands in; none if the pool sent it itself.
        csr: Option<String>,
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
            Self::NoRoots { .. } | Self::Stripped { .. } => "no_roots",
            Self::Key(_) => "key",
            Self::Issue { error, .. } => error.class().as_str(),
            Self::Check { .. } => "refused_certificate",
            Self::Held(_) => "volume",
        }
    }

    /// Nothing but a change by somebody helps.
    pub fn is_hopeless(&self) -> bool {
        match self {
            Self::Plan(_) => true,
            Self::Check { reason, .. } => !pools::may_heal(reason),
            Self::Issue { pace, .. } => *pace == Pace::Slow,
            Self::NoRoots { .. } | Self::Stripped { .. } | Self::Key(_) | Self::Held(_) => false,
        }
    }

    fn is_of_dropped_names(&self) -> bool {
        matches!(self, Self::Check { reason, .. } if reason.is_of_dropped_names())
    }

    /// When to try again after the `failures`-th failure in a row.
    fn wait(&self, failures: u32, remaining: Option<SignedDuration>) -> SignedDuration {
        let wait = match remaining {
            // After the first the policy was looked at again, and either cannot be seen or does not
            // tell: each attempt costs a certificate.
            _ if failures > 1 && self.is_of_dropped_names() => backoff::in_vain(remaining),
            _ if self.is_hopeless() => backoff::hopeless(failures, remaining),
            Some(remaining) => backoff::renewal(failures, remaining),
            None => backoff::first_issue(failures),
        };
        self.retry_after().map_or(wait, |asked| wait.max(asked))
    }

    /// How long whoever was asked wants to be left alone, by its own word.
    pub fn retry_after(&self) -> Option<SignedDuration> {
        match self {
            Self::Issue { error, .. } => error.retry_after().and_then(|wait| wait.try_into().ok()),
            _ => None,
        }
    }
}

/// With what to do, where the reason does not say so itself.
fn refused(pool: &CaPoolName, csr: Option<&str>, reason: &CheckError) -> String {
    if let Some(csr) = csr {
        // The controller writes none that it has not checked in the same way.
        return format!(
            "the status of the CertificateSigningRequest {csr} has a certificate that is refused: \
             {reason}; look who wrote it there (kubectl get csr {csr} -o yaml --show-managed-fields): \
             unless it was the controller, somebody else may write certificates for our signer. If \
             it was, compare the clocks of its node and of this one, and the versions of controller \
             and driver"
        );
    }
    let step = reason.next_step();
    let step = step.map_or_else(String::new, |step| format!("; {step}"));
    format!("{pool} sent a certificate that is refused: {reason}{step}")
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
    let trust_domain = held.trust_domain();
    let bundle = trust.issuing_bundle(trust_domain).ok_or_else(|| {
        let (reason, is_stripped) = (trust.trouble(trust_domain), trust.is_stripped(trust_domain));
        let trust_domain = trust_domain.clone();
        if is_stripped {
            ProvisionError::Stripped {
                trust_domain,
                reason,
            }
        } else {
            ProvisionError::NoRoots {
                trust_domain,
                reason,
            }
        }
    })?;

    let order = Order {
        plan: &plan,
        policy: &config.certificates,
        bundle,
    };
    let bought = buy(context, held, turn, &order).await?;

    let now = context.clock.now();
    let replaced = match held.publish(&bought.key, &bought.issued, &bought.request, &trust, now) {
        Ok(replaced) => replaced,
        Err(error) => {
            // The same certificate comes back when the volume can be written again.
            pending::note_sold(held, bought.request);
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
    Ok(held.must_resume() && pending::usable(context, held, now)?.is_some())
}

/// The latest end that the first pool could give to a certificate now; none if it cannot be told.
pub async fn ca_until(context: &Context, held: &Held) -> Option<Timestamp> {
    let config = Arc::clone(&context.config.borrow().config);
    let trust = Arc::clone(&context.trust.borrow());
    let plan = held.plan(&config).ok()?;
    let bundle = trust.issuing_bundle(held.trust_domain())?;
    let pool = config.certificates.pools.first()?;
    let behalf = held.behalf(context.clock.now());
    context
        .issuer
        .preflight(&plan, pool, bundle, &behalf)
        .await
        .ok()?
        .ca_until
}

fn remaining(held: &Held, now: Timestamp) -> Option<SignedDuration> {
    held.cert_state()
        .map(|state| state.not_after.duration_since(now))
        .filter(SignedDuration::is_positive)
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
