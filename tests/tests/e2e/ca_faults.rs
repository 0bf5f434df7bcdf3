//! A CA that does not answer, or answers nonsense, or says no.
use std::time::Duration;

use certagent::{cas::Endpoint, run::agent::RunningAgent};
use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};
use certagent_tests::{Lab, serve};
use tokio_util::sync::CancellationToken;

use crate::support::{
    abandoned, an_hour, balanced, creates, due, eventually, failed, frozen, heal, sold, state_of,
    status, supplied,
};

fn on_create(fault: Fault) -> [FaultRule; 1] {
    [FaultRule::always(fault).on(Method::CreateCertificate)]
}

/// One renewal under a fault: it is told, nothing in the volume changes, and it heals.
async fn suffers(lab: &Lab, agent: &RunningAgent, fault: Fault, text: &str) {
    let before = frozen(&lab.volume("a"));
    lab.faults(on_create(fault));
    due(lab, agent);
    let failure = failed(agent, text).await;
    assert!(failure.next_attempt > lab.now(), "it waits in between");
    assert_eq!(frozen(&lab.volume("a")), before);
    lab.faults([]);
    heal(lab, agent).await;
    assert_ne!(frozen(&lab.volume("a")), before);
    balanced(lab, agent).await;
}

#[tokio::test]
async fn nonsense_and_broken_connections_are_told_and_nothing_is_lost_or_bought_twice() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let endpoint = lab.endpoint().to_owned();
    for (fault, text) in [
        (
            Fault::CloseBefore,
            format!("the connection to {endpoint} broke before the answer was complete"),
        ),
        (
            Fault::CloseAfter,
            format!("the connection to {endpoint} broke before the answer was complete"),
        ),
        (
            Fault::Html { status: 200 },
            "HTTP 200, but the answer is not CA Service's JSON: \"<".to_owned(),
        ),
        (Fault::Html { status: 502 }, "HTTP 502, \"<".to_owned()),
        (
            Fault::HugeBody {
                bytes: 10 * 1024 * 1024,
            },
            "the answer is more than 1 MiB; check that the endpoint is CA Service".to_owned(),
        ),
    ] {
        suffers(&lab, &agent, fault, &text).await;
    }
    assert_eq!(abandoned(&agent).await, 0);
    assert_eq!(sold(&lab), 6);
    agent.stop().await;
}

#[tokio::test]
async fn a_lost_reply_is_recovered_by_the_same_request_and_sells_no_second_certificate() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    lab.faults([FaultRule::next(3, Fault::CloseAfter).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    failed(&agent, "broke before the answer").await;
    heal(&lab, &agent).await;
    let requests = lab.emulator.create_requests();
    assert_eq!(
        requests.len(),
        5,
        "the first issue, three lost, one answered"
    );
    assert!(requests[1..].iter().all(|request| *request == requests[1]));
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    assert_eq!(
        lab.read("a").chain().leaf().serial_hex(),
        lab.emulator.sold_serials()[1]
    );
    agent.stop().await;
}

#[tokio::test]
async fn each_refusal_of_the_service_is_told_with_its_next_step() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let refusal = |code, text: &str| Fault::error(ApiError::new(code, text));
    let pool = "projects/demo-project/locations/us-central1/caPools/issuing-pool";
    for (fault, text) in [
        (
            Fault::error(ApiError::permission_denied(
                "privateca.certificates.create",
                pool,
            )),
            "the caller lacks privateca.certificates.create: grant it \
             roles/privateca.certificateRequester on the pool",
        ),
        (
            refusal(Code::NotFound, "no such pool"),
            "HTTP 404 NOT_FOUND, \"no such pool\"; compare the name in the configuration",
        ),
        (
            refusal(Code::InvalidArgument, "the key is too small"),
            "HTTP 400 INVALID_ARGUMENT, \"the key is too small\"; compare keyAlgorithm",
        ),
        (
            refusal(Code::FailedPrecondition, "no CA"),
            "HTTP 400 FAILED_PRECONDITION, \"no CA\"; look at the pool: it needs a CA that is \
             enabled",
        ),
        (
            refusal(Code::Aborted, "conflict"),
            "HTTP 409 ABORTED, \"conflict\"; it is asked again by itself",
        ),
        (
            refusal(Code::ResourceExhausted, "quota"),
            "HTTP 429 RESOURCE_EXHAUSTED, \"quota\"; a quota is used up",
        ),
        (
            refusal(Code::Unavailable, "maintenance"),
            "HTTP 503 UNAVAILABLE, \"maintenance\"; it is asked again by itself",
        ),
    ] {
        suffers(&lab, &agent, fault, text).await;
    }
    assert_eq!(abandoned(&agent).await, 0);
    agent.stop().await;
}

