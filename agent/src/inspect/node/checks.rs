//! The checks of a node's driver: what the facts mean.
use std::collections::BTreeMap;

use certagent_core::config::Problem;
use jiff::Timestamp;

use super::{
    super::{
        report::{Findings, Skip},
        text::{clean, count, seconds_span, span},
    },
    facts::{Facts, Fault, Registered, Wanted},
    report::{Check, CheckId, Evidence},
    text::whose,
    volume::{self, State, Volume},
};
use crate::kube::{DriverObject, Verdict};

/// Checks everything.
pub(super) fn run(wanted: &Wanted, facts: &Facts, now: Timestamp) -> (Vec<Check>, Evidence) {
    let mut checks = Findings::new();
    local(&mut checks, wanted, facts);
    registered(&mut checks, wanted, facts);
    cluster(&mut checks, wanted, facts);
    objects(&mut checks, facts);
    let volumes = volumes(&mut checks, facts, now);
    let mut states = BTreeMap::new();
    for volume in volumes.iter().flatten() {
        *states.entry(volume.state.as_str()).or_default() += 1;
    }
    let found = facts.objects.as_ref().and_then(|found| found.as_ref().ok());
    let config = found.and_then(|found| found.config.as_ref());
    let pools = config.map(|config| {
        let pools = config.certificates.pools.iter();
        pools.map(ToString::to_string).collect()
    });
    let answer = facts.socket.as_ref().ok();
    let version = facts.cluster.as_ref().ok();
    let evidence = Evidence {
        node: wanted.node.as_deref().map(clean),
        driver: wanted.driver.clone(),
        driver_version: answer.map(|answer| clean(&answer.version)),
        kubernetes: version.map(|cluster| clean(&cluster.version)),
        pools: pools.unwrap_or_default(),
        states: volumes.is_some().then_some(states),
        volumes: volumes.unwrap_or_default(),
    };
    (checks.finish(), evidence)
}

type Checks = Findings<CheckId>;

/// It failed, or this user may not look.
fn fault(checks: &mut Checks, id: CheckId, fault: &Fault) {
    if fault.is_unseen {
        checks.skipped(id, Skip::Unable, &fault.text);
    } else {
        checks.failed(id, &fault.text);
    }
}

/// What is on the node.
fn local(checks: &mut Checks, wanted: &Wanted, facts: &Facts) {
    match &facts.plain {
        Ok(()) => checks.passed(
            CheckId::Places,
            "kubelet's directory has the driver's places",
        ),
        Err(problem) => fault(checks, CheckId::Places, problem),
    }
    match &facts.shared {
        Ok(()) => checks.passed(CheckId::SharedMounts, "what is mounted reaches the pods"),
        Err(problem) => fault(checks, CheckId::SharedMounts, problem),
    }
    let id = CheckId::Socket;
    match &facts.socket {
        Ok(answer) if answer.name == wanted.driver => {
            checks.passed(id, &format!("{} answers", answer.name));
        }
        Ok(answer) => {
            let socket = wanted.places.socket();
            let problem = format!(
                "at {} answers the driver {:?}, not {}: is --driver-name right?",
                socket.display(),
                answer.name,
                wanted.driver
            );
            checks.failed(id, &problem);
        }
        Err(problem) if problem.is_unseen => fault(checks, id, problem),
        Err(problem) => {
            let problem = format!("{}: the driver does not run on this node", problem.text);
            checks.failed(id, &problem);
        }
    }
    announcement(checks, wanted, facts);
}

/// Kubelet finds a driver by its announcement, and takes the last one of a name.
fn announcement(checks: &mut Checks, wanted: &Wanted, facts: &Facts) {
    let id = CheckId::Announcement;
    let announced = match &facts.announced {
        Ok(announced) => announced,
        Err(problem) => return fault(checks, id, problem),
    };
    let (ours, endpoint) = (wanted.places.registration_socket(), wanted.places.socket());
    let named = announced.iter().filter(|one| one.name == wanted.driver);
    let (here, others): (Vec<_>, Vec<_>) = named.partition(|one| one.socket == ours);
    if let Some(other) = others.first() {
        let problem = format!(
            "another driver named {} is announced at {}: kubelet may call that one; remove it, or \
             give this one a name of its own",
            wanted.driver,
            other.socket.display()
        );
        checks.failed(id, &problem);
        return;
    }
    match here.first() {
        Some(one) if one.endpoint == endpoint => {
            checks.passed(id, "the driver is announced to kubelet");
        }
        Some(one) => {
            let problem = format!(
                "{} sends kubelet to {}, and the driver is at {}: another --kubelet-root than \
                 kubelet's?",
                ours.display(),
                one.endpoint.display(),
                endpoint.display()
            );
            checks.failed(id, &problem);
        }
        None => {
            let problem = format!(
                "nobody announces the driver at {}, so kubelet does not know it: restart the driver",
                ours.display()
            );
            checks.failed(id, &problem);
        }
    }
}

