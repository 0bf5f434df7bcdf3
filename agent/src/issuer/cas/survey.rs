//! What a pool would say, for whoever tells people about it before a certificate is needed.
use certagent_core::{
    algorithm::KeyAlgorithm,
    outcome::Class,
    plan::IssuePlan,
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm},
};
use certagent_svid::{Certificate, PublicKeyKind, TrustBundle};

use super::CasIssuer;
use crate::{
    cas::CallError,
    google::Caller,
    issuer::{Behalf, IssueError, Issuer as _, Preflight},
    keys::{self, Keys, NewKeyError},
    limit::Asked,
    schedule::Priority,
};

/// A pool that would issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// What is known before a key is made.
    pub preflight: Preflight,
    /// What should be looked at, though certificates come.
    pub doubts: Vec<Doubt>,
}

/// Something about a pool that should be looked at, though certificates come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// The pool may not be looked at, so what it would refuse shows only when it does.
    #[error("{0}; until then it is not known whether the pool takes what is configured")]
    NotSeen(CallError),
    /// The pool has a quota that is used up.
    #[error(transparent)]
    Busy(CallError),
    /// The pool's CA has a key of another family than the workloads.
    #[error(
        "a CA of the issuing pool {pool} has a key of {authority}, and keyAlgorithm asks for {algorithm}: the guide wants keys of one family, or some TLS stacks refuse the certificates; choose a pool whose CA has such a key, or another keyAlgorithm"
    )]
    KeyFamily {
        /// The pool.
        pool: CaPoolName,
        /// The kind of the CA's key.
        authority: PublicKeyKind,
        /// The kind that workloads get.
        algorithm: KeyAlgorithm,
    },
}

impl CasIssuer {
    /// Looks at the pool as the agent, and asks it whether it would issue what `plan` says; nothing
    /// is sold. An error says why it would not.
    pub async fn survey(
        &self,
        plan: &IssuePlan,
        pool: &CaPoolName,
        bundle: &TrustBundle,
    ) -> Result<Survey, IssueError> {
        let behalf = Behalf {
            caller: Caller::Agent,
            priority: Priority::Routine,
            needed_by: None,
            pod: None,
            is_renamed: false,
        };
        let preflight = self.preflight(plan, pool, bundle, &behalf).await?;
        let facts = self.facts.peek(pool).unwrap_or_default();
        let mut doubts = Vec::new();
        doubts.extend(facts.denied.clone().map(Doubt::NotSeen));
        let chains = facts.chains.as_deref().unwrap_or_default();
        doubts.extend(other_family(chains, pool, plan.algorithm));
        if preflight.form == RequestForm::Config {
            doubts.extend(self.rehearse(plan, pool).await?);
        }
        Ok(Survey { preflight, doubts })
    }

    /// Asks whether a certificate would be issued for a key that is thrown away.
    async fn rehearse(
        &self,
        plan: &IssuePlan,
        pool: &CaPoolName,
    ) -> Result<Option<Doubt>, IssueError> {
        let began = self.clock.now();
        let request = match prepare(plan, pool, began).await {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "cannot find out whether the pool would issue");
                return Ok(None);
            }
        };
        let answer = self.client.validate(&request, &Caller::Agent).await;
        let error = answer.as_ref().err();
        self.limiter.heard(pool, Asked::Look, began, error);
        match answer {
            Ok(()) => Ok(None),
            Err(error) if error.class == Class::Busy || error.http() == Some(429) => {
                Ok(Some(Doubt::Busy(error)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn prepare(
    plan: &IssuePlan,
    pool: &CaPoolName,
    now: jiff::Timestamp,
) -> Result<PreparedRequest, NewKeyError> {
    let key = Keys::default().generate(plan.algorithm).await?;
    let csr = keys::csr_pem(plan, &key)?;
    Ok(PreparedRequest::new(
        plan.clone(),
        pool.clone(),
        RequestForm::Config,
        key.public_key(),
        &csr,
        now,
    ))
}

/// The first CA whose key is of another family than those that are asked for. The family of a
/// kind that is not known here is not known either.
fn other_family(
    chains: &[Vec<Certificate>],
    pool: &CaPoolName,
    algorithm: KeyAlgorithm,
) -> Option<Doubt> {
    let asked_rsa = algorithm.rsa_modulus_bits().is_some();
    let own = chains.iter().filter_map(|chain| chain.first());
    let is_other = |kind: &PublicKeyKind| match kind {
        PublicKeyKind::Rsa(_) => !asked_rsa,
        PublicKeyKind::EcP256 | PublicKeyKind::EcP384 => asked_rsa,
        _ => false,
    };
    let authority = own.map(Certificate::public_key_kind).find(is_other)?;
    Some(Doubt::KeyFamily {
        pool: pool.clone(),
        authority,
        algorithm,
    })
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "survey_tests.rs"]
mod tests;
