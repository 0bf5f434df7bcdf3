//! The report of a node's driver as people read it.
use jiff::Timestamp;

use super::{
    super::{
        report::Finding,
        text::{count, relative},
    },
    report::{CheckId, Report},
    volume::{State, Volume},
};

/// More volumes are counted, not shown.
const MOST_VOLUMES: usize = 10;

/// What is the matter, in a few words.
pub(super) fn summary(report: &Report) -> String {
    let Some(cause) = &report.cause else {
        return match report.evidence.volumes.len() {
            0 => "the driver works, and has no volumes".to_owned(),
            volumes => format!("the driver works, with {}", count(volumes, "volume")),
        };
    };
    let failed = matches!(cause.finding, Finding::Failed(_));
    match cause.id {
        CheckId::Places => "kubelet's directory cannot be used",
        CheckId::SharedMounts => "what the driver mounts reaches no pod",
        CheckId::Socket => "the driver does not answer",
        CheckId::Announcement => "kubelet cannot find the driver",
        CheckId::Registered => "kubelet has not registered the driver",
        CheckId::ApiServer => NO_API_SERVER,
        CheckId::Definitions => "the cluster's objects are another installation's",
        CheckId::DriverObject => "the CSIDriver object is not as it has to be",
        CheckId::Objects if failed => "the configuration cannot be used",
        CheckId::Objects => "the configuration has a flaw",
        CheckId::Volumes => "the volumes cannot be used",
        CheckId::Credentials => "a pod has no valid certificate",
        CheckId::Bindings => "a pod has lost its volume",
        CheckId::Waiting => "a pod waits for its volume",
        CheckId::Renewals => "a renewal is overdue",
        CheckId::Records => "a volume's record is of no use",
        CheckId::Leftovers => "something is left of a volume that is no more",
    }
    .to_owned()
}

const NO_API_SERVER: &str = "the API server says nothing";

/// What a check that could not run means.
pub(super) fn unseen(id: CheckId) -> Option<&'static str> {
    match id {
        CheckId::Places | CheckId::Socket | CheckId::Announcement | CheckId::Volumes => {
            Some("this user may not look at the driver")
        }
        CheckId::Registered => Some("whether kubelet has registered the driver is not known"),
        CheckId::ApiServer => Some(NO_API_SERVER),
        _ => None,
    }
}

/// What is known, in lines.
pub(super) fn evidence(report: &Report) -> Vec<(&'static str, String)> {
    let evidence = &report.evidence;
    let mut lines = Vec::new();
    lines.extend(evidence.node.clone().map(|node| ("node", node)));
    let version = evidence.driver_version.as_deref();
    let version = version.map_or_else(String::new, |version| format!(", version {version}"));
    lines.push(("driver", format!("{}{version}", evidence.driver)));
    let kubernetes = evidence.kubernetes.clone();
    lines.extend(kubernetes.map(|version| ("kubernetes", version)));
    lines.extend(evidence.pools.iter().map(|pool| ("pool", pool.clone())));
    if let Some(states) = &evidence.states {
        let of_each: Vec<_> = states
            .iter()
            .map(|(state, number)| format!("{number} {state}"))
            .collect();
        let counted = match evidence.volumes.len() {
            0 => "none".to_owned(),
            all => format!("{all}: {}", of_each.join(", ")),
        };
        lines.push(("volumes", counted));
    }
    for volume in evidence.volumes.iter().take(MOST_VOLUMES) {
        tell(&mut lines, volume, report.checked_at);
    }
    if let Some(more @ 1..) = evidence.volumes.len().checked_sub(MOST_VOLUMES) {
        lines.push(("", format!("and {more} more; --output json has all")));
    }
    lines
}

fn tell(lines: &mut Vec<(&'static str, String)>, volume: &Volume, now: Timestamp) {
    let identity = volume
        .spiffe_id
        .as_deref()
        .unwrap_or("of no known identity");
    lines.push(("volume", format!("{}: {identity}", volume.state.as_str())));
    if let Some(pod) = &volume.pod {
        let name = match (&pod.namespace, &pod.name) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}, "),
            _ => String::new(),
        };
        lines.push(("", format!("pod {name}uid {}", pod.uid)));
    }
    let reason = volume
        .reason
        .clone()
        .filter(|_| volume.state != State::Valid);
    lines.extend(reason.map(|reason| ("", reason)));
    if let Some(end) = volume.not_after {
        let renews = match volume.renews_at {
            Some(moment) if moment <= now => format!("renewal due since {moment}"),
            Some(moment) => format!("renews {moment}"),
            None => "renews at a time that is not known".to_owned(),
        };
        lines.push(("", format!("valid until {}, {renews}", relative(end, now))));
    }
    if volume.has_request {
        lines.push(("", "a request is under way".to_owned()));
    }
    let problem = volume.record_problem.clone();
    lines.extend(problem.map(|problem| ("", problem)));
    match volume.targets.as_slice() {
        [] => lines.push(("", format!("{}, not mounted in a pod", volume.id))),
        targets => lines.extend(
            targets
                .iter()
                .map(|target| ("", target.display().to_string())),
        ),
    }
}

/// Whose volume it is, for a message.
pub(super) fn whose(volume: &Volume) -> String {
    let pod = volume.pod.as_ref();
    let named = pod.and_then(|pod| pod.namespace.as_ref().zip(pod.name.as_ref()));
    match (named, pod, &volume.spiffe_id) {
        (Some((namespace, name)), _, Some(id)) => format!("{id} of the pod {namespace}/{name}"),
        (Some((namespace, name)), _, None) => format!("the pod {namespace}/{name}"),
        (None, Some(pod), Some(id)) => format!("{id} of the pod with uid {}", pod.uid),
        (None, Some(pod), None) => format!("the pod with uid {}", pod.uid),
        (None, None, Some(id)) => id.clone(),
        (None, None, None) => format!("the volume {}", volume.id),
    }
}
