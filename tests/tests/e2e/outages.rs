//! A pool that is away, for one workload and for many, with another pool to go to and without.
use std::collections::BTreeMap;

use certagent::run::agent::RunningAgent;
use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};
use certagent_tests::{
    Lab, Policy, all_ready,
    front::{Front, Outage},
    until,
};
use jiff::SignedDuration;

use crate::support::{
    RATE, abandoned, admin, an_hour, attempts_for, certificate, configured, creates, drain, due,
    failed, forward, frozen, heal, metric, sellers, sold, supplied, two_pools, with_fallback,
    write_workloads,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Certificates by pool.
fn sold_by(lab: &Lab) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seller in sellers(lab) {
        *counts.entry(seller).or_default() += 1;
    }
    counts
}

/// Drains until every volume has a certificate and nothing failed; gives the seconds it took.
async fn all_supplied(lab: &Lab, agent: &RunningAgent) -> i64 {
    let mut seconds = 0;
    while !all_ready(&agent.statuses()) {
        seconds += drain(lab, agent).await;
        assert!(seconds < 600, "{:#?}", agent.statuses());
    }
    seconds
}

#[tokio::test]
async fn a_region_that_is_away_gives_way_to_the_next_for_all_at_once() {
    const MANY: usize = 70;
    let lab = two_pools().await;
    let front = Front::before(&lab, "issuing-pool").await;
    front.set(Outage::Everything);
    lab.write_policy(&with_fallback());
    write_workloads(&lab, 0..MANY);
    let agent = lab.agent_with(front.options(&lab)).await;

    let seconds = all_supplied(&lab, &agent).await;
    // One budget for all of them together, the last pause before it ended, and the quota.
    assert!((60..=110).contains(&seconds), "{seconds}");
    assert_eq!(sold_by(&lab), [("second-pool".to_owned(), MANY)].into());
    assert_eq!(
        front.purchases(),
        0,
        "it was not even there to be looked at"
    );
    assert_eq!(abandoned(&agent).await, 0);

    // Whoever comes now is not held up at all, and one of them asks whether it is back.
    let looks = front.looks();
    let more = MANY + 20;
    write_workloads(&lab, MANY..more);
    configured(&agent, |active| active.config.workloads.len() == more).await;
    until(&agent, |statuses| statuses.len() == more).await;
    assert!(all_supplied(&lab, &agent).await <= 5);
    assert!(front.looks() - looks <= 4, "{}", front.looks() - looks);

    // When it is back, the first answer brings it back for all.
    front.set(Outage::None);
    lab.step(300);
    let all = more + 30;
    write_workloads(&lab, more..all);
    configured(&agent, |active| active.config.workloads.len() == all).await;
    until(&agent, |statuses| statuses.len() == all).await;
    all_supplied(&lab, &agent).await;
    let first = sold_by(&lab)["issuing-pool"];
    write_workloads(&lab, all..all + 5);
    configured(&agent, |active| active.config.workloads.len() == all + 5).await;
    until(&agent, |statuses| statuses.len() == all + 5).await;
    all_supplied(&lab, &agent).await;
    assert!(first > 0);
    assert_eq!(sold_by(&lab)["issuing-pool"], first + 5);
    assert_eq!(sold(&lab), u64::try_from(all + 5).unwrap());
    assert_eq!(abandoned(&agent).await, 0);
    agent.stop().await;
}

#[tokio::test]
async fn whatever_is_lost_at_a_pool_was_sent_to_it_before_it_was_known_to_be_away() {
    const MANY: usize = 40;
    let lab = two_pools().await;
    let front = Front::before(&lab, "issuing-pool").await;
    front.set(Outage::Replies);
    lab.write_policy(&with_fallback());
    write_workloads(&lab, 0..MANY);
    let agent = lab.agent_with(front.options(&lab)).await;
    let mut asked = 0;
    while !all_ready(&agent.statuses()) {
        assert_eq!(sold_by(&lab).get("second-pool"), None, "before a minute");
        drain(&lab, &agent).await;
        asked += 1;
        if asked == 50 {
            break;
        }
        let (_, text) = admin(&agent, "/metrics").await;
        if text.contains("issuing-pool\"} 1") {
            break;
        }
    }
    all_supplied(&lab, &agent).await;
    let (used, lost) = (u64::try_from(MANY).unwrap(), abandoned(&agent).await);
    assert_eq!(sold(&lab), used + lost);
    let by = sold_by(&lab);
    assert_eq!(by["second-pool"], MANY);
    assert_eq!(u64::try_from(by["issuing-pool"]).unwrap(), lost);
    // By the backoff, however many there are.
    assert!(front.purchases() <= 9 * lost, "{}", front.purchases());

    // Nothing more is lost there, but for the one that finds out.
    write_workloads(&lab, MANY..2 * MANY);
    configured(&agent, |active| active.config.workloads.len() == 2 * MANY).await;
    until(&agent, |statuses| statuses.len() == 2 * MANY).await;
    all_supplied(&lab, &agent).await;
    let more = abandoned(&agent).await - lost;
    assert!(more <= 2, "{more}");
    assert_eq!(sold(&lab), 2 * used + lost + more);
    agent.stop().await;
}

fn away() -> [FaultRule; 1] {
    let away = Fault::error(ApiError::new(Code::Unavailable, "away"));
    [FaultRule::always(away)]
}

