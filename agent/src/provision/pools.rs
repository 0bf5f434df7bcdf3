//! Which pool is asked, with which request, and when the next one may be: the rules themselves are
//! the table in [`certagent_core::outcome`].
use certagent_core::{
    config::CertificatePolicy,
    issued::{CheckError, IssuedChain},
    outcome::{self, Budget, Next, Pace, Sending},
    plan::{IssuePlan, PlanError},
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm},
};
use certagent_svid::{PrivateKey, TrustBundle, verify::VerifyError};
use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use super::{Context, ProvisionError, pending, remaining};
use crate::{crash, held::Held, issuer::IssueError, keys};

/// How long one pool alone is asked for a first certificate while outcomes stay unknown.
pub(crate) const FIRST_BUDGET: SignedDuration = SignedDuration::from_secs(60);

/// The pool whose turn it is for a volume, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pool: usize,
    since: Timestamp,
}

/// A certificate that was checked, with its key and the request that brought it.
pub(super) struct Bought {
    pub(super) key: PrivateKey,
    pub(super) request: PreparedRequest,
    pub(super) issued: IssuedChain,
}

/// What is bought, and where.
pub(super) struct Order<'a> {
    pub(super) plan: &'a IssuePlan,
    pub(super) policy: &'a CertificatePolicy,
    pub(super) bundle: &'a TrustBundle,
}

/// Why an attempt at one pool gave nothing.
enum Failed {
    /// The issuer gave none. The request is the one that stays, if one was made.
    Issue {
        error: Box<IssueError>,
        sending: Sending,
        request: Option<PreparedRequest>,
    },
    /// What came is refused. What becomes of the request is decided already, unless it may heal.
    Check {
        pool: CaPoolName,
        csr: Option<String>,
        reason: Box<CheckError>,
        request: Option<PreparedRequest>,
    },
    /// Not the pool's doing.
    Here(ProvisionError),
}

impl<E: Into<ProvisionError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Here(error.into())
    }
}

/// Asks the pools in order, each at most once in a call, until one gives a certificate that is
/// ours, or the rules say to wait.
pub(super) async fn buy(
    context: &Context,
    held: &mut Held,
    turn: &mut Option<Turn>,
    order: &Order<'_>,
) -> Result<Bought, ProvisionError> {
    let pools = &order.policy.pools;
    let mut asked = vec![false; pools.len()];
    // A pool that may heal by itself is a reason to come back soon, whatever the others said.
    let mut soonest = Pace::Slow;
    loop {
        let failed = match try_pool(context, held, turn, &asked, order).await {
            Ok(bought) => return Ok(bought),
            Err(failed) => failed,
        };
        let now = context.clock.now();
        let is_spent = turn.is_none_or(|turn| now >= turn.until(held));
        let has_other = |asked: &CaPoolName| pools.iter().any(|pool| pool != asked);
        let (pool, moves_on, error) = match failed {
            Failed::Issue {
                error,
                sending,
                request,
            } => {
                let pool = error.pool().clone();
                let budget = match (is_spent, has_other(&pool)) {
                    (false, _) => Budget::Left,
                    (true, true) => Budget::Spent,
                    (true, false) => Budget::SpentAlone,
                };
                let ruling = outcome::rule(error.class(), sending, budget);
                pending::settle(context, held, request, ruling.fate)?;
                soonest = soonest.min(ruling.pace);
                let error = ProvisionError::Issue {
                    error,
                    pace: soonest,
                };
                (pool, ruling.next == Next::NextPool, error)
            }
            Failed::Check {
                pool,
                csr,
                reason,
                request,
            } => {
                // The same certificate comes again, and neither clock nor trust caught up with it.
                let moves_on = is_spent && request.is_some();
                if moves_on {
                    pending::abandon(context, held)?;
                }
                let error = ProvisionError::Check {
                    pool: pool.clone(),
                    csr,
                    reason,
                };
                (pool, moves_on, error)
            }
            Failed::Here(error) => return Err(error),
        };
        if !moves_on {
            return Err(error);
        }
        // A pool that the configuration no longer names comes before the first.
        let place = pools.iter().position(|one| *one == pool);
        if let Some(place) = place {
            asked[place] = true;
        }
        *turn = Some(Turn {
            pool: place.map_or(0, |place| (place + 1) % pools.len()),
            since: now,
        });
        if asked.iter().all(|asked| *asked) {
            return Err(error);
        }
        warn!(volume = %held.path().display(), %error, "asking the next pool");
    }
}

