use serde_json::json;

use super::{
    super::super::super::{
        cluster::lab::{Answers, ApiServer, list},
        report::Finding,
    },
    *,
};

const PODS: &str = "/api/v1/namespaces/certagent-system/pods";

fn driver(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "node", "ports": [{"name": "admin", "containerPort": 9465}]}]}})
}

fn metrics(ready: usize, renewing: usize, to_renew: usize) -> serde_json::Value {
    let text = format!(
        "# TYPE certagent_volumes gauge\ncertagent_volumes{{state=\"ready\"}} {ready}\n\
         certagent_volumes{{state=\"renewing\"}} {renewing}\n\
         certagent_volumes_to_rotate {to_renew}\n# EOF\n"
    );
    text.into()
}

async fn look(drivers: &[(&str, Option<serde_json::Value>)]) -> Seen<Progress> {
    let mut answers = Answers::new();
    let pods: Vec<_> = drivers.iter().map(|(name, _)| driver(name)).collect();
    answers.insert(PODS.to_owned(), list("Pod", "v1", &pods));
    for (name, answer) in drivers {
        let path = format!("{PODS}/{name}:9465/proxy/metrics");
        answers.extend(answer.clone().map(|answer| (path, answer)));
    }
    let server = ApiServer::start(answers).await;
    Progress::look(&server.client).await
}

fn asked() -> SpreadRotation {
    SpreadRotation::parse("2026-11-30T10:00:00Z", None).unwrap()
}

fn judged(progress: Option<&Seen<Progress>>, minutes: i64) -> Finding {
    let mut checks = Findings::new();
    let now = asked().from() + SignedDuration::from_mins(minutes);
    judge(&mut checks, Some(asked()), progress, now);
    let checks = checks.finish();
    let rotation = checks.into_iter().find(|one| one.id == CheckId::Rotation);
    rotation.unwrap().finding
}

#[tokio::test]
async fn every_driver_is_asked_by_way_of_the_api_server() {
    let progress = look(&[
        ("one", Some(metrics(7, 1, 2))),
        ("two", Some(metrics(3, 0, 0))),
    ])
    .await
    .unwrap();
    let text = "9 of 11 volumes renewed or issued since, according to 2 drivers";
    assert_eq!(progress.to_string(), text);
    assert_eq!(progress.behind.as_deref(), Some("one"));
}

#[tokio::test]
async fn drivers_that_say_nothing_are_counted_and_one_is_named_with_the_reason() {
    let progress = look(&[
        ("one", Some(metrics(1, 0, 1))),
        ("two", None),
        (
            "three",
            Some(json!("certagent_volumes{state=\"ready\"} 4\n")),
        ),
    ])
    .await
    .unwrap();
    assert_eq!((progress.drivers, progress.silent), (3, 2));
    let text = progress.to_string();
    assert!(
        text.starts_with("0 of 1 volume renewed or issued since, according to 1 driver"),
        "{text}"
    );
    assert!(text.contains("two: HTTP 404: refused with 404"), "{text}");
    let forbidden = ApiServer::start([(PODS.to_owned(), json!(null))].into()).await;
    let unseen = Progress::look(&forbidden.client).await.unwrap_err();
    assert!(unseen.text.contains("may not list pods"), "{}", unseen.text);
    assert!(matches!(
        judged(Some(&Err(unseen)), 5),
        Finding::Skipped(Skip::Minor, _)
    ));
}

#[tokio::test]
async fn what_is_left_is_a_warning_only_when_the_last_should_be_done() {
    let left = look(&[("one", Some(metrics(4, 0, 1)))]).await;
    let done = look(&[("one", Some(metrics(4, 0, 0)))]).await;
    for (progress, minutes, is_warned) in [
        (&left, 30, false),
        (&left, 129, false),
        (&left, 131, true),
        (&done, 131, false),
    ] {
        let finding = judged(Some(progress), minutes);
        assert_eq!(
            matches!(finding, Finding::Warned(_)),
            is_warned,
            "{minutes}"
        );
    }
    let Finding::Warned(text) = judged(Some(&left), 131) else {
        panic!("no warning");
    };
    assert!(
        text.contains("1 volume not renewed, such as on one"),
        "{text}"
    );
}

#[test]
fn a_pod_without_the_port_and_metrics_without_the_count_say_nothing() {
    assert_eq!(port(&Pod::default()), None);
    assert!(counted("certagent_volumes{state=\"ready\"} 4\n").is_none());
    assert!(counted("certagent_volumes_to_rotate x\n").is_none());
}
