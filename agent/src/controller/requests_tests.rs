use std::{collections::BTreeMap, sync::Arc, time::Duration};

use certagent_core::{
    algorithm::KeyAlgorithm,
    approval::Settings,
    config::{CertificatePolicy, Config, TrustAnchor, TrustPolicy},
    pool::CaPoolName,
};
use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method};
use certagent_svid::{Chain, PrivateKey, leaf};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::*;
use crate::{
    cas::lab::{Lab, domain, issuing, now, plan, pool},
    clock::{Clock as _, ManualClock},
    config::ActiveConfig,
    issuer::{
        CasIssuer,
        csr_lab::{CsrServer, Store, condition},
    },
    keys::{Keys, pod_csr_pem},
    limit::Limiter,
    trust::Trust,
};

const SIGNER: &str = "spiffe.gke.io/spiffe-leaf-signer";
const DRIVER: &str = "workloadcertificates.security.cloud.google.com";
const REQUESTER: &str = "system:serviceaccount:certagent-system:certagent-node";
const UID: &str = "0e0a6a0e-8f3f-4b59-8b52-4f3d0b1c5d11";

struct Bench {
    lab: Lab,
    server: CsrServer,
    clock: ManualClock,
    config: watch::Sender<ClusterState>,
    authority: watch::Receiver<Option<Authority>>,
    _authority: watch::Sender<Option<Authority>>,
    rendered: watch::Sender<TrustBundles>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
}

impl Bench {
    async fn start() -> Self {
        let bench = Self::idle(Lab::start().await, vec![issuing()]).await;
        bench.controller();
        bench
    }

    /// Without a controller.
    async fn idle(lab: Lab, pools: Vec<CaPoolName>) -> Self {
        let server = CsrServer::start().await;
        server.change(|store| drop(store.pods.insert("default/web-1".to_owned(), web_pod())));
        let clock = ManualClock::new(now());
        let stores = BTreeMap::from([(
            domain("demo.svc.id.goog"),
            vec![TrustAnchor::Pem(lab.root("root-pool"))],
        )]);
        let policy = TrustPolicy { stores };
        let (_, trust) = watch::channel(Arc::new(Trust::new(&policy)));
        let shared: SharedClock = Arc::new(clock.clone());
        let limiter = Limiter::new(Arc::clone(&shared), 100, Arc::default());
        let client = lab.client.clone();
        let issuer = CasIssuer::new(client, shared, Arc::new(limiter), trust.clone());
        let issuer = Arc::new(issuer);
        let rendered = watch::Sender::new(trust.borrow().bundles().clone());
        let (sender, authority) = watch::channel(Some(Authority { issuer, trust }));
        let config = Config {
            spread_rotation: None,
            certificates: CertificatePolicy {
                pools,
                algorithm: KeyAlgorithm::EcdsaP256,
                validity: Duration::from_secs(3600),
                rotation_window_percentage: 50,
            },
            trust: policy.clone(),
            workloads: Vec::new(),
        };
        let active = ActiveConfig {
            config: Arc::new(config),
            problem: None,
            version: 1,
        };
        let config = watch::Sender::new(ClusterState {
            active: Some(Arc::new(active)),
            ..ClusterState::default()
        });
        Self {
            lab,
            server,
            clock,
            config,
            authority,
            _authority: sender,
            rendered,
            metrics: Arc::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// Starts one more.
    fn controller(&self) {
        tokio::spawn(self.requests().run(self.cancel.clone()));
    }

    /// What one more works with.
    fn requests(&self) -> Arc<Requests> {
        let settings = Settings {
            signer_name: SIGNER.to_owned(),
            requester: REQUESTER.to_owned(),
            driver_name: DRIVER.to_owned(),
            trust_domain: domain("demo.svc.id.goog"),
        };
        let requests = Requests::new(Deciding {
            client: self.server.client.clone(),
            settings,
            config: self.config.subscribe(),
            authority: self.authority.clone(),
            rendered: self.rendered.subscribe(),
            instance: "replica".to_owned(),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::new(self.clock.clone()),
        });
        Arc::new(requests)
    }

    /// A node asks.
    async fn ask(&self, name: &str, twist: impl FnOnce(&mut Value)) -> PrivateKey {
        let key = Keys::default().generate(KeyAlgorithm::EcdsaP256).await;
        let key = key.unwrap();
        let request = pod_csr_pem(&plan(), &key, UID).unwrap();
        let mut object = json!({
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {
                "name": name,
                "annotations": {"certagent.dev/pod-name": "web-1"},
                "creationTimestamp": now().to_string(),
            },
            "spec": {
                "request": ByteString(request.into_bytes()),
                "signerName": SIGNER,
                "usages": ["digital signature", "server auth", "client auth"],
                "username": REQUESTER,
                "extra": {
                    "authentication.kubernetes.io/node-name": ["node-a"],
                    "authentication.kubernetes.io/pod-uid": ["4c3f0d6e-0000-4000-8000-000000000001"],
                },
            },
        });
        twist(&mut object);
        self.server.change(|store| store.add(name, object));
        key
    }

    /// Lets time pass until the server holds that.
    async fn until(&self, mut is_so: impl FnMut(&Store) -> bool) {
        let pass = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.clock.step(SignedDuration::from_millis(200));
            }
        };
        tokio::select! {
            there = self.server.until(&mut is_so) => drop(there),
            never = pass => never,
        }
    }

