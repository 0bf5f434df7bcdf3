//! What a pod's volume is to hold, by what kubelet says of the pod.
use certagent_core::{
    config::{OwnerRef, VolumeSpec},
    names::SubjectNames,
    plan,
};
use certagent_csi::{ContentDir, FillError, FillErrorKind, PodVolume};
use certagent_svid::SpiffeId;
use jiff::Timestamp;

use super::NodeSettings;
use crate::{
    google::{Caller, PodToken, SubjectToken, Token},
    held::{Assignment, Beside},
    volume::PodRecord,
};

/// The group that reads the volume, in `volumeAttributes`.
const FS_GROUP: &str = "certagent.dev/fs-group";
/// The cluster's trust domain, in `volumeAttributes`: it may only be repeated.
const TRUST_DOMAIN: &str = "certagent.dev/trust-domain";
const KNOWN: [&str; 2] = [FS_GROUP, TRUST_DOMAIN];

/// What the volume of this pod is assigned.
pub(super) fn assignment(
    settings: &NodeSettings,
    dir: &ContentDir,
    volume: &PodVolume,
    token: Option<PodToken>,
) -> Result<Assignment, FillError> {
    let fs_group = fs_group(settings, volume)?;
    let pod = &volume.pod;
    let spiffe_id = plan::workload_id(&settings.trust_domain, &pod.namespace, &pod.service_account)
        .map_err(|error| invalid(error.to_string()))?;
    let record = PodRecord {
        uid: pod.uid.clone(),
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        service_account: pod.service_account.clone(),
        fs_group,
    };
    Ok(of_record(dir, spiffe_id, record, token))
}

/// The assignment of a volume whose pod is known.
pub(super) fn of_record(
    dir: &ContentDir,
    spiffe_id: SpiffeId,
    pod: PodRecord,
    token: Option<PodToken>,
) -> Assignment {
    let path = dir.data();
    Assignment {
        spiffe_id,
        volume: volume_spec(path.display().to_string(), pod.fs_group),
        path,
        names: SubjectNames::default(),
        caller: token.map_or(Caller::Agent, |token| {
            Caller::Workload(SubjectToken::Pod(token))
        }),
        beside: Some(Beside {
            state: dir.root.clone(),
            pod,
        }),
    }
}

/// Without a group any user of the pod must be able to read, as in kubelet's Secret volumes; with
/// one only that group.
fn volume_spec(path: String, fs_group: Option<u32>) -> VolumeSpec {
    let (directory_mode, file_mode) = match fs_group {
        None => (0o755, 0o444),
        Some(_) => (0o750, 0o440),
    };
    VolumeSpec {
        path,
        owner: Some(OwnerRef::Id(0)),
        group: Some(OwnerRef::Id(fs_group.unwrap_or(0))),
        directory_mode,
        key_mode: file_mode,
        file_mode,
        allow_disk: false,
    }
}

/// The group that reads the volume: the one that the volume names, else the pod's.
fn fs_group(settings: &NodeSettings, volume: &PodVolume) -> Result<Option<u32>, FillError> {
    let unknown = volume
        .attributes
        .keys()
        .find(|key| !KNOWN.contains(&key.as_str()));
    if let Some(key) = unknown {
        return Err(invalid(format!(
            "volumeAttributes: {key:?} is not known; allowed are {}",
            KNOWN.join(" and ")
        )));
    }
    let ours = &settings.trust_domain;
    if let Some(theirs) = volume.attributes.get(TRUST_DOMAIN)
        && theirs != ours.as_str()
    {
        return Err(invalid(format!(
            "volumeAttributes: {TRUST_DOMAIN} is {theirs:?}, and this cluster's trust domain is \
             {:?}: write that, or leave the attribute out",
            ours.as_str()
        )));
    }
    let Some(text) = volume.attributes.get(FS_GROUP) else {
        return Ok(volume.fs_group);
    };
    let group = text.parse().ok().filter(|group| *group != u32::MAX);
    let group = group.ok_or_else(|| {
        invalid(format!(
            "volumeAttributes: {FS_GROUP} is {text:?}, which is no group id; write a whole number, \
             in quotes"
        ))
    })?;
    Ok(Some(group))
}

/// The place of the pod's token, with the one that came. `before` is the place that the volume has
/// already; it stays the same one.
pub(super) fn token(
    settings: &NodeSettings,
    volume: &PodVolume,
    before: Option<PodToken>,
    now: Timestamp,
) -> Result<PodToken, FillError> {
    let pod = &volume.pod;
    let place = before.unwrap_or_else(|| place(&pod.namespace, &pod.name, &pod.service_account));
    let tokens = &volume.tokens;
    let chosen = match &settings.token_audience {
        Some(audience) => tokens.get(audience),
        None if tokens.len() == 1 => tokens.values().next(),
        None => None,
    };
    let Some(chosen) = chosen else {
        return Err(invalid(no_token(settings, volume)));
    };
    let token = Token::new(chosen.expose().to_owned());
    place
        .set(&token, now)
        .map_err(|error| invalid(error.to_string()))?;
    Ok(place)
}

/// A place for the tokens of a pod.
pub(super) fn place(namespace: &str, name: &str, service_account: &str) -> PodToken {
    PodToken::new(
        format!("pod {namespace}/{name}"),
        namespace.to_owned(),
        service_account.to_owned(),
    )
}

fn no_token(settings: &NodeSettings, volume: &PodVolume) -> String {
    const OBJECT: &str = "the CSIDriver object";
    let audiences: Vec<_> = volume.tokens.keys().map(|one| format!("{one:?}")).collect();
    let audiences = audiences.join(", ");
    match (&settings.token_audience, volume.tokens.is_empty()) {
        (_, true) => format!(
            "kubelet brought no token of the pod: let {OBJECT} have tokenRequests, with the \
             audience that the workload identity provider takes"
        ),
        (Some(wanted), false) => format!(
            "kubelet brought tokens for {audiences}, and --token-audience is {wanted:?}: let it be \
             one of the audiences in tokenRequests of {OBJECT}"
        ),
        (None, false) => format!(
            "kubelet brought tokens for {audiences}: say with --token-audience which one is to be \
             exchanged"
        ),
    }
}

fn invalid(message: String) -> FillError {
    FillError {
        kind: FillErrorKind::Invalid,
        message,
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
pub(super) mod tests;
