//! The laboratory of the end-to-end tests: a real emulator on loopback, the real agent, a clock
//! that tests step by hand, and directories that vanish afterwards.
//!
//! Time: the emulator and the agent live by one [`ManualClock`]; sockets live by real time. Nothing
//! here sleeps: tests wait for a change of a volume's status, under a generous guard.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "all of it serves tests, where a panic is how one fails"
)]
pub mod front;
pub mod kubelet;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use certagent::{
    cas::{Endpoint, Roots},
    clock::{Clock as _, ManualClock, SharedClock},
    config::ConfigFiles,
    google::IdentityChoice,
    run::agent::{self, AgentOptions, RunningAgent},
    status::VolumeStatus,
    trust::Distrust,
};
use certagent_core::config::Settings;
use certagent_credentials::Snapshot;
use certagent_emulator::{Emulator, EmulatorConfig, FaultRule};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How long a test waits for something that must happen. Not a measure of anything.
pub const GUARD: Duration = Duration::from_secs(60);

/// The project of the laboratory's pools.
pub const PROJECT: &str = "demo-project";
/// Their location.
pub const LOCATION: &str = "us-central1";
/// The trust domain of its workloads.
pub const TRUST_DOMAIN: &str = "demo-project.svc.id.goog";

/// An emulator, a configuration and a place for volumes.
pub struct Lab {
    /// The emulator, for faults and counts.
    pub emulator: Arc<Emulator>,
    /// The clock of the emulator and of the agents.
    pub clock: ManualClock,
    endpoint: String,
    dir: TempDir,
    stop: CancellationToken,
}

/// What the laboratory's `WorkloadCertificateConfig` says.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `keyAlgorithm`, as YAML in flow style.
    pub key_algorithm: String,
    /// `validityDurationSeconds`.
    pub validity: u64,
    /// `rotationWindowPercentage`.
    pub rotation_window: u8,
    /// Ids of the fallback pools.
    pub fallbacks: Vec<String>,
    /// The annotation `certagent.dev/rotate-after`.
    pub rotate_after: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            key_algorithm: "{ecdsa: {curve: P256}}".to_owned(),
            validity: 60,
            rotation_window: 50,
            fallbacks: Vec::new(),
            rotate_after: None,
        }
    }
}

impl Lab {
    /// The guide's two pools, at a fixed moment.
    pub async fn new() -> Self {
        Self::with(EmulatorConfig::guide(PROJECT, LOCATION).expect("valid names")).await
    }

    /// These pools.
    pub async fn with(config: EmulatorConfig) -> Self {
        let start: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a timestamp");
        let clock = ManualClock::new(start);
        let emulator = Emulator::new(config, clock_of(&clock), None).expect("an emulator");
        // In memory, where there is any: a disk makes every write of a volume wait.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a directory");
        for part in ["config", "state", "volumes"] {
            std::fs::create_dir(dir.path().join(part)).expect("a directory");
        }
        let stop = CancellationToken::new();
        let endpoint = serve(&emulator, "127.0.0.1:0", &stop).await;
        let lab = Self {
            emulator,
            clock,
            endpoint,
            dir,
            stop,
        };
        lab.write_policy(&Policy::default());
        lab.write_trust();
        lab
    }