    /// Lets whatever is under way come to its end.
    async fn settle(&self) {
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.clock.step(SignedDuration::from_millis(500));
        }
    }

    fn sold(&self) -> u64 {
        self.lab.emulator.stats().total_sold()
    }

    fn abandoned(&self) -> u64 {
        let metrics = self.metrics.render(&[], self.clock.now()).unwrap();
        let mut lines = metrics.lines();
        let count =
            lines.find_map(|line| line.strip_prefix("certagent_certificates_abandoned_total "));
        count.unwrap().parse().unwrap()
    }

    /// Lets time pass until something counts as given up.
    async fn counted(&self) {
        while self.abandoned() == 0 {
            self.clock.step(SignedDuration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn creates(&self) -> u64 {
        self.lab
            .emulator
            .stats()
            .requests(Method::CreateCertificate)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn web_pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "default", "uid": UID},
        "spec": {
            "nodeName": "node-a",
            "serviceAccountName": "web",
            "containers": [],
            "volumes": [{"name": "certs", "csi": {"driver": DRIVER}}],
        },
        "status": {"phase": "Pending"},
    })
}

fn certificate(object: &Value) -> Option<Chain> {
    let bytes = object["status"]["certificate"].clone();
    let ByteString(bytes) = serde_json::from_value(bytes).ok()?;
    (!bytes.is_empty()).then(|| Chain::parse_pem(&bytes).unwrap())
}

fn is_signed(store: &Store) -> bool {
    certificate(store.only()).is_some()
}

fn has(kind: &'static str) -> impl Fn(&Store) -> bool {
    move |store| store.condition(kind).is_some()
}

#[tokio::test]
async fn a_good_request_is_approved_in_the_words_of_the_guide_and_signed() {
    let bench = Bench::start().await;
    let key = bench.ask("one", |_| ()).await;
    bench.until(is_signed).await;
    bench.until(|store| !store.events.is_empty()).await;
    bench.server.change(|store| {
        let approved = store.condition("Approved").unwrap();
        assert_eq!(
            (&approved["reason"], &approved["message"]),
            (
                &json!("AutoApproved"),
                &json!("Approved CSR because it is a valid SPIFFE SVID for the correct identity.")
            )
        );
        assert_eq!(store.condition("Issued"), None);
        let chain = certificate(store.only()).unwrap();
        assert!(key.fits(chain.leaf()));
        assert_eq!(leaf::svid(chain.leaf()).unwrap(), plan().spiffe_id);
        assert!(chain.leaf().subject_is_empty());
        let told: Vec<_> = store.events.iter().map(|event| &event["reason"]).collect();
        assert_eq!(told, ["CertificateApproved"]);
    });
    assert_eq!(bench.sold(), 1);
}