#[tokio::test]
async fn ids_that_the_service_knows_already_and_cannot_answer_for_are_given_up() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let before = frozen(&lab.volume("a"));
    let exists = Fault::error(ApiError::new(Code::AlreadyExists, "exists"));
    lab.faults([FaultRule::next(1, exists).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    failed(
        &agent,
        "and cannot hand it out again (it keeps no certificates); it is given up",
    )
    .await;
    assert_eq!(frozen(&lab.volume("a")), before);
    heal(&lab, &agent).await;
    let requests = lab.emulator.create_requests();
    assert_ne!(
        requests[1].query, requests[2].query,
        "a new key and new ids"
    );
    // The service says that it sold one, whatever the emulator's own book says.
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 1));
    agent.stop().await;
}

#[tokio::test]
async fn a_quota_or_an_outage_is_told_and_keeps_its_request() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    for (code, text) in [
        (Code::ResourceExhausted, "a quota is used up"),
        (Code::Unavailable, "HTTP 503 UNAVAILABLE"),
    ] {
        let before = lab.emulator.create_requests().len();
        suffers(&lab, &agent, Fault::error(ApiError::new(code, "no")), text).await;
        let requests = lab.emulator.create_requests();
        assert_eq!(requests.len(), before + 2);
        assert_eq!(requests[before], requests[before + 1]);
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_wait_that_the_service_asks_for_wins_over_a_shorter_one_of_ours() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let busy = ApiError::new(Code::ResourceExhausted, "quota");
    for fault in [
        Fault::error(busy.clone().with_retry_info(Duration::from_secs(25))),
        Fault::Error {
            error: busy,
            retry_after: Some(Duration::from_secs(25)),
        },
    ] {
        lab.faults(on_create(fault));
        due(&lab, &agent);
        let failure = failed(&agent, "the service asks to be left alone for 25s").await;
        let wait = failure.next_attempt.duration_since(lab.now());
        assert!((25..=35).contains(&wait.as_secs()), "{wait:?}");
        // Nothing that happens meanwhile makes it come sooner: not even the old generation's end.
        let asked = creates(&lab);
        lab.clock
            .set(failure.next_attempt - jiff::SignedDuration::from_secs(1));
        tokio::task::yield_now().await;
        assert_eq!(creates(&lab), asked);
        lab.faults([]);
        heal(&lab, &agent).await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn an_old_generations_end_does_not_bring_a_failed_renewal_forward() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &certagent_tests::Policy::default()).await;
    crate::support::renew(&lab, &agent).await;
    let wait = Duration::from_secs(3000);
    let busy = ApiError::new(Code::Unavailable, "later").with_retry_info(wait);
    lab.faults(on_create(Fault::error(busy)));
    due(&lab, &agent);
    failed(&agent, "later").await;
    let asked = creates(&lab);
    let changed = agent.volumes().changed();
    lab.step(60);
    crate::support::guarded(changed).await;
    assert_eq!(crate::support::generations(&lab.volume("a")).len(), 1);
    let after = status(&agent.statuses(), "a");
    assert_eq!((creates(&lab), after.failures), (asked, 1));
    assert!(after.last_error.is_some());
    agent.stop().await;
}

#[tokio::test]
async fn a_ca_that_is_not_there_is_told_and_found_again_when_it_comes_back() {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    lab.write_workload("a");
    let stop = CancellationToken::new();
    let endpoint = serve(&lab.emulator, "127.0.0.1:0", &stop).await;
    let mut options = lab.options();
    options.endpoint = Endpoint::parse(&endpoint).unwrap();
    let agent = lab.agent_with(options).await;
    certagent_tests::until(&agent, certagent_tests::all_ready).await;
    let before = frozen(&lab.volume("a"));

    let address = endpoint.trim_start_matches("http://").to_owned();
    stop.cancel();
    eventually(|| std::net::TcpStream::connect(&address).is_err()).await;
    due(&lab, &agent);
    let failure = failed(&agent, &format!("no connection to {endpoint} (")).await;
    assert!(
        failure
            .last_error
            .unwrap()
            .contains("so nothing was sent; check that the endpoint is right")
    );
    assert_eq!(frozen(&lab.volume("a")), before);

    let stop = CancellationToken::new();
    serve(&lab.emulator, &address, &stop).await;
    heal(&lab, &agent).await;
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    agent.stop().await;
    stop.cancel();
}

/// Waits for the client's own limit of 20 s: the one test that takes so long.
#[tokio::test]
async fn a_ca_that_never_answers_is_given_up_after_the_attempts_time_and_nothing_is_lost() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let endpoint = lab.endpoint().to_owned();
    let text = format!("no answer from {endpoint} within 20s; it is asked again by itself");
    suffers(&lab, &agent, Fault::Hang, &text).await;
    assert_eq!(abandoned(&agent).await, 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_first_issue_that_fails_leaves_its_request_and_nothing_in_the_volume() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    lab.faults(on_create(Fault::CloseBefore));
    let agent = lab.agent().await;
    let failure = failed(&agent, "broke before the answer").await;
    assert!(state_of(&lab, &failure).join("pending/key.pem").exists());
    let left: Vec<_> = std::fs::read_dir(lab.volume("a")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    lab.faults([]);
    heal(&lab, &agent).await;
    assert!(!state_of(&lab, &failure).join("pending/key.pem").exists());
    balanced(&lab, &agent).await;
    agent.stop().await;
}
