//! The same over HTTP, against the emulator.
use std::sync::Arc;

use certagent_core::{algorithm::KeyAlgorithm, pool::CaPoolName, request::SubjectMode};
use certagent_emulator::{
    AllowedKeyType, ApiError, CaKey, Code, Fault, FaultRule, IssuanceModes, IssuancePolicy, Method,
    ProtoDuration, RsaKeyType,
};
use jiff::SignedDuration;

use super::{
    super::{
        Verdict,
        lab::{Site, guide},
    },
    Report, Wanted, inspect,
    report::CheckId,
};
use crate::{
    cas::{
        CasClient, Roots,
        lab::{enterprise, issuing, plan, pool},
    },
    google::{Caller, Exchange, ExchangeOptions, Identity, SubjectToken},
};

impl Site {
    async fn inspect(&self, pool: &CaPoolName, wanted: &Wanted) -> Report {
        let report = inspect(&self.client, pool, wanted, &Caller::Agent, &self.clock()).await;
        self.assert_unsold();
        report
    }

    /// The verdict on the issuing pool.
    async fn expect(&self, wanted: &Wanted, verdict: Verdict, cause: CheckId, detail: &str) {
        let report = self.inspect(&issuing(), wanted).await;
        let (found, told) = report
            .cause()
            .unwrap_or_else(|| panic!("{}", report.to_text()));
        let text = report.to_text();
        assert_eq!((report.verdict(), found), (verdict, cause), "{text}");
        assert!(told.contains(detail), "no \"{detail}\" in: {told}");
    }
}

/// One hour for an ECDSA key, as a configuration asks for it.
fn wanted() -> Wanted {
    Wanted {
        plan: plan(),
        paths: vec!["/etc/certagent".into()],
        named: super::facts::Named::default(),
    }
}

/// As nobody asks for it: what the pool takes.
fn anything() -> Wanted {
    Wanted::unconfigured(plan().spiffe_id, SubjectMode::Default)
}

fn seconds(seconds: i64) -> ProtoDuration {
    ProtoDuration(SignedDuration::from_secs(seconds))
}

#[tokio::test]
async fn the_guides_pools_would_issue_and_nothing_is_bought() {
    let site = Site::start().await;
    for (pool, tier) in [(issuing(), "DEVOPS"), (enterprise(), "ENTERPRISE")] {
        for wanted in [wanted(), anything()] {
            let report = site.inspect(&pool, &wanted).await;
            assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
            assert_eq!(report.evidence.tier, Some(tier));
            assert_eq!(report.evidence.roots.len(), 1);
            assert_eq!(report.evidence.authorities.len(), 1);
            assert_eq!(report.evidence.may_create, Some(true));
        }
    }
    let asked = site.emulator.create_requests();
    assert_eq!(asked.len(), 4);
    assert!(
        asked
            .iter()
            .all(|one| one.query.contains("validateOnly=true"))
    );
}

#[tokio::test]
async fn a_pool_that_is_not_there_is_named() {
    let site = Site::start().await;
    let report = site.inspect(&pool("nope"), &anything()).await;
    let text = report.to_text();
    assert_eq!(report.exit_code(), 1, "{text}");
    assert!(
        text.starts_with("PROBLEM: there is no such pool\n"),
        "{text}"
    );
    assert!(text.contains("caPools/nope"), "{text}");
    let asked = |method| site.emulator.stats().requests(method);
    assert_eq!(asked(Method::GetCaPool), 1);
    assert_eq!(asked(Method::FetchCaCerts), 0, "the rest tells nothing");
}

#[tokio::test]
async fn what_the_policy_refuses_is_told_before_anything_is_asked_for() {
    let rsa = AllowedKeyType::Rsa(RsaKeyType {
        min_modulus_size: 2048,
        max_modulus_size: 0,
    });
    let rsa = IssuancePolicy {
        allowed_key_types: vec![rsa],
        ..IssuancePolicy::default()
    };
    let short = IssuancePolicy {
        maximum_lifetime: Some(seconds(600)),
        ..IssuancePolicy::default()
    };
    let old = IssuancePolicy {
        backdate_duration: Some(seconds(3500)),
        ..IssuancePolicy::default()
    };
    for (policy, cause, detail) in [
        (rsa, CheckId::KeyType, "signs no ecdsa-p256 keys"),
        (short, CheckId::Lifetime, "at most 600s"),
        (old, CheckId::Backdating, "backdates"),
    ] {
        let site = Site::with_policy(policy).await;
        site.expect(&wanted(), Verdict::Problem, cause, detail)
            .await;
        // Without a configuration it asks for what the pool takes.
        if cause != CheckId::Backdating {
            let report = site.inspect(&issuing(), &anything()).await;
            assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
        }
    }
}

