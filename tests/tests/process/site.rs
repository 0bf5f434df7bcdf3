//! An emulator in the test process, and the directories for an agent in a process of its own.
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use certagent::volume::{Record, StateDir, VolumeId};
use certagent_core::{
    algorithm::KeyAlgorithm,
    config::{GuideParams, render_trust_config, render_workload_certificate_config},
};
use certagent_credentials::Snapshot;
use certagent_emulator::{CaKey, Emulator, EmulatorConfig, IdentityConfig, PoolName, Tier};
use certagent_svid::TrustDomain;
use certagent_tests::{LOCATION, Lab, PROJECT, TRUST_DOMAIN, serve};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::program::{Ended, Program, certagent, run};

/// The service account of the site's workload.
const WORKLOAD: &str = "web";

/// A place where the agent can be run.
pub(crate) struct Site {
    /// For faults and counts.
    pub(crate) emulator: Arc<Emulator>,
    endpoint: String,
    behind: Arc<AtomicI64>,
    dir: TempDir,
    // Last: it ends the emulator's server.
    _runtime: Runtime,
}

impl Site {
    /// The guide's pools and objects, and an empty volume.
    pub(crate) fn new() -> Self {
        Self::with(KeyAlgorithm::EcdsaP256, CaKey::EcP256)
    }

    /// The same with these kinds of keys, for workloads and CAs.
    pub(crate) fn with(algorithm: KeyAlgorithm, ca: CaKey) -> Self {
        let site = Self::of(guide().with_ca_key(ca));
        site.write_objects(algorithm, 3600);
        site
    }

    /// The guide's pools, the issuing one of this tier, and another below the same root to fall
    /// back to.
    pub(crate) fn with_fallback(tier: Tier) -> Self {
        let mut config = guide();
        config.pools[1].tier = tier;
        let mut second = config.pools[1].clone();
        second.name = PoolName::new(PROJECT, LOCATION, "second-pool").expect("a name");
        config.pools.push(second);
        let site = Self::of(config);
        site.write_documents(&GuideParams {
            fallback_pools: vec![Lab::pool("second-pool").parse().expect("a pool")],
            ..params(KeyAlgorithm::EcdsaP256, 3600)
        });
        site
    }

    /// The guide's pools and objects for these callers.
    pub(crate) fn with_identities(identities: IdentityConfig) -> Self {
        let site = Self::of(guide().with_identities(identities));
        site.write_objects(KeyAlgorithm::EcdsaP256, 3600);
        site
    }

