use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    super::fixture::{NOON, at},
    lab::{Answers, ApiServer, CSRS, condition, csr, list},
    *,
};
use crate::kube::Kind;

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn how_far_a_request_has_come_is_read_as_the_node_reads_it() {
    let approved = || condition("Approved", "True", "AutoApproved");
    let denied = condition("Denied", "True", "PodNotFound");
    let failed = condition("Failed", "True", "CertificateLost");
    let issued = |status| condition("Issued", status, "PermissionDenied");
    for (conditions, expected, reason) in [
        (vec![], "pending", None),
        (vec![issued("False")], "pending", None),
        (vec![denied.clone()], "denied", Some("PodNotFound")),
        (vec![approved(), denied], "denied", Some("PodNotFound")),
        (vec![approved(), failed], "failed", Some("CertificateLost")),
        (vec![approved()], "unsigned", None),
        (vec![approved(), issued("True")], "unsigned", None),
        (
            vec![issued("False"), approved()],
            "unsigned",
            Some("PermissionDenied"),
        ),
    ] {
        let request = Request::of(&read(csr("one", "", &conditions)));
        assert_eq!(request.state.as_str(), expected, "{conditions:?}");
        let told = request.state.reason().map(|one| one.reason.as_str());
        assert_eq!(told, reason, "{conditions:?}");
        let expected = (expected != "pending").then(|| at("2026-11-20T14:00:01Z"));
        assert_eq!(request.since, expected, "{conditions:?}");
    }
    let mut signed = csr("one", "", &[approved()]);
    signed["status"]["certificate"] = "TEVBRg==".into();
    let request = Request::of(&read(signed));
    assert_eq!(request.state, State::Signed);
    assert_eq!(request.certificate.as_deref(), Some(b"LEAF".as_slice()));
}

#[test]
fn a_request_that_cannot_be_read_still_says_who_made_it() {
    let request = Request::of(&read(csr("one\u{1b}", "-----BEGIN", &[])));
    assert_eq!(request.name, "one\u{fffd}");
    assert_eq!(request.node.as_deref(), Some("node-1"));
    assert_eq!(request.pod_name.as_deref(), Some("cart-7d9f"));
    assert_eq!(request.pod_uid, None);
    let bare = json!({"metadata": {}, "spec": {"request": "", "signerName": ""}});
    let request = Request::of(&read(bare));
    assert_eq!((request.node, request.created), (None, None));
    assert_eq!(request.state, State::Pending);
}

