use certagent_emulator::{Code, Fault, FaultRule, Method};

use super::*;
use crate::cas::lab::{Lab, domain, enterprise, issuing, now, pool, refusal};

fn policy(stores: &[(&str, &[TrustAnchor])]) -> TrustPolicy {
    let store = |(name, anchors): &(&str, &[TrustAnchor])| (domain(name), anchors.to_vec());
    TrustPolicy {
        stores: stores.iter().map(store).collect(),
    }
}

fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn roots(trust: &Trust, name: &str) -> Vec<Certificate> {
    trust
        .bundle(&domain(name))
        .map(|bundle| bundle.roots().to_vec())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_pools_roots_are_the_ends_of_its_chains_and_domains_stay_apart() {
    let lab = Lab::with_other_root().await;
    let (root, other) = (lab.root("root-pool"), lab.root("other-pool"));
    let policy = policy(&[
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
    let trust = refresh(&lab.client, &policy, &Trust::new(&policy), now()).await;
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
    let policy = policy(&[("a", &[TrustAnchor::Pool(enterprise())])]);
    let first = refresh(&lab.client, &policy, &Trust::new(&policy), now()).await;
    for fault in [
        Fault::CloseBefore,
        Fault::Html { status: 200 },
        refusal(Code::NotFound, "gone"),
        refusal(Code::PermissionDenied, "no"),
    ] {
        lab.always(fault);
        let later = refresh(&lab.client, &policy, &first, at(300)).await;
        assert_eq!(later.bundles(), first.bundles());
        let source = &later.sources()[&enterprise()];
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
    let policy = policy(&[
        ("a", &[TrustAnchor::Pool(pool("no-such-pool"))]),
        (
            "b",
            &[
                TrustAnchor::Pool(pool("no-such-pool")),
                TrustAnchor::Pem(root.clone()),
            ],
        ),
    ]);
    let before = Trust::new(&policy);
    assert_eq!(roots(&before, "b"), std::slice::from_ref(&root));
    assert!(!before.is_resolved());
    let trust = refresh(&lab.client, &policy, &before, now()).await;
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
async fn an_anchor_that_leaves_the_policy_takes_its_roots_with_it() {
    let lab = Lab::with_other_root().await;
    let both = policy(&[(
        "a",
        &[
            TrustAnchor::Pool(enterprise()),
            TrustAnchor::Pool(pool("other-pool")),
        ],
    )]);
    let mut trust = refresh(&lab.client, &both, &Trust::new(&both), now()).await;
    assert_eq!(roots(&trust, "a").len(), 2);
    trust.follow(&policy(&[("a", &[TrustAnchor::Pool(enterprise())])]));
    assert_eq!(roots(&trust, "a"), [lab.root("root-pool")]);
    assert_eq!(trust.sources().len(), 1);
}

#[test]
fn a_pool_that_never_answered_is_asked_after_5_seconds_doubling_to_5_minutes() {
    let policy = policy(&[("a", &[TrustAnchor::Pool(enterprise())])]);
    let mut trust = Trust::new(&policy);
    let failed = || Err(SourceError::NoRoots { pool: enterprise() });
    let mut waits = Vec::new();
    for _ in 0..8 {
        trust.record(&enterprise(), failed(), now());
        let due = trust.sources()[&enterprise()].due.unwrap();
        waits.push(due.duration_since(now()).as_secs());
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
}

#[tokio::test]
async fn one_pool_that_fails_does_not_keep_the_others_back() {
    let lab = Lab::with_other_root().await;
    lab.emulator.set_faults(vec![
        FaultRule::next(1, Fault::CloseBefore).on(Method::FetchCaCerts),
    ]);
    let policy = policy(&[
        ("a", &[TrustAnchor::Pool(enterprise())]),
        ("b", &[TrustAnchor::Pool(pool("no-such-pool"))]),
    ]);
    let first = refresh(&lab.client, &policy, &Trust::new(&policy), now()).await;
    let second = refresh(&lab.client, &policy, &first, at(5)).await;
    assert_eq!(roots(&second, "a"), [lab.root("root-pool")]);
    assert_eq!(second.sources()[&pool("no-such-pool")].failures, 2);
}
