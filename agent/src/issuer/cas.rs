//! Certificates from CA Service.
mod survey;

use std::{sync::Arc, time::Duration};

use certagent_core::{
    algorithm::KeyAlgorithm,
    issued::RawChain,
    outcome::Class,
    plan::{IssuePlan, workload_names},
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm},
    trust,
};
use certagent_svid::{Certificate, TrustBundle};
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::{
    Behalf, IssueError, Issuer, NotAnchored, Preflight,
    facts::{Facts, FactsCache},
};
use crate::{
    cas::{
        CallError, CasClient,
        wire::{AllowedKeyType, IssuancePolicy, Tier},
    },
    clock::SharedClock,
    google::Caller,
    limit::{Asked, Limiter},
    trust::Trust,
};

pub use survey::{Doubt, Survey};

/// An [`Issuer`] that asks the pools of CA Service itself.
pub struct CasIssuer {
    client: CasClient,
    clock: SharedClock,
    facts: FactsCache,
    limiter: Arc<Limiter>,
    trust: watch::Receiver<Arc<Trust>>,
}

impl CasIssuer {
    /// An issuer over `client`. `trust` serves messages only: it knows the names of the anchors.
    pub fn new(
        client: CasClient,
        clock: SharedClock,
        limiter: Arc<Limiter>,
        trust: watch::Receiver<Arc<Trust>>,
    ) -> Self {
        Self {
            facts: FactsCache::new(client.clone(), Arc::clone(&clock), Arc::clone(&limiter)),
            client,
            clock,
            limiter,
            trust,
        }
    }

    async fn look(
        &self,
        plan: &IssuePlan,
        pool: &CaPoolName,
        bundle: &TrustBundle,
        behalf: &Behalf,
    ) -> Result<Preflight, IssueError> {
        // Somebody has just edited the names, and perhaps the pool, too.
        let newly = behalf.is_renamed && !plan.names.is_empty();
        let facts = self.facts.of(pool, newly).await?;
        let ca_until = match &facts.chains {
            Some(chains) => {
                check_anchored(pool, chains, bundle, &self.trust.borrow())?;
                trust::latest_end(chains)
            }
            None => None,
        };
        let form = match &facts.pool {
            Some(known) => check_policy(plan, pool, &known.issuance_policy)?,
            None => RequestForm::Config,
        };
        Ok(Preflight { form, ca_until })
    }

    async fn attempt(
        &self,
        request: &PreparedRequest,
        behalf: &Behalf,
    ) -> Result<RawChain, IssueError> {
        let caller = &behalf.caller;
        let lost = |lookup: Option<CallError>| IssueError::Lost {
            pool: request.pool.clone(),
            certificate_id: request.certificate_id.clone(),
            lookup: lookup.map(Box::new),
        };
        let began = self.clock.now();
        let answer = self.client.create(request, caller).await;
        let error = answer.as_ref().err();
        self.limiter
            .heard(&request.pool, Asked::Purchase, began, error);
        match answer {
            Ok(raw) if has_certificate(&raw) => Ok(raw),
            // The answer to a replay is the last word.
            Ok(_) if request.outcome_unknown => self.adopt(request).await?.map_err(lost),
            Ok(_) => {
                let adopted = self.adopt(request).await?;
                adopted.map_err(|_lookup| IssueError::NoCertificate {
                    pool: request.pool.clone(),
                })
            }
            Err(error) if error.class == Class::Exists => self.adopt(request).await?.map_err(lost),
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches the certificate that the ids of `request` name. That it is for our key is checked
    /// where every chain is. The agent looks itself: who may ask for a certificate need not be
    /// allowed to look.
    ///
    /// The outer error says that asking again may help, the inner one that it cannot.
    async fn adopt(
        &self,
        request: &PreparedRequest,
    ) -> Result<Result<RawChain, Option<CallError>>, IssueError> {
        if self
            .facts
            .peek(&request.pool)
            .is_some_and(|facts| keeps_nothing(&facts))
        {
            return Ok(Err(None));
        }
        match self
            .client
            .get(&request.pool, &request.certificate_id, &Caller::Agent)
            .await
        {
            Ok(raw) if has_certificate(&raw) => Ok(Ok(raw)),
            Ok(_) => Ok(Err(None)),
            Err(error)
                if matches!(
                    error.class,
                    Class::Busy | Class::NoToken { .. } | Class::Unknown | Class::Unreachable
                ) =>
            {
                // Something was sold: whatever the lookup's own class, that stays open.
                let (pool, lookup) = (request.pool.clone(), Box::new(error));
                Err(IssueError::NotFetched { pool, lookup })
            }
            Err(error) => Ok(Err(Some(error))),
        }
    }
}

impl Issuer for CasIssuer {
    fn preflight<'a>(
        &'a self,
        plan: &'a IssuePlan,
        pool: &'a CaPoolName,
        bundle: &'a TrustBundle,
        behalf: &'a Behalf,
    ) -> BoxFuture<'a, Result<Preflight, IssueError>> {
        Box::pin(async move {
            check_workload(&self.client, plan, pool, &behalf.caller)?;
            self.look(plan, pool, bundle, behalf).await
        })
    }

