//! What kubelet asks for, believed as far as its own formulas bear it out.
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    api::{AccessType, NodePublishVolumeRequest, VolumeCapability},
    content::{Pod, PodVolume, ServiceAccountToken, VolumeId},
    paths::{self, Places},
};

/// What kubelet's own keys of the volume context begin with.
const OURS: &str = "csi.storage.k8s.io/";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
/// Those of them that kubelet writes beside the tokens, whatever the pod says there.
const KNOWN: [&str; 5] = [
    "ephemeral",
    "pod.name",
    "pod.namespace",
    "pod.uid",
    "serviceAccount.name",
];

/// The most entries and the longest text that a context may have. Kubelet's tokens are larger than
/// CSI's own limit of 4 KiB for a map.
const MOST_ENTRIES: usize = 64;
const LONGEST_TEXT: usize = 1024;
const LONGEST_TOKENS: usize = 64 * 1024;

/// A publish call that makes sense.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) id: VolumeId,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) volume: PodVolume,
}

/// An unpublish call that makes sense.
#[derive(Debug)]
pub(crate) struct Unpublish {
    /// None for an id that this driver never has.
    pub(crate) id: Option<VolumeId>,
    /// None if it is another volume's, which is none of this call's business.
    pub(crate) target: Option<PathBuf>,
}

/// Reads a publish call. `any_caller` is for conformance tests, whose ids and paths are not
/// kubelet's.
pub(crate) fn publish(
    request: NodePublishVolumeRequest,
    places: &Places,
    any_caller: bool,
) -> Result<Publish, String> {
    let NodePublishVolumeRequest {
        volume_id,
        target_path,
        volume_capability,
        readonly,
        secrets,
        volume_context: mut context,
    } = request;
    // Wiped whatever comes of the call.
    let secrets = secrets
        .into_iter()
        .map(|(key, value)| (key, Zeroizing::new(value)));
    let mut secrets: HashMap<_, _> = secrets.collect();
    let in_context = context.remove(TOKENS).map(Zeroizing::new);
    let id = required("volume_id", &volume_id)?;
    let target = PathBuf::from(required("target_path", &target_path)?);
    let fs_group = capability(volume_capability)?;
    check_sizes(&context)?;
    let tokens = secrets.remove(TOKENS).or(in_context);
    let (pod, name) = if any_caller {
        anybody(&target, places, &context)?
    } else {
        kubelets_own(id, &target, places, &context)?
    };
    let id = VolumeId::new(id).ok_or_else(|| format!("volume_id: {id:.100?} is no volume's id"))?;
    let tokens = match tokens {
        None => BTreeMap::new(),
        Some(text) => parse_tokens(&text)?,
    };
    let attributes = context.into_iter().filter(|(key, _)| !is_kubelets(key));
    Ok(Publish {
        id,
        target,
        read_only: readonly,
        volume: PodVolume {
            pod,
            name,
            fs_group,
            attributes: attributes.collect(),
            tokens,
        },
    })
}

fn is_kubelets(key: &str) -> bool {
    let name = key.strip_prefix(OURS);
    name.is_some_and(|name| KNOWN.contains(&name))
}

impl Publish {
    /// What a volume that is bound already is told. A newer kubelet may say more than is known here:
    /// that keeps no tokens from a pod that runs.
    pub(crate) fn of_bound(&self) -> PodVolume {
        let mut volume = self.volume.clone();
        volume.attributes.retain(|key, _| !key.starts_with(OURS));
        volume
    }
}

/// Reads an unpublish call.
pub(crate) fn unpublish(
    volume_id: &str,
    target_path: &str,
    places: &Places,
    any_caller: bool,
) -> Result<Unpublish, String> {
    let id = required("volume_id", volume_id)?;
    let target = PathBuf::from(required("target_path", target_path)?);
    let is_its_own = if any_caller {
        anywhere(&target, places)?;
        true
    } else {
        let parsed = places.parse_target(&target);
        let (uid, name) = parsed.ok_or_else(|| not_a_target(&target, places))?;
        paths::inline_volume_id(uid, name) == id
    };
    Ok(Unpublish {
        id: VolumeId::new(id),
        target: is_its_own.then_some(target),
    })
}

