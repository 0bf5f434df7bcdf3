use serde_json::{Value, json};

use super::{
    super::{
        super::{
            Verdict,
            cluster::lab::{Answers, ApiServer, CSRS, condition, csr, list},
            fixture::{NOON, at, contents},
        },
        fixture::{DRIVER, Known, SIGNER, UID, request},
        judge,
    },
    *,
};
use crate::keys::Keys;
use certagent_core::{algorithm::KeyAlgorithm, plan::IssuePlan};

const POD: &str = "/api/v1/namespaces/shop/pods/cart-7d9f";
const EVENTS: &str = "/api/v1/namespaces/shop/events";
const DRIVERS: &str = "/api/v1/namespaces/certagent-system/pods";
const OBJECT: &str =
    "/apis/storage.k8s.io/v1/csidrivers/workloadcertificates.security.cloud.google.com";
const CERTIFICATES: &str = "/apis/security.cloud.google.com/v1/workloadcertificateconfigs/default";
const TRUST: &str = "/apis/security.cloud.google.com/v1/trustconfigs/default";
const DEPLOYMENT: &str =
    "/apis/apps/v1/namespaces/certagent-system/deployments/certagent-controller";
const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/certagent-system/leases/certagent-controller";

/// A PKCS#10 request as the driver makes one for the pod of this UID.
async fn pkcs10(uid: &str) -> String {
    let key = Keys::default().generate(KeyAlgorithm::EcdsaP256).await;
    let config = crate::config::fixture::Objects {
        workloads: &[],
        ..Default::default()
    };
    let config = config.config();
    let id = super::super::fixture::ID.parse().unwrap();
    let plan = IssuePlan::new(&config.certificates, &config.trust, id).unwrap();
    crate::keys::pod_csr_pem(&plan, &key.unwrap(), uid).unwrap()
}

