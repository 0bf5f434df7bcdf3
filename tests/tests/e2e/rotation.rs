//! When certificates are renewed.
use certagent::status::VolumeStatus;
use certagent_svid::PublicKeyKind;
use certagent_tests::{Lab, Policy, all_ready, until};
use jiff::SignedDuration;

use crate::support::{
    an_hour, certificate, configured, creates, renew, sold, supplied, write_workloads,
};

#[tokio::test]
async fn every_draw_lies_in_the_first_fifth_of_its_window_and_draws_differ() {
    let lab = Lab::new().await;
    let policy = Policy {
        validity: 3600,
        rotation_window: 20,
        ..Policy::default()
    };
    let agent = supplied(&lab, &policy).await;
    let mut draws = Vec::new();
    for rotation in 1..=12 {
        let before = certificate(&agent);
        let window = before.not_after.duration_since(before.window_start);
        assert_eq!(window.as_secs(), 719, "20% of what can be used of the hour");
        let draw = before.renew_at.duration_since(before.window_start);
        assert!(!draw.is_negative() && draw <= window / 5, "{draw:?}");
        draws.push(draw);

        // A moment before it nothing is asked for.
        lab.clock
            .set(before.renew_at - SignedDuration::from_millis(1));
        tokio::task::yield_now().await;
        assert_eq!(creates(&lab), rotation);
        let after = renew(&lab, &agent).await;
        assert!(after.issued_at >= before.renew_at);
        assert_ne!(before.serial, after.serial);
        assert_eq!((creates(&lab), sold(&lab)), (rotation + 1, rotation + 1));
    }
    draws.sort();
    draws.dedup();
    assert_eq!(draws.len(), 12);
    agent.stop().await;
}

#[tokio::test]
async fn what_was_issued_before_a_moment_is_renewed_over_a_span_each_once() {
    const WORKLOADS: usize = 20;
    let lab = Lab::new().await;
    let mut policy = Policy {
        validity: 86_400,
        ..Policy::default()
    };
    lab.write_policy(&policy);
    write_workloads(&lab, 0..WORKLOADS);
    let agent = lab.agent().await;
    until(&agent, all_ready).await;

    lab.step(60);
    let after = lab.now() + SignedDuration::from_secs(60);
    policy.rotate_after = Some(format!("{after}/30m"));
    lab.write_policy(&policy);
    let due = |statuses: &[VolumeStatus]| -> Vec<_> {
        let certificates = statuses.iter().flat_map(|one| &one.certificate);
        let due = certificates.filter(|there| there.is_to_rotate);
        due.map(|there| there.renew_at).collect()
    };
    let statuses = until(&agent, |statuses| due(statuses).len() == WORKLOADS).await;
    let moments = due(&statuses);
    let last = after + SignedDuration::from_mins(30);
    assert!(
        moments.iter().all(|due| (after..last).contains(due)),
        "{moments:?}"
    );
    let half = after + SignedDuration::from_mins(15);
    let early = moments.iter().filter(|due| **due <= half).count();
    assert!((1..WORKLOADS).contains(&early), "all at once: {moments:?}");
    assert_eq!(creates(&lab), WORKLOADS as u64);

    lab.clock.set(half);
    until(&agent, |statuses| due(statuses).len() == WORKLOADS - early).await;
    lab.clock.set(last);
    let statuses = until(&agent, |statuses| due(statuses).is_empty()).await;
    assert!(statuses.iter().all(|status| status.rotations == 1));
    agent.stop().await;

    // Nothing is left to do, for another process neither.
    let agent = lab.agent().await;
    let later = last + SignedDuration::from_hours(11);
    let rests = |status: &VolumeStatus| status.next_attempt > later;
    let statuses = until(&agent, |statuses| statuses.iter().all(rests)).await;
    assert!(due(&statuses).is_empty());
    assert_eq!(creates(&lab), 2 * WORKLOADS as u64);
    agent.stop().await;
}

#[tokio::test]
async fn an_edit_of_algorithm_validity_and_window_waits_for_the_next_renewal() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let before = certificate(&agent);
    lab.write_policy(&Policy {
        key_algorithm: "{rsa: {modulusSize: 2048}}".to_owned(),
        validity: 7200,
        rotation_window: 90,
        ..Policy::default()
    });
    configured(&agent, |active| {
        active.config.certificates.rotation_window_percentage == 90
    })
    .await;
    let same = certificate(&agent);
    assert_eq!(
        (same.renew_at, same.serial),
        (before.renew_at, before.serial)
    );
    assert_eq!(creates(&lab), 1);

    let after = renew(&lab, &agent).await;
    assert!(after.issued_at >= before.renew_at);
    assert_eq!(after.key, PublicKeyKind::Rsa(2048));
    assert_eq!(lab.read("a").key().kind(), PublicKeyKind::Rsa(2048));
    let life = after.not_after.duration_since(after.not_before);
    assert_eq!(life.as_secs(), 7199);
    let window = after.not_after.duration_since(after.window_start);
    assert!(window.as_secs() > 6400);
    assert_eq!(creates(&lab), 2);
    agent.stop().await;
}
