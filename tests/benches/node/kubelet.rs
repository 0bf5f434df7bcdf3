//! What kubelet does: it makes a pod's directory, and calls a driver at its socket.
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use certagent_csi::{
    api::{
        AccessMode, AccessType, InfoRequest, MountVolume, NodePublishVolumeRequest,
        NodeUnpublishVolumeRequest, VolumeCapability, node_client::NodeClient,
        registration_client::RegistrationClient,
    },
    paths::inline_volume_id,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code,
    transport::{Channel, Endpoint, Uri},
};

/// One volume of one pod.
#[derive(Clone)]
pub(crate) struct Pod {
    uid: String,
    id: String,
    pub(crate) target: PathBuf,
}

impl Pod {
    /// Makes the pod's directory below kubelet's.
    pub(crate) fn new(root: &Path, number: usize) -> Self {
        let uid = format!("00000000-0000-0000-0000-{number:012}");
        let volume = root.join(format!("pods/{uid}/volumes/kubernetes.io~csi/certs"));
        fs::create_dir_all(&volume).unwrap();
        Self {
            id: inline_volume_id(&uid, "certs"),
            uid,
            target: volume.join("mount"),
        }
    }

    pub(crate) fn many(root: &Path, count: usize) -> Vec<Self> {
        (0..count).map(|number| Self::new(root, number)).collect()
    }

    fn publish(&self) -> NodePublishVolumeRequest {
        let context = [
            ("ephemeral", "true"),
            ("pod.name", "web"),
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
            readonly: true,
            secrets: HashMap::new(),
            volume_context: context.into(),
        }
    }
}

/// A connection to a driver.
#[derive(Clone)]
pub(crate) struct Kubelet(NodeClient<Channel>);

impl Kubelet {
    pub(crate) async fn connect(socket: &Path) -> Option<Self> {
        Some(Self(NodeClient::new(channel(socket).await?)))
    }

    /// Asks for the volume until it is there: a call that waits too long ends, and is repeated.
    pub(crate) async fn publish(&self, pod: &Pod) {
        loop {
            let answer = self.0.clone().node_publish_volume(pod.publish()).await;
            match answer.map_err(|status| status.code()) {
                Err(Code::DeadlineExceeded) => {}
                answer => {
                    answer.unwrap();
                    return;
                }
            }
        }
    }

    pub(crate) async fn unpublish(&self, pod: &Pod) {
        let request = NodeUnpublishVolumeRequest {
            volume_id: pod.id.clone(),
            target_path: pod.target.display().to_string(),
        };
        self.0.clone().node_unpublish_volume(request).await.unwrap();
    }
}

/// Whether a driver announces itself at this socket.
pub(crate) async fn is_announced(socket: &Path) -> bool {
    let Some(channel) = channel(socket).await else {
        return false;
    };
    let mut client = RegistrationClient::new(channel);
    client.get_info(InfoRequest {}).await.is_ok()
}

async fn channel(socket: &Path) -> Option<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.ok()
}
