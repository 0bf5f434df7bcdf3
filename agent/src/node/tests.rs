use futures::FutureExt as _;

use super::{
    pod::tests::{dir, settings, volume},
    *,
};
use crate::clock::ManualClock;

/// A driver without a supply of volumes, and what would bring one.
fn content(config: &watch::Sender<ClusterState>) -> (NodeContent, watch::Sender<Option<Supply>>) {
    let right = watch::Sender::new(DriverObject::Right);
    let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    content_with(config, &right, &clock)
}

fn content_with(
    config: &watch::Sender<ClusterState>,
    object: &watch::Sender<DriverObject>,
    clock: &ManualClock,
) -> (NodeContent, watch::Sender<Option<Supply>>) {
    let settings = NodeSettings {
        subject_mode: SubjectMode::Default,
        ..settings(None)
    };
    let clock = Arc::new(clock.clone());
    let (supplier, supply) = watch::channel(None);
    let content = NodeContent::new(
        settings,
        clock,
        config.subscribe(),
        object.subscribe(),
        supply,
    );
    (content, supplier)
}

fn state(problem: &str, is_settling: bool) -> ClusterState {
    ClusterState {
        active: None,
        problem: Some(problem.to_owned()),
        is_settling,
        ..ClusterState::default()
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

fn unknown() -> DriverObject {
    DriverObject::Unknown {
        message: "it has not answered yet".to_owned(),
    }
}

#[tokio::test]
async fn a_pod_waits_a_while_for_the_first_word_about_the_driver_s_object() {
    let config = watch::Sender::new(state("there is no TrustConfig", false));
    let object = watch::Sender::new(unknown());
    let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let (content, _supplier) = content_with(&config, &object, &clock);
    let mut fill = Box::pin(content.fill(dir(), volume(&[])));
    assert!(fill.as_mut().now_or_never().is_none());
    object.send_replace(DriverObject::Right);
    let refused = fill.await.unwrap_err();
    assert_eq!(refused.kind, FillErrorKind::Denied, "{refused}");

    object.send_replace(unknown());
    let mut fill = Box::pin(content.fill(dir(), volume(&[])));
    assert!(fill.as_mut().now_or_never().is_none());
    clock.step(PATIENCE);
    // Kubelet asks again, and nothing of the volume is taken away.
    assert_eq!(fill.await.unwrap_err().kind, FillErrorKind::Unavailable);
}

#[tokio::test]
async fn whose_a_volume_is_changes_by_no_later_call_and_by_none_that_is_not_believed() {
    let config = watch::Sender::new(state("", true));
    let object = watch::Sender::new(DriverObject::Right);
    let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let (content, _supplier) = content_with(&config, &object, &clock);
    let id = dir().id;
    let whose = || {
        let known = lock(&content.known);
        known.entries[&id].assignment.spiffe_id.to_string()
    };
    let (assignment, token) = content.assign(&dir(), &volume(&[])).unwrap();
    content.know(&id, (assignment, token));
    assert_eq!(whose(), "spiffe://p.svc.id.goog/ns/shop/sa/web");
    let mut other = volume(&[]);
    other.pod.service_account = "victim".to_owned();
    content.refresh(&id, other.clone());
    assert_eq!(whose(), "spiffe://p.svc.id.goog/ns/shop/sa/web");

    // What was only read off a certificate gives way to kubelet's word, where that counts.
    lock(&content.known).entries.get_mut(&id).unwrap().is_told = false;
    object.send_replace(DriverObject::Wrong {
        message: "lacks podInfoOnMount".to_owned(),
    });
    content.refresh(&id, other.clone());
    assert_eq!(whose(), "spiffe://p.svc.id.goog/ns/shop/sa/web");
    object.send_replace(DriverObject::Right);
    content.refresh(&id, other);
    assert_eq!(whose(), "spiffe://p.svc.id.goog/ns/shop/sa/victim");
}

#[tokio::test]
async fn a_volume_that_is_given_back_while_its_call_waits_is_not_taken_up_after_that() {
    let config = watch::Sender::new(state("", true));
    let (content, _supplier) = content(&config);
    let mut fill = Box::pin(content.fill(dir(), volume(&[])));
    assert!(fill.as_mut().now_or_never().is_none());
    content.forget(&dir().id).await;
    config.send_replace(state("", false));
    fill.await.unwrap_err();
    assert!(lock(&content.known).entries.is_empty());
}