#[tokio::test]
async fn requests_are_read_page_by_page_and_told_the_newest_first() {
    let mut first = list(
        "CertificateSigningRequest",
        "certificates.k8s.io/v1",
        &[csr("b", "", &[]), csr("d", "", &[])],
    );
    first["metadata"]["continue"] = "next".into();
    let mut newer = csr("a", "", &[]);
    newer["metadata"]["creationTimestamp"] = "2026-11-20T14:10:00Z".into();
    let second = list(
        "CertificateSigningRequest",
        "certificates.k8s.io/v1",
        &[newer],
    );
    let answers = Answers::from([
        (CSRS.to_owned(), first),
        (format!("{CSRS}?continue=next"), second),
    ]);
    let server = ApiServer::start(answers).await;
    let found = Requests::look(&server.client, "a.b/c", |one| one.name != "d").await;
    let found = found.unwrap();
    let names: Vec<_> = found.all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(!found.is_cut);
    for asked in server.asked() {
        assert!(
            asked.contains("fieldSelector=spec.signerName=a.b/c"),
            "{asked}"
        );
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_cut() {
    let mut page = list(
        "CertificateSigningRequest",
        "certificates.k8s.io/v1",
        &[csr("a", "", &[])],
    );
    page["metadata"]["continue"] = "again".into();
    let answers = Answers::from([
        (CSRS.to_owned(), page.clone()),
        (format!("{CSRS}?continue=again"), page),
    ]);
    let server = ApiServer::start(answers).await;
    let found = Requests::look(&server.client, "a.b/c", |_| false).await;
    assert!(found.unwrap().is_cut);
}

#[tokio::test]
async fn a_read_that_is_refused_names_the_permission_and_how_to_ask_for_it() {
    let answers = Answers::from([(CSRS.to_owned(), Value::Null)]);
    let server = ApiServer::start(answers).await;
    let unseen = Requests::look(&server.client, "a.b/c", |_| true).await;
    let unseen = unseen.unwrap_err();
    let resource = "certificatesigningrequests.certificates.k8s.io";
    assert_eq!(
        unseen.text,
        format!("this user may not list {resource}: refused with 403")
    );
    let command = unseen.step().command;
    assert_eq!(command, format!("kubectl auth can-i list {resource}"));
    let here = Permission::of("get", "pods").within("a b");
    let unseen = here.unseen(Trouble::Forbidden("no".to_owned()));
    let command = unseen.step().command;
    assert_eq!(command, "kubectl auth can-i get pods --namespace 'a b'");
    let away = Permission::of("get", "pods").unseen(Trouble::Unreachable("no answer".to_owned()));
    assert!(away.text.contains("no answer") && away.missing.is_none());
}

fn controller(ready: i32, holder: Option<&str>, renewed: &str) -> Controller {
    let deployment = json!({
        "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"readyReplicas": ready},
    });
    let lease = json!({"spec": {"holderIdentity": holder, "renewTime": renewed}});
    Controller {
        deployed: Ok(Some(Deployed::of(&read(deployment)))),
        led: Ok(Some(Led::of(&read(lease)))),
    }
}

#[track_caller]
fn works(controller: &Controller) -> String {
    match controller.works(at(NOON)) {
        Works::Yes(detail) => format!("yes: {detail}"),
        Works::No(detail) => format!("no: {detail}"),
        Works::Unseen(unseen) => format!("unseen: {}", unseen.text),
    }
}

#[test]
fn the_controller_works_where_somebody_holds_the_lease_now() {
    const NOW: &str = "2026-11-20T14:29:58.000000Z";
    let told = works(&controller(2, Some("replica-1"), NOW));
    assert_eq!(told, "yes: replica-1 leads");
    let told = works(&controller(
        2,
        Some("replica-1"),
        "2026-11-20T14:20:00.000000Z",
    ));
    assert!(told.starts_with("no: replica-1 holds"), "{told}");
    let told = works(&controller(0, Some(""), NOW));
    assert!(
        told.contains("nobody holds") && told.contains("0 of 2"),
        "{told}"
    );

    let unseen = |verb| Permission::of(verb, "x").unseen(Trouble::Forbidden(String::new()));
    let mut known = controller(1, None, NOW);
    known.led = Err(unseen("get"));
    assert!(works(&known).starts_with("yes: 1 of 2"));
    known.deployed = Ok(None);
    assert!(works(&known).starts_with("no: there is no Deployment"));
    assert!(known.is_missing());
    known.deployed = Err(unseen("get"));
    assert!(works(&known).starts_with("unseen: this user may not get x"));
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_told_as_that() {
    let server = ApiServer::start(Answers::new()).await;
    let told = works(&Controller::look(&server.client).await);
    assert!(
        told.contains("no Lease") && told.contains("no Deployment"),
        "{told}"
    );
}

fn object(status: &Value) -> ConfigObject {
    let object = json!({
        "apiVersion": "security.cloud.google.com/v1",
        "kind": "WorkloadCertificateConfig",
        "metadata": {"name": "default", "generation": 3},
        "spec": {
            "certificateAuthorityConfig": {"certificateAuthorityServiceConfig": {
                "endpointURI": "//pool", "fallbackURIs": ["//other", 7]}},
            "validityDurationSeconds": 86_400,
            "rotationWindowPercentage": 50,
        },
        "status": status,
    });
    ConfigObject::of(&read(object))
}

#[test]
fn an_object_says_what_the_controller_has_written() {
    let condition = |observed: i64| {
        json!({"conditions": [
            {"type": "Other", "status": "True"},
            {"type": "Ready", "status": "False", "reason": "PoolUnreachable", "message": "no\nanswer",
             "observedGeneration": observed, "lastTransitionTime": "2026-11-20T14:00:00Z"},
        ]})
    };
    let there = object(&condition(3));
    assert_eq!(there.pools, ["//pool", "//other"]);
    assert_eq!(there.validity, Some(SignedDuration::from_hours(24)));
    assert_eq!(there.rotation_window_percentage, Some(50));
    let ready = there.ready.as_ref().unwrap();
    assert!(!ready.is_true() && !there.is_newer());
    assert_eq!(ready.message, "no\u{fffd}answer");
    assert!(object(&condition(2)).is_newer());
    // Whatever else is there says nothing.
    for status in [Value::Null, json!({}), json!({"conditions": 7}), json!([])] {
        let there = object(&status);
        assert!(there.ready.is_none() && !there.is_newer(), "{status}");
    }
    let empty = ConfigObject::of(&read(json!({"metadata": {}, "spec": 7})));
    assert!(empty.pools.is_empty() && empty.validity.is_none());
}

#[tokio::test]
async fn objects_that_are_not_there_are_none() {
    let unknown = "/apis/security.cloud.google.com/v1/trustconfigs/default";
    let server = ApiServer::start(Answers::from([(unknown.to_owned(), false.into())])).await;
    for kind in Kind::ALL {
        let there = ConfigObject::look(&server.client, kind).await;
        assert_eq!(there, Ok(None));
    }
}

#[tokio::test]
async fn an_api_server_that_keeps_its_version_to_itself_still_answers() {
    let server = ApiServer::start(Answers::new()).await;
    let known = version(&server.client).await;
    assert_eq!(known, Ok(Some("v1.37.1".to_owned())));
    let answers = Answers::from([("/version".to_owned(), Value::Null)]);
    let server = ApiServer::start(answers).await;
    assert_eq!(version(&server.client).await, Ok(None));
}
