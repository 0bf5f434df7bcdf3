//! The agent ends and is started again.
use certagent::{cas::Endpoint, run::agent::RunningAgent};
use certagent_emulator::{Fault, FaultRule, Method};
use certagent_svid::PublicKeyKind;
use certagent_tests::{Lab, Policy, all_ready, until};
use jiff::SignedDuration;

use crate::support::{
    abandoned, an_hour, attempt, certificate, creates, due, eventually, failed, frozen, heal,
    renew, sold, state_of, status, supplied,
};

/// Starts an agent again, and waits until it has looked at its one volume.
async fn again(lab: &Lab) -> RunningAgent {
    let agent = lab.agent().await;
    looked(lab, &agent).await;
    agent
}

async fn looked(lab: &Lab, agent: &RunningAgent) {
    until(agent, |statuses| {
        status(statuses, "a").next_attempt > lab.now()
    })
    .await;
}

#[tokio::test]
async fn a_restart_asks_for_nothing_while_the_certificate_is_good_and_keeps_its_date() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    renew(&lab, &agent).await;
    let (before, files) = (certificate(&agent), frozen(&lab.volume("a")));
    agent.stop().await;
    let pools = lab.emulator.stats().requests(Method::GetCaPool);
    // Even if the configuration was changed meanwhile.
    lab.write_policy(&Policy {
        validity: 7200,
        rotation_window: 90,
        ..an_hour()
    });
    for _ in 0..3 {
        lab.step(10);
        let agent = again(&lab).await;
        let after = certificate(&agent);
        assert_eq!(
            (after.serial, after.renew_at),
            (before.serial.clone(), before.renew_at)
        );
        agent.stop().await;
    }
    assert_eq!(creates(&lab), 2);
    assert_eq!(lab.emulator.stats().requests(Method::GetCaPool), pools);
    assert_eq!(frozen(&lab.volume("a")), files);
}

#[tokio::test]
async fn a_lost_state_directory_costs_no_request_and_sequences_do_not_go_back() {
    let lab = Lab::with(crate::support::guide_and([crate::support::pool(
        "other-root",
        None,
        certagent_emulator::IssuancePolicy::default(),
    )]))
    .await;
    let agent = supplied(&lab, &an_hour()).await;
    lab.write_trust_of(&["root-pool", "other-root"]);
    until(&agent, |_| lab.read("a").roots().len() == 2).await;
    let before = certificate(&agent);
    agent.stop().await;
    let files = frozen(&lab.volume("a"));
    std::fs::remove_dir_all(lab.state_dir()).unwrap();

    let agent = again(&lab).await;
    assert_eq!(certificate(&agent).serial, before.serial);
    assert_eq!(certificate(&agent).renew_at, before.renew_at);
    assert_eq!(creates(&lab), 1);
    assert_eq!(frozen(&lab.volume("a")), files);
    renew(&lab, &agent).await;
    let there = lab.read("a");
    let domain = there.bundle().trust_domain();
    assert_eq!(there.sequence(domain), Some(2));
    agent.stop().await;
}

#[tokio::test]
async fn a_corrupt_record_is_set_aside_and_rebuilt_without_a_request() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let before = certificate(&agent);
    let state = state_of(&lab, &status(&agent.statuses(), "a"));
    agent.stop().await;
    std::fs::write(state.join("record.json"), "{\"record\": torn").unwrap();
    let agent = again(&lab).await;
    assert!(state.join("record.json.corrupt").exists());
    assert_eq!(certificate(&agent).serial, before.serial);
    assert_eq!(certificate(&agent).renew_at, before.renew_at);
    assert_eq!(creates(&lab), 1);
    renew(&lab, &agent).await;
    assert!(state.join("record.json").exists());
    agent.stop().await;
}

#[tokio::test]
async fn an_open_request_is_sent_again_byte_for_byte_whatever_was_edited() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    lab.faults([FaultRule::always(Fault::CloseAfter).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    failed(&agent, "broke before the answer").await;
    agent.stop().await;
    lab.write_policy(&Policy {
        key_algorithm: "{ecdsa: {curve: P384}}".to_owned(),
        ..an_hour()
    });
    lab.step(600);
    lab.faults([]);
    let agent = lab.agent().await;
    until(&agent, |statuses| statuses[0].rotations == 1).await;
    let requests = lab.emulator.create_requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[1], requests[2]);
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    assert_eq!(certificate(&agent).key, PublicKeyKind::EcP256);
    assert_eq!(renew(&lab, &agent).await.key, PublicKeyKind::EcP384);
    agent.stop().await;
}

