//! The real process `certagent run` with 1, 100 and 1,000 workloads: memory, idle CPU, and how
//! fast and with how many requests it starts, with the quota of its pool and without.
//!
//! The emulator is in this process, on loopback; certificates live for 24 hours, so that nothing
//! is due while it is measured.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and what fails in it ends it"
)]
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use certagent::volume::StateDir;
use certagent_emulator::{Emulator, EmulatorConfig, Method, Stats, system_clock};
use certagent_tests::{LOCATION, Lab, PROJECT, TRUST_DOMAIN, serve, workload};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// MiB in use with 100 workloads.
const GOAL_AT_100: f64 = 20.0;
/// KiB more for each further workload.
const GOAL_EACH: f64 = 16.0;
/// Percent of a core while nothing is due, with 1,000 workloads.
const GOAL_IDLE: f64 = 0.5;
/// From the start until all of 1,000 volumes that are there already are ready.
const GOAL_RESTART: Duration = Duration::from_secs(1);

/// How long the idle process is watched.
const IDLE: Duration = Duration::from_secs(60);
/// After the start, until memory is looked at.
const SETTLE: Duration = Duration::from_secs(3);
/// A start that takes longer has failed.
const LONGEST_START: Duration = Duration::from_secs(180);
/// In which the kernel shows CPU times: the same on every architecture that matters.
const TICKS_PER_SECOND: f64 = 100.0;

/// How often the start with volumes is repeated.
const RESTARTS: usize = 5;

/// Certificates a second of the guide's issuing pool: one CA of the tier DEVOPS.
const RATE: f64 = 25.0;

/// Whether the agent keeps to the quota of its pool.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quota {
    Kept,
    Lifted,
}

fn main() {
    // `cargo test --benches` is not after figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let guide = EmulatorConfig::guide(PROJECT, LOCATION).unwrap();
    let emulator = Emulator::new(guide, system_clock(), None).unwrap();
    let endpoint = runtime.block_on(serve(&emulator, "127.0.0.1:0", &CancellationToken::new()));
    let place = Place::find();

    let mut memory = Vec::new();
    for count in [1, 100, 1000] {
        println!("\n{count} workloads");
        let fleet = |name: &str| Fleet::new(&place, name, count, &endpoint, &emulator);
        let without = (count == 1000).then(|| {
            let fleet = fleet("without");
            let agent = fleet.start("first start without the quota", Quota::Lifted);
            let took = agent.ready_after;
            agent.stop();
            fs::remove_dir_all(&fleet.dir).unwrap();
            took
        });
        let fleet = fleet("with");
        let agent = fleet.start("first start", Quota::Kept);
        if let Some(without) = without {
            compare(agent.ready_after, without, count);
        }
        sleep(SETTLE);
        let used = agent.memory();
        println!("  memory: {used}");
        memory.push(used.rss);
        if count == 1000 {
            agent.watch_idle();
            println!("  memory after that: {}", agent.memory());
            agent.stop();
            fleet.restart();
        } else {
            agent.stop();
        }
    }
    if let [_, hundred, thousand] = memory[..] {
        let each = (thousand - hundred) * 1024.0 / 900.0;
        println!(
            "\nRSS with 100 workloads: {hundred:.1} MiB ({})",
            goal(
                hundred < GOAL_AT_100,
                &format!("under {GOAL_AT_100:.0} MiB")
            )
        );
        println!(
            "RSS for each further one, to 1,000: {each:.1} KiB ({})",
            goal(each < GOAL_EACH, &format!("under {GOAL_EACH:.0} KiB"))
        );
    }
}

/// What the quota makes of a first start.
fn compare(with: Duration, without: Duration, count: usize) {
    // The first second's worth goes at once.
    let least = (f64::from(u32::try_from(count).unwrap()) - RATE) / RATE;
    println!(
        "  the quota makes the first start {:.1} times as long; it alone takes {least:.1} s of {:.1} s ({:.1}%)",
        with.as_secs_f64() / without.as_secs_f64(),
        with.as_secs_f64(),
        100.0 * least / with.as_secs_f64(),
    );
}

fn goal(met: bool, goal: &str) -> String {
    format!("goal: {goal}, {}", if met { "met" } else { "MISSED" })
}

/// Where the files of all fleets are.
struct Place {
    dir: TempDir,
    on_disk: bool,
}

impl Place {
    /// Somewhere in memory, as volumes are in earnest.
    fn find() -> Self {
        if let Ok(dir) = tempfile::tempdir_in("/dev/shm")
            && StateDir::open(&dir.path().join("trial"), false).is_ok()
        {
            println!("the files are in memory, below /dev/shm");
            let on_disk = false;
            return Self { dir, on_disk };
        }
        let dir = tempfile::tempdir().unwrap();
        println!(
            "THE FILES ARE ON A DISK, below {}: its speed is in the figures",
            dir.path().display()
        );
        let on_disk = true;
        Self { dir, on_disk }
    }
}

/// Workloads with their volumes, and the CA.
struct Fleet {
    dir: PathBuf,
    on_disk: bool,
    endpoint: String,
    emulator: Arc<Emulator>,
}

