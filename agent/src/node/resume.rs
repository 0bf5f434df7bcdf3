//! The volumes that an earlier process left: whose they are, by the record beside the data, or else
//! by the credential itself.
use std::{os::unix::fs::MetadataExt as _, path::Path};

use certagent_core::{plan, request::SubjectMode};
use certagent_csi::FoundVolume;
use certagent_svid::SpiffeId;
use tracing::warn;

use super::{NodeSettings, pod};
use crate::{
    google::PodToken,
    held::Assignment,
    volume::{PodRecord, read_record},
};

/// What the volume is assigned, with a place for its pod's token; none if nothing was issued for
/// it.
pub(super) fn assignment(
    settings: &NodeSettings,
    volume: &FoundVolume,
) -> Result<Option<(Assignment, Option<PodToken>)>, String> {
    let dir = &volume.dir;
    let recorded = match read_record(&dir.root) {
        Ok(record) => record,
        Err(problem) => {
            warn!(volume = %dir.id, %problem, "it is rebuilt from the credential");
            None
        }
    };
    let recorded = recorded.and_then(|record| {
        let spiffe_id = SpiffeId::new(&record.spiffe_id).ok()?;
        Some((spiffe_id, record.pod?))
    });
    let (spiffe_id, record) = match recorded {
        Some(recorded) => recorded,
        None => match certagent_credentials::read(&dir.data()) {
            Ok(credential) => rebuilt(volume, credential.spiffe_id().clone())?,
            // Nothing was issued for it, or nothing that could be renewed.
            Err(_) => return Ok(None),
        },
    };
    let token = (settings.subject_mode == SubjectMode::ReflectedSpiffe)
        .then(|| pod::place(&record.namespace, &record.name, &record.service_account));
    let assignment = pod::of_record(dir, spiffe_id, record, token.clone());
    Ok(Some((assignment, token)))
}

/// The pod of a volume whose record is lost: its uid by the mount, its service account by the
/// certificate, its group by the directory.
fn rebuilt(volume: &FoundVolume, spiffe_id: SpiffeId) -> Result<(SpiffeId, PodRecord), String> {
    let (namespace, service_account) = plan::workload_names(&spiffe_id).ok_or_else(|| {
        format!("the certificate in it is for {spiffe_id}, which is no service account's")
    })?;
    let target = volume.targets.first();
    let record = PodRecord {
        uid: target
            .map(|target| target.pod_uid.clone())
            .unwrap_or_default(),
        name: "of an unknown name".to_owned(),
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        fs_group: group(&volume.dir.data()),
    };
    Ok((spiffe_id, record))
}

/// The group that the directory was given to; none where everybody reads it.
fn group(data: &Path) -> Option<u32> {
    let found = std::fs::metadata(data).ok()?;
    (found.mode() & 0o005 == 0).then_some(found.gid())
}