/// Whose volume it is, if everything that kubelet says fits together.
fn kubelets_own(
    id: &str,
    target: &Path,
    places: &Places,
    context: &HashMap<String, String>,
) -> Result<(Pod, String), String> {
    let (uid, name) = places
        .parse_target(target)
        .ok_or_else(|| not_a_target(target, places))?;
    if context
        .get("csi.storage.k8s.io/ephemeral")
        .map(String::as_str)
        != Some("true")
    {
        return Err(
            "this driver serves inline volumes of pods only (csi.storage.k8s.io/ephemeral is not \
             \"true\"): write the volume into the pod itself, and let the CSIDriver object have \
             podInfoOnMount: true and volumeLifecycleModes: [Ephemeral]"
                .to_owned(),
        );
    }
    let value = |key: &str| match context.get(&format!("{OURS}{key}")) {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        _ => Err(format!(
            "kubelet did not say the pod's {OURS}{key}; let the CSIDriver object have \
             podInfoOnMount: true"
        )),
    };
    let pod = Pod {
        name: value("pod.name")?,
        namespace: value("pod.namespace")?,
        uid: value("pod.uid")?,
        service_account: value("serviceAccount.name")?,
    };
    if pod.uid != uid {
        return Err(format!(
            "target_path is of the pod {uid:.100}, and {OURS}pod.uid is {:.100}",
            pod.uid
        ));
    }
    if id != paths::inline_volume_id(uid, name) {
        return Err(format!(
            "volume_id {id:.100?} is not the one that kubelet gives to the volume {name:.100} of \
             the pod {uid:.100}"
        ));
    }
    Ok((pod, name.to_owned()))
}

/// For conformance tests: whoever calls is somebody.
fn anybody(
    target: &Path,
    places: &Places,
    context: &HashMap<String, String>,
) -> Result<(Pod, String), String> {
    anywhere(target, places)?;
    let value = |key: &str| context.get(&format!("{OURS}{key}")).cloned();
    let pod = Pod {
        name: value("pod.name").unwrap_or_else(|| "test".to_owned()),
        namespace: value("pod.namespace").unwrap_or_else(|| "default".to_owned()),
        uid: value("pod.uid").unwrap_or_else(|| "test".to_owned()),
        service_account: value("serviceAccount.name").unwrap_or_else(|| "default".to_owned()),
    };
    Ok((pod, "test".to_owned()))
}

fn anywhere(target: &Path, places: &Places) -> Result<(), String> {
    let is_ours = target.starts_with(places.plugin()) || places.plugin().starts_with(target);
    let has_dots = target
        .components()
        .any(|part| matches!(part, std::path::Component::ParentDir));
    if !target.is_absolute() || is_ours || has_dots {
        return Err(format!(
            "target_path: {} cannot be a target",
            target.display()
        ));
    }
    Ok(())
}

fn not_a_target(target: &Path, places: &Places) -> String {
    format!(
        "target_path: {:.300} is not of the form {}/UID/volumes/kubernetes.io~csi/NAME/mount",
        target.display().to_string(),
        places.pods().display()
    )
}

fn required<'a>(field: &str, value: &'a str) -> Result<&'a str, String> {
    match value {
        "" => Err(format!("{field} is missing")),
        long if long.len() > 4096 => Err(format!("{field} is longer than 4096 bytes")),
        value => Ok(value),
    }
}

/// The volume must be a file system; gives the pod's fsGroup.
fn capability(capability: Option<VolumeCapability>) -> Result<Option<u32>, String> {
    let capability = capability.ok_or("volume_capability is missing")?;
    let mount = match capability.access_type {
        Some(AccessType::Mount(mount)) => mount,
        Some(AccessType::Block(_)) => {
            return Err("this driver has no block volumes; ask for a file system".to_owned());
        }
        None => return Err("volume_capability: neither mount nor block".to_owned()),
    };
    if capability.access_mode.is_none_or(|mode| mode.mode == 0) {
        return Err("volume_capability: access_mode is missing".to_owned());
    }
    let group = mount.volume_mount_group;
    if group.is_empty() {
        return Ok(None);
    }
    let id = group.parse().ok().filter(|id| *id != u32::MAX);
    id.map(Some)
        .ok_or_else(|| format!("volume_mount_group: {group:.40?} is no group id"))
}

fn check_sizes(context: &HashMap<String, String>) -> Result<(), String> {
    if context.len() > MOST_ENTRIES {
        return Err(format!(
            "volume_context has {} entries; at most {MOST_ENTRIES} are read",
            context.len()
        ));
    }
    for (key, value) in context {
        let most = if key == TOKENS {
            LONGEST_TOKENS
        } else {
            LONGEST_TEXT
        };
        if key.len() > LONGEST_TEXT || value.len() > most {
            return Err(format!(
                "volume_context: {key:.100?} is longer than {most} bytes"
            ));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct TokenEntry {
    token: Zeroizing<String>,
}

/// `{"AUDIENCE": {"token": "…", "expirationTimestamp": "…"}}`. When it ends, the token itself says.
fn parse_tokens(text: &str) -> Result<BTreeMap<String, ServiceAccountToken>, String> {
    if text.len() > LONGEST_TOKENS {
        return Err(format!("{TOKENS} is longer than {LONGEST_TOKENS} bytes"));
    }
    // The parser's own words may hold a part of a token.
    let entries: BTreeMap<String, TokenEntry> = serde_json::from_str(text)
        .map_err(|_holds_secrets| format!("{TOKENS} is not the JSON that kubelet sends"))?;
    let token = |entry: TokenEntry| ServiceAccountToken::new(entry.token.to_string());
    let entries = entries.into_iter();
    Ok(entries
        .map(|(audience, entry)| (audience, token(entry)))
        .collect())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