    /// `http://127.0.0.1:PORT` of the emulator.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The laboratory's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory of the configuration.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The directory of a volume, which [`Lab::write_workload`] makes.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join("volumes").join(name)
    }

    /// The `//` name of a pool.
    pub fn pool(id: &str) -> String {
        format!("//privateca.googleapis.com/projects/{PROJECT}/locations/{LOCATION}/caPools/{id}")
    }

    /// Writes the `WorkloadCertificateConfig`.
    pub fn write_policy(&self, policy: &Policy) {
        let mut fallbacks = String::new();
        for (index, id) in policy.fallbacks.iter().enumerate() {
            if index == 0 {
                fallbacks += "\n      fallbackURIs:";
            }
            fallbacks += "\n      - ";
            fallbacks += &Self::pool(id);
        }
        let annotations = policy
            .rotate_after
            .as_ref()
            .map(|after| format!("\n  annotations: {{certagent.dev/rotate-after: {after:?}}}"));
        let annotations = annotations.unwrap_or_default();
        self.write_config(
            "WorkloadCertificateConfig.yaml",
            &format!(
                "apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata:
  name: default{annotations}
spec:
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: {}{fallbacks}
  keyAlgorithm: {}
  validityDurationSeconds: {}
  rotationWindowPercentage: {}
",
                Self::pool("issuing-pool"),
                policy.key_algorithm,
                policy.validity,
                policy.rotation_window
            ),
        );
    }

    /// Writes the `TrustConfig`: the root pool.
    pub fn write_trust(&self) {
        self.write_trust_of(&["root-pool"]);
    }

    /// Writes a `TrustConfig` of these pools.
    pub fn write_trust_of(&self, pools: &[&str]) {
        let mut anchors = String::new();
        for id in pools {
            anchors += "\n    - certificateAuthorityServiceURI: ";
            anchors += &Self::pool(id);
        }
        self.write_config(
            "TrustConfig.yaml",
            &format!(
                "apiVersion: security.cloud.google.com/v1
kind: TrustConfig
metadata:
  name: default
spec:
  trustStores:
  - trustDomain: {TRUST_DOMAIN}
    trustAnchors:{anchors}
"
            ),
        );
    }

    /// Writes a `Workload` of this name, service account and volume, and makes the volume.
    pub fn write_workload(&self, name: &str) {
        std::fs::create_dir_all(self.volume(name)).expect("a directory");
        let path = self.volume(name);
        self.write_config(&format!("workload-{name}.yaml"), &workload(name, &path));
    }

    /// Writes a file of the configuration, by rename as editors do.
    pub fn write_config(&self, name: &str, text: &str) {
        let target = self.config_dir().join(name);
        let temporary = self.dir.path().join("edited");
        std::fs::write(&temporary, text).expect("written");
        std::fs::rename(&temporary, target).expect("renamed");
    }

    /// What the configuration is read with: lifetimes may be as short as a test likes.
    pub fn settings(&self) -> Settings {
        Settings {
            lift_minimums: true,
            ..Settings::default()
        }
    }

    /// What `certagent run` would be told.
    pub fn options(&self) -> AgentOptions {
        AgentOptions {
            config: ConfigFiles::new(vec![self.config_dir()], self.settings()),
            endpoint: Endpoint::parse(&self.endpoint).expect("an endpoint"),
            identity: IdentityChoice::None,
            roots: Roots::none(),
            distrust: Distrust::default(),
            state_dir: self.state_dir(),
            allow_disk: true,
            admin: Some(([127, 0, 0, 1], 0).into()),
            quota_share: 100,
            clock: Arc::new(self.clock.clone()) as SharedClock,
        }
    }

    /// Starts an agent.
    pub async fn agent(&self) -> RunningAgent {
        self.agent_with(self.options()).await
    }

    /// Starts an agent with other options than [`Lab::options`].
    pub async fn agent_with(&self, options: AgentOptions) -> RunningAgent {
        agent::start(options, CancellationToken::new())
            .await
            .expect("the agent starts")
    }

    /// Lets the emulator do these things wrong.
    pub fn faults(&self, rules: impl IntoIterator<Item = FaultRule>) {
        self.emulator.set_faults(rules.into_iter().collect());
    }

    /// What is in a volume now, read as a workload reads it.
    pub fn read(&self, name: &str) -> Snapshot {
        certagent_credentials::read(self.volume(name)).expect("a credential")
    }

    /// Steps the clock.
    pub fn step(&self, seconds: i64) {
        self.clock.step(SignedDuration::from_secs(seconds));
    }

    /// The time in the laboratory.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Serves an emulator until `stop`, and gives its URL.
pub async fn serve(emulator: &Arc<Emulator>, address: &str, stop: &CancellationToken) -> String {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (emulator, stop) = (Arc::clone(emulator), stop.clone());
    tokio::spawn(async move {
        certagent_emulator::serve(emulator, listener, stop.cancelled_owned())
            .await
            .expect("served");
    });
    endpoint
}

/// The emulator's view of a clock.
pub fn clock_of(clock: &ManualClock) -> certagent_emulator::Clock {
    let clock = clock.clone();
    Arc::new(move || clock.now())
}

/// A `Workload` document whose volume may be on a disk.
pub fn workload(name: &str, volume: &Path) -> String {
    format!(
        "apiVersion: certagent.dev/v1alpha1
kind: Workload
metadata:
  name: {name}
spec:
  namespace: default
  serviceAccount: {name}
  volume:
    path: {}
    allowDisk: true
",
        volume.display()
    )
}

/// Waits until the statuses of an agent's volumes are as wanted, and gives them.
pub async fn until(
    agent: &RunningAgent,
    wanted: impl Fn(&[VolumeStatus]) -> bool,
) -> Vec<VolumeStatus> {
    let look = async {
        loop {
            let changed = agent.volumes().changed();
            let statuses = agent.statuses();
            if wanted(&statuses) {
                return statuses;
            }
            changed.await;
        }
    };
    let found = tokio::time::timeout(GUARD, look).await;
    found.unwrap_or_else(|_too_long| panic!("it never came to that: {:#?}", agent.statuses()))
}

/// Every volume has a certificate, and none failed.
pub fn all_ready(statuses: &[VolumeStatus]) -> bool {
    !statuses.is_empty()
        && statuses
            .iter()
            .all(|status| status.certificate.is_some() && status.failures == 0)
}
