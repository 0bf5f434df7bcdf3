//! Who issues: the trait, and what every issuer can answer.
use std::{fmt, future::ready, time::Duration};

use certagent_core::{
    algorithm::KeyAlgorithm,
    issued::RawChain,
    outcome::Class,
    plan::IssuePlan,
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm},
};
use certagent_svid::{SpiffeId, TrustBundle, TrustDomain};
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::{cas::CallError, google::Caller, schedule::Priority, volume::PodRecord};

pub mod cas;
pub mod csr;
#[cfg(test)]
pub(crate) mod csr_lab;
mod facts;

pub use cas::CasIssuer;
pub use csr::{CsrError, CsrIssuer, CsrTrouble};

/// On whose behalf a certificate is asked for, and how urgent it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behalf {
    /// Whose identity asks.
    pub caller: Caller,
    /// Who goes first when a pool is busy.
    pub priority: Priority,
    /// When the certificate that there is ends; none without one.
    pub needed_by: Option<Timestamp>,
    /// The pod, where the volume is one's.
    pub pod: Option<PodRecord>,
    /// The certificate that there is has other names than those that are asked for: a pool that
    /// passed on the names until now may drop the new ones.
    pub is_renamed: bool,
}

/// Gets certificates from somewhere.
pub trait Issuer: Send + Sync + 'static {
    /// Everything that can be known before a key exists: is the pool there, does it lead to the
    /// bundle, does it take what the plan asks for, and in which form.
    fn preflight<'a>(
        &'a self,
        plan: &'a IssuePlan,
        pool: &'a CaPoolName,
        bundle: &'a TrustBundle,
        behalf: &'a Behalf,
    ) -> BoxFuture<'a, Result<Preflight, IssueError>>;

    /// Resolves when the pool may be asked for one more certificate, a replay included; an error
    /// if it wants to be left alone for longer than anybody waits.
    fn admit<'a>(
        &'a self,
        _pool: &'a CaPoolName,
        _behalf: &'a Behalf,
    ) -> BoxFuture<'a, Result<(), IssueError>> {
        Box::pin(ready(Ok(())))
    }

    /// A certificate of the pool lacked names that its policy seemed to let through: what is known
    /// of the policy is not to be relied on any more.
    fn doubt(&self, _pool: &CaPoolName) {}

    /// The pool has not answered for so long that what has nothing under way there had better
    /// begin with another.
    fn is_away(&self, _pool: &CaPoolName) -> bool {
        false
    }

    /// Whether the caller may ask a pool that is away, to find out if it is back. After a yes
    /// nobody else may for a while.
    fn may_probe(&self, _pool: &CaPoolName) -> bool {
        false
    }

    /// The `CertificateSigningRequest` by which it asks; none if it asks a pool.
    fn csr<'a>(&self, _request: &'a PreparedRequest) -> Option<&'a str> {
        None
    }

    /// One attempt with exactly these bytes and ids, and the adoption of our own certificate if
    /// an earlier attempt was carried out.
    fn issue<'a>(
        &'a self,
        request: &'a PreparedRequest,
        behalf: &'a Behalf,
    ) -> BoxFuture<'a, Result<RawChain, IssueError>>;
}

