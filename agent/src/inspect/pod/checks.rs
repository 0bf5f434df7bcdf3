//! The checks of a pod: what the facts mean.
use jiff::Timestamp;

use super::{
    super::{
        cluster::{Request, State, Works},
        report::{CheckName as _, Findings, Skip},
        text::{clean, count, relative},
    },
    facts::{Around, Facts, Wanted},
    objects::{Mode, Pod},
    report::{Check, CheckId, ControllerEvidence, Evidence, RequestEvidence},
    requests,
    view::{Checks, Look, View},
};
use crate::kube::{DriverObject, Kind, Tokens};

/// More requests are counted, not told.
const MOST_REQUESTS: usize = 50;

/// Checks everything.
pub(super) fn run(wanted: &Wanted, facts: &Facts, now: Timestamp) -> (Vec<Check>, Evidence) {
    let mut checks = Findings::new();
    let mut evidence = Evidence::default();
    match &facts.cluster {
        Err(reason) => checks.skipped(CheckId::ApiServer, Skip::Unable, reason),
        Ok(cluster) => {
            let version = cluster.version.as_deref().map(clean);
            let detail = version.as_ref().map_or_else(
                || "it answers".to_owned(),
                |version| format!("Kubernetes {version}"),
            );
            checks.passed(CheckId::ApiServer, &detail);
            evidence.kubernetes = version;
            match (&cluster.pod, &cluster.around) {
                (Ok(Some(pod)), Some(around)) => {
                    let look = Look {
                        wanted,
                        pod,
                        around,
                        now,
                    };
                    checks.passed(CheckId::Pod, &format!("it is there, {}", pod.phase));
                    around_it(&mut evidence, Some(pod), around);
                    there(&mut checks, &mut evidence, &View::of(look));
                }
                (Ok(_), _) => {
                    let detail = format!("there is no pod {}", wanted.pod());
                    checks.failed(CheckId::Pod, &detail);
                }
                (Err(unseen), around) => {
                    checks.skipped(CheckId::Pod, Skip::Unable, &unseen.text);
                    if let Some(around) = around {
                        around_it(&mut evidence, None, around);
                        in_cluster(&mut checks, wanted, around, now);
                    }
                }
            }
        }
    }
    (checks.finish(), evidence)
}

/// What is known whatever the pod says.
fn around_it(evidence: &mut Evidence, pod: Option<&Pod>, around: &Around) {
    let is_known = around.driver.is_ok() || around.driver_object.is_ok();
    evidence.mode = is_known.then(|| around.mode());
    let driver = around.driver.as_ref().ok().and_then(Option::as_ref);
    evidence.driver_pod = driver.map(|driver| driver.name.clone());
    evidence.controller = ControllerEvidence {
        deployment: around.controller.deployed.as_ref().ok().copied().flatten(),
        lease: around.controller.led.as_ref().ok().cloned().flatten(),
    };
    let told = |request: &Request| RequestEvidence {
        name: request.name.clone(),
        state: request.state.as_str(),
        reason: request.state.reason().map(|one| one.reason.clone()),
        message: request.state.reason().map(|one| one.message.clone()),
        created: request.created,
        node: request.node.clone(),
    };
    let requests = around.requests.as_ref().map(|requests| &requests.all);
    let requests = requests.into_iter().flatten().take(MOST_REQUESTS);
    evidence.requests = requests.map(told).collect();
    evidence.spiffe_id = around.own(pod).find_map(|one| one.spiffe_id.clone());
}

/// The pod is there.
fn there(checks: &mut Checks, evidence: &mut Evidence, view: &View<'_>) {
    let Look {
        wanted,
        pod,
        around,
        now,
    } = view.look;
    evidence.uid = Some(pod.uid.clone());
    evidence.phase = Some(pod.phase.clone());
    evidence.is_being_deleted = pod.is_being_deleted;
    evidence.is_mounted = Some(pod.is_mounted);
    evidence.node.clone_from(&pod.node);
    if let Some(domain) = &wanted.trust_domain {
        let (namespace, account) = (&wanted.namespace, &pod.service_account);
        evidence.spiffe_id = Some(format!("spiffe://{domain}/ns/{namespace}/sa/{account}"));
    }
    let signed = view.signed.as_ref();
    evidence.certificate = signed.and_then(|signed| signed.certificate.clone());
    evidence.complaint = view.last_complaint().filter(|_| !pod.is_mounted).cloned();

    if !volume(checks, wanted, pod) || !phase(checks, pod) {
        return;
    }
    scheduled(checks, view);
    driver_object(checks, wanted, around, Some(view));
    driver(checks, view);
    configuration(checks, around, now, Some(view));
    if view.is_by_controller() {
        controller(checks, around, now, Some(view));
        other_nodes(checks, view);
        if pod.node.is_some() {
            requests::request(checks, view);
            requests::approval(checks, view);
            requests::signature(checks, view);
            requests::certificate(checks, view);
        }
    } else {
        requests::without_requests(checks, view);
    }
    if pod.node.is_some() {
        requests::mount(checks, view);
    }
}