/// Kubelet has taken the announcement up: by the driver's own word, or by the API server's.
fn registered(checks: &mut Checks, wanted: &Wanted, facts: &Facts) {
    let id = CheckId::Registered;
    if checks.blocks(CheckId::Socket) || checks.blocks(CheckId::Announcement) {
        return;
    }
    let listed = facts.cluster.as_ref().ok();
    let listed = listed.and_then(|cluster| cluster.registered.as_ref());
    let node = wanted.node.as_deref().unwrap_or_default();
    let driver = &wanted.driver;
    match (&facts.ready, listed) {
        (Some(Ok(Err(reason))), _) => checks.failed(id, reason),
        (_, Some(Ok(Registered::No))) => {
            let problem = format!(
                "the CSINode {node} does not list {driver}: kubelet has not registered it, and says \
                 why in its log"
            );
            checks.failed(id, &problem);
        }
        (_, Some(Ok(Registered::NoObject))) => {
            let problem = format!("there is no CSINode {node}: is --node-name right?");
            checks.failed(id, &problem);
        }
        (Some(Ok(Ok(()))), _) => checks.passed(id, "the driver says so"),
        (_, Some(Ok(Registered::Yes))) => {
            checks.passed(id, &format!("the CSINode {node} lists it"));
        }
        (ready, listed) => {
            let ready = ready.as_ref().and_then(|ready| ready.as_ref().err());
            let listed = listed.and_then(|listed| listed.as_ref().err());
            let reasons: Vec<_> = [ready, listed].into_iter().flatten().cloned().collect();
            let reasons = if reasons.is_empty() {
                "nobody was asked".to_owned()
            } else {
                reasons.join("; ")
            };
            let detail = format!(
                "{reasons}; give the driver's --admin address, or --node-name with a --kubeconfig \
                 that may read CSINode objects"
            );
            checks.skipped(id, Skip::Unable, &detail);
        }
    }
}

/// What the API server says.
fn cluster(checks: &mut Checks, wanted: &Wanted, facts: &Facts) {
    let cluster = match &facts.cluster {
        Ok(cluster) => cluster,
        Err(reason) => return checks.skipped(CheckId::ApiServer, Skip::Unable, reason),
    };
    checks.passed(
        CheckId::ApiServer,
        &format!("Kubernetes {}", cluster.version),
    );
    let id = CheckId::Definitions;
    match &cluster.definitions {
        Verdict::Ours => checks.passed(id, "none is another installation's"),
        Verdict::Foreign(foreign) if wanted.adopt_foreign => {
            let detail = format!("taken over: {}", foreign.objects.join(" and "));
            checks.passed(id, &detail);
        }
        Verdict::Foreign(foreign) => checks.failed(id, &foreign.to_string()),
        Verdict::Unknown { message } => checks.skipped(id, Skip::Unable, message),
    }
    let id = CheckId::DriverObject;
    match &cluster.driver_object {
        DriverObject::Right => checks.passed(id, "kubelet tells the driver what it needs"),
        DriverObject::Unknown { message } => checks.skipped(id, Skip::Unable, message),
        DriverObject::Missing { message } | DriverObject::Wrong { message } => {
            checks.failed(id, message);
        }
    }
}

/// The configuration.
fn objects(checks: &mut Checks, facts: &Facts) {
    let id = CheckId::Objects;
    let found = match &facts.objects {
        Some(Ok(found)) => found,
        Some(Err(reason)) => return checks.skipped(id, Skip::Unable, reason),
        // The API server says nothing.
        None => return,
    };
    let of = |wanted: bool| -> Vec<&Problem> {
        let problems = found.problems.iter();
        problems.filter(|one| one.is_error() == wanted).collect()
    };
    let (errors, warnings) = (of(true), of(false));
    match (errors.first(), warnings.first()) {
        (Some(first), _) => checks.failed(id, &with_more(&first.to_string(), errors.len())),
        (None, Some(first)) => checks.warned(id, &with_more(&first.to_string(), warnings.len())),
        (None, None) => checks.passed(id, "both objects are there and mean something"),
    }
}

fn with_more(first: &str, all: usize) -> String {
    match all.saturating_sub(1) {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more)"),
    }
}

