use certagent_core::config::{Problem, Rule, Severity, Source};
use certagent_svid::{Certificate, certificate::hex};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    super::super::{
        Verdict,
        cluster::{
            Deployed, Led, Permission, Ready, Reason, Request, State,
            lab::{Answers, ApiServer, CSRS, condition, csr, list},
        },
        fixture::{Leaf, NOON, at, contents, contents_with},
        golden,
        report::CheckName as _,
    },
    report::CheckId,
    *,
};
use crate::{config::fixture::Objects, kube::Trouble};

/// A cluster in which everything works, to be bent by tests.
struct Known {
    wanted: ClusterWanted,
    facts: Facts,
    root: Certificate,
}

fn before(seconds: i64) -> Timestamp {
    at(NOON) - SignedDuration::from_secs(seconds)
}

fn found(objects: &Objects) -> Found {
    let source = Source {
        name: "objects".to_owned(),
        text: objects.yaml(),
    };
    Found::check(vec![source], &Settings::default())
}

fn no_workloads() -> Objects {
    Objects {
        workloads: &[],
        ..Objects::default()
    }
}

fn rendered(domain: &str, pem: &str) -> Value {
    json!({"renderedTrustStores": [
        {"trustDomain": domain, "trustAnchors": [{"pemCertificates": [pem]}]}]})
}

fn request(name: &str, age: i64, state: State) -> Request {
    Request {
        name: name.to_owned(),
        created: Some(before(age + 1)),
        node: Some("node-1".to_owned()),
        pod_name: Some("cart-7d9f".to_owned()),
        pod_uid: None,
        spiffe_id: Some("spiffe://example.org/ns/shop/sa/cart".to_owned()),
        since: (state != State::Pending).then(|| before(age)),
        state,
        certificate: None,
    }
}

fn because(reason: &str) -> Reason {
    Reason {
        reason: reason.to_owned(),
        message: "as it says".to_owned(),
    }
}

impl Known {
    fn healthy() -> Self {
        let roots = contents().roots;
        let ready = Ready {
            status: "True".to_owned(),
            reason: "ConfigReady".to_owned(),
            message: "it is ready".to_owned(),
            observed_generation: Some(2),
        };
        let certificates = ConfigObject {
            generation: Some(2),
            ready: Some(ready),
            pools: vec!["//privateca.googleapis.com/projects/p/locations/l/caPools/i".to_owned()],
            ..ConfigObject::default()
        };
        let trust = ConfigObject {
            pools: Vec::new(),
            status: Some(rendered("example.org", &roots)),
            ..certificates.clone()
        };
        let cluster = Cluster {
            version: Some("v1.37.1".to_owned()),
            objects: [Ok(Some(certificates)), Ok(Some(trust))],
            found: Ok(found(&no_workloads())),
            controller: Controller {
                deployed: Ok(Some(Deployed {
                    ready: 2,
                    wanted: 2,
                })),
                led: Ok(Some(Led {
                    holder: Some("certagent-controller-6b7d-abcde".to_owned()),
                    renewed_at: Some(before(2)),
                })),
            },
            requests: Ok(Requests {
                all: vec![
                    request("certagent-3", 5, State::Pending),
                    request("certagent-2", 60, State::Signed),
                    request("certagent-1", 7200, State::Denied(because("PodNotFound"))),
                ],
                is_cut: false,
            }),
            rotation: None,
        };
        Self {
            wanted: ClusterWanted {
                signer: "spiffe.gke.io/spiffe-leaf-signer".to_owned(),
                settings: Settings::default(),
                by_controller: true,
            },
            facts: Facts {
                cluster: Ok(cluster),
            },
            root: Certificate::parse_pem_list(roots.as_bytes())
                .unwrap()
                .remove(0),
        }
    }

    fn cluster(&mut self) -> &mut Cluster {
        self.facts.cluster.as_mut().unwrap()
    }

