use std::io;

use certagent_core::{conditions::InForce, spread_rotation::ROTATE_AFTER};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::Status;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{clock::ManualClock, config::fixture::Objects as Fixture};

/// The two objects of a cluster, each of some generation.
fn object(kind: Kind, generation: i64, fixture: &Fixture) -> DynamicObject {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&fixture.yaml()).unwrap();
    let mut object = documents
        .into_iter()
        .find(|document| document["kind"] == kind.name())
        .unwrap();
    object["metadata"]["generation"] = generation.into();
    object["metadata"]["uid"] = format!("{}-uid", kind.plural()).into();
    object["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    object["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    serde_json::from_value(object).unwrap()
}

fn fixture() -> Fixture {
    Fixture {
        workloads: &[],
        ..Fixture::default()
    }
}

fn away() -> Event {
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let error = kube::Error::Service(Box::new(refused));
    Err(watcher::Error::InitialListFailed(error))
}

fn answer(code: u16, message: &str) -> Event {
    let status = Status {
        code,
        message: message.to_owned(),
        ..Status::default()
    };
    let error = kube::Error::Api(Box::new(status));
    Err(watcher::Error::InitialListFailed(error))
}

struct Lab {
    state: Arc<StateDir>,
    _directory: TempDir,
}

impl Lab {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self {
            state: Arc::new(StateDir::open(directory.path(), true).unwrap()),
            _directory: directory,
        }
    }

    fn start(&self) -> Cluster {
        let metrics = Arc::new(Metrics::default());
        let (follower, state) = Follower::new(Settings::default(), &self.state, metrics);
        Cluster { follower, state }
    }
}

struct Cluster {
    follower: Follower,
    state: watch::Receiver<ClusterState>,
}

impl Cluster {
    fn event(&mut self, kind: Kind, event: Event) -> ClusterState {
        self.follower.take(kind, event);
        self.state.borrow().clone()
    }

    fn apply(&mut self, kind: Kind, generation: i64, fixture: &Fixture) -> ClusterState {
        self.event(kind, Ok(Some(object(kind, generation, fixture))))
    }

    fn both(&mut self) -> ClusterState {
        self.apply(Kind::Certificates, 1, &fixture());
        self.apply(Kind::Trust, 1, &fixture())
    }
}

fn validity(state: &ClusterState) -> u64 {
    let active = state.active.as_ref().unwrap();
    active.config.certificates.validity.as_secs()
}

#[test]
fn nothing_is_active_before_both_objects_are_there() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    let waiting = cluster.state.borrow().clone();
    assert_eq!(waiting.active, None);
    assert!(waiting.problem.unwrap().contains("has not answered yet"));

    cluster.event(Kind::Certificates, Ok(None));
    let none = cluster.event(Kind::Trust, Ok(None));
    assert_eq!(
        none.problem.as_deref(),
        Some(
            "there is no WorkloadCertificateConfig named default; apply one\n\
             there is no TrustConfig named default; apply one"
        )
    );
    assert_eq!(none.active, None);

    let one = cluster.apply(Kind::Certificates, 1, &fixture());
    assert_eq!(one.active, None);
    assert_eq!(
        one.problem.as_deref(),
        Some("there is no TrustConfig named default; apply one")
    );

    let both = cluster.apply(Kind::Trust, 1, &fixture());
    assert_eq!((validity(&both), both.problem), (3600, None));
}

#[test]
fn an_error_names_object_generation_and_field_but_no_line() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    cluster.both();
    let wrong = Fixture {
        algorithm: "ecdsa:\n      curve: P521",
        ..fixture()
    };
    let state = cluster.apply(Kind::Certificates, 2, &wrong);
    let problem = state.problem.as_deref().unwrap();
    assert!(
        problem.starts_with(
            "WorkloadCertificateConfig/default (generation 2): spec.keyAlgorithm.ecdsa.curve: "
        ),
        "{problem}"
    );
    assert!(problem.contains("P256, P384"), "{problem}");
    assert_eq!(validity(&state), 3600, "the one before it stays");

    let right = Fixture {
        validity: 7200,
        ..fixture()
    };
    let state = cluster.apply(Kind::Certificates, 3, &right);
    assert_eq!((validity(&state), state.problem), (7200, None));
}