/// The volumes, the worst first.
fn volumes(checks: &mut Checks, facts: &Facts, now: Timestamp) -> Option<Vec<Volume>> {
    let found = match &facts.volumes {
        Ok(found) => found,
        Err(problem) => {
            fault(checks, CheckId::Volumes, problem);
            return None;
        }
    };
    let mut volumes: Vec<Volume> = found.iter().map(|one| volume::judge(one, now)).collect();
    volumes.sort_by(|one, other| {
        let order = |it: &Volume| (it.state, it.record_problem.is_none(), it.not_after);
        order(one).cmp(&order(other)).then(one.id.cmp(&other.id))
    });
    checks.passed(CheckId::Volumes, &count(volumes.len(), "volume"));
    credentials(checks, &volumes);
    bindings(checks, &volumes);
    renewals(checks, &volumes);
    let id = CheckId::Records;
    let corrupt: Vec<_> = volumes
        .iter()
        .filter_map(|one| Some((one, one.record_problem.as_ref()?)))
        .collect();
    match corrupt.first() {
        Some((first, problem)) => {
            let problem = format!("{}: {problem}", whose(first));
            checks.warned(id, &with_more(&problem, corrupt.len()));
        }
        None => checks.passed(id, "every volume that is mounted has its record"),
    }
    Some(volumes)
}

/// Those in one of these states, which are in order already.
fn in_state<'a>(volumes: &'a [Volume], states: &[State]) -> Vec<&'a Volume> {
    let is_one = |one: &&Volume| states.contains(&one.state);
    volumes.iter().filter(is_one).collect()
}

fn credentials(checks: &mut Checks, volumes: &[Volume]) {
    let id = CheckId::Credentials;
    let states = [State::Expired, State::NotYetValid, State::NoCredential];
    let bad = in_state(volumes, &states);
    let Some(first) = bad.first() else {
        checks.passed(id, "no pod has one that it cannot use");
        return;
    };
    let reason = first.reason.as_deref().unwrap_or_default();
    let what = match (first.state, first.not_after) {
        (State::Expired, Some(end)) => {
            let ago = first.remaining_seconds.unwrap_or_default();
            let ago = span(seconds_span(ago));
            format!("the certificate expired at {end}, {ago} ago: nothing renewed it")
        }
        (State::NotYetValid, _) => format!("the certificate is not valid yet: {reason}"),
        _ => format!("the pod has a volume without a usable certificate: {reason}"),
    };
    let problem = format!("{}: {what}", whose(first));
    checks.failed(id, &with_more(&problem, bad.len()));
}

fn bindings(checks: &mut Checks, volumes: &[Volume]) {
    let unbound = in_state(volumes, &[State::Unbound]);
    match unbound.first() {
        Some(first) => {
            let problem = format!(
                "{}: the volume is filled and its pod is there, but it is not mounted in the pod: \
                 somebody unmounted it, and the pod sees an empty directory",
                whose(first)
            );
            checks.failed(CheckId::Bindings, &with_more(&problem, unbound.len()));
        }
        None => checks.passed(CheckId::Bindings, "what is filled is mounted in its pod"),
    }
    let waiting = in_state(volumes, &[State::Waiting]);
    match waiting.first() {
        Some(first) => {
            let how = if first.has_request {
                "a request for its certificate is under way"
            } else {
                "no request for a certificate is under way"
            };
            let problem = format!("{}: the volume is not filled yet; {how}", whose(first));
            checks.warned(CheckId::Waiting, &with_more(&problem, waiting.len()));
        }
        None => checks.passed(CheckId::Waiting, "no pod waits for its volume"),
    }
    let left = in_state(volumes, &[State::Unmounted, State::LeftOver]);
    match left.first() {
        Some(first) => {
            let why = match first.state {
                State::Unmounted => {
                    "its memory is gone, with a reboot or an unmount; the driver removes the \
                     directory when it starts"
                }
                _ => "its pod is gone; the driver takes it away within a minute or two",
            };
            let problem = format!("{}: {why}", whose(first));
            checks.warned(CheckId::Leftovers, &with_more(&problem, left.len()));
        }
        None => checks.passed(
            CheckId::Leftovers,
            "nothing is left of volumes that are no more",
        ),
    }
}

fn renewals(checks: &mut Checks, volumes: &[Volume]) {
    let overdue = in_state(volumes, &[State::Overdue]);
    match overdue.first() {
        Some(first) => {
            let left = first.remaining_seconds.unwrap_or_default();
            let left = span(seconds_span(left));
            let problem = format!(
                "{}: renewal is overdue, the certificate ends in {left}, and nothing renewed it yet",
                whose(first)
            );
            checks.warned(CheckId::Renewals, &with_more(&problem, overdue.len()));
        }
        None => checks.passed(CheckId::Renewals, "no renewal is overdue"),
    }
}
