//! The roots in the volumes.
use certagent_emulator::{ApiError, Code, Fault, FaultRule, IssuancePolicy, Method};
use certagent_tests::{GUARD, Lab, Policy, TRUST_DOMAIN, all_ready, until};

use crate::support::{
    certificate, creates, due, failed, frozen, guide_and, heal, pool, renew, state_of, status,
    supplied,
};

async fn two_roots() -> Lab {
    let other = pool("other-root", None, IssuancePolicy::default());
    Lab::with(guide_and([other])).await
}

/// Steps the clock until the pools were asked for their roots again. An answer that is still under
/// way when the clock is stepped dates the next refresh later, so one step may not do.
async fn refreshed(lab: &Lab, pools: u64) {
    let looks = || lab.emulator.stats().requests(Method::FetchCaCerts);
    let asked = looks();
    while looks() < asked + pools {
        lab.step(5 * 60);
        for _ in 0..20_000 {
            if looks() >= asked + pools {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Long enough for some refreshes between two renewals.
fn a_day() -> Policy {
    Policy {
        validity: 24 * 3600,
        ..Policy::default()
    }
}

#[tokio::test]
async fn an_issuing_pool_under_no_anchor_is_reported_with_both_pools_before_a_key_is_made() {
    let lab = two_roots().await;
    lab.write_trust_of(&["other-root"]);
    lab.write_workload("a");
    let agent = lab.agent().await;
    let failure = failed(&agent, &Lab::pool("issuing-pool")).await;
    let said = failure.last_error.clone().unwrap();
    assert!(said.contains(&Lab::pool("other-root")), "{said}");
    assert!(said.contains("to the TrustConfig"), "{said}");
    assert!(!state_of(&lab, &failure).join("pending/key.pem").exists());
    assert_eq!(creates(&lab), 0);

    // The edit that it asks for heals it.
    lab.write_trust_of(&["other-root", "root-pool"]);
    until(&agent, all_ready).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_new_root_comes_to_existing_volumes_beside_the_same_key_and_certificate() {
    let lab = two_roots().await;
    let agent = supplied(&lab, &a_day()).await;
    let before = frozen(&lab.volume("a"));
    let there = lab.read("a");
    let domain = there.bundle().trust_domain().clone();
    assert_eq!((there.roots().len(), there.sequence(&domain)), (1, Some(1)));
    let due = status(&agent.statuses(), "a").certificate.unwrap().renew_at;

    lab.write_trust_of(&["root-pool", "other-root"]);
    until(&agent, |_| lab.read("a").roots().len() == 2).await;
    assert_eq!(lab.read("a").sequence(&domain), Some(2));
    let after = frozen(&lab.volume("a"));
    for same in [
        "certificates.pem",
        "private_key.pem",
        "credential-bundle.pem",
    ] {
        assert_eq!(before[same].0, after[same].0, "{same}");
    }
    assert_eq!(creates(&lab), 1);
    let now = status(&agent.statuses(), "a");
    assert_eq!(now.certificate.unwrap().renew_at, due);
    assert_eq!(now.rotations, 0);

    renew(&lab, &agent).await;
    assert_eq!(lab.read("a").sequence(&domain), Some(2));
    agent.stop().await;
}

#[tokio::test]
async fn a_refresh_that_says_the_same_again_rewrites_nothing() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &a_day()).await;
    let before = frozen(&lab.volume("a"));
    for _ in 0..4 {
        refreshed(&lab, 1).await;
    }
    // Whatever the last answer led to is over when the next edit was followed.
    lab.write_workload("b");
    until(&agent, |statuses| {
        statuses.len() == 2 && all_ready(statuses)
    })
    .await;
    assert_eq!(frozen(&lab.volume("a")), before);
    agent.stop().await;
}

#[tokio::test]
async fn roots_stay_while_their_pool_is_away_and_renewals_go_on() {
    let lab = two_roots().await;
    lab.write_trust_of(&["root-pool", "other-root"]);
    let agent = supplied(&lab, &a_day()).await;
    assert_eq!(lab.read("a").roots().len(), 2);
    lab.faults([FaultRule::always(Fault::Html { status: 503 }).on(Method::FetchCaCerts)]);
    refreshed(&lab, 2).await;
    renew(&lab, &agent).await;
    assert_eq!(lab.read("a").roots().len(), 2);
    agent.stop().await;

    // Not even a process that never heard of them forgets roots that are published.
    std::fs::remove_file(lab.state_dir().join("trust.json")).unwrap();
    let agent = lab.agent().await;
    until(&agent, |statuses| statuses[0].next_attempt > lab.now()).await;
    assert_eq!(lab.read("a").roots().len(), 2);
    lab.faults([]);
    refreshed(&lab, 2).await;
    heal(&lab, &agent).await;
    renew(&lab, &agent).await;
    assert_eq!(lab.read("a").roots().len(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn two_trust_domains_are_never_merged() {
    let lab = two_roots().await;
    lab.write_config(
        "TrustConfig.yaml",
        &format!(
            "apiVersion: security.cloud.google.com/v1
kind: TrustConfig
metadata:
  name: default
spec:
  trustStores:
  - trustDomain: {TRUST_DOMAIN}
    trustAnchors:
    - certificateAuthorityServiceURI: {}
  - trustDomain: other.example
    trustAnchors:
    - certificateAuthorityServiceURI: {}
",
            Lab::pool("root-pool"),
            Lab::pool("other-root")
        ),
    );
    lab.write_policy(&a_day());
    let document = certagent_tests::workload("a", &lab.volume("a")).replace(
        "  namespace:",
        &format!("  trustDomain: {TRUST_DOMAIN}\n  namespace:"),
    );
    std::fs::create_dir(lab.volume("a")).unwrap();
    lab.write_config("workload-a.yaml", &document);
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    let there = lab.read("a");
    assert_eq!(there.roots().len(), 1);
    let bundles = there.bundles().unwrap();
    assert_eq!(bundles.len(), 2);
    for bundle in bundles.iter() {
        assert_eq!(bundle.roots().len(), 1);
        let own = bundle.trust_domain().as_str() == TRUST_DOMAIN;
        assert_eq!(bundle.roots() == there.roots(), own);
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_root_that_the_running_certificate_needs_stays_and_the_renewal_says_what_is_missing() {
    let lab = two_roots().await;
    let agent = supplied(&lab, &a_day()).await;
    let serial = certificate(&agent).serial;
    lab.write_trust_of(&["other-root"]);
    until(&agent, |_| lab.read("a").roots().len() == 2).await;
    assert_eq!(status(&agent.statuses(), "a").failures, 0);
    // What is issued below a root on its way out would outlive it.
    due(&lab, &agent);
    failed(&agent, "is no root of the trust domain").await;
    assert_eq!(certificate(&agent).serial, serial);
    assert_eq!(creates(&lab), 1);
    // The edit that it asks for heals it at once.
    lab.write_trust_of(&["root-pool", "other-root"]);
    until(&agent, |statuses| status(statuses, "a").rotations == 1).await;
    assert_eq!(lab.read("a").roots().len(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn new_roots_come_also_while_renewals_fail() {
    let lab = two_roots().await;
    let agent = supplied(&lab, &a_day()).await;
    let later = ApiError::new(Code::Unavailable, "later").with_retry_info(GUARD * 30);
    lab.faults([FaultRule::always(Fault::error(later)).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    failed(&agent, "later").await;
    // The edit might help, and the root that comes of it, so that it is tried again.
    lab.write_trust_of(&["root-pool", "other-root"]);
    until(&agent, |_| lab.read("a").roots().len() == 2).await;
    until(&agent, |statuses| status(statuses, "a").failures >= 2).await;
    agent.stop().await;
}