/// The pod is not known: what has to be there for every pod.
fn in_cluster(checks: &mut Checks, wanted: &Wanted, around: &Around, now: Timestamp) {
    driver_object(checks, wanted, around, None);
    configuration(checks, around, now, None);
    controller(checks, around, now, None);
}

/// Whether there is something to look at.
fn volume(checks: &mut Checks, wanted: &Wanted, pod: &Pod) -> bool {
    let id = CheckId::Volume;
    let Some(first) = pod.volumes.first() else {
        let detail = format!(
            "the pod has no inline volume of the CSI driver {}, so it asks for no certificate; a \
             pod's volumes cannot be changed: write one into what makes the pod",
            wanted.driver
        );
        checks.failed(id, &detail);
        return false;
    };
    checks.passed(id, &format!("the volume {first}"));
    true
}

fn phase(checks: &mut Checks, pod: &Pod) -> bool {
    let id = CheckId::Phase;
    if pod.is_mirror {
        let detail = "the pod is a mirror of a static pod, which has no service account of its \
                      own: run it as a pod of the API server";
        checks.failed(id, detail);
        return false;
    }
    if pod.has_ended() {
        let reason = pod.reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let detail = format!(
            "the pod has ended ({}{reason}), and needs no certificate any more",
            pod.phase
        );
        checks.warned(id, &detail);
        for &later in CheckId::ALL {
            if later > CheckId::Phase {
                checks.skipped(later, Skip::Minor, "the pod has ended");
            }
        }
        return false;
    }
    checks.passed(id, &pod.phase);
    true
}

fn scheduled(checks: &mut Checks, view: &View<'_>) {
    let id = CheckId::Scheduled;
    let pod = view.pod;
    match (&pod.node, &pod.unscheduled) {
        (Some(node), _) => checks.passed(id, node),
        (None, Some(why)) => {
            checks.failed(id, &format!("the pod has no node: {why}"));
        }
        (None, None) if view.is_young(pod.created) => {
            checks.warned(id, "the pod has no node yet: look again in a moment");
        }
        (None, None) => checks.failed(id, "the pod has no node, and nobody says why"),
    }
}

fn driver_object(checks: &mut Checks, wanted: &Wanted, around: &Around, view: Option<&View<'_>>) {
    let id = CheckId::DriverObject;
    let object = match &around.driver_object {
        Ok(object) => object.as_ref(),
        Err(unseen) => return checks.skipped(id, Skip::Unable, &unseen.text),
    };
    // The controller needs no tokens; they do no harm.
    let tokens = match around.mode() {
        Mode::PodTokens => around.tokens(),
        Mode::Controller | Mode::NodeIdentity => Tokens::NotNeeded,
    };
    match DriverObject::judge(object, &wanted.driver, &tokens).problem() {
        None => checks.passed(id, "kubelet tells the driver what it needs"),
        Some(problem) => bad(checks, id, view, problem),
    }
}

fn bad(checks: &mut Checks, id: CheckId, view: Option<&View<'_>>, detail: &str) {
    match view {
        Some(view) => view.bad(checks, id, detail),
        None => checks.failed(id, detail),
    }
}

fn driver(checks: &mut Checks, view: &View<'_>) {
    let id = CheckId::Driver;
    if view.pod.node.is_none() {
        return;
    }
    let node = view.node();
    match &view.around.driver {
        Ok(Some(driver)) if driver.is_ready => {
            checks.passed(id, &format!("{} is ready on {node}", driver.name));
        }
        Ok(Some(driver)) => {
            let why = driver.reason.as_deref().unwrap_or("nobody says why");
            let detail = format!(
                "the driver's pod {} on {node} is not ready: {why}",
                driver.name
            );
            view.bad(checks, id, &detail);
        }
        Ok(None) => {
            let detail = format!("no pod of the driver is on {node}, which fills the volume");
            view.bad(checks, id, &detail);
        }
        Err(unseen) => checks.skipped(id, Skip::Unable, &unseen.text),
    }
}

