use std::{str::FromStr as _, sync::Arc, time::Duration};

use certagent_core::{
    algorithm::KeyAlgorithm, names::SubjectNames, plan::workload_id, request::SubjectMode,
};
use certagent_svid::{SpiffeId, TrustDomain};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    clock::ManualClock,
    google::Caller,
    issuer::csr_lab::{CsrServer, condition},
    keys::{Keys, pod_csr_pem},
    schedule::Priority,
};

const SIGNER: &str = "spiffe.gke.io/spiffe-leaf-signer";
const UID: &str = "0e0a6a0e-8f3f-4b59-8b52-4f3d0b1c5d11";

struct Bench {
    server: CsrServer,
    clock: ManualClock,
    issuer: CsrIssuer,
    request: PreparedRequest,
}

fn id() -> SpiffeId {
    let domain = TrustDomain::new("demo.svc.id.goog").unwrap();
    workload_id(&domain, "shop", "cart").unwrap()
}

fn behalf() -> Behalf {
    Behalf {
        caller: Caller::Agent,
        priority: Priority::New,
        needed_by: Some("2026-11-21T13:00:00Z".parse().unwrap()),
        pod: Some(PodRecord {
            uid: UID.to_owned(),
            name: "cart-7d9f".to_owned(),
            namespace: "shop".to_owned(),
            service_account: "cart".to_owned(),
            fs_group: None,
        }),
        is_renamed: false,
    }
}

async fn bench_of(algorithm: KeyAlgorithm) -> Bench {
    let now = Timestamp::from_str("2026-11-21T01:00:00Z").unwrap();
    let clock = ManualClock::new(now);
    let server = CsrServer::start().await;
    let shared: SharedClock = Arc::new(clock.clone());
    let issuer = CsrIssuer::new(server.client.clone(), SIGNER.to_owned(), shared);
    let plan = IssuePlan {
        spiffe_id: id(),
        algorithm,
        validity: Duration::from_secs(3600),
        rotation_window_percentage: 50,
        subject_mode: SubjectMode::Default,
        names: SubjectNames::default(),
    };
    let key = Keys::default().generate(algorithm).await.unwrap();
    let csr = pod_csr_pem(&plan, &key, UID).unwrap();
    let pool =
        "//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/issuing";
    let pool = CaPoolName::from_str(pool).unwrap();
    let form = RequestForm::Kubernetes;
    let request = PreparedRequest::new(plan, pool, form, key.public_key(), &csr, now);
    Bench {
        server,
        clock,
        issuer,
        request,
    }
}

async fn bench() -> Bench {
    bench_of(KeyAlgorithm::EcdsaP256).await
}

impl Bench {
    async fn issue(&self) -> Result<RawChain, CsrTrouble> {
        let issued = self.issuer.issue(&self.request, &behalf()).await;
        issued.map_err(|error| match error {
            IssueError::Csr(error) => {
                assert_eq!(error.name, self.request.certificate_id);
                error.trouble
            }
            other => panic!("{other}"),
        })
    }

    /// Asks, while somebody changes the object as soon as it is there.
    async fn issue_while(&self, edit: impl FnOnce(&mut Value)) -> Result<RawChain, CsrTrouble> {
        let change = async {
            let name = self.server.made().await;
            self.server.change(|store| store.edit(&name, edit));
        };
        tokio::join!(self.issue(), change).0
    }

    /// Asks until the patience is over.
    async fn issue_in_vain(&self) -> CsrTrouble {
        let patience = async {
            self.server.made().await;
            loop {
                // The issuer may not have begun to wait yet.
                tokio::task::yield_now().await;
                self.clock.step(SignedDuration::from_secs(1));
            }
        };
        tokio::select! {
            issued = self.issue() => issued.unwrap_err(),
            never = patience => never,
        }
    }
}

fn conditions(conditions: &[Value]) -> Value {
    json!({"conditions": conditions})
}

#[tokio::test]
async fn one_watch_follows_an_object_from_its_approval_to_its_certificate() {
    let bench = bench().await;
    let change = async {
        let name = bench.server.made().await;
        drop(bench.server.until(|store| store.watches == 1).await);
        let approved = condition("Approved", "True", "AutoApproved", "");
        bench.server.change(|store| {
            store.edit(&name, |csr| csr["status"] = conditions(&[approved]));
        });
        drop(bench.server.until(|store| store.shown == 1).await);
        bench.server.change(|store| {
            store.edit(&name, |csr| {
                csr["status"]["certificate"] = json!(ByteString(b"LEAF".to_vec()));
            });
        });
    };
    let (issued, ()) = tokio::join!(bench.issue(), change);
    assert_eq!(issued.unwrap().certificate, "LEAF");
    assert_eq!(bench.server.change(|store| store.watches), 1);
}

#[tokio::test]
async fn an_object_is_made_with_what_the_controller_has_to_know() {
    let bench = bench_of(KeyAlgorithm::Rsa2048).await;
    let certificate = "LEAF";
    let issued = bench.issue_while(|csr| {
        let meta = &csr["metadata"];
        assert_eq!(meta["name"], bench.request.certificate_id);
        assert_eq!(
            meta["annotations"],
            json!({"certagent.dev/pod-name": "cart-7d9f",
                "certagent.dev/needed-by": "2026-11-21T13:00:00Z"})
        );
        let spec = &csr["spec"];
        assert_eq!(spec["signerName"], SIGNER);
        assert_eq!(spec["expirationSeconds"], Value::Null);
        assert_eq!(
            spec["usages"],
            json!([
                "digital signature",
                "server auth",
                "client auth",
                "key encipherment"
            ])
        );
        csr["status"] = json!({
            "conditions": [condition("Approved", "True", "AutoApproved", "ok")],
            "certificate": base64(certificate),
        });
    });
    let issued = issued.await.unwrap();
    assert_eq!(issued.certificate, certificate);
    assert_eq!(issued.chain, Vec::<String>::new());
    let request = bench
        .server
        .change(|store| store.only()["spec"]["request"].clone());
    assert_eq!(request, base64(&bench.request.body));
}

