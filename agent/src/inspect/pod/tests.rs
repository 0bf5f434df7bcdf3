use super::{
    super::{
        Verdict,
        cluster::{Ready, State},
        golden,
        report::CheckName as _,
    },
    Report,
    fixture::{Known, before, forbidden, reason, request},
    objects::Mode,
    report::CheckId,
};
use crate::inspect::fixture::{Leaf, contents_with};
use k8s_openapi::api::storage::v1::TokenRequest;

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

/// The verdict on a healthy pod but for what `bend` does.
#[track_caller]
fn bent(verdict: Verdict, cause: CheckId, detail: &str, bend: impl FnOnce(&mut Known)) -> Report {
    let mut known = Known::healthy();
    bend(&mut known);
    expect(&known, verdict, cause, detail)
}

/// The same for a pod that waits for its volume, with one request in this state.
#[track_caller]
fn stuck(state: State, cause: CheckId, detail: &str, bend: impl FnOnce(&mut Known)) -> Report {
    let mut known = Known::waiting(state);
    bend(&mut known);
    expect(&known, Verdict::Problem, cause, detail)
}

fn goldens(name: &str, report: &Report) {
    golden::compare(name, "txt", &report.to_text());
    golden::compare(name, "json", &report.to_json());
}

fn detail(report: &Report, id: CheckId) -> &str {
    let mut checks = report.checks.iter();
    checks.find(|one| one.id == id).unwrap().finding.detail()
}

#[test]
fn a_pod_that_has_its_certificate_is_healthy_and_says_which_and_when_it_is_renewed() {
    let report = Known::healthy().judge();
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    assert_eq!(report.verdict(), Verdict::Healthy);
    let certificate = report.evidence.certificate.as_ref().unwrap();
    assert_eq!(certificate.serial, "c0ffee");
    assert!(certificate.renews_from < certificate.renews_until);
    goldens("pod-healthy", &report);
}

#[test]
fn a_pod_whose_request_kubernetes_has_deleted_is_healthy() {
    let mut known = Known::healthy();
    known.requests().all.clear();
    let report = known.judge();
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
    assert!(detail(&report, CheckId::Request).contains("none is kept"));
    assert!(report.evidence.certificate.is_none());
}

#[test]
fn a_pod_that_cannot_ask_is_told_why() {
    let report = bent(
        Verdict::Problem,
        CheckId::Pod,
        "no pod shop/cart-7d9f",
        |known| {
            known.cluster().pod = Ok(None);
            known.cluster().around = None;
        },
    );
    goldens("pod-missing", &report);
    let report = bent(
        Verdict::Problem,
        CheckId::Volume,
        "no inline volume",
        |known| known.pod().volumes.clear(),
    );
    goldens("pod-without-volume", &report);
    let report = bent(
        Verdict::Warning,
        CheckId::Phase,
        "Succeeded: Completed",
        |known| {
            known.pod().phase = "Succeeded".to_owned();
            known.pod().reason = Some("Completed".to_owned());
            known.without_controller();
        },
    );
    goldens("pod-ended", &report);
    bent(Verdict::Problem, CheckId::Phase, "static pod", |known| {
        known.pod().is_mirror = true;
    });
}

#[test]
fn a_pod_without_a_node_waits_for_that_first() {
    let why = "0/3 nodes are available: 3 Insufficient cpu";
    let mut known = Known::waiting(State::Pending);
    known.requests().all.clear();
    known.pod().node = None;
    known.pod().unscheduled = Some(why.to_owned());
    let report = expect(&known, Verdict::Problem, CheckId::Scheduled, why);
    assert!(detail(&report, CheckId::Mount).contains("waits for scheduled"));
    goldens("pod-not-scheduled", &report);
    known.pod().unscheduled = None;
    expect(&known, Verdict::Problem, CheckId::Scheduled, "nobody says");
    known.pod().created = Some(before(3));
    expect(&known, Verdict::Warning, CheckId::Scheduled, "look again");
}

#[test]
fn a_driver_that_is_away_is_the_cause_unless_the_pod_runs() {
    let mut known = Known::waiting(State::Pending);
    known.requests().all.clear();
    known.around().driver = Ok(None);
    let id = CheckId::Driver;
    let report = expect(&known, Verdict::Problem, id, "no pod of the driver");
    goldens("pod-no-driver", &report);
    let mut known = Known::waiting(State::Pending);
    let driver = known.around().driver.as_mut().unwrap().as_mut().unwrap();
    driver.is_ready = false;
    driver.reason = Some("CrashLoopBackOff: back-off 5m0s".to_owned());
    let report = expect(&known, Verdict::Problem, id, "CrashLoopBackOff");
    goldens("pod-driver-not-ready", &report);
    bent(Verdict::Warning, id, "no pod of the driver", |known| {
        known.around().driver = Ok(None);
    });
}

