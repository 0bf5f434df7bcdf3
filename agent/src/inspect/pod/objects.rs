//! What a pod, its events and the driver's pod on its node say, as far as it counts here.
use ::kube::ResourceExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde::Serialize;

use super::super::text::clean;

/// What kubelet writes at the pods that are no objects of the API server's own.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// While a container waits for this, its pod's volumes may not be mounted yet.
const BEFORE_VOLUMES: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// The reason of kubelet's events on volumes that it cannot mount.
const FAILED_MOUNT: &str = "FailedMount";

/// The pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pod {
    pub(super) uid: String,
    pub(super) created: Option<Timestamp>,
    /// None while it is not scheduled.
    pub(super) node: Option<String>,
    pub(super) scheduled_at: Option<Timestamp>,
    /// Why it is not scheduled.
    pub(super) unscheduled: Option<String>,
    pub(super) service_account: String,
    pub(super) phase: String,
    /// Why it is in that phase.
    pub(super) reason: Option<String>,
    pub(super) is_mirror: bool,
    pub(super) is_being_deleted: bool,
    /// The names of its inline volumes of the driver.
    pub(super) volumes: Vec<String>,
    /// Kubelet has come past its volumes: a container was begun, or could have been.
    pub(super) is_mounted: bool,
}

/// Kubelet's last word on a volume that it cannot mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) at: Option<Timestamp>,
    pub(super) count: i32,
    /// It names a volume of the driver.
    pub(super) is_ours: bool,
}

/// The pod of the driver on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Driver {
    pub(super) name: String,
    pub(super) is_ready: bool,
    /// Why it is not.
    pub(super) reason: Option<String>,
    pub(super) mode: Mode,
}

/// Who gets certificates for a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// The controller, by `CertificateSigningRequest`s.
    Controller,
    /// The driver itself, by its pods' own tokens.
    PodTokens,
    /// The driver itself, by one identity for all pods.
    NodeIdentity,
}

impl Pod {
    pub(super) fn of(pod: &core::Pod, driver: &str) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let volumes = spec.and_then(|spec| spec.volumes.as_deref());
        let volumes = volumes.unwrap_or_default().iter();
        let ours = volumes.filter(|volume| {
            let csi = volume.csi.as_ref();
            csi.is_some_and(|csi| csi.driver == driver)
        });
        let scheduled = condition(pod, "PodScheduled");
        let is_scheduled = scheduled.is_some_and(|one| one.status == "True");
        let why = scheduled.and_then(|one| one.message.as_deref());
        let told =
            |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(clean);
        let node = spec.and_then(|spec| spec.node_name.as_deref());
        let account = spec.and_then(|spec| spec.service_account_name.as_deref());
        let phase = status.and_then(|status| status.phase.as_deref());
        Self {
            uid: clean(&pod.uid().unwrap_or_default()),
            created: pod.metadata.creation_timestamp.as_ref().map(|at| at.0),
            node: node.filter(|node| !node.is_empty()).map(clean),
            scheduled_at: scheduled
                .filter(|_| is_scheduled)
                .and_then(|one| Some(one.last_transition_time.as_ref()?.0)),
            unscheduled: why.filter(|_| !is_scheduled).map(clean),
            service_account: clean(account.unwrap_or("default")),
            phase: clean(phase.unwrap_or("Unknown")),
            reason: status
                .and_then(|status| told(&status.reason).or_else(|| told(&status.message))),
            is_mirror: pod.annotations().contains_key(MIRROR),
            is_being_deleted: pod.metadata.deletion_timestamp.is_some(),
            volumes: ours.map(|volume| clean(&volume.name)).collect(),
            is_mounted: is_mounted(pod),
        }
    }

    /// It has run to its end.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Since when its node could do something for it.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.scheduled_at.or(self.created)
    }
}

fn condition<'a>(pod: &'a core::Pod, kind: &str) -> Option<&'a core::PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|one| one.type_ == kind)
}

