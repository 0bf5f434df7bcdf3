use std::sync::Arc;

use certagent_core::bundle_endpoint::BundleEndpoint;
use certagent_emulator::{Code, Fault, FaultRule, Method};
use futures::future::join_all;
use tokio::sync::watch;

use super::*;
use crate::{
    admin::Metrics,
    cas::lab::{Lab, domain, enterprise, issuing, now, pool, refusal},
    trust::{
        EndpointClient, Fingerprint, Sources,
        lab::{BundleServer, bundle, config, root},
    },
};

fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn roots(trust: &Trust, name: &str) -> Vec<Certificate> {
    trust
        .bundle(&domain(name))
        .map(|bundle| bundle.roots().to_vec())
        .unwrap_or_default()
}

fn started(config: &Config, distrust: &[&Certificate]) -> Trust {
    let distrust = distrust.iter().map(|root| Fingerprint::of(root)).collect();
    let lives = validity(&config.certificates);
    Trust::resume(&config.trust, lives, Kept::default(), distrust, now())
}

fn sources(lab: &Lab, endpoints: EndpointClient) -> Sources {
    Sources {
        pools: lab.client.clone(),
        endpoints,
    }
}

/// Asks every source once.
async fn refresh(sources: &Sources, previous: &Trust, now: Timestamp) -> Trust {
    let mut trust = previous.clone();
    let names: Vec<SourceName> = trust.sources().keys().cloned().collect();
    let answers = join_all(names.iter().map(|name| sources.ask(name))).await;
    for (name, answer) in names.iter().zip(answers) {
        trust.record(name, answer, now);
    }
    trust
}

fn pools_only(lab: &Lab) -> Sources {
    sources(
        lab,
        EndpointClient::new(&crate::cas::Roots::none()).unwrap(),
    )
}

fn said(roots: &[&Certificate]) -> Answer {
    Answer {
        roots: roots.iter().copied().cloned().collect(),
        sequence: None,
        refresh_hint: None,
    }
}