/// What is wrong with the two objects stops only who has not asked yet: otherwise the last good
/// ones are in force.
fn configuration(checks: &mut Checks, around: &Around, now: Timestamp, view: Option<&View<'_>>) {
    let id = CheckId::Configuration;
    let has_asked = view.is_some_and(|view| view.works_now || view.newest().is_some());
    let (mut problems, mut unseen, mut unsaid) = (Vec::new(), None, Vec::new());
    for (kind, object) in Kind::ALL.into_iter().zip(&around.objects) {
        let name = kind.object();
        match object {
            Err(one) => unseen = unseen.or(Some(one)),
            Ok(None) => problems.push(format!("there is no {name}")),
            Ok(Some(object)) => match &object.ready {
                Some(ready) if ready.is_true() => {}
                Some(ready) => problems.push(format!(
                    "{name} is not Ready: {}: {}",
                    ready.reason, ready.message
                )),
                None => unsaid.push(name),
            },
        }
    }
    // Without the controller nobody could render any.
    let is_led = matches!(around.controller.works(now), Works::Yes(_));
    if around.lacks_roots() && is_led && !has_asked {
        let problem = "the status of TrustConfig/default has no roots yet, and drivers ask for \
                       nothing before";
        problems.push(problem.to_owned());
    }
    if let Some(problem) = problems.first() {
        if has_asked {
            checks.warned(id, problem);
        } else {
            checks.failed(id, problem);
        }
    } else if let Some(unseen) = unseen {
        checks.skipped(id, Skip::Unable, &unseen.text);
    } else if unsaid.is_empty() {
        checks.passed(id, "both objects are Ready");
    } else {
        let detail = format!(
            "nobody has said whether {} can be used",
            unsaid.join(" and ")
        );
        checks.skipped(id, Skip::Minor, &detail);
    }
}

/// Without the controller only what waits for it stands still.
fn controller(checks: &mut Checks, around: &Around, now: Timestamp, view: Option<&View<'_>>) {
    let id = CheckId::Controller;
    match around.controller.works(now) {
        Works::Yes(detail) => checks.passed(id, &detail),
        Works::Unseen(unseen) => checks.skipped(id, Skip::Unable, &unseen.text),
        Works::No(why) => {
            let what = "nobody approves and signs requests";
            let newest = view.and_then(|view| view.newest());
            let waits =
                newest.filter(|one| matches!(one.state, State::Pending | State::Unsigned(_)));
            let without = match newest {
                None if around.lacks_roots() => {
                    ": there are no roots for the nodes yet, and drivers ask for nothing before"
                }
                _ => "",
            };
            let waits = waits.map_or_else(
                || without.to_owned(),
                |one| {
                    let made = one
                        .created
                        .map(|at| format!(", made {}", relative(at, now)));
                    format!(
                        ": the request {} waits{}",
                        one.name,
                        made.unwrap_or_default()
                    )
                },
            );
            let detail = format!("{what}{waits}; {why}");
            match view {
                Some(view) if waits.is_empty() || view.works_now => checks.warned(id, &detail),
                _ => checks.failed(id, &detail),
            }
        }
    }
}

/// A node asks only for its own pods.
fn other_nodes(checks: &mut Checks, view: &View<'_>) {
    let id = CheckId::OtherNodes;
    let Ok(requests) = &view.around.requests else {
        return checks.skipped(id, Skip::Depends, "waits for request");
    };
    let mut foreign: Vec<&Request> = view.around.foreign(Some(view.pod)).collect();
    // An alarm of the controller is one whatever the node's name is.
    foreign.extend(requests.all.iter().filter(|one| one.is_alarm()));
    let Some(first) = foreign.first() else {
        return checks.passed(id, "no other node asks for the pod's certificate");
    };
    let names: std::collections::BTreeSet<_> = foreign.iter().map(|one| &one.name).collect();
    let more = match names.len() {
        0 | 1 => String::new(),
        all => format!(" ({} in all)", count(all, "request")),
    };
    let detail = format!(
        "the node {} has asked for the certificate of this pod, which runs on {}: somebody may use \
         that node's token; the request {} is {}{more}",
        first.node.as_deref().unwrap_or("that is not named"),
        view.node(),
        first.name,
        first.state.as_str()
    );
    checks.failed(id, &detail);
}
