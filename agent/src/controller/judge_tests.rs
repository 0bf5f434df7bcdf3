use std::{sync::Arc, time::Duration};

use certagent_core::{
    algorithm::KeyAlgorithm,
    conditions::{READY, WARNING},
    config::{Rule, Severity, TrustAnchor},
};
use certagent_svid::PublicKeyKind;

use super::*;
use crate::{
    cas::{
        Call, CallError, Reason,
        lab::{domain, enterprise, issuing, now, pool},
    },
    google::{IdentityError, Shown},
    issuer::{NotAnchored, Preflight, cas::Doubt},
    trust::{
        SourceError,
        endpoint::{EndpointError, EndpointReason},
        lab::{config, root},
    },
};

fn object(in_force: InForce, rules: &[(Severity, Rule)]) -> JudgedObject {
    let problem = |(severity, rule): &(Severity, Rule)| Problem {
        severity: *severity,
        rule: *rule,
        file: String::new(),
        line: 0,
        column: 0,
        object: None,
        field: Some("spec.field".to_owned()),
        message: "it is wrong".to_owned(),
        allowed: None,
    };
    JudgedObject {
        uid: "uid".to_owned(),
        generation: 4,
        problems: rules.iter().map(problem).collect(),
        in_force,
    }
}

fn state(objects: impl IntoIterator<Item = (Kind, JudgedObject)>) -> ClusterState {
    ClusterState {
        objects: objects.into_iter().collect(),
        ..ClusterState::default()
    }
}

