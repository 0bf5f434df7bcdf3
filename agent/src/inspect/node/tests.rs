use super::{
    super::{
        Verdict,
        fixture::{Leaf, contents_with},
        golden,
    },
    Report,
    facts::Registered,
    fixture::{DRIVER, Known, announcement, denied, failed, objects},
    report::CheckId,
    volume::State,
};
use crate::{
    config::{ConfigFiles, fixture::Objects},
    kube::{DriverObject, Foreign, Tokens, Verdict as Whose},
};

/// The verdict on a healthy node but for what `bend` does.
#[track_caller]
pub(super) fn bent(
    verdict: Verdict,
    cause: CheckId,
    detail: &str,
    bend: impl FnOnce(&mut Known),
) -> Report {
    let mut known = Known::healthy();
    bend(&mut known);
    expect(&known, verdict, cause, detail)
}

#[track_caller]
fn expect(known: &Known, verdict: Verdict, cause: CheckId, detail: &str) -> Report {
    let report = known.judge();
    let found = report.cause().map(|(id, _)| id);
    let text = report.to_text();
    assert_eq!((report.verdict(), found), (verdict, Some(cause)), "{text}");
    let (_, told) = report.cause().unwrap();
    assert!(told.contains(detail), "no \"{detail}\" in: {told}");
    assert!(!report.next_steps.is_empty(), "no next step:\n{text}");
    report
}

pub(super) fn goldens(name: &str, report: &Report) {
    golden::compare(name, "txt", &report.to_text());
    golden::compare(name, "json", &report.to_json());
}

pub(super) fn states(report: &Report) -> Vec<State> {
    let volumes = report.evidence.volumes.iter();
    volumes.map(|volume| volume.state).collect()
}

#[test]
fn a_node_on_which_everything_works_is_healthy() {
    let report = Known::healthy().judge();
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    assert_eq!(states(&report), [State::Valid]);
    assert!(report.evidence.volumes[0].renews_at.is_some());
    goldens("node-healthy", &report);
    let report = Known::healthy().with(&[]).judge();
    assert_eq!(report.verdict(), Verdict::Healthy);
    assert!(report.summary().contains("no volumes"));
}

#[test]
fn what_a_driver_would_refuse_to_begin_for_is_a_problem() {
    let why = "/var/lib/kubelet/pods is not a shared mount";
    let report = bent(Verdict::Problem, CheckId::SharedMounts, why, |known| {
        known.facts.shared = Err(failed(why));
    });
    goldens("node-not-shared", &report);
    let why = "cannot use /var/lib/kubelet/pods: No such file";
    bent(Verdict::Problem, CheckId::Places, why, |known| {
        known.facts.plain = Err(failed(why));
    });
}

#[test]
fn a_driver_that_does_not_answer_is_a_problem_whatever_else_is_wrong() {
    let why = "cannot connect to csi.sock: Connection refused";
    let report = bent(Verdict::Problem, CheckId::Socket, why, |known| {
        known.facts.socket = Err(failed(why));
        known.facts.announced = Ok(Vec::new());
        known.cluster().registered = Some(Ok(Registered::No));
        known.volumes()[0].certificates = Ok(None);
    });
    let waits = report
        .checks
        .iter()
        .find(|one| one.id == CheckId::Registered);
    assert!(waits.unwrap().finding.detail().contains("waits for socket"));
    bent(
        Verdict::Problem,
        CheckId::Socket,
        "--driver-name",
        |known| {
            known.facts.socket.as_mut().unwrap().name = "other.example.com".to_owned();
        },
    );
}

#[test]
fn kubelet_must_find_this_driver_and_no_other_of_its_name() {
    let id = CheckId::Announcement;
    bent(Verdict::Problem, id, "restart the driver", |known| {
        known.facts.announced = Ok(Vec::new());
    });
    bent(Verdict::Problem, id, "theirs-reg.sock", |known| {
        let theirs = announcement("theirs-reg.sock", DRIVER, "/theirs.sock");
        known.facts.announced.as_mut().unwrap().push(theirs);
    });
    bent(Verdict::Problem, id, "--kubelet-root", |known| {
        known.facts.announced.as_mut().unwrap()[1].endpoint = "/elsewhere.sock".into();
    });
}

#[test]
fn kubelet_s_registration_is_known_by_the_driver_or_by_the_api_server() {
    let id = CheckId::Registered;
    bent(Verdict::Problem, id, "does not list", |known| {
        known.cluster().registered = Some(Ok(Registered::No));
    });
    bent(Verdict::Problem, id, "--node-name", |known| {
        known.cluster().registered = Some(Ok(Registered::NoObject));
    });
    bent(Verdict::Problem, id, "has not registered", |known| {
        let reason = "kubelet has not registered the driver yet";
        known.facts.ready = Some(Ok(Err(reason.to_owned())));
    });
    let report = bent(Verdict::Unknown, id, "--admin", |known| {
        known.cluster().registered = None;
    });
    assert_eq!(report.exit_code(), 2);
    bent(Verdict::Unknown, id, "forbidden", |known| {
        known.cluster().registered = Some(Err("forbidden".to_owned()));
        known.facts.ready = Some(Err("nobody says it".to_owned()));
    });
    let mut known = Known::healthy();
    known.cluster().registered = Some(Err("forbidden".to_owned()));
    known.facts.ready = Some(Ok(Ok(())));
    assert_eq!(known.judge().verdict(), Verdict::Healthy);
}

