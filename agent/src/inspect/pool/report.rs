//! What an inspection of a pool looks at, and what it learns.
use std::time::Duration;

use certagent_core::plan::IssuePlan;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    super::{
        report::{self, CheckName, Subject},
        roots::Root,
    },
    facts::Wanted,
    text,
};

/// A CA pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool;

/// The outcome of inspecting a pool.
pub(crate) type Report = report::Report<Pool>;

/// A check of a pool.
pub(super) type Check = report::Check<CheckId>;

impl Subject for Pool {
    type Id = CheckId;
    type Evidence = Evidence;

    const NAME: &'static str = "pool";

    fn summary(report: &Report) -> String {
        text::summary(report)
    }

    fn unseen(id: CheckId) -> Option<&'static str> {
        text::unseen(id)
    }

    fn evidence(report: &Report) -> Vec<(&'static str, String)> {
        text::evidence(report)
    }
}

/// The checks, in the order in which they depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckId {
    /// CA Service answers at the endpoint.
    Endpoint,
    /// Its clock and this machine's agree.
    Clock,
    /// It knows who asks.
    Identity,
    /// The pool is there, and may be looked at.
    Pool,
    /// At least one CA of the pool issues.
    Authorities,
    /// A CA that issues lasts longer than what it will sign.
    AuthoritiesValidity,
    /// The pool gives its roots, all of them CA certificates.
    Roots,
    /// The roots stay valid for a while.
    RootsValidity,
    /// The pool signs the kind of key.
    KeyType,
    /// Keys and CAs are of one family.
    KeyFamily,
    /// The pool issues for so long.
    Lifetime,
    /// Backdating leaves enough of the lifetime.
    Backdating,
    /// The pool takes config-based requests.
    Issuance,
    /// The pool takes the SPIFFE ID over.
    Names,
    /// The pool's key usages are those of an X.509-SVID.
    Usages,
    /// The pool's CAs lead to a trust anchor of the configuration.
    Anchored,
    /// The identity in use may create certificates, and the pool would issue.
    MayCreate,
}

impl CheckName for CheckId {
    const ALL: &'static [Self] = &[
        Self::Endpoint,
        Self::Clock,
        Self::Identity,
        Self::Pool,
        Self::Authorities,
        Self::AuthoritiesValidity,
        Self::Roots,
        Self::RootsValidity,
        Self::KeyType,
        Self::KeyFamily,
        Self::Lifetime,
        Self::Backdating,
        Self::Issuance,
        Self::Names,
        Self::Usages,
        Self::Anchored,
        Self::MayCreate,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Clock => "clock",
            Self::Identity => "identity",
            Self::Pool => "pool",
            Self::Authorities => "authorities",
            Self::AuthoritiesValidity => "authorities-validity",
            Self::Roots => "roots",
            Self::RootsValidity => "roots-validity",
            Self::KeyType => "key-type",
            Self::KeyFamily => "key-family",
            Self::Lifetime => "lifetime",
            Self::Backdating => "backdating",
            Self::Issuance => "issuance",
            Self::Names => "names",
            Self::Usages => "usages",
            Self::Anchored => "anchored",
            Self::MayCreate => "may-create",
        }
    }

    fn needs(self) -> &'static [Self] {
        match self {
            Self::Endpoint => &[],
            Self::Clock | Self::Identity => &[Self::Endpoint],
            Self::Pool => &[Self::Endpoint, Self::Identity],
            Self::AuthoritiesValidity | Self::KeyFamily => &[
                Self::Endpoint,
                Self::Identity,
                Self::Pool,
                Self::Authorities,
            ],
            Self::RootsValidity | Self::Anchored => {
                &[Self::Endpoint, Self::Identity, Self::Pool, Self::Roots]
            }
            Self::MayCreate => &[
                Self::Endpoint,
                Self::Identity,
                Self::Pool,
                Self::Authorities,
                Self::KeyType,
                Self::Lifetime,
                Self::Issuance,
            ],
            _ => &[Self::Endpoint, Self::Identity, Self::Pool],
        }
    }
}

/// What is known of the pool, whatever the verdict.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence {
    pub(super) endpoint: String,
    /// The service says so; none if it did not say.
    pub(super) exists: Option<bool>,
    pub(super) tier: Option<&'static str>,
    pub(super) policy: Option<Policy>,
    pub(super) asked: Asked,
    pub(super) authorities: Vec<Authority>,
    pub(super) roots: Vec<Root>,
    pub(super) service_time: Option<Timestamp>,
    /// Positive when this machine's clock is ahead.
    pub(super) clock_ahead_seconds: Option<i64>,
    /// Of the first answer, with the connection. Nothing follows from it.
    pub(super) latency_milliseconds: Option<u64>,
    /// The identity in use may create certificates here; none if that was not told.
    pub(super) may_create: Option<bool>,
}

/// What the pool issues.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    /// For people; none if every kind is signed.
    pub(super) key_types: Option<String>,
    pub(super) maximum_lifetime_seconds: Option<u64>,
    pub(super) backdate_seconds: Option<u64>,
    pub(super) config_based_issuance: bool,
    pub(super) csr_based_issuance: bool,
    #[serde(flatten)]
    pub(super) names: Passthrough,
    /// The rule that names must fulfil.
    pub(super) cel_expression: Option<String>,
    /// The asked extensions that are taken over; none if all are.
    pub(super) passthrough_extensions: Option<Vec<String>>,
}

/// Which names the pool takes over.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Passthrough {
    /// A common name.
    pub(super) subject_passthrough: bool,
    /// DNS names, and the SPIFFE ID.
    pub(super) subject_alt_names_passthrough: bool,
}

/// What the pool was asked whether it would issue.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    pub(super) spiffe_id: String,
    pub(super) key_algorithm: &'static str,
    pub(super) validity_seconds: u64,
    /// It follows from a configuration.
    pub(super) is_configured: bool,
    /// The SPIFFE IDs of those that ask for a `commonName` besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) common_name_for: Vec<String>,
    /// The SPIFFE IDs of those that ask for `dnsNames` besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) dns_names_for: Vec<String>,
}

impl Asked {
    pub(super) fn of(plan: &IssuePlan, wanted: &Wanted) -> Self {
        Self {
            spiffe_id: plan.spiffe_id.to_string(),
            key_algorithm: plan.algorithm.as_str(),
            validity_seconds: plan.validity.as_secs(),
            is_configured: wanted.is_configured(),
            common_name_for: wanted.named.common_name.clone(),
            dns_names_for: wanted.named.dns_names.clone(),
        }
    }

    pub(super) fn validity(&self) -> Duration {
        Duration::from_secs(self.validity_seconds)
    }
}

/// A CA of the pool.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authority {
    /// The last part of its name.
    pub(super) id: String,
    pub(super) state: &'static str,
    pub(super) is_root: bool,
    /// As the service names it, else what its certificate says.
    pub(super) key_algorithm: String,
    /// None before activation.
    pub(super) subject: Option<String>,
    pub(super) not_after: Option<Timestamp>,
    pub(super) create_time: Option<Timestamp>,
}
