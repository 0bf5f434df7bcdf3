//! Which trust domain a workload belongs to.

use std::collections::BTreeSet;

use certagent_svid::TrustDomain;

use super::Settings;
use super::objects::{FoundWorkload, Reading};
use super::policy::TrustPolicy;
use super::problem::FieldProblem;
use super::report::{Place, Report};
use super::rule::Rule;

/// The trust domain of each workload, in their order; shorter if one is not known.
///
/// First the flag, then the workload itself, then `v1alpha1`'s field, then the only trust store.
/// Each of them must have a trust store. Nothing is reported where an object has errors of its own.
pub(super) fn resolve(reading: &mut Reading<'_>, settings: &Settings) -> Vec<TrustDomain> {
    let Reading {
        report,
        certificates,
        trust,
        workloads,
        ..
    } = reading;
    let Some(trust) = trust.as_ref() else {
        return Vec::new();
    };
    let Some(policy) = trust.policy.as_ref() else {
        return Vec::new();
    };
    let Some(certificates) = certificates.as_ref() else {
        return Vec::new();
    };
    let mut domains = Domains {
        policy,
        stores_place: trust.stores_place,
        general: general(settings, certificates.trust_domain.as_ref(), policy),
        without_store: BTreeSet::new(),
        is_unclear: false,
        report,
    };
    if let Some((domain, origin)) = domains.general.clone() {
        domains.require_store(&domain, origin, None);
    }
    let mut known = Vec::new();
    for found in &*workloads {
        if let Some((domain, origin)) = domains.of(found) {
            domains.require_store(&domain, origin, Some(found));
            known.push(domain);
        }
    }
    known
}

/// Who named a trust domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Flag,
    Workload,
    Certificates(Place),
    OnlyStore,
}

/// The trust domain of workloads that name none.
fn general(
    settings: &Settings,
    from_object: Option<&(TrustDomain, Place)>,
    policy: &TrustPolicy,
) -> Option<(TrustDomain, Origin)> {
    if let Some(flag) = &settings.trust_domain {
        return Some((flag.clone(), Origin::Flag));
    }
    if let Some((domain, place)) = from_object {
        return Some((domain.clone(), Origin::Certificates(*place)));
    }
    let mut stores = policy.stores.keys();
    match (stores.next(), stores.next()) {
        (Some(only), None) => Some((only.clone(), Origin::OnlyStore)),
        _ => None,
    }
}

struct Domains<'r, 's> {
    policy: &'r TrustPolicy,
    stores_place: Place,
    general: Option<(TrustDomain, Origin)>,
    /// What has been reported already, each domain once.
    without_store: BTreeSet<TrustDomain>,
    is_unclear: bool,
    report: &'r mut Report<'s>,
}

impl Domains<'_, '_> {
    fn of(&mut self, found: &FoundWorkload) -> Option<(TrustDomain, Origin)> {
        match (self.general.clone(), found.declared.trust_domain.clone()) {
            (Some((flag, Origin::Flag)), own) => {
                if let Some(own) = own.filter(|own| *own != flag) {
                    let message =
                        format!("{own} is not used: --trust-domain says {flag}, which comes first");
                    self.workload(
                        found,
                        FieldProblem::warning(
                            Rule::TrustDomainConflict,
                            "spec.trustDomain",
                            message,
                        ),
                    );
                }
                Some((flag, Origin::Flag))
            }
            (_, Some(own)) => Some((own, Origin::Workload)),
            (Some(general), None) => Some(general),
            (None, None) => {
                // One answer settles all workloads, so one question is enough.
                if !self.is_unclear {
                    self.is_unclear = true;
                    let message = format!(
                        "it is not clear which trust domain this workload belongs to, as the \
                         TrustConfig has {} of them; name one here, or one for all with \
                         --trust-domain",
                        self.policy.stores.len(),
                    );
                    let problem =
                        FieldProblem::error(Rule::MissingTrustDomain, "spec.trustDomain", message);
                    self.workload(found, problem.allowed(self.known()));
                }
                None
            }
        }
    }

    fn require_store(
        &mut self,
        domain: &TrustDomain,
        origin: Origin,
        found: Option<&FoundWorkload>,
    ) {
        if self.policy.stores.contains_key(domain) || !self.without_store.insert(domain.clone()) {
            return;
        }
        let problem = |field, whose: &str| {
            let message = format!(
                "the workloads' own trust domain {domain}{whose} has no trust store; add one to \
                 the TrustConfig, or correct the name"
            );
            FieldProblem::error(Rule::MissingTrustDomain, field, message).allowed(self.known())
        };
        match (origin, found) {
            (Origin::Workload, Some(found)) => {
                self.workload(found, problem("spec.trustDomain", ""));
            }
            (Origin::Certificates(place), _) => {
                let problem = problem("spec.trustDomain", "");
                self.report
                    .field(place, Some("WorkloadCertificateConfig/default"), problem);
            }
            _ => {
                let problem = problem("spec.trustStores", " (from --trust-domain)");
                self.report
                    .field(self.stores_place, Some("TrustConfig/default"), problem);
            }
        }
    }

    fn workload(&mut self, found: &FoundWorkload, problem: FieldProblem) {
        let object = format!("Workload/{}", found.name);
        self.report
            .field(found.trust_domain_place, Some(&object), problem);
    }

    /// The trust domains that have a store.
    fn known(&self) -> String {
        self.policy
            .stores
            .keys()
            .map(TrustDomain::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }
}
