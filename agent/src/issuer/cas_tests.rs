use std::collections::BTreeMap;

use certagent_core::config::{TrustAnchor, TrustPolicy};
use certagent_emulator::{
    CertificateFault, Code, EcKeyType, EcSignatureAlgorithm, Fault, FaultRule, IssuanceModes,
    IssuancePolicy as EmulatedPolicy, Method, ProtoDuration, RsaKeyType,
};
use futures::future::join_all;
use jiff::SignedDuration;

use super::*;
use crate::{
    cas::lab::{Lab, domain, enterprise, issuing, may_not_look, now, plan, pool, refusal, request},
    clock::ManualClock,
    schedule::Priority,
};

struct Bench {
    lab: Lab,
    clock: ManualClock,
    issuer: CasIssuer,
    bundle: TrustBundle,
}

impl Bench {
    async fn start() -> Self {
        Self::over(Lab::start().await)
    }

    async fn with_policy(policy: EmulatedPolicy) -> Self {
        Self::over(Lab::with_policy(policy).await)
    }

    /// The trust domain trusts the guide's root pool.
    fn over(lab: Lab) -> Self {
        let trust_domain = domain("demo.svc.id.goog");
        let anchors = vec![TrustAnchor::Pool(enterprise())];
        let policy = TrustPolicy {
            stores: BTreeMap::from([(trust_domain.clone(), anchors)]),
        };
        let (_, trust) = watch::channel(Arc::new(Trust::new(&policy)));
        let clock = ManualClock::new(now());
        let shared: SharedClock = Arc::new(clock.clone());
        let limiter = Limiter::new(Arc::clone(&shared), 100, Arc::default());
        let issuer = CasIssuer::new(lab.client.clone(), shared, Arc::new(limiter), trust);
        let bundle = TrustBundle::new(trust_domain, [lab.root("root-pool")]);
        Self {
            lab,
            clock,
            issuer,
            bundle,
        }
    }

    async fn preflight(&self, pool: &CaPoolName) -> Result<Preflight, IssueError> {
        self.issuer
            .preflight(&plan(), pool, &self.bundle, &behalf())
            .await
    }

    async fn refused(&self) -> String {
        let error = self.preflight(&issuing()).await.unwrap_err();
        assert_eq!(
            (error.class(), error.pool()),
            (Class::Refused, &issuing()),
            "{error}"
        );
        assert_eq!(self.lab.emulator.stats().total_sold(), 0);
        error.to_string()
    }

    fn looks(&self) -> u64 {
        let stats = self.lab.emulator.stats();
        assert_eq!(
            stats.requests(Method::GetCaPool),
            stats.requests(Method::FetchCaCerts)
        );
        stats.requests(Method::GetCaPool)
    }
}

#[tokio::test]
async fn the_guides_pools_take_config_and_tell_when_their_ca_ends() {
    let bench = Bench::start().await;
    let found = bench.preflight(&issuing()).await.unwrap();
    assert_eq!(found.form, RequestForm::Config);
    let years = found.ca_until.unwrap().duration_since(now()).as_hours() / 24 / 364;
    assert_eq!(years, 3);
}

#[tokio::test]
async fn a_thousand_that_ask_at_once_cost_one_look_and_the_next_comes_after_5_minutes() {
    let bench = Bench::start().await;
    let issuing = issuing();
    let all = join_all((0..1000).map(|_| bench.preflight(&issuing))).await;
    assert!(all.into_iter().all(|one| one.is_ok()));
    assert_eq!(bench.looks(), 1);
    bench.clock.step(SignedDuration::from_secs(299));
    bench.preflight(&issuing).await.unwrap();
    assert_eq!(bench.looks(), 1);
    bench.clock.step(SignedDuration::from_secs(1));
    bench.preflight(&issuing).await.unwrap();
    assert_eq!(bench.looks(), 2);
    bench.clock.step(SignedDuration::from_hours(-2));
    bench.preflight(&issuing).await.unwrap();
    assert_eq!(bench.looks(), 3);
}

#[tokio::test]
async fn a_failed_look_is_shared_but_not_kept() {
    let bench = Bench::start().await;
    bench.lab.always(Fault::CloseBefore);
    let error = bench.preflight(&issuing()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unknown);
    bench.lab.heal();
    bench.preflight(&issuing()).await.unwrap();
}