impl Fleet {
    fn new(
        place: &Place,
        name: &str,
        count: usize,
        endpoint: &str,
        emulator: &Arc<Emulator>,
    ) -> Self {
        let dir = place.dir.path().join(format!("{count}-{name}"));
        fs::create_dir_all(dir.join("config")).unwrap();
        let mut workloads = String::new();
        for index in 0..count {
            let name = format!("workload-{index}");
            let volume = dir.join("volumes").join(&name);
            fs::create_dir_all(&volume).unwrap();
            writeln!(workloads, "---\n{}", workload(&name, &volume)).unwrap();
        }
        fs::write(dir.join("config/objects.yaml"), objects()).unwrap();
        fs::write(dir.join("config/workloads.yaml"), workloads).unwrap();
        Self {
            dir,
            on_disk: place.on_disk,
            endpoint: endpoint.to_owned(),
            emulator: Arc::clone(emulator),
        }
    }

    /// Starts the agent, waits until it says that every volume is ready, and prints what that
    /// took.
    fn start(&self, what: &str, quota: Quota) -> Agent {
        let before = self.emulator.stats();
        let agent = Agent::start(self, quota);
        let after = self.emulator.stats();
        println!(
            "  {what}: ready after {:.0} ms, {}",
            millis(agent.ready_after),
            requests(&before, &after)
        );
        agent
    }

    /// The agent begins anew with volumes that are all there.
    fn restart(&self) {
        let before = self.emulator.stats();
        let mut times = Vec::new();
        for _ in 0..RESTARTS {
            let agent = Agent::start(self, Quota::Kept);
            times.push(agent.ready_after);
            if times.len() == RESTARTS {
                sleep(SETTLE);
                println!("  memory after a restart: {}", agent.memory());
            }
            agent.stop();
        }
        let after = self.emulator.stats();
        times.sort_unstable();
        let median = times[RESTARTS / 2];
        let bought = after.total_sold() - before.total_sold();
        println!(
            "  restart: ready after {:.0} ms, median of {RESTARTS} ({}); in all of them {} ({})",
            millis(median),
            goal(median < GOAL_RESTART, "under 1 s"),
            requests(&before, &after),
            goal(bought == 0, "no certificate bought"),
        );
    }
}

/// The two objects of the guide, for certificates of 24 hours.
fn objects() -> String {
    format!(
        "apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata:
  name: default
spec:
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: {}
  keyAlgorithm:
    ecdsa:
      curve: P256
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
    )
}

fn requests(before: &Stats, after: &Stats) -> String {
    let count = |method| after.requests(method) - before.requests(method);
    format!(
        "requests: {} create, {} get, {} for pools and roots",
        count(Method::CreateCertificate),
        count(Method::GetCertificate),
        count(Method::GetCaPool) + count(Method::FetchCaCerts) + count(Method::Other),
    )
}

/// A process of `certagent run`. It ends with this value, however the benchmark ends.
struct Agent {
    child: Child,
    ready_after: Duration,
}

impl Agent {
    fn start(fleet: &Fleet, quota: Quota) -> Self {
        let admin = free_port();
        let log = fleet.dir.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_certagent-under-test"));
        command
            .args(["run", "--ca-endpoint", &fleet.endpoint, "--config"])
            .arg(fleet.dir.join("config"))
            .arg("--state-dir")
            .arg(fleet.dir.join("state"))
            .args(["--admin", &admin.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        if quota == Quota::Lifted {
            command.env("CERTAGENT_TEST_QUOTA_TIMES", "1000");
        }
        if fleet.on_disk {
            command.arg("--allow-disk");
        }
        let start = Instant::now();
        let mut agent = Self {
            child: command.spawn().unwrap(),
            ready_after: Duration::ZERO,
        };
        while !is_ready(admin) {
            let ended = agent.child.try_wait().unwrap();
            let log = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the agent ended:\n{}", log());
            let waited = start.elapsed();
            assert!(waited < LONGEST_START, "the agent is not ready:\n{}", log());
            sleep(Duration::from_millis(2));
        }
        agent.ready_after = start.elapsed();
        agent
    }

    fn memory(&self) -> Memory {
        let status = self.proc("status");
        let rollup = self.proc("smaps_rollup");
        Memory {
            rss: mebibytes(&status, "VmRSS:"),
            peak: mebibytes(&status, "VmHWM:"),
            own: mebibytes(&rollup, "Private_Dirty:"),
        }
    }

    /// Watches the process do nothing, and prints how much that costs.
    fn watch_idle(&self) {
        let (before, start) = (self.cpu_ticks(), Instant::now());
        sleep(IDLE);
        let (ticks, time) = (self.cpu_ticks() - before, start.elapsed());
        let seconds = ticks / TICKS_PER_SECOND;
        let share = 100.0 * seconds / time.as_secs_f64();
        println!(
            "  idle for {:.0} s: {:.0} ms of CPU, {share:.3}% of a core ({})",
            time.as_secs_f64(),
            seconds * 1000.0,
            goal(share < GOAL_IDLE, &format!("under {GOAL_IDLE}%"))
        );
    }

    /// utime and stime of /proc/PID/stat.
    fn cpu_ticks(&self) -> f64 {
        let stat = self.proc("stat");
        // The name before it, in brackets, may hold spaces.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<f64>().unwrap())
            .sum()
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Nothing to do if it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a process has in memory, in MiB.
struct Memory {
    rss: f64,
    peak: f64,
    own: f64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rss, peak, own } = self;
        write!(
            f,
            "RSS {rss:.1} MiB (at most {peak:.1}), of that {own:.1} MiB not of the program file"
        )
    }
}

/// A line of /proc as MiB.
fn mebibytes(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    let kibibytes = line.split_whitespace().nth(1).unwrap();
    kibibytes.parse::<f64>().unwrap() / 1024.0
}

/// A port that nobody uses at the moment.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn is_ready(admin: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(admin) else {
        return false;
    };
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = [0; 12];
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"HTTP/1.1 200"
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
