use serde_json::{Value, json};

use super::*;

const DRIVER: &str = "driver.example.com";

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(bend: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "cart", "namespace": "shop", "uid": "u-1",
            "creationTimestamp": "2026-11-20T14:00:00Z"},
        "spec": {
            "nodeName": "node-1",
            "serviceAccountName": "cart",
            "containers": [],
            "volumes": [
                {"name": "db", "csi": {"driver": "other.example.com"}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "certs", "csi": {"driver": DRIVER}},
            ],
        },
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True",
                "lastTransitionTime": "2026-11-20T14:00:01Z"}],
            "containerStatuses": [waiting("ContainerCreating")],
        },
    });
    bend(&mut pod);
    Pod::of(&read(pod), DRIVER)
}

fn waiting(waits: &str) -> Value {
    json!({"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": waits}}})
}

#[test]
fn a_pod_is_read_as_far_as_it_counts() {
    let there = pod(|_| {});
    let expected = Pod {
        uid: "u-1".to_owned(),
        created: Some("2026-11-20T14:00:00Z".parse().unwrap()),
        node: Some("node-1".to_owned()),
        scheduled_at: Some("2026-11-20T14:00:01Z".parse().unwrap()),
        unscheduled: None,
        service_account: "cart".to_owned(),
        phase: "Pending".to_owned(),
        reason: None,
        is_mirror: false,
        is_being_deleted: false,
        volumes: vec!["certs".to_owned()],
        is_mounted: false,
    };
    assert_eq!(there, expected);
    assert_eq!(there.since(), there.scheduled_at);
    let nothing = Pod::of(&read(json!({"metadata": {}})), DRIVER);
    assert_eq!(
        (nothing.phase.as_str(), nothing.service_account.as_str()),
        ("Unknown", "default")
    );
    assert!(nothing.volumes.is_empty() && !nothing.is_mounted);
}

#[test]
fn a_pod_says_why_it_has_no_node_and_why_it_ended() {
    let there = pod(|pod| {
        pod["spec"]["nodeName"] = "".into();
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes",
            "lastTransitionTime": "2026-11-20T14:00:01Z"}]);
    });
    assert_eq!((there.node.as_ref(), there.scheduled_at), (None, None));
    assert_eq!(there.unscheduled.as_deref(), Some("0/3 nodes"));
    let there = pod(|pod| {
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        pod["metadata"]["deletionTimestamp"] = "2026-11-20T14:00:01Z".into();
        pod["status"]["phase"] = "Failed".into();
        pod["status"]["reason"] = "".into();
        pod["status"]["message"] = "evicted".into();
    });
    assert!(there.has_ended() && there.is_mirror && there.is_being_deleted);
    assert_eq!(there.reason.as_deref(), Some("evicted"));
}

#[test]
fn volumes_are_mounted_as_soon_as_kubelet_has_come_past_them() {
    assert!(!pod(|_| {}).is_mounted);
    let mounted =
        |status: Value| pod(|pod| pod["status"]["containerStatuses"][0] = status).is_mounted;
    assert!(!mounted(waiting("PodInitializing")));
    assert!(mounted(waiting("ImagePullBackOff")));
    let mut began = waiting("ContainerCreating");
    began["restartCount"] = 1.into();
    assert!(mounted(began));
    let mut began = waiting("ContainerCreating");
    began["lastState"] = json!({"terminated": {"exitCode": 1}});
    assert!(mounted(began));
    let mut began = waiting("");
    began["state"] = json!({"running": {}});
    assert!(mounted(began.clone()));
    let of_init = pod(|pod| pod["status"]["initContainerStatuses"] = json!([began]));
    assert!(of_init.is_mounted);
    assert!(pod(|pod| pod["status"]["phase"] = "Running".into()).is_mounted);
    let with_sandbox = |is: &str| {
        pod(|pod| {
            pod["status"]["conditions"] =
                json!([{"type": "PodReadyToStartContainers", "status": is}]);
        })
    };
    assert!(with_sandbox("True").is_mounted);
    assert!(!with_sandbox("False").is_mounted);
}

fn event(reason: &str, message: &str, at: &str) -> core::Event {
    read(json!({
        "metadata": {"creationTimestamp": "2026-11-20T10:00:00Z"},
        "involvedObject": {},
        "reason": reason, "message": message, "lastTimestamp": at, "count": 3,
    }))
}