fn not_ready(kind: Kind, state: &ClusterState) -> Statement {
    match by_rules(kind, state) {
        Some(Ruled::NotReady(said)) => said.into_iter().find(|one| one.r#type == READY).unwrap(),
        _ => panic!("{state:?}"),
    }
}

fn assert_documented(reason: &str) {
    let documented = include_str!("../../../docs/conditions.md");
    assert!(documented.contains(&format!("`{reason}`")), "{reason}");
}

#[test]
fn a_broken_object_says_what_is_broken_and_the_other_one_that_it_waits() {
    let broken = object(
        InForce::Generation(3),
        &[(Severity::Error, Rule::InvalidValidity)],
    );
    let good = object(InForce::This, &[]);
    let both = state([(Kind::Certificates, broken), (Kind::Trust, good)]);
    let own = not_ready(Kind::Certificates, &both);
    assert_eq!(
        (own.reason, own.observed_generation),
        ("InvalidValidity", 4)
    );
    assert!(
        own.message.contains("spec.field: it is wrong"),
        "{}",
        own.message
    );
    assert!(
        own.message.ends_with("generation 3 stays in force"),
        "{}",
        own.message
    );
    let other = not_ready(Kind::Trust, &both);
    assert_eq!(other.reason, "WorkloadCertificateConfigNotReady");
    assert!(
        other.message.ends_with("stays in force as it is"),
        "{}",
        other.message
    );
}

#[test]
fn an_object_without_the_other_one_says_so() {
    let alone = state([(Kind::Certificates, object(InForce::Nothing, &[]))]);
    let said = not_ready(Kind::Certificates, &alone);
    assert_eq!(said.reason, "TrustConfigNotReady");
    assert!(
        said.message.starts_with("there is no TrustConfig"),
        "{}",
        said.message
    );
    assert!(
        said.message.ends_with("no certificates are issued"),
        "{}",
        said.message
    );
    assert!(by_rules(Kind::Trust, &alone).is_none());
}

#[test]
fn a_warning_of_the_rules_does_not_make_an_object_unready() {
    let rules = [(Severity::Warning, Rule::RotationWindowShort)];
    let both = state(Kind::ALL.map(|kind| (kind, object(InForce::This, &rules))));
    let Some(Ruled::Good(warnings)) = by_rules(Kind::Certificates, &both) else {
        panic!("not ready");
    };
    let doubt = Doubt::KeyFamily {
        pool: issuing(),
        authority: PublicKeyKind::EcP256,
        algorithm: KeyAlgorithm::Rsa4096,
    };
    let said = certificates(4, warnings, &[(issuing(), issues(vec![doubt]))]);
    let find = |r#type| said.iter().find(|one| one.r#type == r#type).unwrap();
    assert_eq!(find(READY).message, "WorkloadCertificateConfig is ready");
    let warning = find(WARNING);
    assert_eq!(warning.reason, "RotationWindowShort");
    assert_eq!(warning.message.lines().count(), 2, "{}", warning.message);
    assert_eq!(said.len(), 2);
}

fn issues(doubts: Vec<Doubt>) -> Look {
    Look::Issues(Survey {
        preflight: Preflight {
            form: RequestForm::Config,
            ca_until: None,
        },
        doubts,
    })
}

fn call(reason: Reason) -> CallError {
    CallError::new(Call::GetCaPool, &issuing(), reason, None)
}

fn answer(http: u16, status: &str) -> CallError {
    call(Reason::Answer {
        http,
        status: Some(status.to_owned()),
        message: String::new(),
        permission: None,
    })
}

fn no_connection() -> CallError {
    call(Reason::NotConnected {
        endpoint: "https://ca".to_owned(),
        detail: "refused".to_owned(),
    })
}

fn stranger() -> CallError {
    call(Reason::Unauthenticated {
        shown: Shown::Nobody,
        message: String::new(),
    })
}

fn no_token() -> CallError {
    call(Reason::NoToken(IdentityError::permanent("none".to_owned())))
}

/// Every way in which a pool would not issue, and the reason that stands for it.
fn refusals() -> Vec<(IssueError, &'static str)> {
    let pool = issuing();
    let hour = Duration::from_secs(3600);
    let not_anchored = NotAnchored {
        issuing: pool.clone(),
        roots: "\"CN=x\"".to_owned(),
        trust_domain: domain("a.example"),
        anchors: format!("the pool {}", enterprise()),
    };
    vec![
        (answer(403, "PERMISSION_DENIED").into(), "PermissionDenied"),
        (stranger().into(), "Unauthenticated"),
        (no_token().into(), "NoCredentials"),
        (answer(404, "NOT_FOUND").into(), "PoolNotFound"),
        (answer(429, "RESOURCE_EXHAUSTED").into(), "PoolBusy"),
        (answer(503, "UNAVAILABLE").into(), "PoolUnreachable"),
        (no_connection().into(), "PoolUnreachable"),
        (answer(400, "INVALID_ARGUMENT").into(), "PoolRefuses"),
        (
            IssueError::Closed {
                pool: pool.clone(),
                wait: hour,
            },
            "PoolBusy",
        ),
        (IssueError::Away { pool: pool.clone() }, "PoolUnreachable"),
        (
            IssueError::NotAnchored(Box::new(not_anchored)),
            "IssuerNotTrusted",
        ),
        (
            IssueError::NoAuthority { pool: pool.clone() },
            "PoolHasNoAuthority",
        ),
        (
            IssueError::Backdates {
                pool: pool.clone(),
                backdate: hour,
                validity: hour,
            },
            "PoolBackdatesTooMuch",
        ),
        (
            IssueError::KeyTypeForbidden {
                pool: pool.clone(),
                algorithm: KeyAlgorithm::Rsa2048,
                allowed: "RSA".to_owned(),
            },
            "PoolForbidsKeyAlgorithm",
        ),
        (
            IssueError::LifetimeOverMaximum {
                pool: pool.clone(),
                maximum: hour,
                validity: hour,
            },
            "PoolForbidsValidity",
        ),
        (
            IssueError::NoIssuanceMode { pool },
            "PoolForbidsConfigIssuance",
        ),
    ]
}

#[test]
fn every_way_in_which_the_only_pool_would_not_issue_has_its_reason_and_names_the_pool() {
    for (error, reason) in refusals() {
        assert_documented(reason);
        let said = certificates(7, Vec::new(), &[(issuing(), Look::Refuses(error))]);
        let [only] = said.as_slice() else {
            panic!("{said:?}");
        };
        assert_eq!((only.r#type, only.status), (READY, Status::False));
        assert_eq!(
            (only.reason, only.observed_generation),
            (reason, 7),
            "{only:?}"
        );
        assert!(only.message.contains("caPools/issuing-pool"), "{only:?}");
    }
    let (untrusted, _) = refusals().swap_remove(10);
    assert!(
        untrusted.to_string().contains("caPools/root-pool"),
        "both pools are named"
    );
    let (denied, _) = refusals().swap_remove(0);
    let denied = denied.to_string();
    assert!(denied.contains("privateca.caPools.get"), "{denied}");
    assert!(denied.contains("roles/privateca."), "{denied}");
}

#[test]
fn a_pool_that_takes_only_csrs_is_of_no_use() {
    let survey = Survey {
        preflight: Preflight {
            form: RequestForm::PemCsr,
            ca_until: None,
        },
        doubts: Vec::new(),
    };
    let said = certificates(7, Vec::new(), &[(issuing(), Look::Issues(survey))]);
    assert_eq!(said[0].reason, "PoolForbidsConfigIssuance");
    assert!(said[0].message.contains("allowedIssuanceModes"), "{said:?}");
}

#[test]
fn without_roots_the_trust_config_is_to_blame() {
    let look = Look::NoRoots("no root is known".to_owned());
    let said = certificates(7, Vec::new(), &[(issuing(), look)]);
    assert_eq!((said[0].reason, said.len()), ("TrustConfigNotReady", 1));
}

#[test]
fn one_pool_that_issues_is_enough_and_the_others_are_the_warning() {
    let away = Look::Refuses(IssueError::Away { pool: issuing() });
    let looks = [
        (issuing(), away.clone()),
        (pool("second"), issues(Vec::new())),
    ];
    let said = certificates(7, Vec::new(), &looks);
    assert_eq!(said[0], Statement::ready("WorkloadCertificateConfig", 7));
    assert_eq!(
        (said[1].r#type, said[1].reason),
        (WARNING, "PoolUnreachable")
    );
    let looks = [(issuing(), away.clone()), (pool("second"), away)];
    let said = certificates(7, Vec::new(), &looks);
    assert_eq!((said.len(), said[0].reason), (1, "PoolUnreachable"));
    assert_eq!(said[0].message.lines().count(), 2, "both are told");
}

#[test]
fn doubts_have_reasons_too() {
    let denied = answer(403, "PERMISSION_DENIED");
    for (doubt, reason) in [
        (Doubt::NotSeen(denied), "PermissionDenied"),
        (Doubt::Busy(answer(429, "RESOURCE_EXHAUSTED")), "PoolBusy"),
    ] {
        let said = certificates(7, Vec::new(), &[(issuing(), issues(vec![doubt]))]);
        assert_eq!((said[0].status, said[1].reason), (Status::True, reason));
    }
}

/// Trust that has asked its one anchor, a pool, and heard this.
fn failing(error: SourceError, others: &[TrustAnchor]) -> (TrustPolicy, Trust) {
    let mut anchors = vec![TrustAnchor::Pool(enterprise())];
    anchors.extend_from_slice(others);
    let policy = config(&[("a.example", &anchors)]).trust;
    let trust = Trust::after_failure(&policy, &SourceName::Pool(enterprise()), error, now());
    (policy, trust)
}

#[test]
fn every_way_in_which_an_anchor_fails_has_its_reason_and_names_the_trust_domain() {
    let endpoint = || "https://partner.example/bundle.json".parse().unwrap();
    let served = |reason| {
        let endpoint = endpoint();
        SourceError::Endpoint(EndpointError { endpoint, reason })
    };
    let pool = enterprise();
    let subject = "CN=x".to_owned();
    let went_back = SourceError::WentBack {
        endpoint: endpoint(),
        known: 2,
        found: 1,
    };
    for (error, reason) in [
        (answer(403, "PERMISSION_DENIED").into(), "PermissionDenied"),
        (stranger().into(), "Unauthenticated"),
        (no_token().into(), "NoCredentials"),
        (answer(404, "NOT_FOUND").into(), "AnchorNotFound"),
        (
            answer(429, "RESOURCE_EXHAUSTED").into(),
            "AnchorUnreachable",
        ),
        (no_connection().into(), "AnchorUnreachable"),
        (answer(400, "INVALID_ARGUMENT").into(), "AnchorRefuses"),
        (
            SourceError::NoRoots { pool: pool.clone() },
            "AnchorHasNoRoots",
        ),
        (SourceError::NotACa { pool, subject }, "AnchorNotACA"),
        (went_back, "AnchorWentBack"),
        (served(EndpointReason::TooLarge), "AnchorUnusable"),
        (
            served(EndpointReason::NoCaCertificates),
            "AnchorUnreachable",
        ),
    ] {
        assert_documented(reason);
        let (policy, known) = failing(error, &[]);
        let said = trust(7, Vec::new(), &policy, &known, Some(known.bundles())).unwrap();
        assert_eq!((said.len(), said[0].reason), (1, reason), "{said:?}");
        assert!(said[0].message.contains("a.example"), "{said:?}");
        assert!(said[0].message.ends_with("nothing is rendered"), "{said:?}");
    }
}

#[test]
fn roots_that_stay_rendered_are_told_of_and_ready_is_as_the_guide_prints_it() {
    let other = TrustAnchor::Pem(root("other"));
    let (policy, known) = failing(no_connection().into(), std::slice::from_ref(&other));
    let said = trust(7, Vec::new(), &policy, &known, Some(known.bundles())).unwrap();
    assert!(said[0].message.ends_with("stay rendered"), "{said:?}");

    let policy = config(&[("a.example", &[other])]).trust;
    let known = Trust::new(&policy);
    let said = trust(7, Vec::new(), &policy, &known, Some(known.bundles())).unwrap();
    assert_eq!(said, [Statement::ready("TrustConfig", 7)]);
    let said = trust(7, Vec::new(), &policy, &known, None).unwrap();
    assert_eq!(said[0].reason, "TooManyRoots");
}

#[test]
fn roots_that_are_all_distrusted_are_named() {
    let bad = root("bad");
    let policy = config(&[("a.example", &[TrustAnchor::Pem(bad.clone())])]).trust;
    let known = Trust::distrusting(&policy, &bad);
    let said = trust(7, Vec::new(), &policy, &known, Some(known.bundles())).unwrap();
    assert_eq!(said[0].reason, "EveryRootDistrusted");
    assert!(said[0].message.contains("--distrust"), "{said:?}");
}

#[test]
fn nothing_is_said_before_the_anchors_were_asked_or_of_another_policy() {
    let policy = config(&[("a.example", &[TrustAnchor::Pool(enterprise())])]).trust;
    let known = Trust::new(&policy);
    let rendered = Arc::new(known.bundles().clone());
    assert_eq!(trust(7, Vec::new(), &policy, &known, Some(&rendered)), None);
    let other = config(&[("a.example", &[TrustAnchor::Pem(root("x"))])]).trust;
    let known = Trust::new(&other);
    assert_eq!(trust(7, Vec::new(), &policy, &known, Some(&rendered)), None);
}
