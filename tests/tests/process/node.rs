//! What kubelet does with the driver of a node, as far as volumes go: a directory like its own, pods
//! in it, and calls to the driver's socket. It wants root, and a mount namespace whose mounts are
//! shared.
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use certagent::volume::{Record, VolumeState};
use certagent_csi::api::node_client::NodeClient;
use certagent_tests::{
    GUARD, TRUST_DOMAIN,
    kubelet::{Pod, connect},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::{Status, transport::Channel};

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

    /// `certagent node` for this node, with one identity for all pods. It believes the test, and asks
    /// no API server.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.believing_nobody();
        command.arg("--unsafe-any-caller");
        command
    }

    /// The same, but it believes only what an API server vouches for.
    pub(crate) fn believing_nobody(&self) -> Command {
        let mut command = certagent("node --node-name node-1 --unsafe-node-identity");
        command.args(["--trust-domain", TRUST_DOMAIN, "--driver-name", DRIVER]);
        command.args(["--identity", "none"]);
        command.arg("--kubelet-root").arg(self.root.path());
        self.site.tell(&mut command, &self.plugin().join("state"));
        command
    }

    /// Starts the driver and waits until it serves.
    #[track_caller]
    pub(crate) fn start(&self) -> Program {
        self.start_by(&mut self.command())
    }

    /// Starts a driver and waits until it serves.
    #[track_caller]
    pub(crate) fn start_by(&self, command: &mut Command) -> Program {
        let program = Program::start(command);
        self.client();
        program
    }

    /// Gives a pod a certificate of one hour that was issued 50 minutes ago, and tells its serial; the
    /// driver does not run.
    pub(crate) fn provide_due(&self, pod: &Pod) -> String {
        self.site.set_behind(50 * 60);
        let program = self.start();
        self.publish(pod).unwrap();
        program.terminate().expect(0);
        self.site.set_behind(0);
        let state = VolumeState::at(pod.kept.clone(), false);
        let record = state.load_record().unwrap().unwrap();
        let issued_at = read_valid(&pod.target).chain().leaf().not_before();
        let record = Record {
            issued_at,
            ..record
        };
        state.save_record(&record).unwrap();
        serial(pod)
    }

    /// A pod that is about to start.
    pub(crate) fn pod(&self, uid: &str) -> Pod {
        Pod::new(self.root.path(), DRIVER, uid).unwrap()
    }

    pub(crate) fn publish(&self, pod: &Pod) -> Result<(), Status> {
        let mut client = self.client();
        let call = client.node_publish_volume(pod.publish(true));
        self.runtime.block_on(call).map(drop)
    }

    pub(crate) fn unpublish(&self, pod: &Pod) -> Result<(), Status> {
        let mut client = self.client();
        let call = client.node_unpublish_volume(pod.unpublish());
        self.runtime.block_on(call).map(drop)
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
            if let Some(channel) = self.runtime.block_on(connect(&socket)) {
                return NodeClient::new(channel);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nobody listens at {}", socket.display());
    }
}

/// The serial of the certificate that a pod reads, valid now.
#[track_caller]
pub(crate) fn serial(pod: &Pod) -> String {
    read_valid(&pod.target).chain().leaf().serial_hex()
}
