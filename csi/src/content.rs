//! The seam: what a driver asks of whoever fills its volumes.
use std::{collections::BTreeMap, fmt, path::PathBuf};

use zeroize::Zeroizing;

/// Fills volumes. The driver mounts and binds them, and knows nothing of what is inside.
pub trait VolumeContent: Send + Sync + 'static {
    /// Resolves when the content is complete and may be bound into the pod. Dropping the future
    /// cancels the wait, not the work.
    ///
    /// It may be called again for a volume that is being filled or is full: it then waits for the
    /// same work, with the newer pod information in force.
    fn fill(
        &self,
        dir: ContentDir,
        pod: PodVolume,
    ) -> impl Future<Output = Result<(), FillError>> + Send;

    /// New pod information for a volume that is already bound. Has no error on purpose: where
    /// kubelet is told of one it may take the volume away from a running pod (kubernetes#121271).
    fn refresh(&self, id: &VolumeId, pod: PodVolume);

    /// What is in the way of a volume that is being filled, for the event of its pod; none if
    /// nothing has failed so far. It holds no secret.
    fn trouble(&self, id: &VolumeId) -> Option<String>;

    /// Ends the work on a volume. When it resolves no file of the volume is open any more, so that
    /// it can be unmounted. A volume that is not known is no error.
    fn forget(&self, id: &VolumeId) -> impl Future<Output = ()> + Send;
}

/// The id that kubelet gives to a volume: one path component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeId(String);

impl VolumeId {
    /// Takes an id that can be a directory's name: 1 to 128 of letters, digits, `-`, `_` and `.`,
    /// the first of them a letter or digit.
    pub fn new(id: &str) -> Option<Self> {
        let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let first = id.bytes().next()?;
        let is_name = first.is_ascii_alphanumeric() && id.len() <= 128 && id.bytes().all(is_part);
        is_name.then(|| Self(id.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A volume's tmpfs, mounted below the driver's own directory, where no pod can look.
///
/// Its part [`ContentDir::data`] is what the pod will see. A pod can change what is *in* that
/// part, but neither replace it nor reach anything beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentDir {
    /// The volume.
    pub id: VolumeId,
    /// Where the tmpfs is mounted, absolute. What the content's owner keeps for itself goes here.
    pub root: PathBuf,
}

impl ContentDir {
    /// The directory that is bound into the pod. It exists.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }
}

/// Which pod a volume is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
}

/// What kubelet says of a volume and its pod, as far as it was checked by kubelet's own formulas.
#[derive(Clone, Debug)]
pub struct PodVolume {
    /// The pod.
    pub pod: Pod,
    /// The volume's name in the pod.
    pub name: String,
    /// The pod's `fsGroup`, where kubelet leaves it to the driver (`VOLUME_MOUNT_GROUP`).
    pub fs_group: Option<u32>,
    /// The pod's own `volumeAttributes`; nothing that kubelet is known to add is among them.
    pub attributes: BTreeMap<String, String>,
    /// The pod's tokens by audience, where the `CSIDriver` object asks for some.
    pub tokens: BTreeMap<String, ServiceAccountToken>,
}

/// A pod's own token. It is wiped when dropped and never printed.
#[derive(Clone)]
pub struct ServiceAccountToken(Zeroizing<String>);

impl ServiceAccountToken {
    /// Takes a token over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for whoever it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ServiceAccountToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccountToken(..)")
    }
}

/// Why a volume has no content. Nothing is under way for it any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FillError {
    /// What kind of reason it is.
    pub kind: FillErrorKind,
    /// What, where, why, and the next step, for a pod's event. No secret is in it.
    pub message: String,
}

/// The kinds of reason. What gRPC makes of them is decided in one place, `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FillErrorKind {
    /// The pod asks for something that cannot be, or says something of itself that is not so.
    Invalid,
    /// Nobody can have this content before an operator changes something; in the words that GKE's
    /// users know: "unable to create volume".
    Denied,
    /// It is not known yet whether the volume may be filled; worth another try soon.
    Unavailable,
}
