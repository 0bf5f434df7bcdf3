//! Roots come early and go late; those of other trust domains come from bundle endpoints.
use certagent::run::agent::AgentOptions;
use certagent_core::trust;
use certagent_emulator::{Fault, FaultRule, IssuancePolicy, Method};
use certagent_svid::{Certificate, TrustDomain};
use certagent_tests::{Lab, Policy, TRUST_DOMAIN, all_ready, until};

use crate::{
    bundle_server::{BundleServer, root},
    support::{configured, creates, guide_and, pool, renew, status, supplied},
};

const HOUR: i64 = 3600;

/// The guide's pools, and another root with an issuing pool below it.
pub(crate) async fn two_hierarchies() -> Lab {
    let pools = [
        pool("root-two", None, IssuancePolicy::default()),
        pool("issuing-two", Some("root-two"), IssuancePolicy::default()),
    ];
    Lab::with(guide_and(pools)).await
}

/// The root of a pool.
pub(crate) fn root_of(lab: &Lab, id: &str) -> Certificate {
    let name = Lab::pool(id);
    let name = name.trim_start_matches("//privateca.googleapis.com/");
    let answer = lab.emulator.fetch_ca_certs(name).expect("a pool");
    let chains = answer.ca_certs.iter().map(|chain| {
        let pem = chain.certificates.concat();
        Certificate::parse_pem_list(pem.as_bytes()).expect("certificates")
    });
    let chains: Vec<_> = chains.collect();
    trust::roots(&chains).next().expect("a root").clone()
}

/// What the certificate in `a` leads to now.
pub(crate) fn leads_to(lab: &Lab) -> Certificate {
    let there = lab.read("a");
    let path = there.verify(webpki::ALL_VERIFICATION_ALGS, lab.now());
    path.expect("a path").root().clone()
}

fn a_day() -> Policy {
    Policy {
        validity: 24 * 3600,
        ..Policy::default()
    }
}

#[tokio::test]
async fn a_root_is_rotated_end_to_end_with_a_restart_in_between() {
    let lab = two_hierarchies().await;
    let (old, new) = (root_of(&lab, "root-pool"), root_of(&lab, "root-two"));
    let agent = supplied(&lab, &a_day()).await;
    let domain = TrustDomain::new(TRUST_DOMAIN).unwrap();
    assert_eq!(lab.read("a").roots(), std::slice::from_ref(&old));

    // Early: the new root is there before anything is issued below it.
    lab.write_trust_of(&["root-pool", "root-two"]);
    until(&agent, |_| lab.read("a").roots().len() == 2).await;
    assert_eq!((creates(&lab), leads_to(&lab)), (1, old.clone()));
    let config = lab.config_dir().join("WorkloadCertificateConfig.yaml");
    let text = std::fs::read_to_string(config).unwrap();
    let text = text.replace("caPools/issuing-pool", "caPools/issuing-two");
    lab.write_config("WorkloadCertificateConfig.yaml", &text);
    configured(&agent, |active| {
        active.config.certificates.pools[0].id() == "issuing-two"
    })
    .await;
    renew(&lab, &agent).await;
    assert_eq!(leads_to(&lab), new);

    // Late: peers may have certificates below the old one for a day.
    lab.write_trust_of(&["root-two"]);
    configured(&agent, |active| {
        active.config.trust.stores[&domain].len() == 1
    })
    .await;
    let removed = lab.now();
    let before = lab.read("a").sequence(&domain);
    lab.step(HOUR);
    agent.stop().await;
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    renew(&lab, &agent).await;
    assert_eq!(lab.read("a").roots().len(), 2);
    // A volume that is new gets it, too.
    lab.write_workload("b");
    until(&agent, |statuses| {
        statuses.len() == 2 && all_ready(statuses)
    })
    .await;
    assert_eq!(lab.read("b").roots().len(), 2);
    let rest = 24 * HOUR - lab.now().duration_since(removed).as_secs();
    lab.step(rest - 1);
    let agent = restarted(&lab, agent, lab.options()).await;
    assert_eq!(lab.read("a").roots().len(), 2);
    assert_eq!(lab.read("a").sequence(&domain), before);

    lab.step(1);
    for volume in ["a", "b"] {
        until(&agent, |_| lab.read(volume).roots().len() == 1).await;
        assert_eq!(lab.read(volume).roots(), std::slice::from_ref(&new));
    }
    assert_eq!(lab.read("a").sequence(&domain), before.map(|one| one + 1));
    assert_eq!(leads_to(&lab), new);
    agent.stop().await;
}