#[tokio::test]
async fn a_pool_for_csrs_only_is_asked_with_a_csr() {
    let csr_only = IssuancePolicy {
        allowed_issuance_modes: Some(IssuanceModes {
            allow_csr_based_issuance: true,
            allow_config_based_issuance: false,
        }),
        ..IssuancePolicy::default()
    };
    let site = Site::with_policy(csr_only).await;
    let (verdict, cause) = (Verdict::Warning, CheckId::Issuance);
    site.expect(&wanted(), verdict, cause, "CSRs only").await;
}

#[tokio::test]
async fn a_ca_that_was_disabled_issues_nothing() {
    let site = Site::start().await;
    site.disable(&issuing()).await;
    let (verdict, cause) = (Verdict::Problem, CheckId::Authorities);
    site.expect(&wanted(), verdict, cause, "is DISABLED").await;
}

#[tokio::test]
async fn who_may_not_list_the_cas_still_learns_whether_the_pool_would_issue() {
    let site = Site::start().await;
    let denied = ApiError::permission_denied(
        "privateca.certificateAuthorities.list",
        &issuing().resource_name(),
    );
    let rule = FaultRule::always(Fault::error(denied)).on(Method::ListCertificateAuthorities);
    site.emulator.set_faults(vec![rule]);
    let report = site.inspect(&issuing(), &wanted()).await;
    let text = report.to_text();
    assert_eq!(report.verdict(), Verdict::Healthy, "{text}");
    assert!(text.contains("roles/privateca.auditor"), "{text}");
}

#[tokio::test]
async fn workloads_and_cas_of_two_families_are_flagged() {
    let site = Site::with(guide().with_ca_key(CaKey::Rsa2048)).await;
    let (verdict, cause) = (Verdict::Warning, CheckId::KeyFamily);
    site.expect(&wanted(), verdict, cause, "has RSA_PKCS1_2048_SHA256")
        .await;
    let mut rsa = wanted();
    rsa.plan.algorithm = KeyAlgorithm::Rsa2048;
    let report = site.inspect(&issuing(), &rsa).await;
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
}

