//! What the approval table has to know, out of what the API server says.
use std::time::Duration;

use certagent_core::approval::{CsrFacts, NEEDED_BY, POD_NAME, PodFacts};
use jiff::Timestamp;
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Pod};
use kube::ResourceExt as _;

use crate::schedule::Priority;

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

/// Who goes first while a pool's quota is used up, where certificates live for `validity`. What a node
/// says of it is believed: the most that it can take is the turn of others for the few certificates
/// that each of its pods may have.
pub(super) fn priority(
    csr: &CertificateSigningRequest,
    validity: Duration,
    now: Timestamp,
) -> Priority {
    let needed_by = csr.annotations().get(NEEDED_BY);
    let needed_by = needed_by.and_then(|text| text.parse().ok());
    needed_by.map_or(Priority::New, |end| {
        Priority::of_renewal(end, validity.try_into().unwrap_or_default(), now)
    })
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_request_is_as_urgent_as_the_certificate_that_there_is_ends_soon() {
        let now: Timestamp = "2026-11-30T10:00:00Z".parse().unwrap();
        let hour = Duration::from_secs(3600);
        let of = |needed_by: Option<String>| {
            let mut csr = CertificateSigningRequest::default();
            let annotations = csr.annotations_mut();
            annotations.extend(needed_by.map(|end| (NEEDED_BY.to_owned(), end)));
            priority(&csr, hour, now)
        };
        let ends_in = |minutes| Some((now + SignedDuration::from_mins(minutes)).to_string());
        assert_eq!(of(None), Priority::New);
        assert_eq!(of(Some("soon".to_owned())), Priority::New);
        assert_eq!(of(ends_in(30)), Priority::Routine);
        assert_eq!(of(ends_in(5)), Priority::NearExpiry);
        assert_eq!(of(ends_in(-5)), Priority::NearExpiry);
    }
}
