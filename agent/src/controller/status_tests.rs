use std::collections::BTreeMap;

use certagent_core::{
    conditions::InForce,
    config::{Problem, Rule, Severity, TrustAnchor},
};
use certagent_emulator::{ApiError, Fault, FaultRule, Method};
use certagent_svid::Certificate;
use futures::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{
    super::api_server::{ApiServer, Store, uid},
    *,
};
use crate::{
    cas::lab::{Lab, domain, enterprise, issuing, may_not_look, now},
    clock::{Clock, ManualClock},
    config::JudgedObject,
    limit::Limiter,
    trust::{
        Distrust, EndpointClient, Sources, TrustTask,
        lab::{config, root},
    },
    volume::StateDir,
};

const DOMAIN: &str = "demo.svc.id.goog";
use Kind::{Certificates, Trust as TrustKind};

/// An API server with both objects, the guide's pools, and the task between them.
struct Bench {
    lab: Lab,
    api: ApiServer,
    clock: ManualClock,
    config: watch::Sender<ClusterState>,
    active: watch::Sender<Arc<ActiveConfig>>,
    rendered: watch::Receiver<TrustBundles>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Bench {
    async fn start() -> Self {
        Self::over(Lab::start().await, |_| ()).await
    }

    async fn over(lab: Lab, prepare: impl FnOnce(&ApiServer)) -> Self {
        let clock = ManualClock::new(now());
        let shared: SharedClock = Arc::new(clock.clone());
        Self::by(shared, clock, lab, prepare).await
    }

    /// The task itself goes by another clock.
    async fn by(
        of_task: SharedClock,
        clock: ManualClock,
        lab: Lab,
        prepare: impl FnOnce(&ApiServer),
    ) -> Self {
        let api = ApiServer::start().await;
        for kind in Kind::ALL {
            api.apply(kind, 1);
        }
        prepare(&api);
        let anchors = [TrustAnchor::Pool(enterprise())];
        let first = Arc::new(ActiveConfig {
            config: Arc::new(config(&[(DOMAIN, &anchors)])),
            problem: None,
            version: 1,
        });
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(dir.path(), true).unwrap());
        let shared: SharedClock = Arc::new(clock.clone());
        let (active, following) = watch::channel(Arc::clone(&first));
        let sources = Sources {
            pools: lab.client.clone(),
            endpoints: EndpointClient::new(&crate::cas::Roots::none()).unwrap(),
        };
        let distrust = Distrust::default();
        let (task, trust) =
            TrustTask::new(sources, distrust, state, Arc::clone(&shared), following);
        let cancel = CancellationToken::new();
        tokio::spawn(task.run(cancel.clone()));
        let limiter = Arc::new(Limiter::new(Arc::clone(&shared), 100, Arc::default()));
        let issuer = CasIssuer::new(
            lab.client.clone(),
            Arc::clone(&shared),
            limiter,
            trust.clone(),
        );
        let (_, supply) = watch::channel(Some(Authority {
            trust,
            issuer: Arc::new(issuer),
        }));
        let (config, state) = watch::channel(good(&first, 1));
        let (sender, rendered) = watch::channel(TrustBundles::default());
        let settings = Settings {
            client: api.client.clone(),
            instance: "controller-0".to_owned(),
            trust_domain: domain(DOMAIN),
            config: state,
            supply,
            rendered: sender,
            clock: of_task,
        };
        let task = tokio::spawn(run(settings, cancel.clone()));
        Self {
            lab,
            api,
            clock,
            config,
            active,
            rendered,
            cancel,
            task,
            _dir: dir,
        }
    }

    async fn ready(&self, kind: Kind, status: &str, reason: &str, generation: i64) {
        let wanted = (status, reason, generation);
        self.api
            .until(|store| store.ready(kind) == Some(wanted))
            .await;
    }

    async fn both_ready(&self) {
        self.ready(Certificates, "True", "ConfigReady", 1).await;
        self.ready(TrustKind, "True", "ConfigReady", 1).await;
    }

    /// Waits until everything was looked at once more.
    async fn another_round(&self, step: SignedDuration) {
        let reads = self.api.now().read.len();
        self.clock.step(step);
        self.api.until(|store| store.read.len() >= reads + 2).await;
    }

