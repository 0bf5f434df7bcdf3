//! What a pool says of itself, asked once: the only part that talks to it.
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use certagent_core::{
    algorithm::KeyAlgorithm,
    config::{Config, Settings},
    names::SubjectNames,
    plan::{IssuePlan, workload_id, workload_names},
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm, SubjectMode},
};
use certagent_svid::{Certificate, SpiffeId, TrustDomain};
use futures::join;
use jiff::Timestamp;

use crate::{
    cas::{
        CallError, CasClient,
        authority::CaAnswer,
        wire::{CaPoolAnswer, IssuancePolicy},
    },
    clock::SharedClock,
    google::{Caller, Identity, SubjectToken},
    issuer::cas::{check_form, check_key_type, check_lifetime, check_workload, signs},
    keys::{self, Keys},
};

/// The lifetime that is asked for without a configuration: the guide's.
const USUAL_VALIDITY: Duration = Duration::from_secs(86_400);

/// Namespace and service account of the identity that is asked for where there is no workload.
const STAND_IN: (&str, &str) = ("default", "certagent-inspect");

/// What would be asked of the pool.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Identity, key and lifetime.
    pub(crate) plan: IssuePlan,
    /// The configuration that they follow from. Without one key and lifetime are what the pool
    /// takes.
    pub(crate) paths: Vec<PathBuf>,
    /// Who asks for names beside the SPIFFE ID, and for which.
    pub(crate) named: Named,
}

/// The workloads that ask for names beside the SPIFFE ID, by their SPIFFE IDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Those with a `commonName`.
    pub(super) common_name: Vec<String>,
    /// Those with `dnsNames`.
    pub(super) dns_names: Vec<String>,
}

impl Named {
    fn of(config: &Config) -> Self {
        let who = |asks: fn(&SubjectNames) -> bool| {
            let all = config.workloads.iter().filter(|one| asks(&one.names));
            let ids = all.filter_map(|one| {
                workload_id(&one.trust_domain, &one.namespace, &one.service_account).ok()
            });
            ids.map(|id| id.to_string()).collect()
        };
        Self {
            common_name: who(|names| names.common_name.is_some()),
            dns_names: who(|names| !names.dns_names.is_empty()),
        }
    }
}

impl Wanted {
    /// For a pool that is looked at by itself.
    pub(crate) fn unconfigured(spiffe_id: SpiffeId, subject_mode: SubjectMode) -> Self {
        let plan = IssuePlan {
            spiffe_id,
            algorithm: KeyAlgorithm::EcdsaP256,
            validity: USUAL_VALIDITY,
            rotation_window_percentage: 50,
            subject_mode,
            names: SubjectNames::default(),
        };
        Self {
            plan,
            paths: Vec::new(),
            named: Named::default(),
        }
    }

    /// As the configuration in `paths` wants it: for `spiffe_id`, else the first workload, else an identity in
    /// the trust domain of the settings or the first one with anchors. None if that makes no
    /// identity, which a checked configuration always does.
    pub(crate) fn configured(
        config: &Config,
        paths: &[PathBuf],
        settings: &Settings,
        spiffe_id: Option<&SpiffeId>,
    ) -> Option<Self> {
        let spiffe_id = match (spiffe_id, config.workloads.first()) {
            (Some(given), _) => given.clone(),
            (None, Some(one)) => {
                workload_id(&one.trust_domain, &one.namespace, &one.service_account).ok()?
            }
            (None, None) => {
                let first = config.trust.stores.keys().next();
                Self::stand_in(settings.trust_domain.as_ref().or(first)?)?
            }
        };
        let certificates = &config.certificates;
        let plan = IssuePlan {
            spiffe_id,
            algorithm: certificates.algorithm,
            validity: certificates.validity,
            rotation_window_percentage: certificates.rotation_window_percentage,
            subject_mode: settings.subject_mode.unwrap_or_default(),
            names: names(config),
        };
        Some(Self {
            plan,
            paths: paths.to_vec(),
            named: Named::of(config),
        })
    }

    /// The identity that is asked for where there is no workload.
    pub(crate) fn stand_in(trust_domain: &TrustDomain) -> Option<SpiffeId> {
        let (namespace, service_account) = STAND_IN;
        workload_id(trust_domain, namespace, service_account).ok()
    }

    /// They follow from a configuration.
    pub(crate) fn is_configured(&self) -> bool {
        !self.paths.is_empty()
    }

    /// What is asked of a pool with this policy.
    fn of(&self, policy: Option<&IssuancePolicy>) -> IssuePlan {
        let mut plan = self.plan.clone();
        if let (false, Some(policy)) = (self.is_configured(), policy) {
            let mut all = KeyAlgorithm::ALL.into_iter();
            plan.algorithm = all
                .find(|algorithm| signs(policy, *algorithm))
                .unwrap_or(plan.algorithm);
            let longest = policy.maximum_lifetime.unwrap_or(plan.validity);
            plan.validity = plan.validity.min(longest).max(Duration::from_secs(1));
        }
        plan
    }
}