#[tokio::test]
async fn an_hour_without_the_ca_before_the_first_issue_costs_some_attempts_and_no_restart() {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    let agent = lab.agent().await;
    lab.faults(away());
    lab.write_workload("a");
    until(&agent, |statuses| !statuses.is_empty()).await;
    failed(&agent, "away").await;
    let attempts = attempts_for(&lab, &agent, HOUR).await;
    // 1, 2, 4, … 256 s, then every 5 minutes or a little more.
    assert!((15..=20).contains(&attempts), "{attempts}");
    lab.faults([]);
    heal(&lab, &agent).await;
    assert_eq!((sold(&lab), abandoned(&agent).await), (1, 0));
    agent.stop().await;
}

/// A request was carried out and its answer lost; since then the CA is away.
async fn sent_and_away() -> (Lab, RunningAgent) {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    lab.write_workload("a");
    let lost = FaultRule::next(1, Fault::CloseAfter).on(Method::CreateCertificate);
    let [away] = away();
    lab.faults([lost, away.on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    failed(&agent, "broke before the answer").await;
    (lab, agent)
}

#[tokio::test]
async fn an_hour_without_the_ca_after_a_request_was_sent_loses_that_one_certificate_at_most() {
    let (lab, agent) = sent_and_away().await;
    let attempts = attempts_for(&lab, &agent, HOUR).await;
    assert!((15..=20).contains(&attempts), "{attempts}");
    assert_eq!(creates(&lab), attempts + 1);
    lab.faults([]);
    heal(&lab, &agent).await;
    // Its ids are known for 55 minutes; after that nobody can ask for it any more.
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 1));
    agent.stop().await;
}

#[tokio::test]
async fn half_an_hour_without_the_ca_after_a_request_was_sent_loses_nothing() {
    let (lab, agent) = sent_and_away().await;
    attempts_for(&lab, &agent, HOUR / 2).await;
    lab.faults([]);
    heal(&lab, &agent).await;
    assert_eq!((sold(&lab), abandoned(&agent).await), (1, 0));
    agent.stop().await;
}

fn a_day() -> Policy {
    Policy {
        validity: 24 * 3600,
        ..Policy::default()
    }
}

#[tokio::test]
async fn an_hour_without_the_ca_when_a_renewal_is_due_leaves_the_certificate_where_it_is() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &a_day()).await;
    let before = frozen(&lab.volume("a"));
    lab.faults(away());
    due(&lab, &agent);
    failed(&agent, "away").await;
    let attempts = attempts_for(&lab, &agent, HOUR).await;
    assert!((13..=19).contains(&attempts), "{attempts}");
    assert_eq!(frozen(&lab.volume("a")), before);
    lab.faults([]);
    heal(&lab, &agent).await;
    assert_ne!(frozen(&lab.volume("a")), before);
    agent.stop().await;
}

#[tokio::test]
async fn an_hour_without_the_ca_that_ends_five_minutes_before_the_certificate_does_is_survived() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &a_day()).await;
    let before = frozen(&lab.volume("a"));
    let end = certificate(&agent).not_after;
    lab.faults(away());
    forward(&lab, end - SignedDuration::from_mins(65));
    failed(&agent, "away").await;
    let attempts = attempts_for(&lab, &agent, HOUR).await;
    // A tenth of what remains, at most 5 minutes: more often towards the end.
    assert!((13..=45).contains(&attempts), "{attempts}");
    assert_eq!(frozen(&lab.volume("a")), before);
    assert!(certificate(&agent).not_after > lab.now());
    lab.faults([]);
    heal(&lab, &agent).await;
    assert!(lab.now() < end, "it was renewed in time");
    assert!(certificate(&agent).not_after > end);
    agent.stop().await;
}

#[tokio::test]
async fn after_six_hours_without_the_ca_all_are_renewed_in_time_and_within_the_quota() {
    const MANY: usize = 60;
    let lab = Lab::new().await;
    lab.write_policy(&a_day());
    write_workloads(&lab, 0..MANY);
    let agent = lab.agent().await;
    all_supplied(&lab, &agent).await;
    let ends = agent.statuses().into_iter().map(|status| {
        let certificate = status.certificate.expect("a certificate");
        (certificate.not_after, certificate.renew_at)
    });
    let (first_end, last_due) = ends
        .fold(None, |found, (end, due)| match found {
            None => Some((end, due)),
            Some((first, last)) => Some((first.min(end), last.max(due))),
        })
        .expect("there are some");

    // All of them become due while it is away.
    lab.faults(away());
    let back = last_due + SignedDuration::from_hours(4);
    lab.clock.set(back - SignedDuration::from_hours(6));
    let asked = creates(&lab);
    while lab.now() < back {
        lab.step(30 * 60);
        drain(&lab, &agent).await;
    }
    let attempts = creates(&lab) - asked;
    let each = attempts / u64::try_from(MANY).unwrap();
    assert!((10..=14).contains(&each), "{each} attempts each");
    let now = lab.now();
    assert!(agent.statuses().iter().all(|status| status.is_valid(now)));

    lab.faults([]);
    let (asked, began) = (creates(&lab), lab.now());
    while !all_ready(&agent.statuses()) {
        drain(&lab, &agent).await;
        let seconds = lab.now().duration_since(began).as_secs();
        let rate = u64::try_from(RATE).unwrap();
        let most = rate * (u64::try_from(seconds).unwrap() + 1);
        assert!(creates(&lab) - asked <= most, "over the quota");
    }
    assert!(lab.now() < first_end, "in time");
    assert!(lab.now().duration_since(began).as_mins() < 8);
    let statuses = agent.statuses();
    assert!(statuses.iter().all(|status| status.rotations == 1));
    let issued = metric(&agent, "certagent_certificates_issued_total").await;
    assert_eq!(issued, 2 * u64::try_from(MANY).unwrap());
    assert_eq!(sold(&lab), issued);
    agent.stop().await;
}