/// What is known before a key is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The form of request that the pool takes.
    pub form: RequestForm,
    /// The latest end that a certificate of this pool could have, because its CA ends then; none
    /// if the CAs could not be looked at.
    pub ca_until: Option<Timestamp>,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The cluster's API server, or the controller behind it, gave none.
    #[error(transparent)]
    Csr(Box<CsrError>),
    /// The pool asked to be left alone for longer than a request waits; nothing was sent.
    #[error(
        "the CA pool {pool} wants to be left alone for another {wait:?} because a quota is used up, so nothing was sent; it is asked again after that, and more CAs, longer lifetimes or a fallback pool help"
    )]
    Closed {
        /// The pool.
        pool: CaPoolName,
        /// For how much longer.
        wait: Duration,
    },
    /// The pool has not answered for so long that it was not asked once more.
    #[error(
        "the CA pool {pool} has not answered for so long that nothing more was sent to it; look at the CA and at the network on the way to it"
    )]
    Away {
        /// The pool.
        pool: CaPoolName,
    },
    /// The pool's CAs lead to no root of the bundle.
    #[error(transparent)]
    NotAnchored(Box<NotAnchored>),
    /// The pool has no CA at all.
    #[error("the CA pool {pool} has no CA; create one in it and enable it")]
    NoAuthority {
        /// The pool.
        pool: CaPoolName,
    },
    /// The pool moves the start of its certificates so far into the past that little remains.
    #[error(
        "the CA pool {pool} backdates its certificates by {backdate:?}, more than 90% of the {validity:?} that validityDurationSeconds asks for; ask for a longer validity, or lower the pool's backdateDuration"
    )]
    Backdates {
        /// The pool.
        pool: CaPoolName,
        /// How far back.
        backdate: Duration,
        /// The lifetime asked for.
        validity: Duration,
    },
    /// The pool signs no keys of this kind.
    #[error(
        "the CA pool {pool} signs no {algorithm} keys, only {allowed}; change keyAlgorithm, or the pool's allowedKeyTypes"
    )]
    KeyTypeForbidden {
        /// The pool.
        pool: CaPoolName,
        /// The kind asked for.
        algorithm: KeyAlgorithm,
        /// The kinds that it signs, for people.
        allowed: String,
    },
    /// The pool refuses so long a lifetime.
    #[error(
        "the CA pool {pool} issues for at most {maximum:?}, and validityDurationSeconds asks for {validity:?}; lower it, or raise the pool's maximumLifetime"
    )]
    LifetimeOverMaximum {
        /// The pool.
        pool: CaPoolName,
        /// The pool's limit.
        maximum: Duration,
        /// The lifetime asked for.
        validity: Duration,
    },
    /// The pool drops names that the workload asks for.
    #[error(
        "the CA pool {pool} issues no certificate with {field}: identityConstraints.{setting} is not true in its issuancePolicy; {}",
        names_advice(field)
    )]
    NamesDropped {
        /// The pool.
        pool: CaPoolName,
        /// The field of the `Workload`.
        field: &'static str,
        /// The pool's setting.
        setting: &'static str,
    },
    /// The workload's own token, from which CA Service takes the name, is of another workload.
    #[error(
        "CA Service takes the identity from the workload's own token, and the token is of namespace \"{}\" and service account \"{}\", not of {asked}: let tokenFile name the token of that workload, or correct its namespace and serviceAccount; nothing was asked of {pool}", token.0, token.1
    )]
    OtherWorkload {
        /// The pool that would have been asked.
        pool: CaPoolName,
        /// What the plan asks for.
        asked: Box<SpiffeId>,
        /// Namespace and service account by the token.
        token: Box<(String, String)>,
    },
    /// The pool takes neither form of request.
    #[error(
        "the CA pool {pool} allows neither config-based nor CSR-based issuance; allow config-based issuance in its allowedIssuanceModes"
    )]
    NoIssuanceMode {
        /// The pool.
        pool: CaPoolName,
    },
    /// An attempt was carried out, and its certificate cannot be fetched at the moment.
    #[error("the CA pool {pool} issued a certificate that could not be fetched yet: {lookup}")]
    NotFetched {
        /// The pool.
        pool: CaPoolName,
        /// Why not.
        lookup: Box<CallError>,
    },
    /// An earlier attempt was carried out, and its certificate cannot be had any more.
    #[error("the CA pool {pool} issued the certificate {certificate_id} to an earlier attempt and cannot hand it out again ({}); it is given up, the next attempt uses a new key", lost(lookup.as_deref()))]
    Lost {
        /// The pool.
        pool: CaPoolName,
        /// The id of the lost certificate.
        certificate_id: String,
        /// Why it could not be looked up; none if the pool keeps no certificates.
        lookup: Option<Box<CallError>>,
    },
    /// The service said yes and sent no certificate.
    #[error(
        "the CA pool {pool} answered without a certificate; the same request is sent again by itself, and if this goes on, check that the endpoint is CA Service or its emulator"
    )]
    NoCertificate {
        /// The pool.
        pool: CaPoolName,
    },
}

/// The pool's CAs lead to no root of the bundle that would be published with its certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the CA of the issuing pool {issuing} leads to {roots}, which is no root of the trust domain {trust_domain}; its trustAnchors are: {anchors}. Add the pool that holds the root of {issuing} to the TrustConfig, or issue from a pool below one of the anchors"
)]
pub struct NotAnchored {
    /// The issuing pool.
    pub issuing: CaPoolName,
    /// Where its CAs lead, for people.
    pub roots: String,
    /// Whose bundle was looked at.
    pub trust_domain: TrustDomain,
    /// The anchors as the `TrustConfig` names them, pools by their names.
    pub anchors: String,
}

impl IssueError {
    /// What it means for what may be done next.
    pub fn class(&self) -> Class {
        match self {
            Self::Call(error) => error.class,
            Self::Csr(error) => error.trouble.class(),
            Self::Away { .. } => Class::Unreachable,
            Self::Closed { .. }
            | Self::NotAnchored(_)
            | Self::NoAuthority { .. }
            | Self::Backdates { .. }
            | Self::KeyTypeForbidden { .. }
            | Self::LifetimeOverMaximum { .. }
            | Self::NamesDropped { .. }
            | Self::NoIssuanceMode { .. } => Class::Refused,
            Self::OtherWorkload { .. } => Class::Invalid,
            Self::Lost { .. } => Class::Lost,
            Self::NotFetched { .. } | Self::NoCertificate { .. } => Class::Unknown,
        }
    }

    /// How long the service wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Call(error) => error.retry_after,
            Self::NotFetched { lookup, .. } => lookup.retry_after,
            Self::Closed { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    /// The pool that it is about.
    pub fn pool(&self) -> &CaPoolName {
        match self {
            Self::Call(error) => &error.pool,
            Self::Csr(error) => &error.pool,
            Self::NotAnchored(error) => &error.issuing,
            Self::Away { pool }
            | Self::Closed { pool, .. }
            | Self::NoAuthority { pool }
            | Self::Backdates { pool, .. }
            | Self::KeyTypeForbidden { pool, .. }
            | Self::LifetimeOverMaximum { pool, .. }
            | Self::NamesDropped { pool, .. }
            | Self::OtherWorkload { pool, .. }
            | Self::NoIssuanceMode { pool }
            | Self::Lost { pool, .. }
            | Self::NotFetched { pool, .. }
            | Self::NoCertificate { pool } => pool,
        }
    }
}

/// DNS names are dropped together with the SPIFFE ID: without them there is no certificate either.
fn names_advice(field: &str) -> String {
    match field {
        "dnsNames" => "set it: without it the SPIFFE ID is dropped, too".to_owned(),
        _ => format!("set it, or take {field} out of the Workload"),
    }
}

fn lost(lookup: Option<&CallError>) -> &dyn fmt::Display {
    match lookup {
        Some(error) => error,
        None => &"it keeps no certificates",
    }
}