#[test]
fn what_the_cluster_keeps_of_a_good_pair_is_enough_for_whoever_starts() {
    let kept = Lab::new().start().both().last_good.unwrap();
    // Another machine, another directory: one object is gone, the other wrong.
    let lab = Lab::new();
    let mut cluster = lab.start();
    let wrong = Fixture {
        window: 100,
        ..fixture()
    };
    let mut object = object(Kind::Certificates, 7, &wrong);
    object.data["status"]["lastGood"] = (*kept).clone();
    cluster.event(Kind::Certificates, Ok(Some(object)));
    let state = cluster.event(Kind::Trust, Ok(None));
    assert_eq!(validity(&state), 3600);
    assert!(state.problem.unwrap().contains("rotationWindowPercentage"));
    let judged = &state.objects[&Kind::Certificates];
    assert_eq!(judged.in_force, InForce::Generation(1));
    assert_eq!(state.last_good, Some(kept), "it stays kept");
}

#[test]
fn an_annotation_is_followed_from_when_it_was_written() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    let rotation = |state: &ClusterState| state.active.as_ref().unwrap().spread_rotation();
    assert_eq!(rotation(&cluster.both()), None);
    let mut annotated = object(Kind::Certificates, 1, &fixture());
    let annotations = annotated.annotations_mut();
    annotations.insert(ROTATE_AFTER.to_owned(), "2026-11-30T10:00:00Z".to_owned());
    let name = format!("f:{ROTATE_AFTER}");
    let fields = json!([
        {"manager": "other", "time": "2026-11-30T13:00:00Z", "fieldsV1": {"f:spec": {}}},
        {"manager": "kubectl-annotate", "time": "2026-11-30T12:00:00Z",
            "fieldsV1": {"f:metadata": {"f:annotations": {name: {}}}}},
    ]);
    *annotated.managed_fields_mut() = serde_json::from_value(fields).unwrap();
    let state = cluster.event(Kind::Certificates, Ok(Some(annotated)));
    assert_eq!(state.problem, None);
    let from = rotation(&state).unwrap().from();
    assert_eq!(from, "2026-11-30T12:00:00Z".parse().unwrap());
    cluster.apply(Kind::Certificates, 1, &fixture());
    assert_eq!(rotation(&cluster.state.borrow()), None);
}

#[test]
fn one_object_without_the_other_is_still_checked() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    cluster.event(Kind::Trust, Ok(None));
    let wrong = Fixture {
        window: 100,
        ..fixture()
    };
    let problem = cluster
        .apply(Kind::Certificates, 1, &wrong)
        .problem
        .unwrap();
    assert!(
        problem.contains("no TrustConfig named default"),
        "{problem}"
    );
    assert!(problem.contains("rotationWindowPercentage"), "{problem}");
    assert_eq!(problem.lines().count(), 2, "{problem}");
}

#[test]
fn the_last_good_one_outlives_its_objects_and_the_process() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    cluster.both();
    let state = cluster.event(Kind::Certificates, Ok(None));
    assert_eq!(
        state.problem.as_deref(),
        Some("the WorkloadCertificateConfig named default was deleted; apply one")
    );
    assert_eq!(validity(&state), 3600);

    let mut cluster = lab.start();
    assert_eq!(
        cluster.state.borrow().active,
        None,
        "the cluster is asked first"
    );
    cluster.event(Kind::Certificates, Ok(None));
    let state = cluster.event(Kind::Trust, Ok(None));
    assert_eq!(validity(&state), 3600);
    assert!(state.problem.unwrap().contains("there is no"));
}

#[test]
fn an_api_server_that_is_away_is_told_and_the_last_good_one_used() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    let state = cluster.event(Kind::Trust, away());
    assert_eq!(state.active, None, "nothing was ever good");
    let problem = state.problem.unwrap();
    assert!(
        problem.starts_with("the API server cannot be reached"),
        "{problem}"
    );

    let state = cluster.both();
    assert_eq!((validity(&state), state.problem), (3600, None));
    let state = cluster.event(Kind::Trust, away());
    assert_eq!(validity(&state), 3600);
    assert!(state.problem.unwrap().contains("cannot be reached"));

    let mut cluster = lab.start();
    cluster.event(Kind::Certificates, away());
    let state = cluster.event(Kind::Trust, away());
    assert_eq!(validity(&state), 3600);
    assert_eq!(state.problem.unwrap().lines().count(), 1, "it is said once");
    let changed = Fixture {
        validity: 7200,
        ..fixture()
    };
    cluster.apply(Kind::Trust, 1, &changed);
    let state = cluster.apply(Kind::Certificates, 2, &changed);
    assert_eq!((validity(&state), state.problem), (7200, None));
}

