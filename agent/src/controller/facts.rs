//! What the approval table has to know, out of what the API server says.
use certagent_core::approval::{CsrFacts, POD_NAME, PodFacts};
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Pod};
use kube::ResourceExt as _;

/// What kubelet writes at the pods that are no objects of the API server's own.
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn of_csr(csr: &CertificateSigningRequest) -> CsrFacts {
    CsrFacts {
        name: csr.name_any(),
        uid: csr.uid().unwrap_or_default(),
        pod_name: csr.annotations().get(POD_NAME).cloned(),
        signer_name: csr.spec.signer_name.clone(),
        username: csr.spec.username.clone().unwrap_or_default(),
        extra: csr.spec.extra.clone().unwrap_or_default(),
        usages: csr.spec.usages.clone().unwrap_or_default(),
        request: csr.spec.request.0.clone(),
    }
}

pub(super) fn of_pod(pod: &Pod) -> PodFacts {
    let spec = pod.spec.as_ref();
    let volumes = spec.and_then(|spec| spec.volumes.as_deref());
    let drivers = volumes.unwrap_or_default().iter();
    let drivers = drivers.filter_map(|volume| Some(volume.csi.as_ref()?.driver.clone()));
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    PodFacts {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        node_name: spec
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        service_account: spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        phase: phase.unwrap_or_default(),
        is_mirror: pod.annotations().contains_key(MIRROR),
        csi_drivers: drivers.collect(),
    }
}
