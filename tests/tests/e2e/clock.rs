//! The clock is set while the agent runs.
use certagent_emulator::{Fault, FaultRule, Method};
use certagent_tests::{Lab, Policy, until};

use crate::support::{
    abandoned, an_hour, balanced, certificate, creates, failed, frozen, guarded, heal, renew, sold,
    status, supplied,
};

#[tokio::test]
async fn an_hour_back_asks_for_nothing_and_the_date_of_renewal_stays() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &Policy::default()).await;
    let (before, files) = (certificate(&agent), frozen(&lab.volume("a")));
    let requests = lab.emulator.stats().requests;
    let looked = agent.volumes().changed();
    lab.step(-3600);
    guarded(looked).await;
    assert_eq!(certificate(&agent).renew_at, before.renew_at);
    assert_eq!(frozen(&lab.volume("a")), files);
    assert_eq!(
        lab.emulator.stats().requests(Method::CreateCertificate),
        requests[&Method::CreateCertificate]
    );
    let now = status(&agent.statuses(), "a");
    assert_eq!((now.failures, now.next_attempt), (0, before.renew_at));

    // Set right again, it goes on as if nothing had been.
    lab.step(3600);
    renew(&lab, &agent).await;
    assert_eq!((creates(&lab), sold(&lab)), (2, 2));
    agent.stop().await;
}

#[tokio::test]
async fn an_hour_forward_renews_what_has_ended_once() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &Policy::default()).await;
    lab.step(3600);
    let statuses = until(&agent, |statuses| statuses[0].rotations == 1).await;
    assert!(status(&statuses, "a").next_attempt > lab.now());
    renew(&lab, &agent).await;
    assert_eq!((creates(&lab), sold(&lab)), (3, 3));

    // And back, after the certificate of the future was made: none is bought in between.
    let looked = agent.volumes().changed();
    lab.step(-3600);
    guarded(looked).await;
    assert_eq!(creates(&lab), 3);
    lab.step(3600);
    renew(&lab, &agent).await;
    assert_eq!((creates(&lab), sold(&lab)), (4, 4));
    assert_eq!(abandoned(&agent).await, 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_step_while_a_request_is_open_neither_loops_nor_buys_twice() {
    for step in [-3600, -600, 600] {
        let lab = Lab::new().await;
        let agent = supplied(&lab, &an_hour()).await;
        lab.faults([FaultRule::next(1, Fault::CloseAfter).on(Method::CreateCertificate)]);
        crate::support::due(&lab, &agent);
        failed(&agent, "broke before the answer").await;
        assert_eq!(creates(&lab), 2);
        lab.step(step);
        heal(&lab, &agent).await;
        // What was bought before the step is used: the clock had moved by less than the CA's hour.
        assert_eq!((creates(&lab), sold(&lab)), (3, 2), "{step}");
        assert_eq!(abandoned(&agent).await, 0, "{step}");
        balanced(&lab, &agent).await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_step_of_an_hour_forward_gives_an_open_request_up_and_counts_it() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    lab.faults([FaultRule::next(1, Fault::CloseAfter).on(Method::CreateCertificate)]);
    crate::support::due(&lab, &agent);
    failed(&agent, "broke before the answer").await;
    lab.step(3600);
    heal(&lab, &agent).await;
    let requests = lab.emulator.create_requests();
    assert_ne!(requests[1], requests[2], "a new key and new ids");
    assert_eq!((sold(&lab), abandoned(&agent).await), (3, 1));
    balanced(&lab, &agent).await;
    agent.stop().await;
}