#[tokio::test]
async fn an_api_server_that_says_nothing_is_not_waited_for_long() {
    let lab = Lab::new();
    lab.start().both();
    let Cluster {
        follower,
        mut state,
    } = lab.start();
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    let following = tokio::spawn(follower.run(stream::pending(), Arc::new(clock.clone())));
    tokio::task::yield_now().await;
    assert_eq!(state.borrow().active, None);
    clock.step(PATIENCE);
    let resumed = state
        .wait_for(|state| state.active.is_some())
        .await
        .unwrap();
    assert_eq!(validity(&resumed), 3600);
    let problem = resumed.problem.as_deref().unwrap();
    assert!(problem.contains("has not answered yet"), "{problem}");
    drop(resumed);
    following.abort();
}

#[test]
fn what_the_api_server_refuses_is_told_with_what_to_apply() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    let unknown = answer(404, "the server could not find the requested resource");
    let problem = cluster.event(Kind::Trust, unknown).problem.unwrap();
    assert!(problem.contains("TrustConfig/default"), "{problem}");
    assert!(problem.ends_with("apply deploy/crds.yaml"), "{problem}");
    let refused = answer(403, "trustconfigs is forbidden: User \"x\" cannot list");
    let problem = cluster.event(Kind::Trust, refused).problem.unwrap();
    assert!(problem.contains("User \"x\" cannot list"), "{problem}");
    assert!(problem.contains("deploy/node.yaml"), "{problem}");
}

#[test]
fn a_watch_that_has_to_begin_anew_is_no_problem() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    cluster.both();
    let too_old = answer(410, "too old resource version");
    assert_eq!(cluster.event(Kind::Trust, too_old).problem, None);
    let broken = kube::Error::Service("connection reset".into());
    let broken = Err(watcher::Error::WatchFailed(broken));
    assert_eq!(cluster.event(Kind::Trust, broken).problem, None);
}

#[test]
fn only_what_people_write_is_kept() {
    let source = source(Kind::Trust, &object(Kind::Trust, 7, &fixture()));
    assert_eq!(source.name, "TrustConfig/default (generation 7)");
    let text: Value = serde_json::from_str(&source.text).unwrap();
    let metadata = json!({"name": "default", "uid": "trustconfigs-uid", "generation": 7});
    assert_eq!(text["metadata"], metadata);
    assert_eq!(text.get("status"), None);
    assert!(text["spec"]["trustStores"].is_array());
}

#[test]
fn the_same_object_read_again_changes_nothing() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    cluster.both();
    cluster.state.mark_unchanged();
    cluster.both();
    assert!(!cluster.state.has_changed().unwrap());
}

#[test]
fn each_object_is_told_what_is_wrong_with_it_and_what_is_in_force() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    let waiting = cluster.apply(Kind::Certificates, 1, &fixture());
    assert!(waiting.objects.is_empty(), "the other one is not known yet");
    let both = cluster.apply(Kind::Trust, 5, &fixture());
    let certificates = &both.objects[&Kind::Certificates];
    assert_eq!(
        (certificates.generation, certificates.in_force),
        (1, InForce::This)
    );
    assert_eq!(certificates.uid, "workloadcertificateconfigs-uid");
    assert_eq!(both.objects[&Kind::Trust].generation, 5);

    let wrong = Fixture {
        validity: 5,
        ..fixture()
    };
    let state = cluster.apply(Kind::Certificates, 2, &wrong);
    let certificates = &state.objects[&Kind::Certificates];
    assert_eq!(certificates.in_force, InForce::Generation(1));
    assert_eq!(certificates.problems.len(), 1);
    let trust = &state.objects[&Kind::Trust];
    assert_eq!((trust.in_force, trust.problems.len()), (InForce::This, 0));

    // Another process knows from what was kept.
    let mut cluster = lab.start();
    cluster.apply(Kind::Certificates, 3, &wrong);
    let state = cluster.apply(Kind::Trust, 5, &fixture());
    assert_eq!(
        state.objects[&Kind::Certificates].in_force,
        InForce::Generation(1)
    );

    // The same name does not make it the same object.
    let mut anew = object(Kind::Certificates, 1, &wrong);
    anew.metadata.uid = Some("another".to_owned());
    let state = cluster.event(Kind::Certificates, Ok(Some(anew)));
    assert_eq!(
        state.objects[&Kind::Certificates].in_force,
        InForce::Earlier
    );
    let state = cluster.event(Kind::Certificates, Ok(None));
    assert!(!state.objects.contains_key(&Kind::Certificates));
}

#[test]
fn before_anything_was_good_nothing_is_in_force() {
    let lab = Lab::new();
    let mut cluster = lab.start();
    cluster.event(Kind::Trust, Ok(None));
    let state = cluster.apply(Kind::Certificates, 1, &fixture());
    assert_eq!(
        state.objects[&Kind::Certificates].in_force,
        InForce::Nothing
    );
    assert_eq!(state.objects.len(), 1);
}