    fn rules(&self, kind: Kind, generation: i64, rule: Rule) {
        self.config.send_modify(|state| {
            let object = state.objects.get_mut(&kind).unwrap();
            object.generation = generation;
            object.in_force = InForce::Generation(1);
            object.problems = vec![Problem {
                severity: Severity::Error,
                rule,
                file: String::new(),
                line: 0,
                column: 0,
                object: None,
                field: Some("spec.x".to_owned()),
                message: "wrong".to_owned(),
                allowed: None,
            }];
        });
    }

    fn roots(&self) -> Vec<String> {
        roots_in(&self.api.now())
    }
}

fn good(active: &Arc<ActiveConfig>, generation: i64) -> ClusterState {
    let object = |kind| {
        let object = JudgedObject {
            uid: uid(kind),
            generation,
            problems: Vec::new(),
            in_force: InForce::This,
        };
        (kind, object)
    };
    ClusterState {
        active: Some(Arc::clone(active)),
        objects: Kind::ALL
            .map(object)
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        ..ClusterState::default()
    }
}

fn roots_in(store: &Store) -> Vec<String> {
    let rendered = render::read(&store.object(TrustKind)["status"]);
    let bundle = rendered.get(&domain(DOMAIN));
    let roots = bundle.map(TrustBundle::roots).unwrap_or_default();
    let mut names: Vec<_> = roots.iter().map(Certificate::subject_text).collect();
    names.sort();
    names
}

fn may_not_create() -> FaultRule {
    let resource = issuing().resource_name();
    let denied = ApiError::permission_denied("privateca.certificates.create", &resource);
    FaultRule::always(Fault::error(denied)).on(Method::CreateCertificate)
}

#[tokio::test]
async fn the_guides_objects_become_ready_with_their_roots_and_are_then_left_alone() {
    let mut bench = Bench::start().await;
    bench.both_ready().await;
    let root = bench.lab.root("root-pool");
    {
        let store = bench.api.now();
        let ready = store.condition(Certificates, "Ready").unwrap();
        assert_eq!(ready["message"], "WorkloadCertificateConfig is ready");
        assert_eq!(ready["lastTransitionTime"], "2026-11-21T00:00:00Z");
        let ready = store.condition(TrustKind, "Ready").unwrap();
        assert_eq!(ready["message"], "TrustConfig is ready");
        let stores = json!([{
            "trustDomain": DOMAIN, "trustAnchors": [{"pemCertificates": [root.to_pem()]}],
        }]);
        assert_eq!(
            store.object(TrustKind)["status"]["renderedTrustStores"],
            stores
        );
    }
    let stands = bench.rendered.wait_for(|stands| !stands.is_empty()).await;
    assert_eq!(
        stands.unwrap().get(&domain(DOMAIN)).unwrap().roots(),
        [root]
    );
    bench.api.until(|store| store.events.len() == 2).await;
    let patches = bench.api.now().patches.len();
    for _ in 0..3 {
        bench.another_round(REFRESH).await;
    }
    let store = bench.api.now();
    assert_eq!((store.patches.len(), store.events.len()), (patches, 2));
    assert_eq!(bench.lab.emulator.stats().total_sold(), 0);
}

#[tokio::test]
async fn a_missing_permission_is_a_condition_and_one_event_and_so_is_its_end() {
    let bench = Bench::start().await;
    bench.both_ready().await;
    bench.lab.emulator.set_faults(vec![may_not_create()]);
    bench.clock.step(REFRESH);
    bench
        .ready(Certificates, "False", "PermissionDenied", 1)
        .await;
    {
        let store = bench.api.now();
        let ready = store.condition(Certificates, "Ready").unwrap();
        let message = ready["message"].as_str().unwrap();
        assert!(
            message.contains("privateca.certificates.create"),
            "{message}"
        );
        assert!(message.contains("roles/privateca."), "{message}");
        assert_eq!(ready["lastTransitionTime"], "2026-11-21T00:05:00Z");
        assert_eq!(store.ready(TrustKind), Some(("True", "ConfigReady", 1)));
    }
    bench.another_round(AGAIN).await;
    bench.lab.heal();
    bench.clock.step(AGAIN);
    bench.ready(Certificates, "True", "ConfigReady", 1).await;
    let told = |store: &Store| {
        let of_it = |(kind, reason): (&str, &str)| {
            (kind == "WorkloadCertificateConfig").then(|| reason.to_owned())
        };
        store
            .told()
            .into_iter()
            .filter_map(of_it)
            .collect::<Vec<_>>()
    };
    let reasons = ["ConfigReady", "PermissionDenied", "ConfigReady"];
    bench.api.until(|store| told(store) == reasons).await;
    let store = bench.api.now();
    let event = &store.events[2];
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reportingInstance"], "controller-0");
    assert_eq!(event["regarding"]["uid"], uid(Certificates));
}