    fn certificates(&mut self) -> &mut ConfigObject {
        let [certificates, _] = &mut self.cluster().objects;
        certificates.as_mut().unwrap().as_mut().unwrap()
    }

    fn trust(&mut self) -> &mut ConfigObject {
        let [_, trust] = &mut self.cluster().objects;
        trust.as_mut().unwrap().as_mut().unwrap()
    }

    fn add(&mut self, request: Request) {
        self.cluster().requests.as_mut().unwrap().all.push(request);
    }

    fn judge(&self) -> Report {
        judge(&self.wanted, &self.facts, at(NOON))
    }

    fn goldens(&self, name: &str) {
        let report = self.judge();
        let sha256 = hex(&self.root.fingerprint());
        for (kind, text) in [("txt", report.to_text()), ("json", report.to_json())] {
            golden::compare(name, kind, &text.replace(&sha256, "FINGERPRINT"));
        }
    }
}

/// The verdict on a healthy cluster but for what `bend` does.
#[track_caller]
fn bent(
    verdict: Verdict,
    cause: CheckId,
    detail: &str,
    bend: impl FnOnce(&mut Known),
) -> (Known, Report) {
    let mut known = Known::healthy();
    bend(&mut known);
    let report = known.judge();
    let found = report.cause().map(|(id, _)| id);
    let text = report.to_text();
    assert_eq!((report.verdict(), found), (verdict, Some(cause)), "{text}");
    let (_, told) = report.cause().unwrap();
    assert!(told.contains(detail), "no \"{detail}\" in: {told}");
    assert!(!report.next_steps.is_empty(), "no next step:\n{text}");
    (known, report)
}

#[test]
fn a_cluster_in_which_everything_works_is_healthy() {
    let known = Known::healthy();
    let report = known.judge();
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    assert_eq!(report.verdict(), Verdict::Healthy);
    let tally = report.evidence.requests.as_ref().unwrap();
    assert_eq!((tally.pending, tally.signed, tally.denied.len()), (1, 1, 0));
    known.goldens("cluster-healthy");
}

#[test]
fn the_objects_are_judged_by_the_rules_of_files() {
    let id = CheckId::Objects;
    bent(Verdict::Problem, id, "validityDurationSeconds", |known| {
        let objects = Objects {
            validity: 1,
            ..no_workloads()
        };
        known.cluster().found = Ok(found(&objects));
    });
    let (known, report) = bent(Verdict::Problem, id, "no TrustConfig", |known| {
        let mut wrong = found(&no_workloads());
        wrong.config = None;
        let problem = Problem {
            rule: Rule::MissingObject,
            severity: Severity::Error,
            file: String::new(),
            line: 0,
            column: 0,
            object: None,
            field: None,
            message: "there is no TrustConfig named default; apply one".to_owned(),
            allowed: None,
        };
        wrong.problems = vec![problem];
        known.cluster().found = Ok(wrong);
        known.cluster().objects[1] = Ok(None);
    });
    let roots = report
        .checks
        .iter()
        .find(|one| one.id == CheckId::RenderedRoots);
    assert!(
        roots
            .unwrap()
            .finding
            .detail()
            .contains("waits for objects")
    );
    known.goldens("cluster-no-trust-config");
    bent(Verdict::Unknown, id, "no answer", |known| {
        known.cluster().found = Err("no answer".to_owned());
    });
}

#[test]
fn conditions_that_are_false_missing_or_of_an_earlier_generation_are_told() {
    let id = CheckId::Ready;
    let (known, _) = bent(Verdict::Problem, id, "PermissionDenied: role x", |known| {
        known.certificates().ready = Some(Ready {
            status: "False".to_owned(),
            reason: "PermissionDenied".to_owned(),
            message: "role x is missing; generation 1 stays in force".to_owned(),
            observed_generation: Some(2),
        });
    });
    known.goldens("cluster-not-ready");
    bent(Verdict::Warning, id, "has not said", |known| {
        known.trust().ready = None;
    });
    bent(Verdict::Warning, id, "has looked at 2", |known| {
        known.certificates().generation = Some(3);
    });
}

