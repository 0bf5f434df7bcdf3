//! A kubelet's directory, a driver at work in it, and what fills its volumes.
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use certagent_csi::{
    ContentDir, Driver, DriverSettings, FillError, FillErrorKind, FoundVolume, PodVolume,
    Registration, VolumeContent, VolumeId,
    api::{
        AccessMode, AccessType, MountVolume, NodePublishVolumeRequest, NodeUnpublishVolumeRequest,
        VolumeCapability, node_client::NodeClient,
    },
    paths::inline_volume_id,
};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::{
    net::UnixStream,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

pub(crate) const NAME: &str = "driver.example.com";

/// Fills volumes with a file, when it may.
#[derive(Default)]
pub(crate) struct Filler {
    pub(crate) may: watch::Sender<Option<Result<(), FillError>>>,
    pub(crate) fills: AtomicUsize,
    pub(crate) dropped: Arc<AtomicUsize>,
    fails: AtomicBool,
    pub(crate) began: Notify,
    pub(crate) refreshed: Mutex<Vec<PodVolume>>,
    pub(crate) forgotten: Mutex<HashSet<VolumeId>>,
}

/// Counts fills that were dropped before their end.
pub(crate) struct Dropped(Arc<AtomicUsize>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(usize::from(!self.1), Ordering::SeqCst);
    }
}

impl VolumeContent for Filler {
    async fn fill(&self, dir: ContentDir, _pod: PodVolume) -> Result<(), FillError> {
        let mut dropped = Dropped(Arc::clone(&self.dropped), false);
        self.fills.fetch_add(1, Ordering::SeqCst);
        self.began.notify_one();
        let mut may = self.may.subscribe();
        if self.fails.swap(false, Ordering::SeqCst) {
            dropped.1 = true;
            return Err(nothing(FillErrorKind::Denied));
        }
        let result = may
            .wait_for(Option::is_some)
            .await
            .unwrap()
            .clone()
            .unwrap();
        dropped.1 = true;
        result?;
        fs::write(dir.data().join("content"), "here").unwrap();
        fs::write(dir.root.join("record"), "kept").unwrap();
        Ok(())
    }

    fn refresh(&self, _id: &VolumeId, pod: PodVolume) {
        self.refreshed.lock().unwrap().push(pod);
    }

    fn trouble(&self, _id: &VolumeId) -> Option<String> {
        Some("there is nothing yet".to_owned())
    }

    async fn forget(&self, id: &VolumeId) {
        self.forgotten.lock().unwrap().insert(id.clone());
    }
}

impl Filler {
    pub(crate) fn ready() -> Arc<Self> {
        let filler = Self::default();
        filler.may.send_replace(Some(Ok(())));
        Arc::new(filler)
    }

    pub(crate) fn failing(kind: FillErrorKind) -> Arc<Self> {
        let filler = Self::default();
        filler.may.send_replace(Some(Err(nothing(kind))));
        Arc::new(filler)
    }

    /// The next fill fails; those after it do not.
    pub(crate) fn fail_once(&self) {
        self.may.send_replace(Some(Ok(())));
        self.fails.store(true, Ordering::SeqCst);
    }
}

fn nothing(kind: FillErrorKind) -> FillError {
    let message = "there is nothing to fill it with".to_owned();
    FillError { kind, message }
}

/// A kubelet's directory.
pub(crate) struct Node {
    pub(crate) dir: TempDir,
}

/// A driver at work.
pub(crate) struct Running {
    pub(crate) cancel: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    pub(crate) registration: watch::Receiver<Registration>,
    pub(crate) node: NodeClient<Channel>,
    pub(crate) socket: PathBuf,
}

impl Node {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["pods", "plugins_registry"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn settings(&self) -> DriverSettings {
        DriverSettings {
            name: NAME.parse().unwrap(),
            kubelet_root: self.root().to_owned(),
            node_id: "node-1".to_owned(),
            version: "1.2.3".to_owned(),
            volume_size: 1 << 20,
            volume_inodes: 128,
            publish_wait: Duration::from_secs(20),
            any_caller: false,
        }
    }

    pub(crate) async fn start(&self, filler: &Arc<Filler>) -> (Running, Vec<FoundVolume>) {
        self.start_with(self.settings(), filler).await
    }

    pub(crate) async fn start_with(
        &self,
        settings: DriverSettings,
        filler: &Arc<Filler>,
    ) -> (Running, Vec<FoundVolume>) {
        let (driver, found) = Driver::open(settings).await.unwrap();
        let registration = driver.registration();
        let cancel = CancellationToken::new();
        let serve = driver.serve(Arc::clone(filler), cancel.clone());
        let served = tokio::spawn(async move { serve.await.unwrap() });
        let registry = self.root().join("plugins_registry");
        let socket = registry.join(format!("{NAME}@reg.sock"));
        let channel = channel(&self.root().join("plugins").join(NAME).join("csi.sock")).await;
        let running = Running {
            cancel,
            served,
            registration,
            node: NodeClient::new(channel),
            socket,
        };
        (running, found)
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root().join("plugins").join(NAME).join("volumes")
    }

    /// What kubelet does before it asks for a volume of a pod.
    pub(crate) fn pod(&self, uid: &str) -> Asked {
        let volume = self
            .root()
            .join(format!("pods/{uid}/volumes/kubernetes.io~csi/certs"));
        fs::create_dir_all(&volume).unwrap();
        Asked {
            id: inline_volume_id(uid, "certs"),
            uid: uid.to_owned(),
            target: volume.join("mount"),
        }
    }

    /// What the kernel says of the mounts below it: other tests mount at the same time.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = |line: &&str| line.contains(self.root().to_str().unwrap());
        mounts.lines().filter(ours).map(str::to_owned).collect()
    }

    /// Nothing of any volume is left.
    pub(crate) fn is_clean(&self) -> bool {
        let none_left = fs::read_dir(self.volumes()).unwrap().next().is_none();
        none_left && self.mounts().is_empty()
    }
}

pub(crate) async fn channel(socket: &Path) -> Channel {
    for _ in 0..500 {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        if let Ok(channel) = endpoint.connect_with_connector(connector).await {
            return channel;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody listens at {}", socket.display());
}

/// One volume of one pod.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) uid: String,
    pub(crate) target: PathBuf,
}

impl Asked {
    pub(crate) fn publish(&self, read_only: bool) -> NodePublishVolumeRequest {
        let context = [
            ("ephemeral", "true"),
            ("pod.name", "web-1"),
            ("pod.namespace", "shop"),
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

    pub(crate) fn unpublish(&self) -> NodeUnpublishVolumeRequest {
        NodeUnpublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: self.target.display().to_string(),
        }
    }

    pub(crate) fn content(&self) -> String {
        fs::read_to_string(self.target.join("content")).unwrap()
    }

    /// The options of the mount at the target, as the kernel tells them.
    pub(crate) fn options(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let target = self.target.to_str().unwrap();
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(target));
        let options = line.expect("it is mounted").split(' ').nth(5).unwrap();
        options.split(',').map(str::to_owned).collect()
    }
}

impl Running {
    pub(crate) async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        self.node
            .clone()
            .node_publish_volume(request)
            .await
            .map(drop)
    }

    pub(crate) async fn unpublish(
        &self,
        request: NodeUnpublishVolumeRequest,
    ) -> Result<(), Status> {
        self.node
            .clone()
            .node_unpublish_volume(request)
            .await
            .map(drop)
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.served.await.unwrap();
        assert!(!self.socket.exists(), "nobody is announced any more");
    }
}
