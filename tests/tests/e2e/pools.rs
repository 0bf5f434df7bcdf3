//! Several pools, and pools with rules of their own.
use std::time::Duration;

use certagent::run::agent::RunningAgent;
use certagent_emulator::{
    ApiError, Code, Fault, FaultRule, IssuanceModes, IssuancePolicy, Method, ProtoDuration,
};
use certagent_tests::{Lab, Policy, all_ready, until};
use jiff::SignedDuration;

use crate::support::{
    abandoned, an_hour, asked, attempt, balanced, certificate, creates, due, failed, forward,
    guide_and, guide_with, heal, pool, renew, sellers, sold, state_of, status, supplied, two_pools,
    with_fallback,
};

#[tokio::test]
async fn a_definite_refusal_moves_on_at_once_and_the_next_renewal_begins_at_the_first_pool() {
    let busy = ApiError::new(Code::ResourceExhausted, "quota");
    let lab = two_pools().await;
    let agent = supplied(&lab, &with_fallback()).await;
    assert_eq!(sellers(&lab), ["issuing-pool"]);
    for error in [
        ApiError::new(Code::PermissionDenied, "no"),
        ApiError::new(Code::NotFound, "gone"),
        ApiError::new(Code::FailedPrecondition, "no CA"),
        busy.with_retry_info(Duration::from_secs(60)),
    ] {
        lab.faults([FaultRule::next(1, Fault::error(error)).on(Method::CreateCertificate)]);
        let (before, now) = (creates(&lab), certificate(&agent).renew_at);
        renew(&lab, &agent).await;
        let steps = lab.now().duration_since(now);
        assert!(steps.as_secs() < 1, "without another step of the clock");
        assert_eq!(creates(&lab), before + 2);
        assert_eq!(sellers(&lab).last().unwrap(), "second-pool");
        assert_eq!(status(&agent.statuses(), "a").failures, 0);

        renew(&lab, &agent).await;
        assert_eq!(sellers(&lab).last().unwrap(), "issuing-pool");
    }
    assert_eq!(abandoned(&agent).await, 0);
    balanced(&lab, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn while_one_pool_is_away_by_a_rule_the_other_of_the_same_emulator_serves() {
    let lab = two_pools().await;
    let agent = supplied(&lab, &with_fallback()).await;
    let away = |pool: &str| {
        let no = ApiError::new(Code::FailedPrecondition, "away");
        let rule = FaultRule::always(Fault::error(no)).on(Method::CreateCertificate);
        [rule.at(pool.parse().unwrap())]
    };
    for (gone, seller) in [
        ("issuing-pool", "second-pool"),
        ("second-pool", "issuing-pool"),
        (&Lab::pool("issuing-pool"), "second-pool"),
    ] {
        lab.faults(away(gone));
        renew(&lab, &agent).await;
        assert_eq!(sellers(&lab).last().unwrap(), seller, "{gone} is away");
    }
    assert_eq!((sold(&lab), abandoned(&agent).await), (4, 0));
    agent.stop().await;
}

#[tokio::test]
async fn a_first_pool_that_does_not_exist_is_passed_over() {
    let mut config = guide_and([pool(
        "second-pool",
        Some("root-pool"),
        IssuancePolicy::default(),
    )]);
    config.pools.remove(1);
    let lab = Lab::with(config).await;
    let agent = supplied(&lab, &with_fallback()).await;
    assert_eq!(asked(&lab), ["second-pool"]);
    agent.stop().await;
}

#[tokio::test]
async fn when_every_pool_refuses_it_waits_and_begins_again_at_the_first() {
    let lab = two_pools().await;
    lab.write_policy(&with_fallback());
    lab.write_workload("a");
    let no = Fault::error(ApiError::new(Code::FailedPrecondition, "no CA"));
    lab.faults([FaultRule::always(no).on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    let failure = failed(&agent, "no CA").await;
    assert_eq!(failure.failures, 1);
    assert_eq!(asked(&lab), ["issuing-pool", "second-pool"]);
    lab.faults([]);
    heal(&lab, &agent).await;
    assert_eq!(sellers(&lab), ["issuing-pool"]);
    assert_eq!(abandoned(&agent).await, 0);
    agent.stop().await;
}

/// Attempts until another pool was asked, and gives how long the first alone was.
async fn until_second(lab: &Lab, agent: &RunningAgent) -> SignedDuration {
    let (start, first) = (lab.now(), asked(lab).len() - 1);
    while !asked(lab)[first..].contains(&"second-pool".to_owned()) {
        attempt(lab, agent).await;
    }
    let requests = lab.emulator.create_requests();
    let (last, same) = requests[first..].split_last().unwrap();
    assert!(same.len() > 2);
    assert!(same.iter().all(|request| *request == same[0]));
    assert_ne!((&last.query, &last.body), (&same[0].query, &same[0].body));
    lab.now().duration_since(start)
}

#[tokio::test]
async fn unknown_outcomes_of_a_first_issue_stay_with_the_pool_and_the_ids_for_a_minute() {
    let lab = two_pools().await;
    lab.write_policy(&with_fallback());
    lab.write_workload("a");
    lab.faults([FaultRule::always(Fault::CloseAfter).on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    failed(&agent, "broke before the answer").await;
    let alone = until_second(&lab, &agent).await.as_secs();
    assert!((60..=120).contains(&alone), "{alone}");
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 1));
    lab.faults([]);
    heal(&lab, &agent).await;
    assert_eq!(sellers(&lab), ["issuing-pool", "second-pool"]);
    balanced(&lab, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn once_gives_a_silent_pool_its_minute_and_gets_the_certificate_from_the_next() {
    let lab = two_pools().await;
    lab.write_policy(&with_fallback());
    lab.write_workload("a");
    let lost = FaultRule::always(Fault::CloseAfter).on(Method::CreateCertificate);
    lab.faults([lost.at("issuing-pool".parse().unwrap())]);
    let agent = lab.agent().await;
    let (once, alone) = tokio::join!(agent.once(), async {
        failed(&agent, "broke before the answer").await;
        until_second(&lab, &agent).await
    });
    once.unwrap();
    assert!(alone.as_secs() >= 60, "{alone}");
    assert_eq!(sellers(&lab), ["issuing-pool", "second-pool"]);
    balanced(&lab, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn unknown_outcomes_of_a_renewal_stay_for_a_quarter_of_what_remains() {
    let lab = two_pools().await;
    let agent = supplied(&lab, &with_fallback()).await;
    lab.faults([FaultRule::always(Fault::CloseAfter).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    failed(&agent, "broke before the answer").await;
    let remaining = certificate(&agent).not_after.duration_since(lab.now());
    let alone = until_second(&lab, &agent).await;
    assert!(alone >= remaining / 4, "{alone:?} of {remaining:?}");
    assert!(alone < remaining / 2, "{alone:?} of {remaining:?}");
    lab.faults([]);
    heal(&lab, &agent).await;
    assert_eq!(abandoned(&agent).await, 1);
    balanced(&lab, &agent).await;
    renew(&lab, &agent).await;
    assert_eq!(sellers(&lab).last().unwrap(), "issuing-pool");
    agent.stop().await;
}

#[tokio::test]
async fn what_was_certainly_not_sold_is_not_counted_as_abandoned() {
    let lab = two_pools().await;
    lab.write_policy(&with_fallback());
    lab.write_workload("a");
    let busy = Fault::error(ApiError::new(Code::ResourceExhausted, "quota"));
    lab.faults([FaultRule::always(busy).on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    failed(&agent, "a quota is used up").await;
    until_second(&lab, &agent).await;
    lab.faults([]);
    heal(&lab, &agent).await;
    assert_eq!((sold(&lab), abandoned(&agent).await), (1, 0));
    agent.stop().await;
}

#[tokio::test]
async fn an_edit_that_replaces_a_silent_pool_is_followed_when_its_budget_is_spent() {
    let lab = two_pools().await;
    lab.write_policy(&an_hour());
    lab.write_workload("a");
    lab.faults([FaultRule::always(Fault::CloseBefore).on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    failed(&agent, "broke before the answer").await;
    let text = std::fs::read_to_string(lab.config_dir().join("WorkloadCertificateConfig.yaml"));
    lab.write_config(
        "WorkloadCertificateConfig.yaml",
        &text.unwrap().replace("issuing-pool", "second-pool"),
    );
    crate::support::configured(&agent, |active| active.version > 1).await;
    while !asked(&lab).contains(&"second-pool".to_owned()) {
        attempt(&lab, &agent).await;
        assert!(creates(&lab) < 30, "it stays with a pool that nobody names");
    }
    lab.faults([]);
    heal(&lab, &agent).await;
    assert_eq!(sellers(&lab), ["second-pool"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_pool_that_forbids_config_based_issuance_gets_a_csr() {
    let lab = Lab::with(guide_with(IssuancePolicy {
        allowed_issuance_modes: Some(IssuanceModes {
            allow_csr_based_issuance: true,
            allow_config_based_issuance: false,
        }),
        ..IssuancePolicy::default()
    }))
    .await;
    let agent = supplied(&lab, &an_hour()).await;
    let body = String::from_utf8(lab.emulator.create_requests()[0].body.clone()).unwrap();
    assert!(body.contains("\"pemCsr\"") && !body.contains("\"config\""));
    renew(&lab, &agent).await;
    agent.stop().await;
}

fn backdating(minutes: i64) -> IssuancePolicy {
    IssuancePolicy {
        backdate_duration: Some(ProtoDuration(SignedDuration::from_mins(minutes))),
        ..IssuancePolicy::default()
    }
}

#[tokio::test]
async fn a_backdating_pool_is_renewed_by_the_life_that_is_left_and_not_in_a_loop() {
    let lab = Lab::with(guide_with(backdating(40))).await;
    let agent = supplied(&lab, &an_hour()).await;
    for rotation in 1..=4 {
        let there = certificate(&agent);
        let usable = there.not_after.duration_since(there.issued_at);
        assert_eq!(usable.as_secs(), 20 * 60 - 1);
        assert_eq!(
            there.issued_at.duration_since(there.not_before).as_mins(),
            40
        );
        let age = there.renew_at.duration_since(there.issued_at).as_secs();
        assert!((599..=720).contains(&age), "{age}");
        renew(&lab, &agent).await;
        assert_eq!(creates(&lab), rotation + 1);
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_pool_that_backdates_nearly_all_of_the_life_is_refused_before_a_key_is_made() {
    let lab = Lab::with(guide_with(backdating(55))).await;
    lab.write_policy(&an_hour());
    lab.write_workload("a");
    let agent = lab.agent().await;
    let failure = failed(&agent, "more than 90% of the 3600s").await;
    assert!(!state_of(&lab, &failure).join("pending/key.pem").exists());
    assert_eq!(creates(&lab), 0);
    // A longer life is taken up at once.
    lab.write_policy(&Policy {
        validity: 7200,
        ..an_hour()
    });
    until(&agent, all_ready).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_ca_that_ends_soon_is_not_asked_again_and_again_for_ever_shorter_lives() {
    let mut config = guide_and([]);
    config.pools[1].ca.lifetime = SignedDuration::from_hours(10);
    let lab = Lab::with(config).await;
    let policy = Policy {
        validity: 24 * 3600,
        ..Policy::default()
    };
    let agent = supplied(&lab, &policy).await;
    let end = certificate(&agent).not_after;
    assert_eq!(end.duration_since(lab.now()).as_hours(), 9);
    // 10 hours, then less than 5 (20% of a day), then less than 2.4: a tenth, and that was it.
    while lab.now() < end - SignedDuration::from_mins(6) {
        let looked = agent.volumes().changed();
        let next = status(&agent.statuses(), "a").next_attempt;
        assert!(next > lab.now());
        forward(&lab, next);
        crate::support::guarded(looked).await;
    }
    assert!(creates(&lab) <= 4, "{}", creates(&lab));
    assert_eq!(certificate(&agent).not_after, end);
    assert_eq!(status(&agent.statuses(), "a").failures, 0);
    agent.stop().await;
}