/// One attempt at one pool: the pending request if there is one, else a new one.
async fn try_pool(
    context: &Context,
    held: &mut Held,
    turn: &mut Option<Turn>,
    asked: &[bool],
    order: &Order<'_>,
) -> Result<Bought, Failed> {
    let now = context.clock.now();
    let turn = turn.get_or_insert(Turn {
        pool: 0,
        since: now,
    });
    // A clock that was set back must not make the wait for a pool longer.
    turn.since = turn.since.min(now);
    let resumed = match pending::usable(context, held, now)? {
        Some((key, request)) => resume(context, held, turn, order.policy, key, request).await?,
        None => None,
    };
    let (key, request) = match resumed {
        Some(ready) => ready,
        None => prepare(context, held, turn, asked, order).await?,
    };
    crash::point("request-sent");
    let behalf = held.behalf(context.clock.now());
    held.note_sending(true);
    let answer = context.issuer.issue(&request, &behalf).await;
    held.note_sending(false);
    let raw = match answer {
        Ok(raw) => raw,
        Err(error) => return Err(Failed::sent(error, request)),
    };
    crash::point("answer-received");
    let checked = IssuedChain::check(
        &raw,
        key.public_key(),
        &request.plan,
        order.bundle,
        webpki::ALL_VERIFICATION_ALGS,
        context.clock.now(),
    );
    let reason = match checked {
        Ok(issued) => {
            return Ok(Bought {
                key,
                request,
                issued,
            });
        }
        Err(reason) => Box::new(reason),
    };
    let pool = request.pool.clone();
    if reason.is_of_dropped_names() {
        context.issuer.doubt(&pool);
    }
    let csr = context.issuer.csr(&request).map(str::to_owned);
    let request = if may_heal(&reason) {
        pending::note_sold(held, request.clone());
        Some(request)
    } else {
        pending::abandon(context, held)?;
        None
    };
    Err(Failed::Check {
        pool,
        csr,
        reason,
        request,
    })
}

/// The request that is under way, when its pool may be asked again; none if that took so long that
/// the request would not be recognised any more.
async fn resume(
    context: &Context,
    held: &mut Held,
    turn: &mut Turn,
    policy: &CertificatePolicy,
    key: PrivateKey,
    request: PreparedRequest,
) -> Result<Option<(PrivateKey, PreparedRequest)>, Failed> {
    let now = context.clock.now();
    turn.follow(&request, policy);
    let others = policy.pools.iter().filter(|pool| **pool != request.pool);
    let is_away = |pool: &CaPoolName| context.issuer.is_away(pool);
    // Its own budget is spent, and so is that of all others: nobody has to find out once more.
    if now >= turn.until(held) && is_away(&request.pool) && others.clone().any(|p| !is_away(p)) {
        let pool = request.pool.clone();
        return Err(Failed::sent(IssueError::Away { pool }, request));
    }
    let behalf = held.behalf(now);
    if let Err(error) = context.issuer.admit(&request.pool, &behalf).await {
        return Err(Failed::sent(error, request));
    }
    if request.may_be_replayed(context.clock.now()) {
        return Ok(Some((key, request)));
    }
    pending::give_up(context, held, &request)?;
    Ok(None)
}