#[tokio::test]
async fn a_doubt_is_a_warning_beside_ready_and_goes_with_its_cause() {
    let lab = Lab::start().await;
    let rule = FaultRule::always(may_not_look()).on(Method::GetCaPool);
    lab.emulator.set_faults(vec![rule]);
    let bench = Bench::over(lab, |_| ()).await;
    bench.both_ready().await;
    let warning = |store: &Store| store.condition(Certificates, "Warning").cloned();
    assert_eq!(
        warning(&bench.api.now()).unwrap()["reason"],
        "PermissionDenied"
    );
    bench.lab.heal();
    bench.clock.step(REFRESH);
    bench.api.until(|store| warning(store).is_none()).await;
    bench.ready(Certificates, "True", "ConfigReady", 1).await;
}

#[tokio::test]
async fn a_broken_rule_is_told_and_what_was_rendered_stays() {
    let bench = Bench::start().await;
    bench.both_ready().await;
    bench.api.apply(Certificates, 2);
    bench.rules(Certificates, 2, Rule::InvalidValidity);
    bench
        .ready(Certificates, "False", "InvalidValidity", 2)
        .await;
    let reason = "WorkloadCertificateConfigNotReady";
    bench.ready(TrustKind, "False", reason, 1).await;
    let store = bench.api.now();
    let message = store.condition(Certificates, "Ready").unwrap()["message"].clone();
    let message = message.as_str().unwrap();
    assert!(message.starts_with("spec.x: wrong"), "{message}");
    assert!(
        message.ends_with("generation 1 stays in force"),
        "{message}"
    );
    drop(store);
    assert_eq!(bench.roots(), ["CN=certagent emulator root CA"]);
}

#[tokio::test]
async fn a_pool_that_does_not_answer_holds_no_broken_rule_up() {
    let lab = Lab::start().await;
    let hangs = FaultRule::always(Fault::Hang).on(Method::CreateCertificate);
    lab.emulator.set_faults(vec![hangs]);
    let bench = Bench::over(lab, |_| ()).await;
    bench.ready(TrustKind, "True", "ConfigReady", 1).await;
    bench.api.apply(Certificates, 2);
    bench.rules(Certificates, 2, Rule::InvalidValidity);
    bench
        .ready(Certificates, "False", "InvalidValidity", 2)
        .await;
    assert_eq!(bench.api.now().patches_of(Certificates), 1);
}

#[tokio::test]
async fn before_anything_is_active_the_rules_are_told_and_nothing_else() {
    let api = ApiServer::start().await;
    for kind in Kind::ALL {
        api.apply(kind, 1);
    }
    let nothing = ActiveConfig {
        config: Arc::new(config(&[])),
        problem: None,
        version: 1,
    };
    let mut state = good(&Arc::new(nothing), 1);
    state.active = None;
    state.objects.remove(&TrustKind);
    let (_config, config) = watch::channel(state);
    let (_supply, supply) = watch::channel(None);
    let settings = Settings {
        client: api.client.clone(),
        instance: "controller-0".to_owned(),
        trust_domain: domain(DOMAIN),
        config,
        supply,
        rendered: watch::Sender::new(TrustBundles::default()),
        clock: Arc::new(ManualClock::new(now())),
    };
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    tokio::spawn(run(settings, cancel));
    let wanted = ("False", "TrustConfigNotReady", 1);
    api.until(|store| store.ready(Certificates) == Some(wanted))
        .await;
    assert_eq!(api.now().patches_of(TrustKind), 0);
}