fn ready() -> Value {
    json!({"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]})
}

/// A cluster in which the pod runs.
async fn cluster() -> Answers {
    let approved = condition("Approved", "True", "AutoApproved");
    let mut signed = csr("certagent-1", &pkcs10(UID).await, &[approved]);
    let certificates = contents().certificates;
    signed["status"]["certificate"] = {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.encode(certificates).into()
    };
    let other = pkcs10("00000000-0000-4000-8000-000000000007").await;
    let other = csr("certagent-2", &other, &[]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "cart-7d9f", "namespace": "shop", "uid": UID,
            "creationTimestamp": "2026-11-20T13:59:00Z"},
        "spec": {"nodeName": "node-1", "serviceAccountName": "cart", "containers": [],
            "volumes": [{"name": "certs", "csi": {"driver": DRIVER}}]},
        "status": {"phase": "Running"},
    });
    let driver = json!({
        "metadata": {"name": "certagent-node-1"},
        "spec": {"containers": [{"name": "certagent", "args": ["node"]}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    let config = |kind: &str| {
        json!({"apiVersion": "security.cloud.google.com/v1", "kind": kind,
            "metadata": {"name": "default", "generation": 1}, "spec": {}, "status": ready()})
    };
    let of_csrs = list(
        "CertificateSigningRequest",
        "certificates.k8s.io/v1",
        &[signed, other],
    );
    [
        (POD, pod),
        (EVENTS, list("Event", "v1", &[])),
        (CSRS, of_csrs),
        (DRIVERS, list("Pod", "v1", &[driver])),
        (
            OBJECT,
            json!({"metadata": {"name": DRIVER}, "spec": {"podInfoOnMount": true,
                "volumeLifecycleModes": ["Ephemeral"]}}),
        ),
        (CERTIFICATES, config("WorkloadCertificateConfig")),
        (TRUST, config("TrustConfig")),
        (
            DEPLOYMENT,
            json!({"spec": {"selector": {}, "template": {}}, "status": {"readyReplicas": 1}}),
        ),
        (
            LEASE,
            json!({"spec": {"holderIdentity": "replica-1",
                "renewTime": "2026-11-20T14:29:58.000000Z"}}),
        ),
    ]
    .map(|(path, answer)| (path.to_owned(), answer))
    .into()
}

fn wanted() -> Wanted {
    Known::healthy().wanted
}

#[tokio::test]
async fn everything_is_asked_for_by_its_name_or_narrowly() {
    let server = ApiServer::start(cluster().await).await;
    let facts = gather(&wanted(), Ok(server.client.clone())).await;
    let report = judge(&wanted(), &facts, at(NOON));
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
    let requests = &report.evidence.requests;
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].name, "certagent-1");
    let certificate = report.evidence.certificate.as_ref().unwrap();
    assert_eq!(certificate.serial, "c0ffee");
    let mut asked = server.asked();
    asked.sort();
    let label = "labelSelector=app.kubernetes.io/name=certagent-node";
    let mut expected = [
        POD,
        OBJECT,
        CERTIFICATES,
        TRUST,
        DEPLOYMENT,
        LEASE,
        "/version",
    ]
    .map(|path| format!("{path}?"))
    .to_vec();
    expected.extend([
        format!("{EVENTS}?&fieldSelector=involvedObject.uid={UID}&limit=500"),
        format!("{CSRS}?&fieldSelector=spec.signerName={SIGNER}&limit=500"),
        format!("{DRIVERS}?&fieldSelector=spec.nodeName=node-1&{label}&limit=500"),
    ]);
    expected.sort();
    let trimmed: Vec<_> = asked.iter().map(|one| one.replace("?&", "?")).collect();
    let expected: Vec<_> = expected.iter().map(|one| one.replace("?&", "?")).collect();
    assert_eq!(trimmed, expected);
}

#[tokio::test]
async fn of_a_pod_that_is_not_there_nothing_else_is_asked() {
    let server = ApiServer::start(Answers::new()).await;
    let facts = gather(&wanted(), Ok(server.client.clone())).await;
    let there = facts.cluster.unwrap();
    assert_eq!(there.pod, Ok(None));
    assert!(there.around.is_none());
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn whatever_is_forbidden_keeps_nothing_else_from_being_read() {
    for path in [
        EVENTS,
        CSRS,
        DRIVERS,
        OBJECT,
        CERTIFICATES,
        TRUST,
        DEPLOYMENT,
        LEASE,
    ] {
        let mut answers = cluster().await;
        answers.insert(path.to_owned(), Value::Null);
        let server = ApiServer::start(answers).await;
        let facts = gather(&wanted(), Ok(server.client.clone())).await;
        let around = facts.cluster.unwrap().around.unwrap();
        let unseen = [
            around.complaint.err(),
            around.requests.err(),
            around.driver.err(),
            around.driver_object.err(),
            around.controller.deployed.err(),
            around.controller.led.err(),
        ];
        let objects = around.objects.into_iter().map(Result::err);
        let unseen: Vec<_> = unseen.into_iter().chain(objects).flatten().collect();
        assert_eq!(unseen.len(), 1, "{path}: {unseen:?}");
        assert!(unseen[0].missing.is_some(), "{path}: {unseen:?}");
    }
}

#[tokio::test]
async fn a_pod_that_is_forbidden_is_still_known_by_its_requests() {
    let mut answers = cluster().await;
    answers.insert(POD.to_owned(), Value::Null);
    let server = ApiServer::start(answers).await;
    let facts = gather(&wanted(), Ok(server.client.clone())).await;
    let there = facts.cluster.unwrap();
    assert!(there.pod.unwrap_err().text.contains("may not get pods"));
    // Both are of pods of that name and namespace.
    let requests = there.around.unwrap().requests.unwrap();
    assert_eq!(requests.all.len(), 2);
    let events = server.asked();
    let by_name = "involvedObject.kind=Pod,involvedObject.name=cart-7d9f";
    assert!(events.iter().any(|one| one.contains(by_name)), "{events:?}");
}

#[tokio::test]
async fn without_a_client_the_reason_is_told() {
    let facts = gather(&wanted(), Err("nobody said where it is".to_owned())).await;
    assert_eq!(facts.cluster.unwrap_err(), "nobody said where it is");
}

#[test]
fn a_request_is_the_pod_s_by_its_uid_or_by_its_node_where_it_cannot_be_read() {
    let wanted = wanted();
    let pod = super::super::fixture::pod();
    let request = |bend: fn(&mut Request)| {
        let mut request = request("one", super::super::super::cluster::State::Pending);
        bend(&mut request);
        wanted.is_for(Some(&pod), &request)
    };
    assert!(request(|_| {}));
    // Its own words count less than the UID.
    assert!(request(|one| one.pod_name = Some("other".to_owned())));
    assert!(request(|one| one.node = Some("node-9".to_owned())));
    assert!(!request(
        |one| one.pod_uid = Some("an earlier pod's".to_owned())
    ));
    assert!(request(|one| one.pod_uid = None));
    assert!(!request(|one| {
        one.pod_uid = None;
        one.node = Some("node-9".to_owned());
    }));
    assert!(!request(|one| {
        one.pod_uid = None;
        one.pod_name = None;
    }));
}
