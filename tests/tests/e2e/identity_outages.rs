//! An identity that is away for an hour: the metadata server for the agent's own, the token service
//! for the workloads' own. Tokens live for ten minutes here.
use std::collections::BTreeMap;

use certagent::{
    google::{Environment, IdentityChoice},
    run::agent::{AgentOptions, RunningAgent},
};
use certagent_emulator::{ApiError, Code, Fault, FaultRule, IdentityConfig, Method};
use certagent_tests::{Lab, Policy, all_ready, until};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    reflected::Cluster,
    support::{
        abandoned, attempts_for, balanced, creates, due, failed, frozen, guide_and, heal, sold,
        state_of, status,
    },
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const ACCOUNT: &str = "agent@demo-project.iam.gserviceaccount.com";

/// A way to be somebody.
enum Way {
    /// By the metadata server.
    Direct(Lab),
    /// By the token service.
    Reflected(Cluster),
}

impl Way {
    async fn both() -> [Self; 2] {
        let member = format!("serviceAccount:{ACCOUNT}");
        let identities: IdentityConfig = serde_json::from_value(json!({
            "serviceAccounts": [{ "email": ACCOUNT }],
            "metadataServer": { "serviceAccount": ACCOUNT },
            "bindings": [
                { "role": "roles/privateca.certificateRequester", "members": [member] },
                { "role": "roles/privateca.poolReader", "members": [member] },
            ],
            "tokenLifetimeSeconds": 600,
        }))
        .unwrap();
        let lab = Lab::with(guide_and([]).with_identities(identities)).await;
        [Self::Direct(lab), Self::Reflected(Cluster::new().await)]
    }

    fn lab(&self) -> &Lab {
        match self {
            Self::Direct(lab) => lab,
            Self::Reflected(cluster) => &cluster.lab,
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::Direct(_) => Method::GetMetadata,
            Self::Reflected(_) => Method::ExchangeToken,
        }
    }

    /// How often whoever gives tokens was asked for one.
    fn asked(&self) -> u64 {
        self.lab().emulator.stats().requests(self.method())
    }

    fn away(&self) -> FaultRule {
        let away = Fault::error(ApiError::new(Code::Unavailable, "away"));
        FaultRule::always(away).on(self.method())
    }

    /// Starts an agent for the workload `a`.
    async fn start(&self) -> RunningAgent {
        let lab = self.lab();
        lab.write_policy(&Policy {
            validity: 6 * 3600,
            ..Policy::default()
        });
        match self {
            Self::Direct(lab) => {
                lab.write_workload("a");
                let host = lab.endpoint().trim_start_matches("http://");
                let host = ("GCE_METADATA_HOST".to_owned(), host.into());
                let environment = Environment::Given(BTreeMap::from([host]));
                let identity = IdentityChoice::Direct(environment);
                let options = AgentOptions {
                    identity,
                    ..lab.options()
                };
                lab.agent_with(options).await
            }
            Self::Reflected(cluster) => {
                cluster.workload("a");
                cluster.start(None).await
            }
        }
    }

    /// So many attempts are bounded, and so are questions for a token: the roots of the pools are
    /// asked for meanwhile, too.
    fn assert_bounded(&self, attempts: u64, asked_before: u64) {
        assert!((12..=24).contains(&attempts), "{attempts} attempts");
        let asked = self.asked() - asked_before;
        assert!(asked <= 3 * attempts, "{asked} in {attempts} attempts");
    }
}