#[tokio::test]
async fn an_object_that_is_newer_than_what_was_judged_is_left_alone() {
    let bench = Bench::over(Lab::start().await, |api| api.apply(Certificates, 2)).await;
    bench.ready(TrustKind, "True", "ConfigReady", 1).await;
    let is_read = |store: &Store| store.read.contains(&Certificates.plural().to_owned());
    bench.api.until(is_read).await;
    let active = Arc::clone(&bench.active.borrow());
    let mut state = good(&active, 1);
    state.objects.get_mut(&Certificates).unwrap().generation = 2;
    bench.config.send_replace(state);
    bench.ready(Certificates, "True", "ConfigReady", 2).await;
    assert_eq!(bench.api.now().patches_of(Certificates), 1);
}

#[tokio::test]
async fn whoever_writes_in_between_loses_nothing() {
    let foreign = json!({"type": "Synced", "status": "True"});
    let bench = Bench::over(Lab::start().await, |api| {
        api.meddle(|object| {
            object["status"] = json!({"conditions": [{"type": "Synced", "status": "True"}]});
        });
    })
    .await;
    bench.both_ready().await;
    let store = bench.api.now();
    assert_eq!(store.condition(TrustKind, "Synced"), Some(&foreign));
    let written = &store.patches[0];
    assert_eq!(
        written["metadata"].as_object().unwrap().len(),
        2,
        "{written}"
    );
}

#[tokio::test]
async fn roots_that_stand_there_outlive_a_process_that_cannot_ask_for_them() {
    let earlier = root("Earlier");
    let form = json!([{
        "trustDomain": DOMAIN,
        "trustAnchors": [{"pemCertificates": [earlier.to_pem()]}],
    }]);
    let lab = Lab::start().await;
    lab.always(Fault::CloseBefore);
    let bench = Bench::over(lab, |api| {
        api.stands(TrustKind, json!({"renderedTrustStores": form}));
    })
    .await;
    bench
        .ready(TrustKind, "False", "AnchorUnreachable", 1)
        .await;
    bench
        .ready(Certificates, "False", "TrustConfigNotReady", 1)
        .await;
    assert_eq!(bench.roots(), ["CN=Earlier"]);
    {
        let store = bench.api.now();
        let message = store.condition(TrustKind, "Ready").unwrap()["message"].clone();
        assert!(
            message.as_str().unwrap().ends_with("stay rendered"),
            "{message}"
        );
    }
    bench.lab.heal();
    bench.clock.step(REFRESH);
    bench.both_ready().await;
    assert_eq!(
        bench.roots(),
        ["CN=Earlier", "CN=certagent emulator root CA"]
    );
    bench.clock.step(SignedDuration::from_hours(1));
    let left = ["CN=certagent emulator root CA"];
    bench.api.until(|store| roots_in(store) == left).await;
}

/// A clock on which every wait is over at once, and which notes them.
#[derive(Clone)]
struct Hasty {
    clock: ManualClock,
    waits: watch::Sender<Vec<i64>>,
}

impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let wait = deadline.duration_since(self.now());
        self.waits.send_modify(|waits| waits.push(wait.as_secs()));
        self.clock.set(deadline);
        Box::pin(tokio::task::yield_now())
    }
}

#[tokio::test]
async fn an_api_server_that_is_away_is_tried_again_ever_less_often() {
    let hasty = Hasty {
        clock: ManualClock::new(now()),
        waits: watch::Sender::new(Vec::new()),
    };
    let (lab, clock) = (Lab::start().await, ManualClock::new(now()));
    let bench = Bench::by(Arc::new(hasty.clone()), clock, lab, |api| {
        api.change(|store| store.failure = Some(500));
    })
    .await;
    let mut waits = hasty.waits.subscribe();
    let first = waits.wait_for(|waits| waits.len() >= 4).await.unwrap()[..4].to_vec();
    assert_eq!(first, [1, 2, 4, 8]);
    bench.api.change(|store| store.failure = None);
    bench.both_ready().await;
}

#[tokio::test]
async fn it_ends_when_it_has_to() {
    let bench = Bench::start().await;
    bench.both_ready().await;
    bench.cancel.cancel();
    bench.task.await.unwrap();
}