#[test]
fn a_driver_s_object_that_is_missing_or_wrong_is_the_cause() {
    let id = CheckId::DriverObject;
    let report = stuck(State::Pending, id, "has no CSIDriver", |known| {
        known.around().driver_object = Ok(None);
    });
    let apply = &report.next_steps[0].command;
    assert_eq!(apply, "kubectl apply -f deploy/csidriver.yaml");
    // For the controller it need not ask for tokens, and may.
    let mut known = Known::healthy();
    let object = known.around().driver_object.as_mut().unwrap().as_mut();
    object.unwrap().spec.token_requests = Some(vec![TokenRequest::default()]);
    assert_eq!(known.judge().verdict(), Verdict::Healthy);
}

#[test]
fn a_driver_that_has_not_asked_says_why_by_the_pod_s_event() {
    let said = "MountVolume.SetUp failed for volume \"certs\" : rpc error: code = Unavailable desc \
                = caPEM is nil (check active WorkloadCertificateConfig): there is none";
    let mut known = Known::waiting(State::Pending);
    known.requests().all.clear();
    known.complain(said);
    let id = CheckId::Request;
    let report = expect(&known, Verdict::Problem, id, "caPEM is nil");
    goldens("pod-no-request", &report);
    known.around().complaint = Ok(None);
    expect(&known, Verdict::Problem, id, "kubelet has said nothing");
    known.pod().scheduled_at = Some(before(5));
    expect(&known, Verdict::Warning, id, "look again");
    known.around().complaint = Err(forbidden("list", "events"));
    known.pod().scheduled_at = Some(before(50));
    expect(&known, Verdict::Problem, id, "may not list events");
    known.requests().is_cut = true;
    let report = known.judge();
    assert_eq!(report.verdict(), Verdict::Unknown, "{}", report.to_text());
}

#[test]
fn objects_that_are_not_ready_are_the_cause_of_a_request_that_was_never_made() {
    let not_ready = |known: &mut Known| {
        let [certificates, _] = &mut known.around().objects;
        certificates.as_mut().unwrap().as_mut().unwrap().ready = Some(Ready {
            status: "False".to_owned(),
            reason: "PoolUnreachable".to_owned(),
            message: "the pool does not answer".to_owned(),
            observed_generation: Some(2),
        });
    };
    let id = CheckId::Configuration;
    let report = stuck(State::Pending, id, "PoolUnreachable: the pool", |known| {
        known.requests().all.clear();
        not_ready(known);
    });
    let command = &report.next_steps[0].command;
    assert_eq!(command, "certagent inspect config --cluster");
    // Who has asked was not kept from asking.
    stuck(State::Pending, CheckId::Approval, "neither", not_ready);
    bent(Verdict::Warning, id, "PoolUnreachable", not_ready);
    let unrendered = |known: &mut Known| {
        known.requests().all.clear();
        known.around().objects[1]
            .as_mut()
            .unwrap()
            .as_mut()
            .unwrap()
            .status = None;
    };
    stuck(State::Pending, id, "has no roots yet", unrendered);
    stuck(
        State::Pending,
        CheckId::Controller,
        "no roots for the nodes",
        |known| {
            unrendered(known);
            known.without_controller();
        },
    );
    stuck(State::Pending, id, "no TrustConfig/default", |known| {
        known.requests().all.clear();
        known.around().objects[1] = Ok(None);
    });
}

#[test]
fn a_request_that_nobody_decides_waits_for_the_controller() {
    let id = CheckId::Controller;
    let report = stuck(State::Pending, id, "nobody holds the Lease", |known| {
        known.without_controller();
    });
    goldens("pod-no-controller", &report);
    let report = stuck(State::Pending, id, "no Deployment", |known| {
        known.around().controller.deployed = Ok(None);
        known.around().controller.led = Ok(None);
    });
    let apply = &report.next_steps[0].command;
    assert_eq!(apply, "kubectl apply -f deploy/controller.yaml");
    bent(
        Verdict::Warning,
        id,
        "0 of 2 pods",
        Known::without_controller,
    );
    let report = stuck(State::Pending, CheckId::Approval, "for 30 min", |_| {});
    goldens("pod-pending", &report);
    let mut known = Known::waiting(State::Pending);
    known.requests().all[0].created = Some(before(2));
    expect(&known, Verdict::Warning, CheckId::Approval, "look again");
}

