//! The real process `certagent node` at its socket, as kubelet calls it: how long a volume takes,
//! one by one and 110 at once, against a floor measured in the same run; memory, idle CPU and
//! restart with up to 1,000 volumes.
//!
//! It mounts, so it needs root; the mounts are in a namespace of its own. `-- publish` and
//! `-- fleet` run one of the two parts. The emulator is in this process, on loopback, and neither
//! it nor the driver keeps to quotas.
//!
//! `-- csr` and `-- load` are the driver by way of the controller, and the controller under load. They
//! need an API server, which `tests/cluster/bench-controller.sh` brings, and are not run without.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and what fails in it ends it"
)]
mod cluster;
mod csr;
mod driver;
mod fleet;
mod floor;
mod kubelet;
mod load;
mod publish;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, exit},
    sync::Arc,
};

use certagent_emulator::{Emulator, EmulatorConfig, system_clock};
use certagent_tests::{LOCATION, Lab, PROJECT, TRUST_DOMAIN, serve};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Says to this program that it has a mount namespace of its own already.
const INSIDE: &str = "CERTAGENT_BENCH_INSIDE";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test --benches` is not after figures.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    if env::var_os(INSIDE).is_none() {
        inside(&arguments);
    }
    let mut names = arguments.iter().filter(|name| !name.starts_with('-'));
    let wanted = names.next().map(String::as_str);
    let runs = |name| wanted.is_none_or(|wanted| wanted == name);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = Place::new(&runtime);
    if runs("publish") {
        runtime.block_on(publish::run(&place));
    }
    if runs("fleet") {
        runtime.block_on(fleet::run(&place));
    }
    for name in ["csr", "load"] {
        if wanted == Some(name) {
            runtime.block_on(async {
                let cluster = cluster::Cluster::given(&place).await;
                match name {
                    "csr" => csr::run(&place, &cluster).await,
                    _ => load::run(&place, &cluster).await,
                }
            });
        }
    }
}

/// Runs this program again in a mount namespace of its own, and ends as it does.
#[expect(clippy::exit, reason = "it is the other process's end")]
fn inside(arguments: &[String]) -> ! {
    let again = r#"mount --make-rshared / && exec "$@""#;
    let status = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            again,
            "sh",
        ])
        .arg(env::current_exe().unwrap())
        .args(arguments)
        .env(INSIDE, "1")
        .status()
        .unwrap();
    exit(status.code().unwrap_or(1))
}

/// The CA, and where everything is.
pub(crate) struct Place {
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) endpoint: String,
    dir: TempDir,
}

impl Place {
    fn new(runtime: &tokio::runtime::Runtime) -> Self {
        let guide = EmulatorConfig::guide(PROJECT, LOCATION).unwrap();
        let emulator = Emulator::new(guide, system_clock(), None).unwrap();
        let endpoint = runtime.block_on(serve(&emulator, "127.0.0.1:0", &CancellationToken::new()));
        Self {
            emulator,
            endpoint,
            dir: tempfile::tempdir_in("/dev/shm").unwrap(),
        }
    }

    /// A directory that was not there before.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    /// The requests for certificates that the CA has seen.
    pub(crate) fn creates(&self) -> u64 {
        let stats = self.emulator.stats();
        stats.requests(certagent_emulator::Method::CreateCertificate)
    }
}

/// Writes the two objects of the guide, for certificates of 24 hours.
pub(crate) fn write_objects(directory: &Path, algorithm: &str) {
    let objects = format!(
        "apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata:
  name: default
spec:
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: {}
  keyAlgorithm: {algorithm}
  validityDurationSeconds: 86400
  rotationWindowPercentage: 50
---
apiVersion: security.cloud.google.com/v1
kind: TrustConfig
metadata:
  name: default
spec:
  trustStores:
  - trustDomain: {TRUST_DOMAIN}
    trustAnchors:
    - certificateAuthorityServiceURI: {}
",
        Lab::pool("issuing-pool"),
        Lab::pool("root-pool"),
    );
    fs::write(directory.join("objects.yaml"), objects).unwrap();
}

/// Whether a goal was met, for people.
pub(crate) fn goal(met: bool, goal: &str) -> String {
    format!("goal: {goal}, {}", if met { "met" } else { "MISSED" })
}
