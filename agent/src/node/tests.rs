use futures::FutureExt as _;

use super::{
    pod::tests::{dir, settings, volume},
    *,
};
use crate::clock::ManualClock;

/// A driver without a supply of volumes, and what would bring one.
fn content(config: &watch::Sender<ClusterState>) -> (NodeContent, watch::Sender<Option<Supply>>) {
    let settings = NodeSettings {
        subject_mode: SubjectMode::Default,
        ..settings(None)
    };
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let right = watch::channel(DriverObject::Right).1;
    let (supplier, supply) = watch::channel(None);
    let content = NodeContent::new(settings, clock, config.subscribe(), right, supply);
    (content, supplier)
}

fn state(problem: &str, is_settling: bool) -> ClusterState {
    ClusterState {
        active: None,
        problem: Some(problem.to_owned()),
        is_settling,
    }
}

#[tokio::test]
async fn without_a_configuration_a_pod_is_told_so_at_once_in_the_words_of_gke() {
    let config = watch::Sender::new(state("there is no TrustConfig", false));
    let (content, _supplier) = content(&config);
    let refused = content.fill(dir(), volume(&[])).await.unwrap_err();
    assert_eq!(refused.kind, FillErrorKind::Denied);
    assert_eq!(
        refused.message,
        "caPEM is nil (check active WorkloadCertificateConfig): there is no TrustConfig"
    );
    assert!(lock(&content.known).entries.is_empty());
}

#[tokio::test]
async fn a_pod_that_comes_before_the_api_server_has_answered_waits_for_that() {
    let config = watch::Sender::new(state("no answer yet", true));
    let (content, _supplier) = content(&config);
    let mut fill = Box::pin(content.fill(dir(), volume(&[])));
    assert!(fill.as_mut().now_or_never().is_none());
    config.send_replace(state("still no answer", true));
    assert!(fill.as_mut().now_or_never().is_none());
    config.send_replace(state("it answers no", false));
    let refused = fill.await.unwrap_err();
    assert!(refused.message.ends_with(": it answers no"), "{refused}");
}