#[tokio::test]
async fn a_renewal_is_no_news() {
    let bench = Bench::start().await;
    bench.server.change(|store| {
        store.pods.get_mut("default/web-1").unwrap()["status"]["phase"] = json!("Running");
    });
    bench.ask("one", |_| ()).await;
    bench.until(is_signed).await;
    assert_eq!(bench.server.change(|store| store.events.len()), 0);
}

#[tokio::test]
async fn a_request_that_breaks_a_rule_is_denied_and_the_pod_hears_of_it() {
    let bench = Bench::start().await;
    bench
        .ask("one", |csr| {
            csr["spec"]["extra"]["authentication.kubernetes.io/node-name"] = json!(["node-b"]);
        })
        .await;
    bench.until(|store| !store.events.is_empty()).await;
    bench.server.change(|store| {
        let denied = store.condition("Denied").unwrap();
        assert_eq!(denied["reason"], "PodOnOtherNode");
        assert_eq!(store.condition("Approved"), None);
        assert_eq!(store.events[0]["reason"], "PodOnOtherNode");
        assert_eq!(store.events[0]["type"], "Warning");
        assert_eq!(store.events[0]["regarding"]["name"], "web-1");
    });
    assert_eq!(bench.creates(), 0);
}

#[tokio::test]
async fn a_request_approved_by_hand_has_to_keep_the_rules_all_the_same() {
    let bench = Bench::start().await;
    bench
        .ask("one", |csr| {
            csr["spec"]["username"] = json!("system:node:node-a");
            csr["status"] = json!({
                "conditions": [condition("Approved", "True", "KubectlApprove", "by hand")],
            });
        })
        .await;
    bench.until(has("Failed")).await;
    bench.server.change(|store| {
        let failed = store.condition("Failed").unwrap();
        assert_eq!(failed["reason"], "ApprovedButNotValid");
        let message = failed["message"].as_str().unwrap();
        assert!(message.starts_with("UnknownRequester: "), "{message}");
    });
    assert_eq!(bench.creates(), 0);
}

#[tokio::test]
async fn another_signer_s_request_is_left_alone() {
    let bench = Bench::start().await;
    bench
        .ask("a-strangers", |csr| {
            csr["spec"]["signerName"] = json!("kubernetes.io/kubelet-serving");
        })
        .await;
    bench.ask("ours", |_| ()).await;
    bench
        .until(|store| certificate(&store.csrs["ours"]).is_some())
        .await;
    bench
        .server
        .change(|store| assert_eq!(store.csrs["a-strangers"]["status"], Value::Null));
}