    fn admit<'a>(
        &'a self,
        pool: &'a CaPoolName,
        behalf: &'a Behalf,
    ) -> BoxFuture<'a, Result<(), IssueError>> {
        Box::pin(async move {
            let admitted = self.limiter.admit(pool, behalf.priority).await;
            admitted.map_err(|closed| IssueError::Closed {
                pool: pool.clone(),
                wait: closed.wait,
            })
        })
    }

    fn doubt(&self, pool: &CaPoolName) {
        self.facts.doubt(pool);
    }

    fn is_away(&self, pool: &CaPoolName) -> bool {
        self.limiter.is_away(pool)
    }

    fn may_probe(&self, pool: &CaPoolName) -> bool {
        self.limiter.may_probe(pool)
    }

    fn issue<'a>(
        &'a self,
        request: &'a PreparedRequest,
        behalf: &'a Behalf,
    ) -> BoxFuture<'a, Result<RawChain, IssueError>> {
        Box::pin(self.attempt(request, behalf))
    }
}

/// The pool's CAs lead to a root of the bundle. `trust` names the anchors for the message.
pub(crate) fn check_anchored(
    pool: &CaPoolName,
    chains: &[Vec<Certificate>],
    bundle: &TrustBundle,
    trust: &Trust,
) -> Result<(), IssueError> {
    if chains.is_empty() {
        return Err(IssueError::NoAuthority { pool: pool.clone() });
    }
    if trust::is_anchored(chains, bundle) {
        return Ok(());
    }
    let trust_domain = bundle.trust_domain().clone();
    let roots = TrustBundle::new(trust_domain.clone(), trust::roots(chains).cloned());
    Err(IssueError::NotAnchored(Box::new(NotAnchored {
        issuing: pool.clone(),
        roots: roots.describe(),
        anchors: trust.describe_anchors(&trust_domain),
        trust_domain,
    })))
}

/// A name that CA Service would take from the caller's token, and that is not the plan's, would
/// be a certificate bought in vain.
pub(crate) fn check_workload(
    client: &CasClient,
    plan: &IssuePlan,
    pool: &CaPoolName,
    caller: &Caller,
) -> Result<(), IssueError> {
    let Some(token) = client.identity().workload(caller) else {
        return Ok(());
    };
    match workload_names(&plan.spiffe_id) {
        Some(asked) if asked != (&token.0, &token.1) => Err(IssueError::OtherWorkload {
            pool: pool.clone(),
            asked: Box::new(plan.spiffe_id.clone()),
            token: Box::new(token),
        }),
        _ => Ok(()),
    }
}

/// Whether the pool would take what the plan asks for, and in which form.
fn check_policy(
    plan: &IssuePlan,
    pool: &CaPoolName,
    policy: &IssuancePolicy,
) -> Result<RequestForm, IssueError> {
    check_key_type(plan, pool, policy)?;
    check_lifetime(plan, pool, policy)?;
    check_backdating(plan, pool, policy)?;
    check_names(plan, pool, policy)?;
    check_form(pool, policy)
}

/// The pool signs keys of the kind that the plan asks for.
pub(crate) fn check_key_type(
    plan: &IssuePlan,
    pool: &CaPoolName,
    policy: &IssuancePolicy,
) -> Result<(), IssueError> {
    if signs(policy, plan.algorithm) {
        return Ok(());
    }
    Err(IssueError::KeyTypeForbidden {
        pool: pool.clone(),
        algorithm: plan.algorithm,
        allowed: describe_keys(&policy.allowed_key_types),
    })
}

/// The pool issues for as long as the plan asks for.
pub(crate) fn check_lifetime(
    plan: &IssuePlan,
    pool: &CaPoolName,
    policy: &IssuancePolicy,
) -> Result<(), IssueError> {
    let validity = plan.validity;
    match policy.maximum_lifetime {
        Some(maximum) if validity > maximum => Err(IssueError::LifetimeOverMaximum {
            pool: pool.clone(),
            maximum,
            validity,
        }),
        _ => Ok(()),
    }
}