#[tokio::test]
async fn what_was_known_of_a_pool_serves_while_it_is_away_but_not_when_it_is_gone() {
    let bench = Bench::start().await;
    let known = bench.preflight(&issuing()).await.unwrap();
    bench.clock.step(SignedDuration::from_hours(1));
    bench.lab.always(Fault::Html { status: 503 });
    assert_eq!(bench.preflight(&issuing()).await.unwrap(), known);
    bench.lab.always(refusal(Code::NotFound, "gone"));
    assert_eq!(
        bench.preflight(&issuing()).await.unwrap_err().class(),
        Class::Refused
    );
}

#[tokio::test]
async fn who_may_not_look_at_the_pool_may_still_ask_it() {
    let bench = Bench::start().await;
    bench.lab.emulator.set_faults(vec![
        FaultRule::always(may_not_look()).on(Method::GetCaPool),
        FaultRule::always(may_not_look()).on(Method::FetchCaCerts),
    ]);
    let found = bench.preflight(&issuing()).await.unwrap();
    assert_eq!(
        found,
        Preflight {
            form: RequestForm::Config,
            ca_until: None
        }
    );
    let (request, _) = request(issuing(), found.form);
    bench.issuer.issue(&request, &behalf()).await.unwrap();
}

#[tokio::test]
async fn a_pool_that_forbids_config_gets_a_csr_and_one_that_forbids_both_gets_nothing() {
    let modes = |csr| EmulatedPolicy {
        allowed_issuance_modes: Some(IssuanceModes {
            allow_csr_based_issuance: csr,
            allow_config_based_issuance: false,
        }),
        ..EmulatedPolicy::default()
    };
    let bench = Bench::with_policy(modes(true)).await;
    let found = bench.preflight(&issuing()).await.unwrap();
    assert_eq!(found.form, RequestForm::PemCsr);
    let (request, _) = request(issuing(), found.form);
    bench.issuer.issue(&request, &behalf()).await.unwrap();

    let bench = Bench::with_policy(modes(false)).await;
    assert!(
        bench
            .refused()
            .await
            .contains("allow config-based issuance")
    );
}

#[tokio::test]
async fn an_issuing_pool_under_no_anchor_is_refused_and_both_pools_are_named() {
    let bench = Bench::over(Lab::with_other_root().await);
    let error = bench.preflight(&pool("other-pool")).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert_eq!(
        error.to_string(),
        "the CA of the issuing pool //privateca.googleapis.com/projects/demo-project/locations/\
         us-central1/caPools/other-pool leads to \"CN=another root CA\", which is no root of the \
         trust domain demo.svc.id.goog; its trustAnchors are: the pool //privateca.googleapis.com/\
         projects/demo-project/locations/us-central1/caPools/root-pool, which has not answered \
         yet. Add the pool that holds the root of //privateca.googleapis.com/projects/demo-project/\
         locations/us-central1/caPools/other-pool to the TrustConfig, or issue from a pool below \
         one of the anchors"
    );
}

#[tokio::test]
async fn a_pool_that_backdates_over_90_percent_of_the_validity_is_refused() {
    let backdating = |seconds| EmulatedPolicy {
        backdate_duration: Some(ProtoDuration(SignedDuration::from_secs(seconds))),
        ..EmulatedPolicy::default()
    };
    let bench = Bench::with_policy(backdating(3241)).await;
    assert!(
        bench
            .refused()
            .await
            .contains("backdates its certificates by 3241s")
    );
    let bench = Bench::with_policy(backdating(3240)).await;
    bench.preflight(&issuing()).await.unwrap();
}

#[tokio::test]
async fn a_validity_over_the_pools_maximum_is_refused_before_a_key_is_made() {
    let bench = Bench::with_policy(EmulatedPolicy {
        maximum_lifetime: Some(ProtoDuration(SignedDuration::from_secs(3599))),
        ..EmulatedPolicy::default()
    })
    .await;
    assert!(bench.refused().await.contains("at most 3599s"));
}