#[tokio::test]
async fn while_the_ca_is_away_the_object_says_so_and_nothing_is_final() {
    let bench = Bench::start().await;
    bench
        .lab
        .always(Fault::error(ApiError::new(Code::Unavailable, "away")));
    bench.ask("one", |_| ()).await;
    bench.until(has("Issued")).await;
    bench.until(|store| !store.events.is_empty()).await;
    bench.server.change(|store| {
        let said = store.condition("Issued").unwrap();
        assert_eq!(
            (&said["status"], &said["reason"]),
            (&json!("False"), &json!("PoolUnreachable"))
        );
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("issuing-pool"), "{message}");
        assert!(
            message.contains("; it is tried again at 2026-"),
            "{message}"
        );
    });
    // Told once, however long it lasts.
    let tries = bench.creates() + 20;
    let many = |_: &Store| bench.lab.emulator.stats().requests(Method::GetCaPool) > tries;
    let writes = bench
        .server
        .change(|store| store.only()["metadata"]["resourceVersion"].clone());
    let passes = async {
        while !many(&Store::default()) {
            bench.clock.step(SignedDuration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    passes.await;
    let later = bench
        .server
        .change(|store| store.only()["metadata"]["resourceVersion"].clone());
    let number = |version: Value| version.as_str().unwrap().parse::<u64>().unwrap();
    let minutes = bench.clock.now().duration_since(now()).as_mins();
    let most = u64::try_from(minutes / 5 + 1).unwrap();
    assert!(
        number(later) - number(writes) <= most,
        "within {minutes} min"
    );
    bench.lab.heal();
    bench.until(is_signed).await;
    bench.until(|store| store.events.len() >= 3).await;
    bench.server.change(|store| {
        assert_eq!(store.condition("Issued"), None);
        assert_eq!(store.condition("Failed"), None);
        let told: Vec<_> = store.events.iter().map(|event| &event["reason"]).collect();
        let wanted = ["CertificateApproved", "PoolUnreachable", "SigningAgain"];
        assert_eq!(told, wanted);
    });
    assert_eq!(bench.sold(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_two_controllers_buy_one_certificate() {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let lost = FaultRule::next(2, Fault::LostReply).on(Method::CreateCertificate);
    bench.lab.emulator.set_faults(vec![lost]);
    bench.controller();
    bench.controller();
    bench.ask("one", |_| ()).await;
    bench.until(is_signed).await;
    assert_eq!(bench.sold(), 1);
    assert!(bench.creates() >= 3, "{}", bench.creates());
    // The one that came second finds the certificate there.
    bench.settle().await;
    assert_eq!(bench.abandoned(), 0);
}

#[tokio::test]
async fn a_pool_that_refuses_is_passed_over() {
    let lab = Lab::start().await;
    let bench = Bench::idle(lab, vec![pool("missing-pool"), issuing()]).await;
    bench.controller();
    bench.ask("one", |_| ()).await;
    bench.until(is_signed).await;
    assert_eq!(bench.sold(), 1);
}

#[tokio::test]
async fn nothing_is_signed_that_nodes_could_not_check_yet() {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let rendered = bench.rendered.send_replace(TrustBundles::default());
    bench.controller();
    bench.ask("one", |_| ()).await;
    bench.until(has("Issued")).await;
    bench.server.change(|store| {
        assert_eq!(
            store.condition("Issued").unwrap()["reason"],
            "RootsNotRendered"
        );
    });
    assert_eq!(bench.creates(), 0);
    bench.rendered.send_replace(rendered);
    bench.until(is_signed).await;
}

#[tokio::test]
async fn a_pod_that_asks_too_often_waits_and_is_never_denied() {
    let bench = Bench::start().await;
    let names: Vec<_> = (0..6).map(|number| format!("r{number}")).collect();
    for name in &names {
        bench.ask(name, |_| ()).await;
    }
    let signed = |store: &Store| {
        let all = store.csrs.values();
        all.filter(|object| certificate(object).is_some()).count()
    };
    bench.until(|store| signed(store) >= 5).await;
    assert_eq!(bench.server.change(|store| signed(store)), 5);
    bench.until(|store| signed(store) == 6).await;
    // One more for each fiftieth of the validity.
    let waited = bench.clock.now().duration_since(now());
    assert!(waited >= SignedDuration::from_secs(3600 / 50), "{waited}");
    bench.server.change(|store| {
        let is_denied = |object: &Value| object["status"].to_string().contains("Denied");
        assert!(!store.csrs.values().any(is_denied));
    });
}

#[tokio::test]
async fn a_certificate_that_is_refused_ends_the_request_and_counts_as_given_up() {
    let bench = Bench::start().await;
    let other = certagent_emulator::CertificateFault::OtherKey;
    bench.lab.always(Fault::Certificate(other));
    bench.ask("one", |_| ()).await;
    bench.until(has("Failed")).await;
    bench.server.change(|store| {
        let failed = store.condition("Failed").unwrap();
        assert_eq!(failed["reason"], "CertificateRefused");
    });
    bench.counted().await;
    assert_eq!(bench.abandoned(), 1);
}

#[path = "requests_kill_tests.rs"]
mod kill;
#[path = "requests_trouble_tests.rs"]
mod trouble;

#[tokio::test]
async fn a_request_that_waits_takes_little_memory() {
    let bench = Bench::idle(Lab::start().await, vec![issuing()]).await;
    let requests = bench.requests();
    let subject = Subject {
        name: String::new(),
        uid: String::new(),
    };
    // Thousands wait where a pool has a small quota. What one step needs is not among it.
    let bytes = size_of_val(&requests.work(&subject, None));
    assert!(bytes < 1024, "{bytes}");
}