/// A new key and a new request, kept before anything is sent.
async fn prepare(
    context: &Context,
    held: &mut Held,
    turn: &mut Turn,
    asked: &[bool],
    order: &Order<'_>,
) -> Result<(PrivateKey, PreparedRequest), Failed> {
    let Order {
        plan,
        policy,
        bundle,
    } = *order;
    let now = context.clock.now();
    let behalf = held.behalf(now);
    if let Some(place) = choose(context, policy, turn.pool, asked)
        && place != turn.pool
    {
        *turn = Turn {
            pool: place,
            since: now,
        };
    }
    let pool = policy.pools.get(turn.pool);
    let pool = pool.ok_or(ProvisionError::Plan(PlanError::NoPool))?;
    let ready = context.issuer.preflight(plan, pool, bundle, &behalf).await;
    let ready = ready.map_err(Failed::looked)?;
    // Made before the wait for the quota: an RSA key takes its time, too.
    let key = context.keys.generate(plan.algorithm).await?;
    let csr = match (ready.form, &behalf.pod) {
        (RequestForm::Kubernetes, Some(pod)) => keys::pod_csr_pem(plan, &key, &pod.uid)?,
        _ => keys::csr_pem(plan, &key)?,
    };
    let admitted = context.issuer.admit(pool, &behalf).await;
    admitted.map_err(Failed::looked)?;
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
    // The time that was spent until here is not the pool's.
    turn.since = now;
    Ok((key, request))
}

/// Where somebody with nothing under way begins: at the first pool from `start` on that was not
/// asked yet and is not away, or that it is time to ask whether it still is. While all are away,
/// the first that was not asked.
fn choose(
    context: &Context,
    policy: &CertificatePolicy,
    start: usize,
    asked: &[bool],
) -> Option<usize> {
    let pools = &policy.pools;
    let open = |place: &usize| asked.get(*place) == Some(&false);
    // An edit may have made the list shorter.
    let start = if start < pools.len() { start } else { 0 };
    let in_order = (start..pools.len()).chain(0..start).filter(open);
    let has_choice = in_order.clone().nth(1).is_some();
    let issuer = &context.issuer;
    let answers = |place: &usize| {
        pools
            .get(*place)
            .is_some_and(|pool| !issuer.is_away(pool) || issuer.may_probe(pool))
    };
    in_order
        .clone()
        .find(|place| !has_choice || answers(place))
        .or_else(|| in_order.clone().next())
}

impl Failed {
    /// Nothing was asked for yet.
    fn looked(error: IssueError) -> Self {
        Self::Issue {
            error: Box::new(error),
            sending: Sending::Look,
            request: None,
        }
    }

    /// The request was sent, or would have been.
    fn sent(error: IssueError, request: PreparedRequest) -> Self {
        Self::Issue {
            error: Box::new(error),
            sending: if request.outcome_unknown {
                Sending::Replay
            } else {
                Sending::First
            },
            request: Some(request),
        }
    }
}

impl Turn {
    /// Makes it the turn of the pool that a request under way was sent to, and reckons from the
    /// request's own time if that is earlier.
    fn follow(&mut self, request: &PreparedRequest, policy: &CertificatePolicy) {
        let place = policy.pools.iter().position(|pool| *pool == request.pool);
        self.pool = place.unwrap_or_default();
        self.since = self.since.min(request.created_at);
    }

    /// When the budget for this pool is spent.
    fn until(self, held: &Held) -> Timestamp {
        let budget = remaining(held, self.since).map_or(FIRST_BUDGET, |left| left / 4);
        self.since.saturating_add(budget).unwrap_or(Timestamp::MAX)
    }
}

/// The same certificate may be good later: when the clock is set, or the trust catches up. All
/// other refusals are for ever, and the next request has new ids.
pub(super) fn may_heal(reason: &CheckError) -> bool {
    matches!(
        reason,
        CheckError::NotYetValid { .. } | CheckError::Verify(VerifyError::UnknownIssuer { .. })
    )
}
