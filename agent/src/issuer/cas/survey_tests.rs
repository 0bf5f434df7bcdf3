use std::{collections::BTreeMap, sync::Arc};

use certagent_core::config::{TrustAnchor, TrustPolicy};
use certagent_emulator::{ApiError, Code, Fault, FaultRule, IssuanceModes, IssuancePolicy, Method};
use tokio::sync::watch;

use super::*;
use crate::{
    cas::lab::{Lab, domain, enterprise, issuing, may_not_look, now, plan, refusal},
    clock::{ManualClock, SharedClock},
    limit::Limiter,
    trust::Trust,
};

struct Bench {
    lab: Lab,
    issuer: CasIssuer,
    bundle: TrustBundle,
}

impl Bench {
    async fn start() -> Self {
        Self::over(Lab::start().await)
    }

    fn over(lab: Lab) -> Self {
        let trust_domain = domain("demo.svc.id.goog");
        let anchors = vec![TrustAnchor::Pool(enterprise())];
        let policy = TrustPolicy {
            stores: BTreeMap::from([(trust_domain.clone(), anchors)]),
        };
        let (_, trust) = watch::channel(Arc::new(Trust::new(&policy)));
        let clock: SharedClock = Arc::new(ManualClock::new(now()));
        let limiter = Limiter::new(Arc::clone(&clock), 100, Arc::default());
        let issuer = CasIssuer::new(lab.client.clone(), clock, Arc::new(limiter), trust);
        let bundle = TrustBundle::new(trust_domain, [lab.root("root-pool")]);
        Self {
            lab,
            issuer,
            bundle,
        }
    }

    async fn survey(&self, plan: &IssuePlan) -> Result<Survey, IssueError> {
        let survey = self.issuer.survey(plan, &issuing(), &self.bundle).await;
        assert_eq!(self.lab.emulator.stats().total_sold(), 0);
        survey
    }
}

fn may_not_create() -> Fault {
    let resource = issuing().resource_name();
    Fault::error(ApiError::permission_denied(
        "privateca.certificates.create",
        &resource,
    ))
}

#[tokio::test]
async fn the_guides_pool_would_issue_and_nothing_is_bought_to_know() {
    let bench = Bench::start().await;
    let survey = bench.survey(&plan()).await.unwrap();
    assert_eq!(survey.preflight.form, RequestForm::Config);
    assert_eq!(survey.doubts, []);
}

#[tokio::test]
async fn a_permission_to_create_that_is_missing_is_found_before_a_pod_needs_it() {
    let bench = Bench::start().await;
    bench.lab.emulator.set_faults(vec![
        FaultRule::always(may_not_create()).on(Method::CreateCertificate),
    ]);
    let error = bench.survey(&plan()).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    let text = error.to_string();
    assert!(text.contains("privateca.certificates.create"), "{text}");
    assert!(text.contains("roles/privateca."), "{text}");
}

#[tokio::test]
async fn a_pool_that_may_not_be_looked_at_is_doubted_and_still_issues() {
    let bench = Bench::start().await;
    bench.lab.emulator.set_faults(vec![
        FaultRule::always(may_not_look()).on(Method::GetCaPool),
    ]);
    let doubts = bench.survey(&plan()).await.unwrap().doubts;
    let [Doubt::NotSeen(error)] = doubts.as_slice() else {
        panic!("{doubts:?}");
    };
    assert_eq!(error.class, Class::Denied);
    assert!(doubts[0].to_string().contains("privateca.caPools.get"));
}

#[tokio::test]
async fn a_ca_with_a_key_of_another_family_is_named() {
    let bench = Bench::start().await;
    let plan = IssuePlan {
        algorithm: KeyAlgorithm::Rsa2048,
        ..plan()
    };
    let doubts = bench.survey(&plan).await.unwrap().doubts;
    let [doubt @ Doubt::KeyFamily { .. }] = doubts.as_slice() else {
        panic!("{doubts:?}");
    };
    let text = doubt.to_string();
    assert!(text.contains("ECDSA P-256"), "{text}");
    assert!(text.contains("keyAlgorithm asks for rsa-2048"), "{text}");
}

#[tokio::test]
async fn a_pool_without_quota_is_only_doubted_and_one_that_is_away_would_not_issue() {
    let bench = Bench::start().await;
    let busy = refusal(Code::ResourceExhausted, "quota");
    bench
        .lab
        .emulator
        .set_faults(vec![FaultRule::always(busy).on(Method::CreateCertificate)]);
    let doubts = bench.survey(&plan()).await.unwrap().doubts;
    assert!(matches!(doubts.as_slice(), [Doubt::Busy(_)]), "{doubts:?}");
    // What was known of it does not make it answer.
    bench.lab.always(Fault::CloseBefore);
    let error = bench.survey(&plan()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unknown);
}

#[tokio::test]
async fn a_pool_that_takes_only_csrs_is_told_by_its_form() {
    let policy = IssuancePolicy {
        allowed_issuance_modes: Some(IssuanceModes {
            allow_csr_based_issuance: true,
            allow_config_based_issuance: false,
        }),
        ..IssuancePolicy::default()
    };
    let bench = Bench::over(Lab::with_policy(policy).await);
    let survey = bench.survey(&plan()).await.unwrap();
    assert_eq!(survey.preflight.form, RequestForm::PemCsr);
}