    /// These pools, without objects.
    fn of(config: EmulatorConfig) -> Self {
        let behind = Arc::new(AtomicI64::new(0));
        let clock = {
            let (system, behind) = (certagent_emulator::system_clock(), Arc::clone(&behind));
            Arc::new(move || system() - SignedDuration::from_secs(behind.load(Ordering::SeqCst)))
        };
        // The CAs are older than what they will sign with a clock that is behind.
        behind.store(2 * 3600, Ordering::SeqCst);
        let emulator = Emulator::new(config, clock, None).expect("an emulator");
        behind.store(0, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let endpoint = runtime.block_on(serve(&emulator, "127.0.0.1:0", &CancellationToken::new()));
        let dir = tempfile::tempdir().expect("a directory");
        for part in ["config", "state", "volume"] {
            fs::create_dir(dir.path().join(part)).expect("a directory");
        }
        let site = Self {
            emulator,
            endpoint,
            behind,
            dir,
            _runtime: runtime,
        };
        fs::set_permissions(site.state_dir(), fs::Permissions::from_mode(0o700)).expect("a mode");
        site
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn config_dir(&self) -> PathBuf {
        self.path().join("config")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn volume(&self) -> PathBuf {
        self.path().join("volume")
    }

    /// Lets the emulator's clock be so far behind from now on.
    pub(crate) fn set_behind(&self, seconds: i64) {
        self.behind.store(seconds, Ordering::SeqCst);
    }

    pub(crate) fn write_objects(&self, algorithm: KeyAlgorithm, validity_seconds: u64) {
        self.write_documents(&params(algorithm, validity_seconds));
    }

    fn write_documents(&self, params: &GuideParams) {
        self.write(
            "certificates.yaml",
            &render_workload_certificate_config(params),
        );
        self.write("trust.yaml", &render_trust_config(params));
    }

    /// Writes a file of the configuration, by rename as editors do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let edited = self.path().join("edited");
        fs::write(&edited, text).expect("written");
        fs::rename(edited, self.config_dir().join(name)).expect("renamed");
    }

    /// `certagent run` for the site's configuration, state, and emulator, but without a volume.
    pub(crate) fn agent(&self) -> Command {
        let mut command = certagent("run --allow-disk");
        self.tell(&mut command, &self.state_dir());
        command
    }

    /// Adds the site's configuration, emulator, and a state directory to a command.
    pub(crate) fn tell(&self, command: &mut Command, state: &Path) {
        command.arg("--config").arg(self.config_dir());
        command.args(["--ca-endpoint", &self.endpoint]);
        command.arg("--state-dir").arg(state);
    }

    /// `certagent run` for the site's volume.
    pub(crate) fn run(&self) -> Command {
        supply(self.agent(), &self.volume())
    }

    /// `certagent run --once` for the site's volume.
    pub(crate) fn once(&self) -> Command {
        let mut command = self.run();
        command.arg("--once");
        command
    }

    /// Starts the agent.
    pub(crate) fn start(&self) -> Program {
        Program::start(&mut self.run())
    }

    /// Supplies the volume once, which must succeed.
    #[track_caller]
    pub(crate) fn provide(&self) -> Ended {
        run(&mut self.once()).expect(0)
    }

    /// Supplies the volume, and makes the certificate's renewal due: it was issued 50 minutes ago
    /// for one hour, and so says the record.
    #[track_caller]
    pub(crate) fn provide_due(&self) {
        self.set_behind(50 * 60);
        self.provide();
        self.set_behind(0);
        let state = StateDir::open(&self.state_dir(), true).expect("nobody else uses it");
        let volume = self.volume().canonicalize().expect("a path");
        let state = state.volume(&VolumeId::of(&volume));
        let record = state.load_record().expect("a record").expect("a record");
        let issued_at = self.read().chain().leaf().not_before();
        state
            .save_record(&Record {
                issued_at,
                ..record
            })
            .expect("saved");
    }

    /// What is in the volume, read as a workload reads it, and valid now.
    #[track_caller]
    pub(crate) fn read(&self) -> Snapshot {
        read_valid(&self.volume())
    }

    /// The serial of the certificate in the volume.
    #[track_caller]
    pub(crate) fn serial(&self) -> String {
        self.read().chain().leaf().serial_hex()
    }

    /// The certificates that were sold, oldest first.
    pub(crate) fn sold(&self) -> Vec<String> {
        self.emulator.sold_serials()
    }
}

fn guide() -> EmulatorConfig {
    EmulatorConfig::guide(PROJECT, LOCATION).expect("valid names")
}

pub(crate) fn params(algorithm: KeyAlgorithm, validity_seconds: u64) -> GuideParams {
    GuideParams {
        issuing_pool: Lab::pool("issuing-pool").parse().expect("a pool"),
        fallback_pools: Vec::new(),
        root_pools: vec![Lab::pool("root-pool").parse().expect("a pool")],
        trust_domain: TrustDomain::new(TRUST_DOMAIN).expect("a trust domain"),
        algorithm,
        validity_seconds,
        rotation_window_percentage: 50,
    }
}

/// Tells a `certagent run` for which volume it is.
pub(crate) fn supply(mut command: Command, volume: &Path) -> Command {
    command.arg("--volume").arg(volume);
    command.args(["--namespace", "default", "--service-account", WORKLOAD]);
    command
}

/// A credential that a workload can use now.
#[track_caller]
pub(crate) fn read_valid(volume: &Path) -> Snapshot {
    let snapshot = certagent_credentials::read(volume).expect("a whole credential");
    snapshot
        .verify(webpki::ALL_VERIFICATION_ALGS, now())
        .expect("a valid credential");
    snapshot
}

/// The machine's time, as the program under test sees it.
pub(crate) fn now() -> Timestamp {
    certagent_emulator::system_clock()()
}