#[tokio::test]
async fn an_open_request_that_is_too_old_is_replaced_and_counted() {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    lab.write_workload("a");
    lab.faults([FaultRule::always(Fault::CloseAfter).on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    failed(&agent, "broke before the answer").await;
    agent.stop().await;
    lab.step(55 * 60);
    lab.faults([]);
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    let requests = lab.emulator.create_requests();
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].query, requests[1].query);
    assert_ne!(requests[0].body, requests[1].body);
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 1));
    agent.stop().await;
}

#[tokio::test]
async fn a_torn_request_is_given_up_without_asking_while_the_certificate_is_good() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let pending = state_of(&lab, &status(&agent.statuses(), "a")).join("pending");
    agent.stop().await;
    std::fs::write(pending.join("request.json"), "torn").unwrap();
    let agent = again(&lab).await;
    assert!(!pending.join("request.json").exists());
    assert_eq!((creates(&lab), abandoned(&agent).await), (1, 1));
    assert_eq!(status(&agent.statuses(), "a").failures, 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_restart_while_the_ca_is_away_keeps_everything_and_renews_when_it_is_back() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let (before, files) = (certificate(&agent), frozen(&lab.volume("a")));
    agent.stop().await;

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let mut options = lab.options();
    options.endpoint = Endpoint::parse(&format!("http://{address}")).unwrap();
    let agent = lab.agent_with(options).await;
    looked(&lab, &agent).await;
    assert_eq!(certificate(&agent).serial, before.serial);
    assert_eq!(status(&agent.statuses(), "a").failures, 0);
    due(&lab, &agent);
    failed(&agent, "no connection to").await;
    attempt(&lab, &agent).await;
    assert_eq!(frozen(&lab.volume("a")), files);
    assert_eq!(creates(&lab), 1);

    let stop = tokio_util::sync::CancellationToken::new();
    certagent_tests::serve(&lab.emulator, &address.to_string(), &stop).await;
    eventually(|| std::net::TcpStream::connect(address).is_ok()).await;
    // The roots are asked for first.
    lab.step(SignedDuration::from_mins(5).as_secs());
    heal(&lab, &agent).await;
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    agent.stop().await;
    stop.cancel();
}

#[tokio::test]
async fn broken_files_at_the_start_are_told_and_the_last_good_config_is_used() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let before = certificate(&agent);
    agent.stop().await;
    lab.write_config("WorkloadCertificateConfig.yaml", "kind: [");
    let agent = again(&lab).await;
    let problem = agent.config().borrow().problem.clone();
    assert!(
        problem
            .unwrap()
            .contains("WorkloadCertificateConfig.yaml:1")
    );
    assert_eq!(certificate(&agent).serial, before.serial);
    renew(&lab, &agent).await;
    agent.stop().await;

    // Without a last good one there is nothing to go on with.
    let lab = Lab::new().await;
    lab.write_config("WorkloadCertificateConfig.yaml", "kind: [");
    let started =
        certagent::run::agent::start(lab.options(), tokio_util::sync::CancellationToken::new())
            .await;
    let error = started.err().expect("it cannot start");
    assert!(
        error
            .to_string()
            .contains("the configuration cannot be used"),
        "{error:#}"
    );
}

#[tokio::test]
async fn an_agent_that_ends_while_a_request_is_open_sends_it_again_at_the_next_start() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let files = frozen(&lab.volume("a"));
    lab.faults([FaultRule::always(Fault::Hang).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    eventually(|| creates(&lab) == 2).await;
    agent.stop().await;
    assert_eq!(frozen(&lab.volume("a")), files);
    lab.faults([]);
    let agent = lab.agent().await;
    until(&agent, |statuses| statuses[0].rotations == 1).await;
    let requests = lab.emulator.create_requests();
    assert_eq!(requests[1], requests[2]);
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    agent.stop().await;
}
