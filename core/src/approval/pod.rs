//! A7 to A11: the pod that the certificate is for, as the API server shows it now.
use super::{
    PodFacts, Settings, Wanted,
    denial::{Denial, Reason, quote},
};
use crate::dns;

/// The annotation of a request that names the pod; its namespace is the identity's.
pub const POD_NAME: &str = "certagent.dev/pod-name";

/// The annotation of a request for a pod that has a certificate already: when that one ends, as
/// RFC 3339. Nobody checks it, and nothing is decided by it but who goes first.
pub const NEEDED_BY: &str = "certagent.dev/needed-by";

/// The first half of A7: there is a name to look for. It becomes part of a path of the API.
pub(super) fn name(annotation: Option<&str>) -> Result<&str, Denial> {
    let name = annotation.ok_or_else(|| {
        Denial::new(
            Reason::PodNotFound,
            format!(
                "the request has no annotation {POD_NAME}, which names the pod: let driver and \
                 controller be of one version"
            ),
        )
    })?;
    is_name(name)?; // A7
    Ok(name)
}

fn is_name(name: &str) -> Result<(), Denial> {
    if dns::is_subdomain(name) {
        return Ok(());
    }
    Err(Denial::new(
        Reason::PodNotFound,
        format!(
            "the annotation {POD_NAME} is {}, which no pod can be called: a name has 1 to 253 of \
             a-z, 0-9, - and ., with a letter or digit at both ends of each part. No pod was \
             looked for",
            quote(name)
        ),
    ))
}

/// The rules in their order, the first one that is broken counts.
pub(super) fn check(wanted: &Wanted, pod: &PodFacts, settings: &Settings) -> Result<(), Denial> {
    place(wanted, pod)?; // A7
    uid(wanted, pod)?; // A7
    node(wanted, pod)?; // A8
    service_account(wanted, pod)?; // A9
    volume(wanted, pod, settings)?; // A10
    running(wanted, pod)?; // A11
    not_mirrored(wanted, pod)?; // A11
    Ok(())
}

/// There is no such pod.
pub(super) fn missing(wanted: &Wanted) -> Denial {
    Denial::new(
        Reason::PodNotFound,
        format!(
            "there is no pod {}: it was deleted since its volume asked. If it is there, compare \
             the annotation {POD_NAME} with it",
            wanted.pod()
        ),
    )
}

/// Guards against a caller that looked for another pod.
fn place(wanted: &Wanted, pod: &PodFacts) -> Result<(), Denial> {
    if pod.namespace == wanted.namespace() && pod.name == wanted.pod_name() {
        return Ok(());
    }
    Err(Denial::new(
        Reason::PodNotFound,
        format!(
            "{} was found where {} was looked for; report this as a bug of certagent",
            quote(&format!("{}/{}", pod.namespace, pod.name)),
            wanted.pod()
        ),
    ))
}

fn uid(wanted: &Wanted, pod: &PodFacts) -> Result<(), Denial> {
    if pod.uid == wanted.pod_uid() {
        return Ok(());
    }
    Err(Denial::new(
        Reason::PodNotFound,
        format!(
            "the pod {} has the UID {}, and the request is for {}: the pod was deleted and made \
             again. The new one asks for itself; nothing has to be done",
            wanted.pod(),
            quote(&pod.uid),
            wanted.pod_uid()
        ),
    ))
}

fn node(wanted: &Wanted, pod: &PodFacts) -> Result<(), Denial> {
    if pod.node_name == wanted.node() {
        return Ok(());
    }
    let place = match pod.node_name.as_str() {
        "" => "on no node yet".to_owned(),
        node => format!("on {}", quote(node)),
    };
    Err(Denial::new(
        Reason::PodOnOtherNode,
        format!(
            "the node {} asks for a certificate of the pod {}, which runs {place}. A node asks only \
             for its own pods: somebody may use that node's token. Look at the node and at the \
             driver's pod with the UID {} on it",
            quote(wanted.node()),
            wanted.pod(),
            quote(wanted.driver_pod_uid()),
        ),
    ))
}

fn service_account(wanted: &Wanted, pod: &PodFacts) -> Result<(), Denial> {
    if pod.service_account == wanted.service_account() {
        return Ok(());
    }
    Err(Denial::new(
        Reason::WrongServiceAccount,
        format!(
            "the pod {} runs as the service account {}, and the request names {}: a pod gets only \
             its own identity. Let driver and controller be of one version, and find out what asks \
             for it on the node {}",
            wanted.pod(),
            quote(&pod.service_account),
            quote(wanted.service_account()),
            quote(wanted.node()),
        ),
    ))
}

fn volume(wanted: &Wanted, pod: &PodFacts, settings: &Settings) -> Result<(), Denial> {
    if pod.csi_drivers.contains(&settings.driver_name) {
        return Ok(());
    }
    Err(Denial::new(
        Reason::PodDidNotAsk,
        format!(
            "the pod {} has no inline volume of the CSI driver {}, so it asked for no certificate. \
             If it needs one, add the volume; else find out what asks for it on the node {}",
            wanted.pod(),
            quote(&settings.driver_name),
            quote(wanted.node()),
        ),
    ))
}

/// A deletion timestamp does not count: a pod that drains for hours has to renew.
fn running(wanted: &Wanted, pod: &PodFacts) -> Result<(), Denial> {
    if !matches!(pod.phase.as_str(), "Succeeded" | "Failed") {
        return Ok(());
    }
    Err(Denial::new(
        Reason::PodFinished,
        format!(
            "the pod {} has ended ({}), and needs no certificate any more; nothing has to be done",
            wanted.pod(),
            pod.phase
        ),
    ))
}

/// A mirror pod only shows what a kubelet runs from its own files: whoever writes these would
/// choose the identity.
fn not_mirrored(wanted: &Wanted, pod: &PodFacts) -> Result<(), Denial> {
    if !pod.is_mirror {
        return Ok(());
    }
    Err(Denial::new(
        Reason::PodFinished,
        format!(
            "the pod {} is a mirror of a static pod, which has no service account of its own: run \
             it as a pod of the API server",
            wanted.pod()
        ),
    ))
}
