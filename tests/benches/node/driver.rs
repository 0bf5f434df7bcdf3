//! The process `certagent node`, and what `/proc` and the cgroups say of it.
use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use certagent_tests::TRUST_DOMAIN;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Place,
    kubelet::{Kubelet, is_announced},
    write_objects,
};

pub(crate) const NAME: &str = "driver.example.com";
/// In which the kernel shows CPU times: the same on every architecture that matters.
const TICKS_PER_SECOND: f64 = 100.0;
/// A start that takes longer has failed.
const LONGEST_START: Duration = Duration::from_secs(30);

/// A kubelet's directory.
pub(crate) struct Node {
    pub(crate) root: PathBuf,
    name: &'static str,
    arguments: Vec<OsString>,
}

impl Node {
    pub(crate) fn new(place: &Place, name: &str, algorithm: &str) -> Self {
        let root = directories(place, name);
        let config = root.join("config");
        write_objects(&config, algorithm);
        let mut arguments = strings(&["--unsafe-node-identity", "--unsafe-any-caller"]);
        arguments.extend(strings(&["--ca-endpoint", &place.endpoint, "--config"]));
        arguments.push(config.into());
        Self {
            root,
            name: NAME,
            arguments,
        }
    }

    /// One that asks a cluster's controller, under this name of a driver.
    pub(crate) fn of_cluster(place: &Place, name: &'static str, kubeconfig: &Path) -> Self {
        Self {
            root: directories(place, "csr"),
            name,
            arguments: vec!["--kubeconfig".into(), kubeconfig.into()],
        }
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("plugins").join(self.name).join("volumes")
    }

    /// Starts the driver and waits until it announces itself.
    pub(crate) async fn start(&self) -> Driver {
        let log = self.root.join("log/driver");
        let registry = self.root.join("plugins_registry");
        let announced = registry.join(format!("{}@reg.sock", self.name));
        let start = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_certagent-under-test"));
        command
            .args(["node", "--driver-name", self.name, "--node-name", "node"])
            .args(["--trust-domain", TRUST_DOMAIN, "--kubelet-root"])
            .arg(&self.root)
            .args(&self.arguments);
        let mut driver = Driver::start(&mut command, &log);
        while !is_announced(&announced).await {
            driver.must_run(start, &log);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        driver.announced_after = start.elapsed();
        driver
    }

    pub(crate) async fn kubelet(&self) -> Kubelet {
        let plugin = self.root.join("plugins").join(self.name);
        Kubelet::connect(&plugin.join("csi.sock")).await.unwrap()
    }
}

fn directories(place: &Place, name: &str) -> PathBuf {
    let root = place.directory(name);
    // The log has a directory of its own: what is written beside the objects wakes whoever
    // watches them.
    for part in ["pods", "plugins_registry", "config", "log"] {
        fs::create_dir(root.join(part)).unwrap();
    }
    root
}

fn strings(texts: &[&str]) -> Vec<OsString> {
    texts.iter().map(OsString::from).collect()
}

/// A process of `certagent node`, or of `certagent controller`. It ends with this value, however the benchmark ends.
pub(crate) struct Driver {
    child: Child,
    cgroup: Option<Cgroup>,
    pub(crate) announced_after: Duration,
}

impl Driver {
    /// Starts it, without quotas where it can do without.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let child = command
            .env("CERTAGENT_TEST_QUOTA_TIMES", "1000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap();
        Self {
            cgroup: Cgroup::of(&child),
            child,
            announced_after: Duration::ZERO,
        }
    }

    /// It has not ended, and does not take too long.
    pub(crate) fn must_run(&mut self, start: Instant, log: &Path) {
        let ended = self.child.try_wait().unwrap();
        let log = || fs::read_to_string(log).unwrap_or_default();
        assert!(ended.is_none(), "it ended:\n{}", log());
        let waited = start.elapsed();
        assert!(waited < LONGEST_START, "it does not begin:\n{}", log());
    }

    /// What it has in memory, in MiB.
    pub(crate) fn rss(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever had, in MiB.
    pub(crate) fn most_rss(&self) -> f64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(name));
        let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kibibytes.parse::<f64>().unwrap() / 1024.0
    }

    /// What a limit of its container would count, in MiB, where this machine can say it.
    pub(crate) fn charged(&self) -> Option<f64> {
        self.cgroup.as_ref().map(Cgroup::charged)
    }

    /// Time of a core that it uses in `time`, as a share.
    pub(crate) fn watch(&self, time: Duration) -> f64 {
        let (before, start) = (self.cpu_seconds(), Instant::now());
        sleep(time);
        (self.cpu_seconds() - before) / start.elapsed().as_secs_f64()
    }

    /// utime and stime of /proc/PID/stat.
    fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        // The name before it, in brackets, may hold spaces.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let ticks = fields.skip(11).take(2);
        ticks
            .map(|field| field.parse::<f64>().unwrap())
            .sum::<f64>()
            / TICKS_PER_SECOND
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    /// Ends it in good order.
    pub(crate) fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it at once.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Nothing to do if it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A memory cgroup with one process in it.
struct Cgroup {
    path: PathBuf,
    usage: &'static str,
}

impl Cgroup {
    /// None where this machine has no memory cgroups that may be made.
    fn of(child: &Child) -> Option<Self> {
        const ROOT: &str = "/sys/fs/cgroup";
        let name = format!("certagent-bench-{}", child.id());
        let (path, usage) = if Path::new(ROOT).join("memory").is_dir() {
            (
                Path::new(ROOT).join("memory").join(name),
                "memory.usage_in_bytes",
            )
        } else {
            (Path::new(ROOT).join(name), "memory.current")
        };
        fs::create_dir(&path).ok()?;
        fs::write(path.join("cgroup.procs"), child.id().to_string()).ok()?;
        path.join(usage).exists().then_some(Self { path, usage })
    }

    fn charged(&self) -> f64 {
        let bytes = fs::read_to_string(self.path.join(self.usage)).unwrap();
        bytes.trim().parse::<f64>().unwrap() / (1024.0 * 1024.0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What is charged to it goes to its parent.
        drop(fs::remove_dir(&self.path));
    }
}
