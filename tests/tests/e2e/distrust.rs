//! The emergency switch.
use certagent::{run::agent::AgentOptions, trust::Fingerprint};
use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};
use certagent_svid::Certificate;
use certagent_tests::{GUARD, Lab, Policy, all_ready, until};

use crate::{
    root_rotation::{leads_to, root_of, two_hierarchies},
    support::{configured, creates, due, failed, frozen, heal, status, supplied},
};

fn a_day() -> Policy {
    Policy {
        validity: 24 * 3600,
        ..Policy::default()
    }
}

fn without(lab: &Lab, root: &Certificate) -> AgentOptions {
    AgentOptions {
        distrust: [Fingerprint::of(root)].into_iter().collect(),
        ..lab.options()
    }
}

/// The files that have the certificate and the key.
const OWN: [&str; 3] = [
    "certificates.pem",
    "private_key.pem",
    "credential-bundle.pem",
];

#[tokio::test]
async fn a_root_that_is_still_named_is_dropped_at_once_and_stays_out() {
    let lab = two_hierarchies().await;
    lab.write_trust_of(&["root-pool", "root-two"]);
    let agent = supplied(&lab, &a_day()).await;
    let before = frozen(&lab.volume("a"));
    agent.stop().await;
    let bad = root_of(&lab, "root-two");
    let agent = lab.agent_with(without(&lab, &bad)).await;
    until(&agent, |_| !lab.read("a").roots().contains(&bad)).await;
    assert_eq!(lab.read("a").roots(), [root_of(&lab, "root-pool")]);
    let after = frozen(&lab.volume("a"));
    for name in OWN {
        assert_eq!(before[name].0, after[name].0, "{name}");
    }
    assert_eq!(
        (creates(&lab), status(&agent.statuses(), "a").failures),
        (1, 0)
    );
    // New volumes do not get it either, and another look at the pool does not bring it back.
    lab.step(5 * 60);
    lab.write_workload("b");
    until(&agent, |statuses| {
        statuses.len() == 2 && all_ready(statuses)
    })
    .await;
    for volume in ["a", "b"] {
        assert!(!lab.read(volume).roots().contains(&bad), "{volume}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_certificate_that_needs_the_dropped_root_is_replaced_by_one_of_another_pool() {
    let lab = two_hierarchies().await;
    lab.write_trust_of(&["root-pool", "root-two"]);
    let policy = Policy {
        fallbacks: vec!["issuing-two".to_owned()],
        ..a_day()
    };
    let agent = supplied(&lab, &policy).await;
    let (bad, good) = (root_of(&lab, "root-pool"), root_of(&lab, "root-two"));
    assert_eq!(leads_to(&lab), bad);
    agent.stop().await;
    let agent = lab.agent_with(without(&lab, &bad)).await;
    until(&agent, |statuses| status(statuses, "a").rotations == 1).await;
    assert_eq!(lab.read("a").roots(), std::slice::from_ref(&good));
    assert_eq!(leads_to(&lab), good);
    assert_eq!(creates(&lab), 2);
    agent.stop().await;
}

#[tokio::test]
async fn without_another_pool_the_bundle_loses_the_root_all_the_same_and_the_cause_is_told() {
    let lab = two_hierarchies().await;
    lab.write_trust_of(&["root-pool", "root-two"]);
    let agent = supplied(&lab, &a_day()).await;
    let before = frozen(&lab.volume("a"));
    agent.stop().await;
    let bad = root_of(&lab, "root-pool");
    let agent = lab.agent_with(without(&lab, &bad)).await;
    let said = failed(&agent, "--distrust").await.last_error.unwrap();
    assert!(said.contains(&Fingerprint::of(&bad).to_string()), "{said}");
    assert_eq!(lab.read("a").roots(), [root_of(&lab, "root-two")]);
    let after = frozen(&lab.volume("a"));
    for name in OWN {
        assert_eq!(before[name].0, after[name].0, "{name}");
    }
    assert_eq!(creates(&lab), 1);
    // As soon as there is another pool, there is another certificate.
    lab.write_policy(&Policy {
        fallbacks: vec!["issuing-two".to_owned()],
        ..a_day()
    });
    configured(&agent, |active| active.config.certificates.pools.len() == 2).await;
    heal(&lab, &agent).await;
    assert_eq!(leads_to(&lab), root_of(&lab, "root-two"));
    agent.stop().await;
}

#[tokio::test]
async fn the_only_root_is_not_taken_out_of_the_files_and_that_is_told() {
    let lab = two_hierarchies().await;
    let agent = supplied(&lab, &a_day()).await;
    let before = frozen(&lab.volume("a"));
    agent.stop().await;
    let bad = root_of(&lab, "root-pool");
    let agent = lab.agent_with(without(&lab, &bad)).await;
    failed(&agent, "--distrust names every root that there is").await;
    // A file without any root would mean something else to every reader.
    assert_eq!(frozen(&lab.volume("a")), before);
    assert_eq!(creates(&lab), 1);
    // Another root: now the other one goes.
    lab.write_trust_of(&["root-pool", "root-two"]);
    until(&agent, |_| {
        lab.read("a").roots() == [root_of(&lab, "root-two")]
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_root_is_dropped_also_while_renewals_fail_and_nobody_may_be_asked() {
    let lab = two_hierarchies().await;
    lab.write_trust_of(&["root-pool", "root-two"]);
    let agent = supplied(&lab, &a_day()).await;
    let later = ApiError::new(Code::Unavailable, "later").with_retry_info(GUARD * 30);
    lab.faults([FaultRule::always(Fault::error(later)).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    failed(&agent, "later").await;
    agent.stop().await;
    let (bad, asked) = (root_of(&lab, "root-two"), creates(&lab));
    let agent = lab.agent_with(without(&lab, &bad)).await;
    failed(&agent, "later").await;
    assert_eq!(lab.read("a").roots(), [root_of(&lab, "root-pool")]);
    assert_eq!(creates(&lab), asked + 1);
    agent.stop().await;
}