/// Names of both kinds, as far as any workload asks for them: whether the pool lets them through is
/// one question for all.
fn names(config: &Config) -> SubjectNames {
    let all = || config.workloads.iter().map(|workload| &workload.names);
    let mut dns_names = all().map(|names| &names.dns_names);
    SubjectNames {
        common_name: all().find_map(|names| names.common_name.clone()),
        dns_names: dns_names
            .find(|names| !names.is_empty())
            .cloned()
            .unwrap_or_default(),
    }
}

/// What came out. A part that was not asked for, because it could tell nothing more, is none.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// `GetCaPool`.
    pub(super) pool: Result<CaPoolAnswer, CallError>,
    /// The clocks at that moment.
    pub(super) clocks: Option<Clocks>,
    /// How long that answer took, with the connection.
    pub(super) latency: Duration,
    /// `ListCertificateAuthorities`.
    pub(super) authorities: Option<Result<Vec<CaAnswer>, CallError>>,
    /// `FetchCaCerts`.
    pub(super) chains: Option<Result<Vec<Vec<Certificate>>, CallError>>,
    /// What was, or would have been, asked for.
    pub(super) plan: IssuePlan,
    /// As whom.
    pub(super) asked_as: AskedAs,
    /// `CreateCertificate` with `validateOnly`.
    pub(super) creation: Option<Result<(), Refused>>,
}

/// Who asked, as far as the next steps depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AskedAs {
    /// The file with the workload's own token, where that is exchanged.
    pub(super) token_file: Option<PathBuf>,
    /// The flags that say so.
    pub(super) flags: Vec<(&'static str, String)>,
}

impl AskedAs {
    fn of(client: &CasClient, caller: &Caller) -> Self {
        let token_file = match (client.identity(), caller) {
            (Identity::Reflected(_), Caller::Workload(SubjectToken::File(file))) => {
                Some(file.to_path_buf())
            }
            _ => None,
        };
        Self {
            token_file,
            flags: client.identity().flags(),
        }
    }
}

/// Two clocks, read at the same time as far as that can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clocks {
    /// The service's, in whole seconds.
    pub(super) service: Timestamp,
    /// This machine's before the request.
    pub(super) before: Timestamp,
    /// This machine's after the answer.
    pub(super) after: Timestamp,
}

/// Why a certificate would not be issued.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Refused {
    /// By the service.
    Call(CallError),
    /// By this machine: there is no key to ask for.
    NoKey(String),
    /// By this machine: the token is of another workload.
    OtherWorkload(String),
}

impl Facts {
    /// The chains of the pool's CAs, if they could be had.
    pub(crate) fn chains(&self) -> Option<&[Vec<Certificate>]> {
        self.chains.as_ref()?.as_deref().ok()
    }
}

/// Asks the pool everything. It buys nothing: the one create request is only validated.
pub(crate) async fn gather(
    client: &CasClient,
    pool: &CaPoolName,
    wanted: &Wanted,
    caller: &Caller,
    clock: &SharedClock,
) -> Facts {
    let (before, began) = (clock.now(), Instant::now());
    let reply = client.dated_pool(pool, caller).await;
    let (latency, after) = (began.elapsed(), clock.now());
    let policy = reply.value.as_ref().ok().map(|pool| &pool.issuance_policy);
    let plan = wanted.of(policy);
    let form = policy.map_or(Ok(RequestForm::Config), |policy| {
        check_key_type(&plan, pool, policy)
            .and_then(|()| check_lifetime(&plan, pool, policy))
            .and_then(|()| check_form(pool, policy))
    });
    let goes_on = match &reply.value {
        Ok(_) => true,
        Err(error) => error.missing_permission().is_some(),
    };
    let mut facts = Facts {
        pool: reply.value,
        clocks: reply.date.map(|service| Clocks {
            service,
            before,
            after,
        }),
        latency,
        authorities: None,
        chains: None,
        plan,
        asked_as: AskedAs::of(client, caller),
        creation: None,
    };
    if goes_on {
        let (authorities, chains) = join!(
            client.list_authorities(pool, caller),
            client.fetch_ca_certs(pool, caller)
        );
        (facts.authorities, facts.chains) = (Some(authorities), Some(chains));
        // The pool's own policy has said no already.
        if let Ok(form) = form {
            facts.creation = Some(try_out(client, pool, &facts.plan, form, caller, after).await);
        }
    }
    facts
}

/// Asks whether a certificate would be issued for a key that is thrown away.
async fn try_out(
    client: &CasClient,
    pool: &CaPoolName,
    plan: &IssuePlan,
    form: RequestForm,
    caller: &Caller,
    now: Timestamp,
) -> Result<(), Refused> {
    // An identity made up for the question is nobody's.
    if workload_names(&plan.spiffe_id) != Some(STAND_IN) {
        check_workload(client, plan, pool, caller)
            .map_err(|error| Refused::OtherWorkload(error.to_string()))?;
    }
    let no_key = |error: keys::NewKeyError| Refused::NoKey(error.to_string());
    let key = Keys::default()
        .generate(plan.algorithm)
        .await
        .map_err(no_key)?;
    let csr = keys::csr_pem(plan, &key).map_err(no_key)?;
    let request = PreparedRequest::new(
        plan.clone(),
        pool.clone(),
        form,
        key.public_key(),
        &csr,
        now,
    );
    client
        .validate(&request, caller)
        .await
        .map_err(Refused::Call)
}