#[test]
fn a_request_that_was_denied_or_failed_is_told_with_its_reason() {
    let why = "the pod shop/cart-7d9f runs as the service account \"other\"";
    let denied = State::Denied(reason("WrongServiceAccount", why));
    let id = CheckId::Approval;
    let report = stuck(denied.clone(), id, why, |known| {
        known.complain("MountVolume.SetUp failed for volume \"certs\" : it was denied");
    });
    goldens("pod-denied", &report);
    // Not what an absent controller would do about the next one.
    stuck(denied.clone(), id, why, Known::without_controller);
    bent(Verdict::Warning, id, why, |known| {
        known
            .requests()
            .all
            .insert(0, request("certagent-2a", denied));
    });
    let why = "CA Service has lost it";
    let failed = State::Failed(reason("CertificateLost", why));
    let report = stuck(failed, CheckId::Signature, why, |_| {});
    goldens("pod-failed", &report);
}

#[test]
fn another_node_that_asks_for_the_pod_is_an_alarm_though_the_pod_is_well() {
    let id = CheckId::OtherNodes;
    let denied = State::Denied(reason("PodOnOtherNode", "the node node-9 asks"));
    let report = bent(Verdict::Problem, id, "node-9", |known| {
        let mut foreign = request("certagent-9", denied.clone());
        foreign.node = Some("node-9".to_owned());
        known.requests().all.insert(0, foreign);
    });
    assert!(report.summary().contains("ALARM"));
    goldens("pod-alarm", &report);
    // The controller's own alarm counts, whatever the node is called now.
    stuck(denied, id, "token", |_| {});
    stuck(State::Pending, id, "is pending", |known| {
        known.requests().all[0].node = Some("node-9".to_owned());
    });
}

#[test]
fn a_request_that_is_approved_and_not_signed_says_why() {
    let why = "HTTP 403: privateca.certificates.create is missing; it is tried again at \
               2026-11-20T14:31:00Z";
    let unsigned = State::Unsigned(Some(reason("PermissionDenied", why)));
    let id = CheckId::Signature;
    let report = stuck(unsigned.clone(), id, why, |_| {});
    goldens("pod-not-signed", &report);
    stuck(
        State::Unsigned(None),
        id,
        "the controller has not said",
        |_| {},
    );
    let mut known = Known::waiting(State::Unsigned(None));
    known.requests().all[0].since = Some(before(4));
    expect(&known, Verdict::Warning, id, "look again");
    stuck(unsigned, CheckId::Controller, "waits", |known| {
        known.without_controller();
    });
}

#[test]
fn a_certificate_that_is_not_mounted_says_what_kubelet_says() {
    let said = "MountVolume.SetUp failed for volume \"certs\" : rpc error: code = Internal desc = \
                the volume is full";
    let id = CheckId::Mount;
    let report = stuck(State::Signed, id, "the volume is full", |known| {
        known.complain(said);
    });
    goldens("pod-not-mounted", &report);
    stuck(State::Signed, id, "nothing of this volume, but", |known| {
        known.complain("MountVolume.SetUp failed for volume \"db\" : secret not found");
        let complaint = known.around().complaint.as_mut().unwrap().as_mut();
        complaint.unwrap().is_ours = false;
    });
    let mut known = Known::waiting(State::Signed);
    known.requests().all[0].since = Some(before(1));
    expect(&known, Verdict::Warning, id, "look again");
}

/// What was signed for the pod, in place of what was.
fn sign(known: &mut Known, leaf: &Leaf) {
    let contents = contents_with(leaf, "Test Root", (2036, 1, 1));
    known.requests().all[0].certificate = Some(contents.certificates.into_bytes());
}

#[test]
fn what_was_signed_is_looked_at() {
    let id = CheckId::Certificate;
    let dated = |begin, end| Leaf {
        begin,
        end,
        ..Leaf::default()
    };
    bent(Verdict::Problem, id, "expired", |known| {
        sign(known, &dated((2026, 11, 1), (2026, 11, 19)));
    });
    bent(Verdict::Warning, id, "has not asked yet", |known| {
        sign(known, &dated((2026, 11, 1), (2026, 11, 21)));
        known.requests().all[0].since = Some("2026-11-01T00:00:00Z".parse().unwrap());
    });
    bent(Verdict::Warning, id, "clock", |known| {
        sign(known, &dated((2026, 11, 21), (2026, 12, 21)));
    });
    let other = Leaf {
        uri: "spiffe://example.org/ns/shop/sa/other",
        ..dated((2026, 11, 20), (2026, 12, 10))
    };
    let mut known = Known::waiting(State::Signed);
    sign(&mut known, &other);
    expect(&known, Verdict::Problem, id, "it is for spiffe://");
    known.requests().all[0].certificate = Some(b"-----BEGIN".to_vec());
    let report = expect(&known, Verdict::Problem, id, "refused");
    assert!(report.evidence.certificate.is_none());
}