/// The pool's backdating leaves something of the validity.
pub(crate) fn check_backdating(
    plan: &IssuePlan,
    pool: &CaPoolName,
    policy: &IssuancePolicy,
) -> Result<(), IssueError> {
    let validity = plan.validity;
    match policy.backdate_duration {
        Some(backdate) if eats_up(backdate, validity) => Err(IssueError::Backdates {
            pool: pool.clone(),
            backdate,
            validity,
        }),
        _ => Ok(()),
    }
}

/// The pool passes on the names that the plan asks for beside the identity.
pub(crate) fn check_names(
    plan: &IssuePlan,
    pool: &CaPoolName,
    policy: &IssuancePolicy,
) -> Result<(), IssueError> {
    let Some(constraints) = &policy.identity_constraints else {
        return Ok(());
    };
    let dropped = |field, setting| {
        Err(IssueError::NamesDropped {
            pool: pool.clone(),
            field,
            setting,
        })
    };
    if plan.names.common_name.is_some() && !constraints.allow_subject_passthrough {
        return dropped("commonName", "allowSubjectPassthrough");
    }
    if !plan.names.dns_names.is_empty() && !constraints.allow_subject_alt_names_passthrough {
        return dropped("dnsNames", "allowSubjectAltNamesPassthrough");
    }
    Ok(())
}

/// The form of request that the pool takes.
pub(crate) fn check_form(
    pool: &CaPoolName,
    policy: &IssuancePolicy,
) -> Result<RequestForm, IssueError> {
    match policy.allowed_issuance_modes {
        None => Ok(RequestForm::Config),
        Some(modes) if modes.allow_config_based_issuance => Ok(RequestForm::Config),
        Some(modes) if modes.allow_csr_based_issuance => Ok(RequestForm::PemCsr),
        Some(_) => Err(IssueError::NoIssuanceMode { pool: pool.clone() }),
    }
}

/// More than 90% of the validity lies in the past from the beginning.
fn eats_up(backdate: Duration, validity: Duration) -> bool {
    backdate.as_nanos() * 10 > validity.as_nanos() * 9
}

/// The pool signs keys of this kind.
pub(crate) fn signs(policy: &IssuancePolicy, algorithm: KeyAlgorithm) -> bool {
    let allowed = &policy.allowed_key_types;
    allowed.is_empty() || allowed.iter().any(|one| allows(one, algorithm))
}

fn allows(allowed: &AllowedKeyType, algorithm: KeyAlgorithm) -> bool {
    let curve = match algorithm {
        KeyAlgorithm::EcdsaP256 => "ECDSA_P256",
        KeyAlgorithm::EcdsaP384 => "ECDSA_P384",
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            let bits = algorithm.rsa_modulus_bits().map_or(0, i64::from);
            let fits = |least: i64, most: i64| bits >= least && (most == 0 || bits <= most);
            let rsa = allowed.rsa.as_ref();
            return rsa.is_some_and(|rsa| fits(rsa.min_modulus_size, rsa.max_modulus_size));
        }
    };
    allowed.elliptic_curve.as_ref().is_some_and(|one| {
        // A name that says nothing allows every curve.
        let known = one
            .signature_algorithm
            .as_deref()
            .filter(|name| is_curve(name));
        known.is_none_or(|name| name == curve)
    })
}

fn is_curve(name: &str) -> bool {
    matches!(name, "ECDSA_P256" | "ECDSA_P384" | "EDDSA_25519")
}

/// The kinds of key that a pool signs, for people.
pub(crate) fn describe_keys(allowed: &[AllowedKeyType]) -> String {
    let describe = |one: &AllowedKeyType| match (&one.rsa, &one.elliptic_curve) {
        (Some(rsa), _) => match (rsa.min_modulus_size, rsa.max_modulus_size) {
            (0, 0) => "RSA".to_owned(),
            (least, 0) => format!("RSA from {least} bits"),
            (0, most) => format!("RSA up to {most} bits"),
            (least, most) => format!("RSA of {least} to {most} bits"),
        },
        (None, Some(curve)) => match curve.signature_algorithm.as_deref() {
            Some(name) if is_curve(name) => name.to_owned(),
            _ => "any elliptic curve".to_owned(),
        },
        (None, None) => "a kind that is not known here".to_owned(),
    };
    allowed.iter().map(describe).collect::<Vec<_>>().join(", ")
}

fn keeps_nothing(facts: &Facts) -> bool {
    facts.tier() == Tier::Devops
}

fn has_certificate(raw: &RawChain) -> bool {
    !raw.certificate.trim().is_empty()
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "cas_tests.rs"]
mod tests;