fn base64(text: &str) -> Value {
    serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap()
}

#[tokio::test]
async fn a_denial_and_a_failure_end_the_request_with_the_words_of_whoever_said_so() {
    let bench = bench().await;
    let denied = bench.issue_while(|csr| {
        csr["status"] = conditions(&[condition(
            "Denied",
            "True",
            "PodOnOtherNode",
            "it runs\n elsewhere",
        )]);
    });
    let denied = denied.await.unwrap_err();
    assert_eq!(
        denied.to_string(),
        "was denied: PodOnOtherNode: it runs  elsewhere"
    );
    assert_eq!(denied.class(), Class::Declined);

    let bench = self::bench().await;
    let failed = bench.issue_while(|csr| {
        csr["status"] = conditions(&[
            condition("Approved", "True", "KubectlApprove", "by hand"),
            condition(
                "Failed",
                "True",
                "ApprovedButNotValid",
                &"x".repeat(100_000),
            ),
        ]);
    });
    let failed = failed.await.unwrap_err();
    assert!(
        failed
            .to_string()
            .starts_with("failed: ApprovedButNotValid: xxx")
    );
    assert!(failed.to_string().len() < 2 * MAX_TEXT);
    assert_eq!(failed.class(), Class::Declined);
}

#[tokio::test]
async fn whoever_waits_in_vain_is_told_how_far_it_has_come() {
    let bench = bench().await;
    assert_eq!(bench.issue_in_vain().await, CsrTrouble::Undecided);
    // The same object is found again.
    let said = condition(
        ISSUED,
        "False",
        "PoolUnreachable",
        "no answer; tried again at 10:00",
    );
    bench.server.change(|store| {
        let approved = condition("Approved", "True", "AutoApproved", "ok");
        store.edit(&bench.request.certificate_id, |csr| {
            csr["status"] = conditions(&[approved, said]);
        });
    });
    let unsigned = bench.issue_in_vain().await;
    assert_eq!(
        unsigned.to_string(),
        "is approved and not signed yet: PoolUnreachable: no answer; tried again at 10:00"
    );
    assert_eq!(unsigned.class(), Class::Unknown);
    assert_eq!(bench.server.change(|store| store.created), 1);
}

#[tokio::test]
async fn an_object_of_an_earlier_process_is_adopted_and_a_stranger_s_is_not() {
    let bench = bench().await;
    assert_eq!(bench.issue_in_vain().await, CsrTrouble::Undecided);
    bench.server.change(|store| {
        store.edit(&bench.request.certificate_id, |csr| {
            csr["status"] = json!({"certificate": base64("LEAF")});
        });
    });
    assert_eq!(bench.issue().await.unwrap().certificate, "LEAF");
    for (field, other) in [("request", base64("other")), ("signerName", json!("a.b/c"))] {
        let bench = self::bench().await;
        assert_eq!(bench.issue_in_vain().await, CsrTrouble::Undecided);
        bench.server.change(|store| {
            store.edit(&bench.request.certificate_id, |csr| {
                csr["spec"][field] = other;
                csr["status"] = json!({"certificate": base64("LEAF")});
            });
        });
        let taken = bench.issue().await.unwrap_err();
        assert_eq!(taken, CsrTrouble::Taken, "{field}");
        assert_eq!(taken.class(), Class::Declined);
    }
}

#[tokio::test]
async fn an_object_that_is_deleted_is_given_up() {
    let bench = bench().await;
    let delete = async {
        let name = bench.server.made().await;
        bench.server.change(|store| store.delete(&name));
    };
    let vanished = tokio::join!(bench.issue(), delete).0.unwrap_err();
    assert_eq!(vanished, CsrTrouble::Vanished);
    assert_eq!(vanished.class(), Class::Lost);
}

#[tokio::test]
async fn without_a_watch_the_object_is_read_again_and_again() {
    let bench = bench().await;
    bench.server.change(|store| store.watches_break = true);
    let decide = async {
        let name = bench.server.made().await;
        bench.server.change(|store| {
            store.edit(&name, |csr| {
                csr["status"] = json!({"certificate": base64("LEAF")});
            });
        });
        loop {
            tokio::task::yield_now().await;
            bench.clock.step(SignedDuration::from_secs(1));
        }
    };
    tokio::select! {
        issued = bench.issue() => assert_eq!(issued.unwrap().certificate, "LEAF"),
        never = decide => never,
    }
}

#[tokio::test]
async fn what_the_api_server_refuses_is_told_by_its_kind() {
    for (code, class) in [
        (403, Class::Denied),
        (422, Class::Invalid),
        (418, Class::Unknown),
    ] {
        let bench = bench().await;
        bench.server.change(|store| store.failure = Some(code));
        let refused = bench.issue().await.unwrap_err();
        assert_eq!(refused.class(), class, "{code}");
        let said = format!("refused with {code}");
        assert!(refused.to_string().contains(&said), "{refused}");
    }
}

#[tokio::test]
async fn a_volume_that_is_no_pod_s_has_no_request() {
    let bench = bench().await;
    let behalf = Behalf {
        pod: None,
        ..behalf()
    };
    let error = bench
        .issuer
        .issue(&bench.request, &behalf)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
    assert_eq!(bench.server.change(|store| store.created), 0);
}
