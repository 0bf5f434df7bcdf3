//! What kubelet does with the driver of a node: a directory for each pod, and calls to the driver's
//! socket.
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use certagent_csi::{
    api::{
        AccessMode, AccessType, MountVolume, NodePublishVolumeRequest, NodeUnpublishVolumeRequest,
        VolumeCapability,
    },
    paths::inline_volume_id,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// A pod of the service account `web` in the namespace `default`, with one volume.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// Its name; the uid as long as nothing else is said.
    pub name: String,
    /// The id of its volume.
    pub id: String,
    /// Where it has the volume.
    pub target: PathBuf,
    /// Where the driver has the volume.
    pub kept: PathBuf,
}

impl Pod {
    /// Makes the pod's directory below kubelet's, as kubelet does before it calls `driver`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(root: &Path, driver: &str, uid: &str) -> io::Result<Self> {
        let volume = root.join(format!("pods/{uid}/volumes/kubernetes.io~csi/certs"));
        fs::create_dir_all(&volume)?;
        let id = inline_volume_id(uid, "certs");
        Ok(Self {
            kept: root.join("plugins").join(driver).join("volumes").join(&id),
            target: volume.join("mount"),
            uid: uid.to_owned(),
            name: uid.to_owned(),
            id,
        })
    }

    /// Asks for the volume.
    pub fn publish(&self, read_only: bool) -> NodePublishVolumeRequest {
        let context = [
            ("ephemeral", "true"),
            ("pod.name", &self.name),
            ("pod.namespace", "default"),
            ("pod.uid", &self.uid),
            ("serviceAccount.name", "web"),
        ];
        let context =
            context.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.to_owned()));
        NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: self.target.display().to_string(),
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Mount(MountVolume::default())),
                access_mode: Some(AccessMode { mode: 1 }),
            }),
            readonly: read_only,
            secrets: HashMap::new(),
            volume_context: context.into(),
        }
    }

    /// Gives the volume back.
    pub fn unpublish(&self) -> NodeUnpublishVolumeRequest {
        NodeUnpublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: self.target.display().to_string(),
        }
    }
}

/// A connection to the socket of a driver; none if nobody listens.
pub async fn connect(socket: &Path) -> Option<Channel> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.ok()
}