fn endpoint(text: &str) -> BundleEndpoint {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_pools_roots_are_the_ends_of_its_chains_and_domains_stay_apart() {
    let lab = Lab::with_other_root().await;
    let (root, other) = (lab.root("root-pool"), lab.root("other-pool"));
    let config = config(&[
        // The issuing pool's chain ends in the root pool's root: the same root twice.
        (
            "a",
            &[
                TrustAnchor::Pool(issuing()),
                TrustAnchor::Pool(enterprise()),
            ],
        ),
        ("b", &[TrustAnchor::Pool(pool("other-pool"))]),
        ("c", &[TrustAnchor::Pem(root.clone())]),
    ]);
    let trust = refresh(&pools_only(&lab), &Trust::new(&config.trust), now()).await;
    assert_eq!(roots(&trust, "a"), std::slice::from_ref(&root));
    assert_eq!(roots(&trust, "b"), [other]);
    assert_eq!(roots(&trust, "c"), [root]);
    assert!(trust.is_resolved());
    assert!(
        trust
            .sources()
            .values()
            .all(|source| source.last_success == Some(now()))
    );
}

#[tokio::test]
async fn roots_are_kept_while_their_pool_is_away_and_the_source_says_so() {
    let lab = Lab::start().await;
    let config = config(&[("a", &[TrustAnchor::Pool(enterprise())])]);
    let first = refresh(&pools_only(&lab), &Trust::new(&config.trust), now()).await;
    for fault in [
        Fault::CloseBefore,
        Fault::Html { status: 200 },
        refusal(Code::NotFound, "gone"),
        refusal(Code::PermissionDenied, "no"),
    ] {
        lab.always(fault);
        let later = refresh(&pools_only(&lab), &first, at(300)).await;
        assert_eq!(later.bundles(), first.bundles());
        let source = &later.sources()[&SourceName::Pool(enterprise())];
        assert_eq!((source.last_success, source.failures), (Some(now()), 1));
        assert!(
            source
                .error
                .as_ref()
                .unwrap()
                .to_string()
                .contains("caPools/root-pool")
        );
        assert!(later.is_complete(&domain("a")));
    }
}

#[tokio::test]
async fn a_domain_is_there_only_when_one_of_its_anchors_is_known() {
    let lab = Lab::start().await;
    let root = lab.root("root-pool");
    let config = config(&[
        ("a", &[TrustAnchor::Pool(pool("no-such-pool"))]),
        (
            "b",
            &[
                TrustAnchor::Pool(pool("no-such-pool")),
                TrustAnchor::Pem(root.clone()),
            ],
        ),
    ]);
    let before = Trust::new(&config.trust);
    assert_eq!(roots(&before, "b"), std::slice::from_ref(&root));
    assert!(!before.is_resolved());
    let trust = refresh(&pools_only(&lab), &before, now()).await;
    assert!(trust.is_resolved());
    assert!(trust.bundle(&domain("a")).is_none());
    assert_eq!(roots(&trust, "b"), [root]);
    assert!(!trust.is_complete(&domain("b")) && !trust.is_complete(&domain("unknown")));
    assert!(trust.is_anchored(&domain("a")) && !trust.is_anchored(&domain("unknown")));
    assert!(
        before
            .trouble(&domain("a"))
            .ends_with("caPools/no-such-pool has not been asked yet")
    );
    assert!(trust.trouble(&domain("a")).contains("HTTP 404"));
    assert!(
        trust
            .trouble(&domain("unknown"))
            .contains("no trustStores entry for unknown")
    );
    assert!(
        trust
            .describe_anchors(&domain("a"))
            .ends_with("which has not answered yet")
    );
}

#[tokio::test]
async fn one_pool_that_fails_does_not_keep_the_others_back() {
    let lab = Lab::with_other_root().await;
    lab.emulator.set_faults(vec![
        FaultRule::next(1, Fault::CloseBefore).on(Method::FetchCaCerts),
    ]);
    let config = config(&[
        ("a", &[TrustAnchor::Pool(enterprise())]),
        ("b", &[TrustAnchor::Pool(pool("no-such-pool"))]),
    ]);
    let first = refresh(&pools_only(&lab), &Trust::new(&config.trust), now()).await;
    let second = refresh(&pools_only(&lab), &first, at(5)).await;
    assert_eq!(roots(&second, "a"), [lab.root("root-pool")]);
    assert_eq!(
        second.sources()[&SourceName::Pool(pool("no-such-pool"))].failures,
        2
    );
}

#[tokio::test]
async fn one_source_among_three_that_fails_keeps_its_roots_and_is_named_and_the_others_go_on() {
    let lab = Lab::with_other_root().await;
    let server = BundleServer::start().await;
    let (federated, newer) = (root("federated"), root("newer"));
    server.serve(&bundle(std::slice::from_ref(&federated)));
    let config = config(&[(
        "a",
        &[
            TrustAnchor::Pool(enterprise()),
            TrustAnchor::Pool(pool("other-pool")),
            TrustAnchor::Endpoint(server.endpoint()),
        ],
    )]);
    let sources = sources(&lab, server.client());
    let first = refresh(&sources, &started(&config, &[]), now()).await;
    assert_eq!(roots(&first, "a").len(), 3);
    // One of the pools is away, and the endpoint has something new.
    lab.emulator.set_faults(vec![
        FaultRule::next(1, Fault::Html { status: 503 }).on(Method::FetchCaCerts),
    ]);
    server.serve(&bundle(&[federated, newer.clone()]));
    let second = refresh(&sources, &first, at(300)).await;
    let failed: Vec<_> = second
        .sources()
        .values()
        .filter_map(|one| one.error.as_ref())
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].to_string().contains("caPools/"), "{}", failed[0]);
    assert_eq!(roots(&second, "a").len(), 4);
    assert!(roots(&second, "a").contains(&newer));
    assert!(second.is_news_after(&first));
    // And then the endpoint.
    server.answer(503, "busy");
    let third = refresh(&sources, &second, at(600)).await;
    let failed: Vec<_> = third
        .sources()
        .values()
        .filter_map(|one| one.error.as_ref())
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0].to_string().contains("/bundle.json: HTTP 503"),
        "{}",
        failed[0]
    );
    assert_eq!(third.bundles(), second.bundles());
}

#[test]
fn every_trust_domain_has_its_own_roots_and_its_own_past() {
    let (one, two) = (root("one"), root("two"));
    let (x, y) = (
        endpoint("https://x.example/"),
        endpoint("https://y.example/"),
    );
    let before = config(&[
        ("a", &[TrustAnchor::Endpoint(x.clone())]),
        ("b", &[TrustAnchor::Endpoint(y.clone())]),
    ]);
    let mut trust = started(&before, &[]);
    assert!(
        trust
            .trouble(&domain("a"))
            .starts_with("the bundle endpoint https://x.example/ has not"),
    );
    trust.record(&SourceName::Endpoint(x), Ok(said(&[&one])), now());
    trust.record(&SourceName::Endpoint(y), Ok(said(&[&two])), now());
    assert_eq!(
        (roots(&trust, "a"), roots(&trust, "b")),
        (vec![one.clone()], vec![two.clone()])
    );
    // What one domain loses, it keeps for a while; the other never sees it.
    let after = config(&[
        ("a", &[TrustAnchor::Pem(two.clone())]),
        ("b", &[TrustAnchor::Pem(two.clone())]),
    ]);
    trust.follow(&after, at(10));
    assert_eq!(roots(&trust, "a").len(), 2);
    assert_eq!(roots(&trust, "b"), std::slice::from_ref(&two));
    // Nothing new is issued below what is on its way out.
    let issuing = trust.issuing_bundle(&domain("a")).unwrap();
    assert_eq!(issuing.roots(), [two]);
    trust.settle(at(3610));
    assert_eq!(roots(&trust, "a").len(), 1);
}