#[tokio::test]
async fn a_key_type_that_the_pool_does_not_sign_is_refused_before_a_key_is_made() {
    use certagent_emulator::AllowedKeyType::{EllipticCurve, Rsa};
    let bench = Bench::with_policy(EmulatedPolicy {
        allowed_key_types: vec![
            Rsa(RsaKeyType {
                min_modulus_size: 3072,
                max_modulus_size: 4096,
            }),
            EllipticCurve(EcKeyType {
                signature_algorithm: EcSignatureAlgorithm::EcdsaP384,
            }),
        ],
        ..EmulatedPolicy::default()
    })
    .await;
    let message = bench.refused().await;
    assert!(
        message.contains("no ecdsa-p256 keys, only RSA of 3072 to 4096 bits, ECDSA_P384"),
        "{message}"
    );
    let fits = async |algorithm| {
        let plan = IssuePlan {
            algorithm,
            ..plan()
        };
        bench
            .issuer
            .preflight(&plan, &issuing(), &bench.bundle, &behalf())
            .await
            .is_ok()
    };
    assert!(fits(KeyAlgorithm::EcdsaP384).await && fits(KeyAlgorithm::Rsa4096).await);
    assert!(!fits(KeyAlgorithm::Rsa2048).await);
}

#[tokio::test]
async fn our_own_certificate_is_adopted_from_an_enterprise_pool() {
    let bench = Bench::start().await;
    let (mut request, _) = request(enterprise(), RequestForm::Config);
    let first = bench.issuer.issue(&request, &behalf()).await.unwrap();
    // As if the service had forgotten the request, but not its certificate.
    request.request_id = "11111111-1111-4111-8111-111111111111".to_owned();
    assert_eq!(
        bench.issuer.issue(&request, &behalf()).await.unwrap(),
        first
    );
    assert_eq!(bench.lab.emulator.stats().total_sold(), 1);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_looked_up_again_is_lost_and_says_why() {
    let bench = Bench::start().await;
    bench.preflight(&issuing()).await.unwrap();
    bench.lab.emulator.set_faults(vec![
        FaultRule::always(refusal(Code::AlreadyExists, "exists")).on(Method::CreateCertificate),
        FaultRule::always(refusal(Code::PermissionDenied, "no")).on(Method::GetCertificate),
    ]);
    for (pool, looked_up, why) in [
        (issuing(), 0, "it keeps no certificates"),
        (enterprise(), 1, "grant it roles/privateca.auditor"),
    ] {
        let (request, _) = request(pool, RequestForm::Config);
        let error = bench.issuer.issue(&request, &behalf()).await.unwrap_err();
        assert_eq!(error.class(), Class::Lost);
        let message = error.to_string();
        assert!(
            message.contains(&request.certificate_id) && message.contains(why),
            "{message}"
        );
        assert_eq!(
            bench.lab.emulator.stats().requests(Method::GetCertificate),
            looked_up
        );
    }
}

#[tokio::test]
async fn a_lookup_that_fails_for_now_leaves_the_request_to_be_sent_again() {
    let bench = Bench::start().await;
    bench.lab.emulator.set_faults(vec![
        FaultRule::next(1, refusal(Code::AlreadyExists, "exists")).on(Method::CreateCertificate),
        FaultRule::next(1, refusal(Code::ResourceExhausted, "busy")).on(Method::GetCertificate),
    ]);
    let (request, _) = request(enterprise(), RequestForm::Config);
    let error = bench.issuer.issue(&request, &behalf()).await.unwrap_err();
    assert!(matches!(error, IssueError::NotFetched { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Unknown);
    bench.issuer.issue(&request, &behalf()).await.unwrap();
    assert_eq!(bench.lab.emulator.stats().total_sold(), 1);
}

#[tokio::test]
async fn an_answer_without_a_certificate_leaves_the_outcome_unknown() {
    let bench = Bench::start().await;
    bench.preflight(&issuing()).await.unwrap();
    bench
        .lab
        .always(Fault::Certificate(CertificateFault::NoCertificate));
    let (request, _) = request(issuing(), RequestForm::Config);
    let error = bench.issuer.issue(&request, &behalf()).await.unwrap_err();
    assert!(
        matches!(error, IssueError::NoCertificate { .. }),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Unknown);
}

fn behalf() -> Behalf {
    Behalf {
        caller: Caller::Agent,
        priority: Priority::New,
        needed_by: None,
        pod: None,
        is_renamed: false,
    }
}