#[test]
fn without_an_api_server_the_rest_is_still_told() {
    let report = bent(Verdict::Unknown, CheckId::ApiServer, "no answer", |known| {
        known.away();
        known.facts.ready = Some(Ok(Ok(())));
    });
    assert_eq!(report.exit_code(), 2);
    assert_eq!(states(&report), [State::Valid]);
    let text = report.to_text();
    assert!(
        text.contains("definitions, driver-object, objects: waits for api-server"),
        "{text}"
    );
    goldens("node-no-api-server", &report);
    // What the node itself shows comes first.
    bent(Verdict::Problem, CheckId::Credentials, "expired", |known| {
        known.away();
        known.facts.ready = Some(Ok(Ok(())));
        expire(known, 0);
    });
}

#[test]
fn objects_of_another_installation_are_a_problem_unless_they_are_taken_over() {
    let foreign = || Foreign {
        objects: vec!["CSIDriver d".to_owned()],
    };
    let report = bent(
        Verdict::Problem,
        CheckId::Definitions,
        "CSIDriver d",
        |known| {
            known.cluster().definitions = Whose::Foreign(foreign());
        },
    );
    assert!(report.next_steps[0].command.contains("trustconfigs"));
    let mut known = Known::healthy();
    known.cluster().definitions = Whose::Foreign(foreign());
    known.wanted.adopt_foreign = true;
    assert_eq!(known.judge().verdict(), Verdict::Healthy);
    bent(Verdict::Unknown, CheckId::Definitions, "RBAC", |known| {
        let message = "not allowed; apply the RBAC rules".to_owned();
        known.cluster().definitions = Whose::Unknown { message };
    });
}

#[test]
fn the_driver_s_object_is_judged_as_the_driver_judges_it() {
    let id = CheckId::DriverObject;
    let report = bent(Verdict::Problem, id, "podInfoOnMount", |known| {
        let object = serde_json::json!({"metadata": {"name": DRIVER}, "spec": {}});
        let object = serde_json::from_value(object).unwrap();
        let judged = DriverObject::judge(Some(&object), DRIVER, &known.wanted.tokens);
        known.cluster().driver_object = judged;
    });
    let apply = &report.next_steps[0].command;
    assert_eq!(apply, "kubectl apply -f deploy/csidriver-reflected.yaml");
    let report = bent(Verdict::Problem, id, "has no CSIDriver", |known| {
        known.wanted.tokens = Tokens::NotNeeded;
        let judged = DriverObject::judge(None, DRIVER, &Tokens::NotNeeded);
        known.cluster().driver_object = judged;
    });
    assert!(report.next_steps[0].command.ends_with("/csidriver.yaml"));
    bent(Verdict::Unknown, id, "not known", |known| {
        let message = "it is not known".to_owned();
        known.cluster().driver_object = DriverObject::Unknown { message };
    });
}

#[test]
fn a_configuration_with_errors_is_a_problem_wherever_it_is() {
    let wrong = || {
        objects(&Objects {
            validity: 1,
            workloads: &[],
            ..Objects::default()
        })
    };
    let report = bent(
        Verdict::Problem,
        CheckId::Objects,
        "validityDurationSeconds",
        |known| {
            known.facts.objects = Some(Ok(wrong()));
        },
    );
    assert!(
        report.next_steps[0]
            .command
            .starts_with("kubectl get workload")
    );
    let report = bent(
        Verdict::Problem,
        CheckId::Objects,
        "validityDurationSeconds",
        |known| {
            known.facts.objects = Some(Ok(wrong()));
            let paths = vec!["/etc/cert agent".into()];
            known.wanted.files = Some(ConfigFiles::new(paths, known.wanted.settings.clone()));
        },
    );
    assert_eq!(
        report.next_steps[0].command,
        "certagent validate '/etc/cert agent'"
    );
    bent(Verdict::Unknown, CheckId::Objects, "not let", |known| {
        known.facts.objects = Some(Err("the API server does not let it".to_owned()));
    });
}

#[test]
fn what_this_user_may_not_see_is_unknown() {
    let report = bent(Verdict::Unknown, CheckId::Places, "denied", |known| {
        let fault = || denied("cannot use it: Permission denied");
        known.facts.plain = Err(fault());
        known.facts.socket = Err(fault());
        known.facts.announced = Err(fault());
        known.facts.volumes = Err(fault());
    });
    assert!(
        report.next_steps[0]
            .command
            .starts_with("sudo certagent inspect node")
    );
    assert_eq!(report.evidence.states, None);
}

pub(super) fn expire(known: &mut Known, index: usize) {
    let leaf = Leaf {
        begin: (2026, 10, 31),
        end: (2026, 11, 20),
        ..Leaf::default()
    };
    let contents = contents_with(&leaf, "Test Root", (2036, 1, 1));
    known.volumes()[index].certificates = Ok(Some(contents.certificates.into_bytes()));
}