#[test]
fn a_controller_that_does_not_run_is_the_cause_of_what_it_has_not_done() {
    let id = CheckId::Controller;
    let (known, _) = bent(Verdict::Problem, id, "nobody holds", |known| {
        known.cluster().controller = Controller {
            deployed: Ok(Some(Deployed {
                ready: 0,
                wanted: 2,
            })),
            led: Ok(Some(Led {
                holder: None,
                renewed_at: None,
            })),
        };
        known.certificates().ready = None;
        known.add(request("certagent-0", 600, State::Pending));
    });
    known.goldens("cluster-no-controller");
    let (_, report) = bent(Verdict::Problem, id, "no Deployment", |known| {
        known.cluster().controller = Controller {
            deployed: Ok(None),
            led: Ok(None),
        };
    });
    let apply = &report.next_steps[0].command;
    assert_eq!(apply, "kubectl apply -f deploy/controller.yaml");
}

#[test]
fn every_trust_domain_has_rendered_roots_that_last() {
    let id = CheckId::RenderedRoots;
    bent(Verdict::Problem, id, "has no roots yet", |known| {
        known.trust().status = None;
    });
    bent(Verdict::Problem, id, "no root of example.org", |known| {
        let status = rendered("other.example", &known.root.to_pem());
        known.trust().status = Some(status);
    });
    bent(Verdict::Problem, id, "does not parse", |known| {
        let status = rendered("example.org", "-----BEGIN CERTIFICATE-----");
        known.trust().status = Some(status);
    });
    let id = CheckId::RootsValidity;
    bent(Verdict::Warning, id, "Old Root", |known| {
        let old = contents_with(&Leaf::default(), "Old Root", (2026, 11, 25)).roots;
        known.trust().status = Some(rendered("example.org", &old));
    });
}

#[test]
fn requests_are_counted_and_the_one_to_look_at_is_named() {
    let unsigned = || State::Unsigned(Some(because("PermissionDenied")));
    let (known, report) = bent(
        Verdict::Problem,
        CheckId::Signatures,
        "2 requests approved and not signed; the oldest is certagent-b: PermissionDenied",
        |known| {
            known.add(request("certagent-a", 10, unsigned()));
            known.add(request("certagent-b", 20, unsigned()));
            known.add(request(
                "certagent-c",
                100,
                State::Failed(because("CertificateLost")),
            ));
        },
    );
    let command = &report.next_steps[0].command;
    assert_eq!(command, "kubectl describe csr certagent-b");
    known.goldens("cluster-unsigned");
    bent(
        Verdict::Problem,
        CheckId::Signatures,
        "has not said why",
        |known| known.add(request("certagent-a", 100, State::Unsigned(None))),
    );
    bent(
        Verdict::Problem,
        CheckId::Approvals,
        "2 requests neither approved nor denied; the oldest is certagent-a",
        |known| known.add(request("certagent-a", 100, State::Pending)),
    );
    bent(
        Verdict::Warning,
        CheckId::Refusals,
        "1 request denied or failed in the last hour; the newest is certagent-a: NoNodeClaim",
        |known| {
            let state = State::Denied(because("NoNodeClaim"));
            known.add(request("certagent-a", 3500, state));
        },
    );
    let (known, _) = bent(
        Verdict::Problem,
        CheckId::OtherNodes,
        "certagent-a",
        |known| {
            let state = State::Denied(because("PodOnOtherNode"));
            known.add(request("certagent-a", 100, state));
        },
    );
    known.goldens("cluster-alarm");
}

#[test]
fn reasons_that_nobody_knows_are_counted_together() {
    let mut known = Known::healthy();
    for number in 0..100 {
        let state = State::Denied(because(&format!("Reason{number}")));
        known.add(request("certagent-a", 100, state));
    }
    let report = known.judge();
    let denied = &report.evidence.requests.as_ref().unwrap().denied;
    assert_eq!(denied.len(), 33);
    assert_eq!(denied["other reasons"], 68);
}