#[test]
fn the_time_of_a_removed_root_is_the_validity_at_its_removal() {
    let (one, two) = (root("one"), root("two"));
    let mut now_in_force = config(&[("a", &[TrustAnchor::Pem(one.clone())])]);
    let mut trust = started(&now_in_force, &[]);
    now_in_force.trust = config(&[("a", &[TrustAnchor::Pem(two.clone())])]).trust;
    trust.follow(&now_in_force, at(0));
    assert_eq!(trust.next_end(), Some(at(3600)));
    // A later edit changes nothing of that.
    now_in_force.certificates.validity = std::time::Duration::from_secs(60);
    trust.follow(&now_in_force, at(10));
    assert_eq!(trust.next_end(), Some(at(3600)));
    trust.settle(at(3599));
    assert_eq!(roots(&trust, "a").len(), 2);
    let before = trust.clone();
    trust.settle(at(3600));
    assert_eq!(roots(&trust, "a"), [two]);
    // There is something to write, and nothing that a CA would answer otherwise than before.
    assert!(trust.is_news_after(&before) && !trust.may_help_after(&before));
}

#[test]
fn a_distrusted_root_is_in_no_bundle_and_its_anchor_says_so() {
    let (bad, good) = (root("bad"), root("good"));
    let config = config(&[
        (
            "a",
            &[
                TrustAnchor::Pem(bad.clone()),
                TrustAnchor::Pem(good.clone()),
            ],
        ),
        ("b", &[TrustAnchor::Pem(bad.clone())]),
        ("c", &[TrustAnchor::Pem(good.clone())]),
    ]);
    let trust = started(&config, &[&bad]);
    assert_eq!(roots(&trust, "a"), std::slice::from_ref(&good));
    assert!(trust.bundle(&domain("b")).is_none());
    assert_eq!(roots(&trust, "c"), [good]);
    let stripped = ["a", "b", "c"].map(|name| trust.is_stripped(&domain(name)));
    assert_eq!(stripped, [false, true, false]);
    let sha256 = Fingerprint::of(&bad).to_string();
    for said in [
        trust.describe_anchors(&domain("a")),
        trust.trouble(&domain("b")),
    ] {
        assert!(
            said.contains("--distrust") && said.contains(&sha256),
            "{said}"
        );
    }
    assert!(!trust.describe_anchors(&domain("c")).contains("--distrust"));
}

#[test]
fn what_was_kept_is_there_before_anybody_answers_but_for_distrusted_roots() {
    let (one, two) = (root("one"), root("two"));
    let config = config(&[("a", &[TrustAnchor::Pool(enterprise())])]);
    let name = SourceName::Pool(enterprise());
    let mut earlier = started(&config, &[]);
    earlier.record(&name, Ok(said(&[&one, &two])), now());
    earlier.record(&name, Ok(said(&[&two])), at(10));
    let resumed = |distrust: &[&Certificate]| {
        let distrust = distrust.iter().map(|root| Fingerprint::of(root)).collect();
        let lives = validity(&config.certificates);
        Trust::resume(&config.trust, lives, earlier.kept(), distrust, at(20))
    };
    let trust = resumed(&[]);
    assert_eq!(trust.bundles(), earlier.bundles());
    assert!(!trust.is_complete(&domain("a")) && !trust.keeps_published(&domain("a")));
    assert_eq!(trust.next_end(), Some(at(3610)));
    assert_eq!(roots(&resumed(&[&two]), "a"), [one]);
}

#[tokio::test]
async fn the_metrics_tell_of_each_source_how_old_its_answer_is_and_how_often_it_failed() {
    let lab = Lab::start().await;
    let nothing = config(&[]);
    let config = config(&[(
        "a",
        &[
            TrustAnchor::Pool(enterprise()),
            TrustAnchor::Endpoint(endpoint("https://x.example/b?token=hunter2")),
        ],
    )]);
    let first = refresh(&pools_only(&lab), &started(&config, &[]), at(0)).await;
    let (sender, trust) = watch::channel(Arc::new(first.clone()));
    let metrics = Metrics::default();
    metrics.watch_trust(trust);
    let said = |metrics: &Metrics| {
        let text = metrics.render(&[], at(90)).unwrap();
        let of_trust = |line: &&str| line.starts_with("certagent_trust_");
        let mut lines: Vec<_> = text.lines().filter(of_trust).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let pool = enterprise();
    assert_eq!(
        said(&metrics),
        [
            format!("certagent_trust_source_age_seconds{{source=\"{pool}\"}} 90.0"),
            "certagent_trust_source_age_seconds{source=\"https://x.example/b?...\"} NaN".to_owned(),
            format!("certagent_trust_source_failures{{source=\"{pool}\"}} 0"),
            "certagent_trust_source_failures{source=\"https://x.example/b?...\"} 1".to_owned(),
        ]
    );
    // A source that is configured no longer is gone.
    sender.send_replace(Arc::new(started(&nothing, &[])));
    assert!(said(&metrics).is_empty());
}