/// Kubelet begins no container, and pulls no image, before all volumes are mounted.
fn is_mounted(pod: &core::Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let has_sandbox = condition(pod, "PodReadyToStartContainers");
    if status.phase.as_deref() == Some("Running")
        || has_sandbox.is_some_and(|one| one.status == "True")
    {
        return true;
    }
    let containers = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut containers = containers.into_iter().flatten().flatten();
    containers.any(|one| {
        let has_begun = |state: &core::ContainerState| {
            let waits = state.waiting.as_ref().and_then(|one| one.reason.as_deref());
            state.running.is_some()
                || state.terminated.is_some()
                || waits.is_some_and(|reason| !BEFORE_VOLUMES.contains(&reason))
        };
        one.restart_count > 0
            || one.state.as_ref().is_some_and(has_begun)
            || one.last_state.as_ref().is_some_and(has_begun)
    })
}

impl Complaint {
    /// The last one; one that names a volume of the driver before any other.
    pub(super) fn last(events: &[core::Event], volumes: &[String]) -> Option<Self> {
        let complaints = events
            .iter()
            .filter(|event| event.reason.as_deref() == Some(FAILED_MOUNT))
            .map(|event| Self::of(event, volumes));
        complaints.max_by_key(|one| (one.is_ours, one.at))
    }

    fn of(event: &core::Event, volumes: &[String]) -> Self {
        let message = event.message.as_deref().unwrap_or_default();
        // `MountVolume.SetUp failed for volume "NAME" : ...`; the other message of kubelet only says
        // which ones are not mounted.
        let names = |volume: &String| message.contains(&format!("for volume \"{volume}\""));
        let series = event.series.as_ref();
        let count = series.and_then(|series| series.count).or(event.count);
        Self {
            message: clean(message),
            at: seen(event),
            count: count.unwrap_or(1),
            is_ours: volumes.iter().any(names),
        }
    }
}

/// When it was seen last.
fn seen(event: &core::Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let series = series.and_then(|series| series.last_observed_time.as_ref());
    let in_micros = series.or(event.event_time.as_ref()).map(|at| at.0);
    let last = event.last_timestamp.as_ref().map(|at| at.0);
    last.or(in_micros)
        .or_else(|| Some(event.metadata.creation_timestamp.as_ref()?.0))
}

impl Driver {
    /// Of several on one node, as during an update, the one that is ready.
    pub(super) fn of(pods: &[core::Pod]) -> Option<Self> {
        let drivers = pods.iter().map(|pod| {
            let ready = condition(pod, "Ready");
            let is_ready = ready.is_some_and(|one| one.status == "True");
            Self {
                name: clean(&pod.name_any()),
                is_ready,
                reason: waits(pod)
                    .or_else(|| ready?.message.as_deref().map(clean))
                    .filter(|_| !is_ready),
                mode: Mode::of(pod),
            }
        });
        drivers.max_by_key(|driver| driver.is_ready)
    }
}

/// What the first container waits for that waits.
fn waits(pod: &core::Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
    let waiting = containers
        .iter()
        .find_map(|one| one.state.as_ref()?.waiting.as_ref())?;
    let reason = waiting.reason.as_deref().unwrap_or("no reason given");
    Some(clean(&match &waiting.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }))
}

impl Mode {
    /// As the driver was told, by its flags or its environment.
    fn of(pod: &core::Pod) -> Self {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let (mut identity, mut one_for_all) = (None, false);
        for container in containers {
            let mut words = container.args.iter().flatten().map(String::as_str);
            while let Some(word) = words.next() {
                match word.split_once('=') {
                    Some(("--identity", value)) => identity = Some(value),
                    None if word == "--identity" => identity = words.next(),
                    _ if word == "--unsafe-node-identity" => one_for_all = true,
                    _ => {}
                }
            }
            for variable in container.env.iter().flatten() {
                let value = variable.value.as_deref().unwrap_or_default();
                match variable.name.as_str() {
                    "CERTAGENT_IDENTITY" if !value.is_empty() => {
                        identity = identity.or(Some(value));
                    }
                    "CERTAGENT_UNSAFE_NODE_IDENTITY" => one_for_all |= value == "true",
                    _ => {}
                }
            }
        }
        match identity {
            Some("reflected") => Self::PodTokens,
            Some(_) => Self::NodeIdentity,
            None if one_for_all => Self::NodeIdentity,
            None => Self::Controller,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "by the controller",
            Self::PodTokens => "by each pod's own token, without the controller",
            Self::NodeIdentity => "by one identity for all pods, without the controller",
        }
    }
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
