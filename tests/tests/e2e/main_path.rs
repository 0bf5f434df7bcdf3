//! From the two objects to a rotating volume.
use std::os::unix::fs::MetadataExt as _;

use certagent_svid::{PublicKeyKind, bundle_map, layout};
use certagent_tests::{Lab, Policy, all_ready, until};
use jiff::SignedDuration;

use crate::support::{certificate, creates, frozen, generations, renew, sold, status, supplied};

#[tokio::test]
async fn a_volume_is_supplied_and_rotated_within_its_window() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    let agent = lab.agent().await;
    let statuses = until(&agent, all_ready).await;
    let first = statuses[0].certificate.clone().unwrap();
    assert_eq!(lab.read("a").chain().leaf().serial_hex(), first.serial);

    // One second before its draw nothing happens; at its draw it is renewed.
    let early = first.renew_at.duration_since(lab.now()).as_secs() - 1;
    lab.step(early);
    lab.step(2);
    let statuses = until(&agent, |statuses| statuses[0].rotations == 1).await;
    let second = statuses[0].certificate.clone().unwrap();
    assert_ne!(first.serial, second.serial);
    assert!(second.issued_at >= first.window_start);
    assert_eq!(lab.emulator.sold_serials(), [first.serial, second.serial]);
    agent.stop().await;
}

#[tokio::test]
async fn each_of_the_five_key_algorithms_gives_a_volume_that_its_readers_can_verify() {
    for (algorithm, kind) in [
        ("{ecdsa: {curve: P256}}", PublicKeyKind::EcP256),
        ("{ecdsa: {curve: P384}}", PublicKeyKind::EcP384),
        ("{rsa: {modulusSize: 2048}}", PublicKeyKind::Rsa(2048)),
        ("{rsa: {modulusSize: 3072}}", PublicKeyKind::Rsa(3072)),
        ("{rsa: {modulusSize: 4096}}", PublicKeyKind::Rsa(4096)),
    ] {
        let lab = Lab::new().await;
        let policy = Policy {
            key_algorithm: algorithm.to_owned(),
            ..Policy::default()
        };
        let agent = supplied(&lab, &policy).await;
        let there = lab.read("a");
        assert_eq!(there.key().kind(), kind);
        assert_eq!(certificate(&agent).key, kind);
        assert_eq!(there.chain().leaf().public_key_kind(), kind);
        assert_eq!(there.chain().intermediates().len(), 1, "and no root");
        assert_eq!(
            there.spiffe_id().to_string(),
            "spiffe://demo-project.svc.id.goog/ns/default/sa/a"
        );
        let path = there.verify(webpki::ALL_VERIFICATION_ALGS, lab.now());
        let path = path.unwrap();
        assert_eq!(
            path.effective_not_after(),
            lab.now() + SignedDuration::from_secs(59)
        );
        agent.stop().await;
    }
}

#[tokio::test]
async fn the_five_files_belong_together_and_have_their_modes() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &Policy::default()).await;
    let volume = lab.volume("a");
    let text = |name: &str| std::fs::read_to_string(volume.join(name)).unwrap();
    let mode = |name: &str| std::fs::metadata(volume.join(name)).unwrap().mode() & 0o7777;

    let key = text(layout::PRIVATE_KEY);
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let chain = text(layout::CERTIFICATES);
    assert_eq!(text(layout::CREDENTIAL_BUNDLE), format!("{key}{chain}"));
    let map = text(layout::TRUST_BUNDLES);
    let (bundles, sequences) = bundle_map::parse_with_sequences(map.as_bytes()).unwrap();
    assert_eq!(bundles.len(), 1);
    let own = bundles.iter().next().unwrap();
    assert_eq!(own.to_pem(), text(layout::CA_CERTIFICATES));
    assert_eq!(sequences.values().copied().collect::<Vec<_>>(), [1]);

    assert_eq!(mode(layout::PRIVATE_KEY), 0o640);
    assert_eq!(mode(layout::CREDENTIAL_BUNDLE), 0o640);
    assert_eq!(mode(layout::CERTIFICATES), 0o644);
    assert_eq!(mode(layout::CA_CERTIFICATES), 0o644);
    assert_eq!(mode(layout::TRUST_BUNDLES), 0o644);
    assert_eq!(mode("."), 0o755);
    for name in layout::FILES {
        let link = std::fs::read_link(volume.join(name)).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("..data/{name}"));
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_generation_is_new_in_every_inode_and_newer_by_a_second_even_if_the_clock_stands() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &Policy::default()).await;
    let mtimes = || {
        let modified = |name: &&str| {
            std::fs::metadata(lab.volume("a").join(name))
                .unwrap()
                .mtime()
        };
        layout::FILES.iter().map(modified).collect::<Vec<_>>()
    };
    for _ in 0..4 {
        let (before, times) = (frozen(&lab.volume("a")), mtimes());
        renew(&lab, &agent).await;
        let after = frozen(&lab.volume("a"));
        for (name, (_, inode)) in &after {
            assert_ne!(before[name].1, *inode, "{name}");
        }
        assert!(
            mtimes()
                .iter()
                .zip(&times)
                .all(|(new, old)| *new > *old && *new >= lab.now().as_second())
        );
    }
    agent.stop().await;
}

#[tokio::test]
async fn the_generation_before_stays_for_a_minute_and_there_are_never_more_than_three() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &Policy::default()).await;
    let mut before = generations(&lab.volume("a"));
    assert_eq!(before.len(), 1);
    for _ in 0..6 {
        renew(&lab, &agent).await;
        let now = generations(&lab.volume("a"));
        assert!(now.len() <= 3, "{now:?}");
        assert!(now.contains(before.last().unwrap()), "{before:?} {now:?}");
        before = now;
    }
    agent.stop().await;

    // With a long life nothing but the minute ends a generation's time.
    let lab = Lab::new().await;
    let agent = supplied(&lab, &crate::support::an_hour()).await;
    renew(&lab, &agent).await;
    assert_eq!(generations(&lab.volume("a")).len(), 2);
    let changed = agent.volumes().changed();
    lab.step(59);
    assert_eq!(generations(&lab.volume("a")).len(), 2);
    lab.step(1);
    crate::support::guarded(changed).await;
    assert_eq!(generations(&lab.volume("a")).len(), 1);
    assert_eq!((creates(&lab), sold(&lab)), (2, 2));
    assert_eq!(status(&agent.statuses(), "a").failures, 0);
    agent.stop().await;
}
