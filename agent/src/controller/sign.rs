//! One approved request becomes a certificate: which pool is asked, and what follows from an answer.
//!
//! The rules are the table in [`certagent_core::outcome`], as for the agent's own requests. What is
//! different: the ids derive from the object's UID, so that whoever signs it, and however often,
//! asks for the same certificate; and nothing is kept but the object itself.
use std::sync::Arc;

use certagent_core::{
    approval::Wanted,
    issued::{CheckError, IssuedChain, RawChain},
    outcome::{Pace, Sending},
    plan::IssuePlan,
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm},
};
use certagent_svid::{TrustBundle, TrustBundles, TrustDomain, verify::VerifyError};
use jiff::SignedDuration;

use super::{
    Authority,
    progress::{Progress, is_spent},
    reason,
};
use crate::{
    clock::Clock,
    config::ActiveConfig,
    google::Caller,
    issuer::{Behalf, IssueError, Issuer},
    schedule::Priority,
    trust::Trust,
};

/// The reason of a condition while there is nothing to sign by.
pub(super) const CONFIG_NOT_USABLE: &str = "ConfigNotUsable";

/// The reason while another pool than the first, or than the one before, is asked.
pub(super) const OTHER_POOL: &str = "OtherPool";

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
    /// The object says that nothing was sold, and that has to go before something is asked for.
    Announce,
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
    /// Who goes first while a pool's quota is used up.
    pub(super) priority: Priority,
    /// The object says that nothing was sold.
    pub(super) is_told_clean: bool,
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
        Err(Unbought::Unannounced) => Attempt::Announce,
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
    /// It was not announced.
    Unannounced,
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
        priority: order.priority,
        needed_by: None,
        pod: None,
        is_renamed: false,
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
    if order.is_told_clean {
        return Err(Unbought::Unannounced);
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
            message: "a certificate may have been issued so long ago that CA Service would not \
                      recognise the request any more; the node asks anew"
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