#[tokio::test]
async fn each_missing_permission_is_named_with_its_role() {
    let site = Site::start().await;
    let denied = |permission| {
        let resource = issuing().resource_name();
        Fault::error(ApiError::permission_denied(permission, &resource))
    };
    for (method, permission, verdict, cause, role) in [
        (
            Method::GetCaPool,
            "privateca.caPools.get",
            Verdict::Warning,
            CheckId::Pool,
            "roles/privateca.poolReader",
        ),
        (
            Method::CreateCertificate,
            "privateca.certificates.create",
            Verdict::Problem,
            CheckId::MayCreate,
            "roles/privateca.certificateRequester",
        ),
    ] {
        let rule = FaultRule::always(denied(permission)).on(method);
        site.emulator.set_faults(vec![rule]);
        site.expect(&wanted(), verdict, cause, permission).await;
        site.expect(&wanted(), verdict, cause, role).await;
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_unknown_and_never_healthy() {
    let site = Site::start().await;
    for (fault, cause) in [
        (Fault::Html { status: 200 }, CheckId::Endpoint),
        (Fault::Html { status: 503 }, CheckId::Endpoint),
        (Fault::HugeBody { bytes: 2_000_000 }, CheckId::Endpoint),
        (Fault::CloseBefore, CheckId::Endpoint),
        (
            Fault::error(ApiError::new(Code::Unavailable, "later")),
            CheckId::Pool,
        ),
        (
            Fault::error(ApiError::new(Code::ResourceExhausted, "quota")),
            CheckId::Pool,
        ),
    ] {
        site.emulator
            .set_faults(vec![FaultRule::always(fault.clone())]);
        site.expect(&wanted(), Verdict::Unknown, cause, "").await;
        let rule = FaultRule::always(fault).on(Method::CreateCertificate);
        site.emulator.set_faults(vec![rule]);
        site.expect(&wanted(), Verdict::Unknown, CheckId::MayCreate, "")
            .await;
    }
    let site = site.gone();
    let (verdict, cause) = (Verdict::Unknown, CheckId::Endpoint);
    site.expect(&wanted(), verdict, cause, "nothing was sent")
        .await;
}

#[tokio::test]
async fn the_clocks_are_compared_by_the_date_of_the_answer() {
    let site = Site::start().await;
    for (step, verdict) in [
        (30, Some(Verdict::Warning)),
        (600, Some(Verdict::Problem)),
        (-630, None),
        (-30, Some(Verdict::Warning)),
        (-600, Some(Verdict::Problem)),
    ] {
        site.clock.step(SignedDuration::from_secs(step));
        if let Some(verdict) = verdict {
            site.expect(&wanted(), verdict, CheckId::Clock, "clock is")
                .await;
        } else {
            let report = site.inspect(&issuing(), &wanted()).await;
            assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
        }
    }
}

#[tokio::test]
async fn a_hostile_service_neither_steers_a_terminal_nor_fills_it() {
    let site = Site::start().await;
    let text = format!("\u{1b}[2J\u{202e}\r\n{}", "x".repeat(100_000));
    for method in [
        Method::GetCaPool,
        Method::CreateCertificate,
        Method::FetchCaCerts,
    ] {
        for code in [
            Code::InvalidArgument,
            Code::PermissionDenied,
            Code::NotFound,
        ] {
            let fault = Fault::error(ApiError::new(code, &text));
            let rule = FaultRule::always(fault).on(method);
            site.emulator.set_faults(vec![rule]);
            let report = site.inspect(&issuing(), &wanted()).await;
            let text = report.to_text();
            assert!(text.len() < 6000, "{text}");
            assert!(
                text.chars().all(|c| c == '\n' || !c.is_control()),
                "{text:?}"
            );
            assert!(!text.contains('\u{202e}'), "{text:?}");
        }
    }
}

#[tokio::test]
async fn a_workload_whose_token_has_ended_is_led_to_its_token_and_asks_again_as_itself() {
    let site = Site::start().await;
    let file = tempfile::Builder::new()
        .prefix("a token ")
        .tempfile()
        .unwrap();
    // {"iss":"https://issuer.example","sub":"system:serviceaccount:default:web","exp":1700000000}
    let claims = "eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50OmRlZmF1bHQ6d2ViIiwiZXhwIjoxNzAwMDAwMDAwfQ";
    std::fs::write(file.path(), format!("eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln")).unwrap();
    let options = ExchangeOptions {
        sts: "http://127.0.0.1:1".parse().unwrap(),
        audience:
            "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
                .parse()
                .unwrap(),
        impersonate: None,
    };
    let exchange =
        Exchange::new(&options, &Roots::none(), site.clock(), Arc::new(Vec::new)).unwrap();
    let client = CasClient::new(site.client.endpoint(), Identity::Reflected(exchange)).unwrap();
    let caller = Caller::Workload(SubjectToken::File(file.path().into()));
    let report = inspect(&client, &issuing(), &wanted(), &caller, &site.clock()).await;
    let text = report.to_text();
    assert_eq!(report.cause().unwrap().0, CheckId::Identity, "{text}");
    let (name, endpoint) = (file.path().display(), client.endpoint());
    for part in [
        "CA Service is not asked without an access token".to_owned(),
        format!("ls -lL --full-time '{name}'; date -u"),
        format!("{{iss, sub, aud, exp: (.exp | todate)}}' '{name}'"),
        format!(
            "--ca-endpoint {endpoint} --identity reflected --sts-audience {} --sts-endpoint \
             http://127.0.0.1:1 --token-file '{name}'",
            options.audience
        ),
    ] {
        assert!(text.contains(&part), "no {part:?} in {text}");
    }
    for part in ["GOOGLE_APPLICATION_CREDENTIALS", "metadata.google", claims] {
        assert!(!text.contains(part), "{part} in {text}");
    }
}
