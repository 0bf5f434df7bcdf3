//! What kubelet does with the driver of a node, as far as volumes go: a directory like its own, pods
//! in it, and calls to the driver's socket. It wants root, and a mount namespace whose mounts are
//! shared.
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use certagent_credentials::Snapshot;
use certagent_csi::{
    api::{
        AccessMode, AccessType, MountVolume, NodePublishVolumeRequest, NodeUnpublishVolumeRequest,
        VolumeCapability, node_client::NodeClient,
    },
    paths::inline_volume_id,
};
use certagent_tests::{GUARD, TRUST_DOMAIN};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    program::{Program, certagent},
    site::{Site, read_valid},
};

const DRIVER: &str = "driver.example.com";

/// A node without a kubelet: the test does what that does.
pub(crate) struct Node<'a> {
    site: &'a Site,
    root: TempDir,
    runtime: Runtime,
}

/// The volume of a pod.
pub(crate) struct Volume {
    id: String,
    uid: String,
    target: PathBuf,
}

impl<'a> Node<'a> {
    pub(crate) fn new(site: &'a Site) -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["pods", "plugins_registry"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        // With a thread of its own, so that connections are served also between two calls.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            site,
            root,
            runtime,
        }
    }

    /// `certagent node` for this node, with one identity for all pods.
    pub(crate) fn command(&self) -> Command {
        let mut command = certagent("node --node-name node-1 --unsafe-node-identity");
        command.args(["--trust-domain", TRUST_DOMAIN, "--driver-name", DRIVER]);
        command.args(["--identity", "none", "--unsafe-any-caller"]);
        command.arg("--kubelet-root").arg(self.root.path());
        self.site.tell(&mut command, &self.plugin().join("state"));
        command
    }

    /// Starts the driver and waits until it serves.
    #[track_caller]
    pub(crate) fn start(&self) -> Program {
        let program = Program::start(&mut self.command());
        self.client();
        program
    }

    /// A pod that is about to start.
    pub(crate) fn pod(&self, uid: &str) -> Volume {
        let volumes = format!("pods/{uid}/volumes/kubernetes.io~csi/certs");
        let volumes = self.root.path().join(volumes);
        fs::create_dir_all(&volumes).unwrap();
        Volume {
            id: inline_volume_id(uid, "certs"),
            uid: uid.to_owned(),
            target: volumes.join("mount"),
        }
    }

    pub(crate) fn publish(&self, volume: &Volume) -> Result<(), Status> {
        let mut client = self.client();
        let call = client.node_publish_volume(volume.publish());
        self.runtime.block_on(call).map(drop)
    }

    pub(crate) fn unpublish(&self, volume: &Volume) -> Result<(), Status> {
        let mut client = self.client();
        let call = client.node_unpublish_volume(NodeUnpublishVolumeRequest {
            volume_id: volume.id.clone(),
            target_path: volume.target.display().to_string(),
        });
        self.runtime.block_on(call).map(drop)
    }

    /// Where the driver keeps what it knows of a volume.
    pub(crate) fn kept(&self, volume: &Volume) -> PathBuf {
        self.plugin().join("volumes").join(&volume.id)
    }

    /// Neither a mount nor a directory is left of any volume.
    #[track_caller]
    pub(crate) fn assert_clean(&self, case: &str) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.root.path().to_str().unwrap();
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(root)).collect();
        assert!(left.is_empty(), "{case}: {left:#?}");
        let left = fs::read_dir(self.plugin().join("volumes")).unwrap().count();
        assert_eq!(left, 0, "{case}: directories of volumes are left");
    }

    fn plugin(&self) -> PathBuf {
        self.root.path().join("plugins").join(DRIVER)
    }

    fn client(&self) -> NodeClient<Channel> {
        let socket = self.plugin().join("csi.sock");
        let began = Instant::now();
        while began.elapsed() < GUARD {
            if let Some(channel) = self.runtime.block_on(channel(&socket)) {
                return NodeClient::new(channel);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nobody listens at {}", socket.display());
    }
}

async fn channel(socket: &Path) -> Option<Channel> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.ok()
}

impl Volume {
    /// What the pod reads, valid now.
    #[track_caller]
    pub(crate) fn read(&self) -> Snapshot {
        read_valid(&self.target)
    }

    /// The serial of the certificate that the pod reads.
    #[track_caller]
    pub(crate) fn serial(&self) -> String {
        self.read().chain().leaf().serial_hex()
    }

    fn publish(&self) -> NodePublishVolumeRequest {
        let context = [
            ("ephemeral", "true"),
            ("pod.name", "web-1"),
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