#[test]
fn what_this_user_may_not_read_is_unknown_and_the_rest_is_told() {
    let refuse = |verb, resource| {
        Permission::of(verb, resource).unseen(Trouble::Forbidden("forbidden".to_owned()))
    };
    let (known, report) = bent(
        Verdict::Unknown,
        CheckId::OtherNodes,
        "may not list csrs",
        |known| known.cluster().requests = Err(refuse("list", "csrs")),
    );
    let command = &report.next_steps[0].command;
    assert_eq!(command, "kubectl auth can-i list csrs");
    known.goldens("cluster-forbidden");
    bent(
        Verdict::Unknown,
        CheckId::Objects,
        "may not get x",
        |known| {
            known.cluster().objects[0] = Err(refuse("get", "x"));
            known.cluster().found = Err("the same".to_owned());
        },
    );
    bent(
        Verdict::Unknown,
        CheckId::Controller,
        "may not get y",
        |known| {
            known.cluster().controller.led = Err(refuse("get", "y"));
            known.cluster().controller.deployed = Err(refuse("get", "z"));
        },
    );
    bent(Verdict::Unknown, CheckId::ApiServer, "away", |known| {
        known.facts.cluster = Err("away".to_owned());
    });
}

#[test]
fn drivers_that_ask_by_themselves_need_no_controller() {
    let mut known = Known::healthy();
    known.wanted.by_controller = false;
    known.trust().status = None;
    known.cluster().controller = Controller {
        deployed: Ok(None),
        led: Ok(None),
    };
    let report = known.judge();
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
}

#[test]
fn every_check_waits_only_for_those_before_it() {
    for &id in CheckId::ALL {
        assert!(id.needs().iter().all(|needed| *needed < id), "{id:?}");
    }
}

#[tokio::test]
async fn the_objects_are_read_from_the_api_server() {
    const GROUP: &str = "/apis/security.cloud.google.com/v1";
    let yaml = no_workloads().yaml();
    let objects: Vec<Value> = yaml
        .split("---\n")
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect();
    let mut answers = Answers::new();
    for (plural, mut object) in ["workloadcertificateconfigs", "trustconfigs"]
        .into_iter()
        .zip(objects)
    {
        object["metadata"]["generation"] = 1.into();
        let kind = object["kind"].as_str().unwrap().to_owned();
        let listed = list(
            &kind,
            "security.cloud.google.com/v1",
            std::slice::from_ref(&object),
        );
        answers.insert(format!("{GROUP}/{plural}"), listed);
        answers.insert(format!("{GROUP}/{plural}/default"), object);
    }
    let denied = condition("Denied", "True", "PodNotFound");
    let requests = [csr("certagent-1", "", &[denied])];
    let requests = list(
        "CertificateSigningRequest",
        "certificates.k8s.io/v1",
        &requests,
    );
    answers.insert(CSRS.to_owned(), requests);
    let server = ApiServer::start(answers).await;
    let known = Known::healthy();
    let facts = gather(&known.wanted, Ok(server.client)).await;
    let report = judge(&known.wanted, &facts, at(NOON));
    assert!(report.evidence.problems.is_empty(), "{}", report.to_text());
    let generations = report.evidence.objects.iter().map(|one| one.generation);
    assert_eq!(generations.collect::<Vec<_>>(), [Some(1), Some(1)]);
    let tally = report.evidence.requests.as_ref().unwrap();
    assert_eq!(tally.denied.get("PodNotFound"), Some(&1));
    // Nobody runs there.
    assert_eq!(report.cause().map(|(id, _)| id), Some(CheckId::Controller));
    let facts = gather(&known.wanted, Err("no kubeconfig".to_owned())).await;
    assert_eq!(facts.cluster.unwrap_err(), "no kubeconfig");
}