#[test]
fn who_gets_certificates_without_the_controller_has_no_requests() {
    let mut known = Known::waiting(State::Pending);
    known.requests().all.clear();
    known.without_controller();
    let driver = known.around().driver.as_mut().unwrap().as_mut().unwrap();
    driver.mode = Mode::PodTokens;
    let said = "MountVolume.SetUp failed for volume \"certs\" : kubelet brought no token";
    known.complain(said);
    // The object has to ask for the tokens.
    let id = CheckId::DriverObject;
    let object = known.around().driver_object.as_mut().unwrap().as_mut();
    let spec = &mut object.unwrap().spec;
    spec.token_requests = Some(vec![TokenRequest::default()]);
    let report = expect(&known, Verdict::Problem, id, "requiresRepublish");
    assert!(report.next_steps[0].command.contains("csidriver-reflected"));
    let object = known.around().driver_object.as_mut().unwrap().as_mut();
    object.unwrap().spec.requires_republish = Some(true);
    let report = expect(&known, Verdict::Problem, CheckId::Mount, "no token");
    goldens("pod-tokens", &report);
    // Where the driver is not seen, its object says it.
    known.around().driver = Ok(None);
    assert_eq!(known.around().mode(), Mode::PodTokens);
}

#[test]
fn what_this_user_may_not_read_is_unknown_and_names_the_permission() {
    let report = bent(
        Verdict::Unknown,
        CheckId::Request,
        "may not list certificatesigningrequests",
        |known| {
            let resource = "certificatesigningrequests.certificates.k8s.io";
            known.around().requests = Err(forbidden("list", resource));
        },
    );
    assert_eq!(report.exit_code(), 2);
    goldens("pod-forbidden", &report);
    for (bend, id) in [
        (
            (|known| known.around().driver = Err(forbidden("list", "pods"))) as fn(&mut Known),
            CheckId::Driver,
        ),
        (
            |known| known.around().driver_object = Err(forbidden("get", "csidrivers")),
            CheckId::DriverObject,
        ),
        (
            |known| known.around().objects[0] = Err(forbidden("get", "workloadcertificateconfigs")),
            CheckId::Configuration,
        ),
        (
            |known| {
                known.around().controller.deployed = Err(forbidden("get", "deployments"));
                known.around().controller.led = Err(forbidden("get", "leases"));
            },
            CheckId::Controller,
        ),
    ] {
        let report = bent(Verdict::Unknown, id, "may not", bend);
        let command = &report.next_steps[0].command;
        assert!(command.starts_with("kubectl auth can-i"), "{command}");
        assert!(!detail(&report, CheckId::Mount).contains("waits"));
        assert!(
            !report.summary().contains("could not run"),
            "{}",
            report.summary()
        );
    }
}

#[test]
fn a_pod_that_this_user_may_not_read_keeps_nothing_else_from_being_told() {
    let hide = |known: &mut Known| known.cluster().pod = Err(forbidden("get", "pods"));
    let id = CheckId::Pod;
    let report = bent(Verdict::Unknown, id, "may not get pods", hide);
    assert_eq!(report.evidence.requests.len(), 1);
    assert!(detail(&report, CheckId::Controller).contains("leads"));
    bent(Verdict::Problem, CheckId::Controller, "0 of 2", |known| {
        hide(known);
        known.without_controller();
    });
}

#[test]
fn without_an_api_server_nothing_is_known() {
    let report = bent(Verdict::Unknown, CheckId::ApiServer, "no answer", |known| {
        known.facts.cluster = Err("no answer in 10 s".to_owned());
    });
    assert_eq!(report.summary(), "the API server says nothing");
    assert!(detail(&report, CheckId::Mount).contains("waits for api-server"));
}

#[test]
fn every_check_waits_only_for_those_before_it() {
    for &id in CheckId::ALL {
        assert!(id.needs().iter().all(|needed| *needed < id), "{id:?}");
    }
}

#[test]
fn what_the_cluster_says_cannot_turn_the_terminal() {
    let evil = "x\u{1b}[31m\u{202e}\n".repeat(500);
    let report = stuck(
        State::Denied(reason(&evil, &evil)),
        CheckId::Approval,
        "was denied",
        |known| {
            known.complain(&evil);
            known.pod().phase = evil.clone();
        },
    );
    let (_, told) = report.cause().unwrap();
    assert!(told.chars().count() < 1100 && !told.contains('\u{1b}'));
}
