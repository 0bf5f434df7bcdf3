//! The quota of a pool, kept over many workloads.
use std::time::Duration;

use certagent::{run::agent::AgentOptions, status::VolumeStatus};
use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};
use certagent_tests::{Lab, all_ready, until};

use crate::support::{
    RATE, abandoned, admin, an_hour, balanced, configured, creates, due, eventually, metric, sold,
    status, supplied, write_workloads,
};

#[tokio::test]
async fn many_that_start_at_once_share_the_quota_of_the_pool() {
    const MANY: usize = 110;
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    write_workloads(&lab, 0..MANY);
    let agent = lab.agent().await;
    let has = |count: usize| {
        move |statuses: &[VolumeStatus]| {
            let certificates = statuses.iter().filter(|one| one.certificate.is_some());
            certificates.count() >= count
        }
    };
    let mut seconds = 0;
    loop {
        let quota = (RATE * (seconds + 1)).min(MANY);
        until(&agent, has(quota)).await;
        assert_eq!(creates(&lab), u64::try_from(quota).unwrap());
        if quota == MANY {
            break;
        }
        lab.step(1);
        seconds += 1;
    }
    assert_eq!(seconds, MANY.div_ceil(RATE) - 1);
    assert!(all_ready(&agent.statuses()));
    let waited = metric(&agent, "certagent_quota_wait_seconds_count").await;
    assert_eq!(waited, u64::try_from(MANY).unwrap());
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_gets_a_fifth_of_the_quota_sends_a_fifth() {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    write_workloads(&lab, 0..12);
    let options = AgentOptions {
        quota_share: 20,
        ..lab.options()
    };
    let agent = lab.agent_with(options).await;
    for (step, count) in [(0, 4), (1, 8), (1, 12)] {
        lab.step(step);
        eventually(|| sold(&lab) >= count).await;
        until(&agent, |statuses| {
            let there = statuses.iter().filter(|one| one.certificate.is_some());
            u64::try_from(there.count()).unwrap() >= count
        })
        .await;
        assert_eq!(creates(&lab), count);
    }
    agent.stop().await;
}

#[tokio::test]
async fn one_complaint_stops_all_for_as_long_as_the_pool_asks_and_costs_few_requests() {
    const MANY: usize = 70;
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    write_workloads(&lab, 0..MANY);
    let busy = ApiError::new(Code::ResourceExhausted, "quota");
    let busy = Fault::error(busy.with_retry_info(Duration::from_secs(20)));
    lab.faults([FaultRule::next(1, busy).on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    until(&agent, |statuses| {
        let complaints = statuses.iter().filter(|one| one.failures > 0);
        complaints.count() == 1
    })
    .await;
    // What was let through before the complaint came back is all that there is.
    lab.step(20);
    let through = creates(&lab);
    assert!(through <= u64::try_from(RATE).unwrap(), "{through}");
    let mut seconds = 20;
    while !all_ready(&agent.statuses()) {
        let due = |statuses: &[VolumeStatus]| {
            let now = lab.now();
            let due = statuses.iter().filter(|one| one.next_attempt <= now);
            due.count()
        };
        let before = creates(&lab);
        lab.step(1);
        seconds += 1;
        assert!(seconds < 60, "{:#?}", agent.statuses());
        // Half the rate, or a little more as it grows back.
        let least = before + u64::try_from(RATE / 2).unwrap();
        until(&agent, |statuses| {
            creates(&lab) >= least || due(statuses) == 0
        })
        .await;
        assert!(creates(&lab) - before <= u64::try_from(RATE).unwrap());
    }
    assert_eq!(creates(&lab), u64::try_from(MANY).unwrap() + 1);
    assert_eq!(
        (sold(&lab), abandoned(&agent).await),
        (u64::try_from(MANY).unwrap(), 0)
    );
    let (_, text) = admin(&agent, "/metrics").await;
    assert!(text.contains("caPools/issuing-pool\"} 1\n"), "{text}");
    agent.stop().await;
}

#[tokio::test]
async fn a_renewal_is_not_stuck_behind_new_ones_that_wait_for_an_answer() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    // As many as are worked on at once hang, and more wait for their turn.
    lab.faults([FaultRule::next(32, Fault::Hang).on(Method::CreateCertificate)]);
    let before = creates(&lab);
    write_workloads(&lab, 0..80);
    configured(&agent, |active| active.config.workloads.len() == 81).await;
    while creates(&lab) < before + 32 {
        lab.step(1);
        let next = (before + 32).min(creates(&lab) + 1);
        eventually(|| creates(&lab) >= next).await;
    }
    due(&lab, &agent);
    until(&agent, |statuses| status(statuses, "a").rotations == 1).await;
    assert_eq!(creates(&lab), before + 33);
    let waiting = agent.statuses();
    let waiting = waiting.iter().filter(|one| one.certificate.is_none());
    assert_eq!(waiting.filter(|one| one.failures == 0).count(), 80);
    balanced(&lab, &agent).await;
    agent.stop().await;
}