#[tokio::test]
async fn an_hour_without_an_identity_before_the_first_issue_costs_some_attempts_and_no_restart() {
    for way in Way::both().await {
        let lab = way.lab();
        lab.faults([way.away()]);
        let agent = way.start().await;
        failed(&agent, "no access token").await;
        let asked = way.asked();
        let attempts = attempts_for(lab, &agent, HOUR).await;
        way.assert_bounded(attempts, asked);
        assert_eq!(creates(lab), 0);

        lab.faults([]);
        supplied_at_last(lab, &agent).await;
        assert_eq!((sold(lab), abandoned(&agent).await), (1, 0));
        balanced(lab, &agent).await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_hour_without_an_identity_when_a_renewal_is_due_leaves_the_certificate_where_it_is() {
    for way in Way::both().await {
        let lab = way.lab();
        let agent = way.start().await;
        until(&agent, all_ready).await;
        let before = frozen(&lab.volume("a"));
        lab.faults([way.away()]);
        due(lab, &agent);
        let failure = failed(&agent, "no access token").await;
        assert!(failure.is_valid(lab.now()));
        let asked = way.asked();
        let attempts = attempts_for(lab, &agent, HOUR).await;
        way.assert_bounded(attempts, asked);
        assert!(status(&agent.statuses(), "a").is_valid(lab.now()));
        assert_eq!(frozen(&lab.volume("a")), before);
        assert_eq!(creates(lab), 1);

        lab.faults([]);
        heal(lab, &agent).await;
        assert_ne!(frozen(&lab.volume("a")), before);
        assert_eq!((sold(lab), abandoned(&agent).await), (2, 0));
        balanced(lab, &agent).await;
        agent.stop().await;
    }
}

/// Steps the clock until `a` has its certificate. The roots come first, whose answer is waited for:
/// attempts alone would run ahead of it, and of the end of the token that it was asked with.
async fn supplied_at_last(lab: &Lab, agent: &RunningAgent) {
    for _ in 0..24 {
        lab.step(5 * 60);
        for _ in 0..20_000 {
            if all_ready(&agent.statuses()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    panic!("it does not heal: {:#?}", agent.statuses());
}

/// The reply to the first request is lost, and then nobody gives tokens for so many minutes.
async fn lost_and_then_away(way: &Way, minutes: i64) -> RunningAgent {
    let lab = way.lab();
    lab.faults([FaultRule::next(1, Fault::LostReply).on(Method::CreateCertificate)]);
    let agent = way.start().await;
    let failures = failed(&agent, "before the answer").await.failures;
    lab.faults([way.away()]);
    // The token has ended by then.
    lab.step(600);
    until(&agent, |statuses| status(statuses, "a").failures > failures).await;
    failed(&agent, "no access token").await;
    attempts_for(lab, &agent, SignedDuration::from_mins(minutes - 10)).await;
    assert_eq!(creates(lab), 1, "nothing is sent without a token");
    lab.faults([]);
    heal(lab, &agent).await;
    agent
}

#[tokio::test]
async fn forty_minutes_without_an_identity_after_a_request_was_sent_lose_nothing() {
    for way in Way::both().await {
        let agent = lost_and_then_away(&way, 40).await;
        let lab = way.lab();
        assert_eq!((sold(lab), abandoned(&agent).await), (1, 0));
        let requests = lab.emulator.create_requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0], requests[1], "the same bytes");
        balanced(lab, &agent).await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_hour_without_an_identity_after_a_request_was_sent_loses_that_one_certificate_at_most() {
    for way in Way::both().await {
        let agent = lost_and_then_away(&way, 60).await;
        // Its ids are known for 55 minutes; after that nobody can ask for it any more.
        assert_eq!((sold(way.lab()), abandoned(&agent).await), (2, 1));
        balanced(way.lab(), &agent).await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_request_that_waits_for_a_token_for_an_hour_is_kept_and_costs_no_certificate() {
    let cluster = Cluster::new().await;
    // By whose token the pool was looked at a moment ago.
    let agent = cluster.supplied(&["b"]).await;
    let way = Way::Reflected(cluster);
    let lab = way.lab();
    lab.faults([way.away()]);
    if let Way::Reflected(cluster) = &way {
        cluster.workload("a");
    }
    until(&agent, |statuses| statuses.len() == 2).await;
    let failure = failed(&agent, "no access token").await;
    let key = state_of(lab, &failure).join("pending/key.pem");
    let before = std::fs::read(&key).unwrap();
    let asked = way.asked();
    let early = attempts_for(lab, &agent, SignedDuration::from_mins(50)).await;
    assert!(std::fs::read(&key).unwrap() == before, "another key");
    let late = attempts_for(lab, &agent, SignedDuration::from_mins(10)).await;
    way.assert_bounded(early + late, asked);
    assert_eq!(creates(lab), 1, "nothing is sent without a token");

    lab.faults([]);
    heal(lab, &agent).await;
    assert_eq!((sold(lab), abandoned(&agent).await), (2, 0));
    agent.stop().await;
}