async fn restarted(
    lab: &Lab,
    agent: certagent::run::agent::RunningAgent,
    options: AgentOptions,
) -> certagent::run::agent::RunningAgent {
    agent.stop().await;
    let agent = lab.agent_with(options).await;
    until(&agent, all_ready).await;
    agent
}

/// Two pools for the own trust domain, and an endpoint for another.
pub(crate) fn write_federation(lab: &Lab, url: &str) {
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
    - certificateAuthorityServiceURI: {}
  - trustDomain: partner.example
    trustAnchors:
    - spiffeTrustBundleEndpoint: {url}
",
            Lab::pool("root-pool"),
            Lab::pool("root-two")
        ),
    );
    let document = certagent_tests::workload("a", &lab.volume("a")).replace(
        "  namespace:",
        &format!("  trustDomain: {TRUST_DOMAIN}\n  namespace:"),
    );
    std::fs::create_dir_all(lab.volume("a")).unwrap();
    lab.write_config("workload-a.yaml", &document);
    lab.write_policy(&a_day());
}

#[tokio::test]
async fn roots_of_another_domain_come_from_its_endpoint_and_into_no_file_of_the_own_one() {
    let lab = two_hierarchies().await;
    let server = BundleServer::start(lab.path()).await;
    let (first, second) = (root("first"), root("second"));
    server.serve(&[&first], 1);
    write_federation(&lab, &server.url);
    let options = || AgentOptions {
        roots: server.roots.clone(),
        ..lab.options()
    };
    let agent = lab.agent_with(options()).await;
    until(&agent, all_ready).await;
    let (own, partner) = (
        TrustDomain::new(TRUST_DOMAIN).unwrap(),
        TrustDomain::new("partner.example").unwrap(),
    );
    let of_partner = || {
        let there = lab.read("a");
        let bundles = there.bundles().unwrap();
        assert_eq!(bundles.len(), 2);
        // Never merged: each of the own files has the own roots alone.
        assert_eq!(bundles.get(&own).unwrap().roots(), there.roots());
        assert!(
            !there
                .roots()
                .iter()
                .any(|one| [&first, &second].contains(&one))
        );
        bundles
            .get(&partner)
            .map(|bundle| bundle.roots().to_vec())
            .unwrap_or_default()
    };
    assert_eq!(of_partner(), std::slice::from_ref(&first));
    assert_eq!(lab.read("a").roots().len(), 2);

    // One of three sources fails: its roots stay, and the news of the others comes through.
    lab.faults([FaultRule::next(1, Fault::Html { status: 503 }).on(Method::FetchCaCerts)]);
    server.serve(&[&first, &second], 2);
    lab.step(5 * 60);
    until(&agent, |_| of_partner().len() == 2).await;
    assert_eq!(lab.read("a").roots().len(), 2);

    // The endpoint fails over a restart, with the state lost: what is published stays.
    server.fail();
    let agent = restarted(&lab, agent, options()).await;
    assert_eq!(of_partner().len(), 2);
    agent.stop().await;
    std::fs::remove_file(lab.state_dir().join("trust.json")).unwrap();
    let agent = lab.agent_with(options()).await;
    until(&agent, all_ready).await;
    renew(&lab, &agent).await;
    assert_eq!(of_partner().len(), 2);

    // To take the domain out ends it at once.
    lab.faults([]);
    lab.write_trust_of(&["root-pool", "root-two"]);
    until(&agent, |_| lab.read("a").bundles().unwrap().len() == 1).await;
    assert_eq!(status(&agent.statuses(), "a").failures, 0);
    agent.stop().await;
}