#[test]
fn the_last_word_on_our_volume_comes_before_later_ones_on_others() {
    let ours = |what: &str| format!("MountVolume.SetUp failed for volume \"certs\" : {what}");
    let volumes = ["certs".to_owned()];
    let events = [
        event("FailedMount", &ours("first"), "2026-11-20T14:00:00Z"),
        event("FailedMount", &ours("second"), "2026-11-20T14:01:00Z"),
        event(
            "FailedMount",
            "for volume \"db\" : x",
            "2026-11-20T14:02:00Z",
        ),
        event("Pulled", "for volume \"certs\"", "2026-11-20T14:03:00Z"),
    ];
    let last = Complaint::last(&events, &volumes).unwrap();
    assert_eq!(last.message, ours("second"));
    assert!(last.is_ours);
    assert_eq!(last.count, 3);
    let last = Complaint::last(&events[2..], &volumes).unwrap();
    assert!(!last.is_ours && last.message.contains("db"));
    assert_eq!(Complaint::last(&events[3..], &volumes), None);
}

#[test]
fn an_event_has_its_moment_in_one_of_several_places() {
    let moment = |value: &Value| {
        let mut event = json!({"involvedObject": {}, "metadata": {
            "creationTimestamp": "2026-11-20T10:00:00Z"}});
        for (name, value) in value.as_object().unwrap() {
            event[name] = value.clone();
        }
        seen(&read(event)).unwrap().to_string()
    };
    assert_eq!(moment(&json!({})), "2026-11-20T10:00:00Z");
    let micro = json!({"eventTime": "2026-11-20T11:00:00.000000Z"});
    assert_eq!(moment(&micro), "2026-11-20T11:00:00Z");
    let series = json!({"eventTime": "2026-11-20T11:00:00.000000Z",
        "series": {"count": 2, "lastObservedTime": "2026-11-20T12:00:00.000000Z"}});
    assert_eq!(moment(&series), "2026-11-20T12:00:00Z");
}

fn driver(name: &str, ready: bool, container: &Value) -> core::Pod {
    let is = if ready { "True" } else { "False" };
    read(json!({
        "metadata": {"name": name},
        "spec": {"containers": [container]},
        "status": {"conditions": [{"type": "Ready", "status": is, "message": "not yet"}]},
    }))
}

#[test]
fn of_two_drivers_on_a_node_the_ready_one_counts() {
    let plain = || json!({"name": "certagent", "args": ["node"]});
    let pods = [
        driver("new", false, &plain()),
        driver("old", true, &plain()),
        driver("third", false, &plain()),
    ];
    let there = Driver::of(&pods).unwrap();
    assert_eq!((there.name.as_str(), there.is_ready), ("old", true));
    assert_eq!(there.reason, None);
    let mut alone = driver("new", false, &plain());
    let there = Driver::of(std::slice::from_ref(&alone)).unwrap();
    assert_eq!(there.reason.as_deref(), Some("not yet"));
    let status = alone.status.as_mut().unwrap();
    status.container_statuses = read(json!([waiting("CrashLoopBackOff")]));
    let there = Driver::of(&[alone]).unwrap();
    assert_eq!(there.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(Driver::of(&[]), None);
}

#[test]
fn who_gets_certificates_is_read_off_the_driver_s_flags_and_environment() {
    let mode = |args: Value, env: Value| {
        let container = json!({"name": "certagent", "args": args, "env": env});
        Driver::of(&[driver("one", true, &container)]).unwrap().mode
    };
    let none = || json!([]);
    for (args, env, expected) in [
        (json!(["node"]), none(), Mode::Controller),
        (
            json!(["node", "--identity=reflected"]),
            none(),
            Mode::PodTokens,
        ),
        (
            json!(["node", "--identity", "reflected"]),
            none(),
            Mode::PodTokens,
        ),
        (json!(["node", "--identity"]), none(), Mode::Controller),
        (
            json!(["node", "--identity=direct"]),
            none(),
            Mode::NodeIdentity,
        ),
        (
            json!(["node", "--unsafe-node-identity"]),
            none(),
            Mode::NodeIdentity,
        ),
        (
            json!(["node"]),
            json!([{"name": "CERTAGENT_IDENTITY", "value": "reflected"}]),
            Mode::PodTokens,
        ),
        (
            json!(["node"]),
            json!([{"name": "CERTAGENT_UNSAFE_NODE_IDENTITY", "value": "true"}]),
            Mode::NodeIdentity,
        ),
        (
            json!(["node"]),
            json!([{"name": "CERTAGENT_IDENTITY", "value": ""},
                {"name": "CERTAGENT_UNSAFE_NODE_IDENTITY", "value": "false"}]),
            Mode::Controller,
        ),
        // The flag wins.
        (
            json!(["node", "--identity=direct"]),
            json!([{"name": "CERTAGENT_IDENTITY", "value": "reflected"}]),
            Mode::NodeIdentity,
        ),
    ] {
        assert_eq!(mode(args.clone(), env.clone()), expected, "{args} {env}");
    }
}
