//! A SPIFFE bundle endpoint that is away for an hour: before its first answer, and afterwards.
use certagent::run::agent::{AgentOptions, RunningAgent};
use certagent_svid::{Certificate, TrustDomain};
use certagent_tests::{Lab, all_ready, until};

use crate::{
    bundle_server::{BundleServer, root},
    root_rotation::{two_hierarchies, write_federation},
    support::{abandoned, balanced, creates, frozen, renew, sold, status},
};

/// A laboratory with the endpoint of a partner.
struct Federation {
    lab: Lab,
    server: BundleServer,
}

impl Federation {
    async fn new() -> Self {
        let lab = two_hierarchies().await;
        let server = BundleServer::start(lab.path()).await;
        write_federation(&lab, &server.url);
        Self { lab, server }
    }

    async fn start(&self) -> RunningAgent {
        let options = AgentOptions {
            roots: self.server.roots.clone(),
            ..self.lab.options()
        };
        let agent = self.lab.agent_with(options).await;
        until(&agent, all_ready).await;
        agent
    }

    /// The partner's roots in the volume.
    fn of_partner(&self) -> Vec<Certificate> {
        let partner = TrustDomain::new("partner.example").unwrap();
        let there = self.lab.read("a");
        let bundles = there.bundles().unwrap();
        let bundle = bundles.get(&partner);
        bundle.map_or_else(Vec::new, |bundle| bundle.roots().to_vec())
    }

    /// Steps the clock by five minutes, and waits until the endpoint was asked. An answer that is
    /// still under way when the clock is stepped dates the next question later.
    async fn five_minutes(&self) {
        let asked = self.server.asked();
        self.lab.step(5 * 60);
        for _ in 0..20_000 {
            if self.server.asked() > asked {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// An hour, in which it is asked now and then.
    async fn an_hour(&self) {
        let asked = self.server.asked();
        for _ in 0..12 {
            self.five_minutes().await;
        }
        let asked = self.server.asked() - asked;
        assert!((4..=24).contains(&asked), "{asked}");
    }

    /// Steps the clock until the endpoint was asked, and waits until the partner's roots are these.
    async fn comes_back_with(&self, agent: &RunningAgent, roots: &[&Certificate], sequence: u64) {
        self.server.serve(roots, sequence);
        let asked = self.server.asked();
        for _ in 0..12 {
            if self.server.asked() == asked {
                self.five_minutes().await;
            }
        }
        until(agent, |_| {
            let there = self.of_partner();
            there.len() == roots.len() && roots.iter().all(|root| there.contains(root))
        })
        .await;
    }
}

#[tokio::test]
async fn an_hour_without_an_endpoint_that_never_answered_holds_no_certificate_up() {
    let federation = Federation::new().await;
    let lab = &federation.lab;
    let agent = federation.start().await;
    assert_eq!(federation.of_partner(), []);
    let before = frozen(&lab.volume("a"));
    federation.an_hour().await;
    assert_eq!(frozen(&lab.volume("a")), before);
    assert_eq!(status(&agent.statuses(), "a").failures, 0);

    let first = root("first");
    federation.comes_back_with(&agent, &[&first], 1).await;
    let after = frozen(&lab.volume("a"));
    assert_eq!(
        before["credential-bundle.pem"].0, after["credential-bundle.pem"].0,
        "the same key and certificate"
    );
    assert_eq!(creates(lab), 1);
    agent.stop().await;
}

#[tokio::test]
async fn an_hour_without_an_endpoint_keeps_its_roots_and_renewals_go_on() {
    let federation = Federation::new().await;
    let lab = &federation.lab;
    let (first, second) = (root("first"), root("second"));
    federation.server.serve(&[&first], 1);
    let agent = federation.start().await;
    assert_eq!(federation.of_partner(), std::slice::from_ref(&first));

    federation.server.fail();
    let before = frozen(&lab.volume("a"));
    federation.an_hour().await;
    assert_eq!(frozen(&lab.volume("a")), before);
    renew(lab, &agent).await;
    assert_eq!(federation.of_partner(), std::slice::from_ref(&first));
    federation.an_hour().await;
    assert_eq!(federation.of_partner(), std::slice::from_ref(&first));

    federation
        .comes_back_with(&agent, &[&first, &second], 2)
        .await;
    assert_eq!((sold(lab), abandoned(&agent).await), (2, 0));
    balanced(lab, &agent).await;
    agent.stop().await;
}
