//! The volumes that an earlier process left: whose they are, by the record beside the data, or else
//! by the credential itself.
use std::{os::unix::fs::MetadataExt as _, path::Path};

use certagent_core::{plan, request::SubjectMode};
use certagent_csi::{ContentDir, FoundVolume};
use certagent_svid::SpiffeId;
use jiff::Timestamp;
use tracing::warn;

use super::{NodeSettings, pod};
use crate::{
    google::PodToken,
    held::{self, Assignment},
    trust::Trust,
    volume::{PodRecord, read_record},
};

/// What the record says that the volume is assigned, with a place for its pod's token.
pub(super) fn recorded(
    settings: &NodeSettings,
    dir: &ContentDir,
) -> Option<(Assignment, Option<PodToken>)> {
    let record = read_record(&dir.root);
    let record = record
        .inspect_err(|problem| warn!(volume = %dir.id, %problem))
        .ok()??;
    let spiffe_id = SpiffeId::new(&record.spiffe_id).ok()?;
    if !is_ours(settings, &spiffe_id) {
        return None;
    }
    Some(assigned(settings, dir, spiffe_id, record.pod?))
}

/// The same for a volume whose record is lost: the pod's uid by the mount, its service account by a
/// certificate that proves itself, its group by the directory.
pub(super) fn recovered(
    settings: &NodeSettings,
    volume: &FoundVolume,
    trust: &Trust,
    now: Timestamp,
) -> Result<(Assignment, Option<PodToken>), &'static str> {
    let data = volume.dir.data();
    let spiffe_id = held::recover(&data, trust, now)
        .ok_or("it has neither a record nor a credential that proves itself")?;
    if !is_ours(settings, &spiffe_id) {
        return Err("the certificate in it is of another trust domain than --trust-domain");
    }
    let names = plan::workload_names(&spiffe_id);
    let (namespace, service_account) =
        names.ok_or("the certificate in it is for no service account")?;
    let target = volume.targets.first();
    let record = PodRecord {
        uid: target
            .map(|target| target.pod_uid.clone())
            .unwrap_or_default(),
        name: "of an unknown name".to_owned(),
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        fs_group: group(&data),
    };
    Ok(assigned(settings, &volume.dir, spiffe_id, record))
}

fn is_ours(settings: &NodeSettings, spiffe_id: &SpiffeId) -> bool {
    plan::trust_domain(spiffe_id).is_some_and(|domain| domain == settings.trust_domain)
}

fn assigned(
    settings: &NodeSettings,
    dir: &ContentDir,
    spiffe_id: SpiffeId,
    pod: PodRecord,
) -> (Assignment, Option<PodToken>) {
    let token = (settings.subject_mode == SubjectMode::ReflectedSpiffe)
        .then(|| pod::place(&pod.namespace, &pod.name, &pod.service_account));
    let assignment = pod::of_record(dir, spiffe_id, pod, token.clone());
    (assignment, token)
}

/// The group that the directory was given to; none where everybody reads it.
fn group(data: &Path) -> Option<u32> {
    let found = std::fs::metadata(data).ok()?;
    (found.mode() & 0o005 == 0).then_some(found.gid())
}
