//! The report of a pod as people read it.
use super::{
    super::{report::Finding, text::relative},
    objects::Mode,
    report::{CheckId, Evidence, Report},
};

/// More requests are counted, not shown.
const MOST_REQUESTS: usize = 5;

/// What is the matter, in a few words.
pub(super) fn summary(report: &Report) -> &'static str {
    let Some(cause) = &report.cause else {
        return "the pod has its certificate";
    };
    let failed = matches!(cause.finding, Finding::Failed(_));
    match cause.id {
        CheckId::ApiServer => NO_API_SERVER,
        CheckId::Pod => "there is no such pod",
        CheckId::Volume => "the pod does not ask for a certificate",
        CheckId::Phase if failed => "the pod cannot have a certificate",
        CheckId::Phase => "the pod has ended",
        CheckId::Scheduled if failed => "the pod has no node",
        CheckId::DriverObject => "the CSIDriver object is not as it has to be",
        CheckId::Driver => "the driver does not run on the pod's node",
        CheckId::Configuration => "the configuration cannot be used",
        CheckId::Controller => "the controller does not run",
        CheckId::OtherNodes => "ALARM: another node asks for the pod's certificate",
        CheckId::Request if failed => "the driver has not asked for a certificate",
        CheckId::Approval if failed => refused(report),
        CheckId::Signature if failed => "the certificate is not signed",
        CheckId::Approval | CheckId::Signature if report.evidence.is_mounted == Some(true) => {
            "the pod has a certificate, and does not get the next one"
        }
        CheckId::Certificate if failed => "the certificate cannot be used",
        CheckId::Certificate => "a renewal is overdue",
        CheckId::Mount if failed => "the volume is not mounted",
        CheckId::Scheduled
        | CheckId::Request
        | CheckId::Approval
        | CheckId::Signature
        | CheckId::Mount => "the pod does not have its certificate yet",
    }
}

fn refused(report: &Report) -> &'static str {
    let evidence = &report.evidence;
    let mut own = evidence.requests.iter();
    let newest = own.find(|one| one.node.is_none() || one.node == evidence.node);
    if newest.is_some_and(|newest| newest.state == "denied") {
        "the request was denied"
    } else {
        "the request is not approved"
    }
}

const NO_API_SERVER: &str = "the API server says nothing";

/// What a check that could not run means.
pub(super) fn unseen(id: CheckId) -> Option<&'static str> {
    match id {
        CheckId::ApiServer => Some(NO_API_SERVER),
        CheckId::Pod => Some("this user may not look at the pod"),
        CheckId::DriverObject => Some("this user may not look at the CSIDriver object"),
        CheckId::Configuration => Some("this user may not look at the configuration"),
        CheckId::Driver => Some("whether the driver runs on the pod's node is not known"),
        CheckId::Controller => Some("whether the controller runs is not known"),
        CheckId::Request => Some("how far the request has come is not known"),
        _ => None,
    }
}

/// What is known, in lines.
pub(super) fn evidence(report: &Report) -> Vec<(&'static str, String)> {
    let (evidence, now) = (&report.evidence, report.checked_at);
    let mut lines = Vec::new();
    if let (Some(phase), Some(uid)) = (&evidence.phase, &evidence.uid) {
        let deleted = if evidence.is_being_deleted {
            ", being deleted"
        } else {
            ""
        };
        lines.push(("", format!("{phase}{deleted}, uid {uid}")));
    }
    let mut tell = |name, value: &Option<String>| {
        lines.extend(value.clone().map(|value| (name, value)));
    };
    tell("identity", &evidence.spiffe_id);
    tell("node", &evidence.node);
    tell("driver", &evidence.driver_pod);
    tell("kubernetes", &evidence.kubernetes);
    if let Some(mode) = evidence.mode {
        lines.push(("issued", mode.as_str().to_owned()));
        if mode == Mode::Controller {
            controller(&mut lines, evidence);
        }
    }
    for request in evidence.requests.iter().take(MOST_REQUESTS) {
        lines.push(("request", format!("{}: {}", request.name, request.state)));
        let made = request
            .created
            .map(|at| format!("made {}", relative(at, now)));
        let node = request.node.as_ref().map(|node| format!("by {node}"));
        let made: Vec<_> = [made, node].into_iter().flatten().collect();
        if !made.is_empty() {
            lines.push(("", made.join(" ")));
        }
        let said = request.reason.as_ref().zip(request.message.as_ref());
        lines.extend(said.map(|(reason, message)| ("", format!("{reason}: {message}"))));
    }
    if let Some(more @ 1..) = evidence.requests.len().checked_sub(MOST_REQUESTS) {
        lines.push(("", format!("and {more} more; --output json has them")));
    }
    if let Some(certificate) = &evidence.certificate {
        lines.push(("certificate", format!("serial {}", certificate.serial)));
        let end = relative(certificate.not_after, now);
        let renews = match (certificate.renews_from, certificate.renews_until) {
            (Some(from), Some(until)) => format!("renewed between {from} and {until}"),
            _ => "renewed at a time that is not known".to_owned(),
        };
        lines.push(("", format!("valid until {end}, {renews}")));
    }
    if let Some(complaint) = &evidence.complaint {
        lines.push(("kubelet", complaint.message.clone()));
        let at = complaint.at.map(|at| relative(at, now)).unwrap_or_default();
        lines.push(("", format!("{at}, {} times", complaint.count)));
    }
    lines
}

fn controller(lines: &mut Vec<(&'static str, String)>, evidence: &Evidence) {
    let deployed = evidence.controller.deployment;
    let deployed = deployed.map(|there| format!("{} of {} pods ready", there.ready, there.wanted));
    let led = evidence.controller.lease.as_ref();
    let led = led.map(|led| match &led.holder {
        Some(holder) => format!("{holder} leads"),
        None => "nobody leads".to_owned(),
    });
    let told: Vec<_> = [deployed, led].into_iter().flatten().collect();
    if !told.is_empty() {
        lines.push(("controller", told.join(", ")));
    }
}
