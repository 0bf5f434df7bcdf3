//! A node: kubelet's directory, the driver at work in it, and pods.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use certagent::{
    cas::{Endpoint, Roots},
    clock::SharedClock,
    config::ConfigFiles,
    google::IdentityChoice,
    node::NodeSettings,
    run::node::{self, ConfigSource, Issuing, NodeOptions},
    trust::Distrust,
};
use certagent_core::{config::Settings, request::SubjectMode};
use certagent_csi::{
    DriverSettings,
    api::{ProbeRequest, identity_client::IdentityClient, node_client::NodeClient},
};
use certagent_svid::{Chain, TrustDomain, layout};
use certagent_tests::{
    GUARD, Lab, TRUST_DOMAIN,
    kubelet::{Pod, connect},
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

const NAME: &str = "driver.example.com";
/// Of each volume's tmpfs.
const VOLUME_BYTES: u64 = 512 << 10;

/// A driver at work.
pub(crate) struct Node {
    pub(crate) lab: Lab,
    root: TempDir,
    channel: Channel,
    cancel: CancellationToken,
    driver: JoinHandle<Result<()>>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_waiting(GUARD).await
    }

    /// A driver whose calls wait so long for a certificate.
    pub(crate) async fn start_waiting(publish_wait: Duration) -> Self {
        let lab = Lab::new().await;
        let root = tempfile::tempdir().expect("a directory");
        for name in ["pods", "plugins_registry"] {
            fs::create_dir(root.path().join(name)).expect("a directory");
        }
        let cancel = CancellationToken::new();
        let options = options(&lab, root.path(), publish_wait);
        let driver = tokio::spawn(node::run(options, cancel.clone()));
        let socket = root.path().join("plugins").join(NAME).join("csi.sock");
        let channel = timeout(GUARD, listening(&socket)).await;
        Self {
            channel: channel.expect("the driver listens"),
            lab,
            root,
            cancel,
            driver,
        }
    }

    /// What kubelet does before it asks for a volume of a pod.
    pub(crate) fn pod(&self, uid: &str) -> Pod {
        Pod::new(self.root.path(), NAME, uid).expect("a directory")
    }

    pub(crate) async fn publish(&self, pod: &Pod) {
        let published = timeout(GUARD, self.try_publish(pod)).await;
        let published = published.expect("the driver answers");
        published.expect("the pod's volume is published");
    }

    pub(crate) async fn try_publish(&self, pod: &Pod) -> Result<(), Status> {
        let mut node = NodeClient::new(self.channel.clone());
        node.node_publish_volume(pod.publish(false)).await.map(drop)
    }

    pub(crate) async fn unpublish(&self, pod: &Pod) {
        let mut node = NodeClient::new(self.channel.clone());
        let ended = node.node_unpublish_volume(pod.unpublish()).await;
        ended.expect("an unpublish ends well whatever is in the volume");
        assert!(
            !pod.target.exists() && !pod.kept.exists(),
            "all of it is gone"
        );
    }

    /// The driver still answers.
    pub(crate) async fn probe(&self) {
        let mut identity = IdentityClient::new(self.channel.clone());
        let answer = timeout(GUARD, identity.probe(ProbeRequest {})).await;
        answer.expect("an answer").expect("the driver is ready");
        assert!(!self.driver.is_finished(), "the driver has ended");
    }

    /// Steps the clock until the pod has a certificate that is valid then.
    pub(crate) async fn until_valid(&self, pod: &Pod) {
        for _ in 0..600 {
            if is_valid(pod, self.lab.now()) {
                return;
            }
            self.lab.step(10);
            for _ in 0..50 {
                if is_valid(pod, self.lab.now()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        panic!("{} never has a valid certificate again", pod.uid);
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        let ended = self.driver.await.expect("the driver does not panic");
        ended.expect("the driver ends well");
    }
}

fn options(lab: &Lab, root: &Path, publish_wait: Duration) -> NodeOptions {
    let settings = Settings {
        trust_domain: Some(domain()),
        ..lab.settings()
    };
    NodeOptions {
        config: ConfigSource::Files(ConfigFiles::new(vec![lab.config_dir()], settings)),
        driver: DriverSettings {
            name: NAME.parse().expect("a name"),
            kubelet_root: root.to_owned(),
            node_id: "node-1".to_owned(),
            version: "1.2.3".to_owned(),
            volume_size: VOLUME_BYTES,
            volume_inodes: 256,
            publish_wait,
            // There is no API server here.
            any_caller: true,
        },
        node: NodeSettings {
            trust_domain: domain(),
            subject_mode: SubjectMode::Default,
            token_audience: None,
            by_controller: false,
        },
        issuing: Issuing::Cas {
            endpoint: Endpoint::parse(lab.endpoint()).expect("an endpoint"),
            identity: IdentityChoice::None,
            roots: Roots::none(),
            quota_share: 100,
        },
        distrust: Distrust::default(),
        adopt_foreign: false,
        kubeconfig: None,
        state_dir: None,
        admin: None,
        clock: Arc::new(lab.clock.clone()) as SharedClock,
    }
}

fn domain() -> TrustDomain {
    TrustDomain::new(TRUST_DOMAIN).expect("a trust domain")
}

async fn listening(socket: &Path) -> Channel {
    loop {
        if let Some(channel) = connect(socket).await {
            return channel;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The published certificate is valid at `now`. Reads what no pod can make a pipe of only while
/// nobody fights.
pub(crate) fn is_valid(pod: &Pod, now: jiff::Timestamp) -> bool {
    let read = fs::read(pod.target.join(layout::CERTIFICATES)).ok();
    let chain = read.and_then(|pem| Chain::parse_pem(&pem).ok());
    chain.is_some_and(|chain| chain.leaf().not_before() <= now && now <= chain.earliest_not_after())
}

/// The generation that is published.
pub(crate) fn current(pod: &Pod) -> Option<PathBuf> {
    fs::read_link(pod.target.join(layout::DATA)).ok()
}

/// Everything in a directory: names, bytes, modes, times, links, inodes.
pub(crate) fn frozen(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, [i64; 6])> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let seen = fs::symlink_metadata(&path).expect("it is there");
        let bytes = if seen.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
            Vec::new()
        } else {
            fs::read(&path).expect("a file")
        };
        let numbers = [
            i64::from(seen.mode()),
            i64::from(seen.uid()),
            seen.nlink().try_into().expect("small"),
            seen.ino().cast_signed(),
            seen.mtime(),
            seen.mtime_nsec(),
        ];
        found.insert(path, (bytes, numbers));
    }
    found
}
