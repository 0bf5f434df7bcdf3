//! What the tests share: steps of the clock that wait for their effect, and looks at the volume
//! and at the counts.
use std::{collections::BTreeMap, future::Future, os::unix::fs::MetadataExt as _, path::Path};

use certagent::{
    run::agent::RunningAgent,
    status::{CertificateStatus, VolumeStatus},
};
use certagent_emulator::{
    CaKey, CaSpec, EmulatorConfig, IssuancePolicy, Method, PoolName, PoolSpec, Tier,
};
use certagent_svid::layout;
use certagent_tests::{GUARD, LOCATION, Lab, PROJECT, Policy, all_ready, until};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// An hour's certificate, renewed within the last half: long enough for every wait in between.
pub(crate) fn an_hour() -> Policy {
    Policy {
        validity: 3600,
        ..Policy::default()
    }
}

/// A laboratory with one workload, `a`, whose volume has its first certificate.
pub(crate) async fn supplied(lab: &Lab, policy: &Policy) -> RunningAgent {
    lab.write_policy(policy);
    lab.write_workload("a");
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    agent
}

/// The status of a volume by its name.
pub(crate) fn status(statuses: &[VolumeStatus], name: &str) -> VolumeStatus {
    let found = statuses
        .iter()
        .find(|status| status.path.ends_with(name))
        .cloned();
    found.expect("the volume is known")
}

/// The certificate in the volume `a`.
pub(crate) fn certificate(agent: &RunningAgent) -> CertificateStatus {
    status(&agent.statuses(), "a")
        .certificate
        .expect("a certificate")
}

/// Sets the clock to the moment at which `a` renews, and waits until it has.
pub(crate) async fn renew(lab: &Lab, agent: &RunningAgent) -> CertificateStatus {
    let before = status(&agent.statuses(), "a");
    due(lab, agent);
    let statuses = until(agent, |statuses| {
        status(statuses, "a").rotations > before.rotations
    })
    .await;
    status(&statuses, "a").certificate.expect("a certificate")
}

/// Sets the clock to the moment at which `a` renews.
pub(crate) fn due(lab: &Lab, agent: &RunningAgent) {
    let moment = certificate(agent).renew_at;
    forward(lab, moment);
}

/// Sets the clock to the whole second at or after `moment`, but never back.
pub(crate) fn forward(lab: &Lab, moment: Timestamp) {
    let second =
        Timestamp::from_second(moment.as_second() + i64::from(moment.subsec_nanosecond() > 0));
    lab.clock
        .set(second.expect("a moment of our time").max(lab.now()));
}

/// Waits for a failure of `a` that says `text`.
pub(crate) async fn failed(agent: &RunningAgent, text: &str) -> VolumeStatus {
    let statuses = until(agent, |statuses| status(statuses, "a").failures > 0).await;
    let status = status(&statuses, "a");
    let said = status.last_error.clone().expect("an error");
    assert!(said.contains(text), "it said {said:?}, not {text:?}");
    status
}

/// Sets the clock to the next attempt on `a`, and waits until it is over.
pub(crate) async fn attempt(lab: &Lab, agent: &RunningAgent) -> VolumeStatus {
    let before = status(&agent.statuses(), "a");
    forward(lab, before.next_attempt);
    let statuses = until(agent, |statuses| {
        let now = status(statuses, "a");
        now.failures != before.failures || now.rotations != before.rotations
    })
    .await;
    status(&statuses, "a")
}

/// Attempts until nothing is wrong with `a`.
pub(crate) async fn heal(lab: &Lab, agent: &RunningAgent) -> VolumeStatus {
    for _ in 0..100 {
        let now = status(&agent.statuses(), "a");
        if now.failures == 0 {
            return now;
        }
        attempt(lab, agent).await;
    }
    panic!("it does not heal: {:#?}", agent.statuses());
}

/// Attempts at `a` for so long. Gives how many there were.
pub(crate) async fn attempts_for(lab: &Lab, agent: &RunningAgent, span: SignedDuration) -> u64 {
    let end = lab.now() + span;
    let mut attempts = 0;
    while status(&agent.statuses(), "a").next_attempt < end {
        attempt(lab, agent).await;
        attempts += 1;
        assert!(attempts < 1000, "it never rests");
    }
    forward(lab, end);
    attempts
}

/// Every file of a volume with its bytes and inode: what must not change.
pub(crate) type Frozen = BTreeMap<String, (Vec<u8>, u64)>;

/// What readers of a volume see now.
pub(crate) fn frozen(directory: &Path) -> Frozen {
    layout::FILES
        .iter()
        .map(|name| {
            let path = directory.join(name);
            let bytes = std::fs::read(&path).expect("a file");
            let inode = std::fs::metadata(&path).expect("a file").ino();
            ((*name).to_owned(), (bytes, inode))
        })
        .collect()
}

/// The names of the generations in a volume.
pub(crate) fn generations(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().unwrap())
        .filter(|name| layout::is_generation(name))
        .collect();
    names.sort();
    names
}

/// Where the one volume's state is.
pub(crate) fn state_of(lab: &Lab, status: &VolumeStatus) -> std::path::PathBuf {
    lab.state_dir().join("volumes").join(status.id.as_str())
}

/// How many certificates were asked for.
pub(crate) fn creates(lab: &Lab) -> u64 {
    lab.emulator.stats().requests(Method::CreateCertificate)
}

/// How many were sold.
pub(crate) fn sold(lab: &Lab) -> u64 {
    lab.emulator.stats().total_sold()
}

/// Status and body of a path of the admin server.
pub(crate) async fn admin(agent: &RunningAgent, path: &str) -> (u16, String) {
    let address = agent.admin().expect("an admin server");
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("asked the admin server");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("an answer in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.expect("a status"), body.to_owned())
}

/// The value of a metric without labels.
pub(crate) async fn metric(agent: &RunningAgent, name: &str) -> u64 {
    let (_, text) = admin(agent, "/metrics").await;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect("the metric").parse().expect("a count")
}

/// Certificates that were given up, by the agent's own count.
pub(crate) async fn abandoned(agent: &RunningAgent) -> u64 {
    metric(agent, "certagent_certificates_abandoned_total").await
}

/// The book of `a` in one process: each certificate that was sold was used, or is known to be lost.
pub(crate) async fn balanced(lab: &Lab, agent: &RunningAgent) {
    let used = status(&agent.statuses(), "a").rotations + 1;
    assert_eq!(sold(lab), used + abandoned(agent).await);
}

/// Waits until the configuration is as wanted.
pub(crate) async fn configured(
    agent: &RunningAgent,
    wanted: impl FnMut(&std::sync::Arc<certagent::config::ActiveConfig>) -> bool,
) {
    let mut config = agent.config().clone();
    guarded(config.wait_for(wanted))
        .await
        .expect("the agent runs");
}

/// Waits for something that must happen and that nobody tells of.
pub(crate) async fn eventually(wanted: impl Fn() -> bool) {
    guarded(async {
        while !wanted() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits for something that must happen.
pub(crate) async fn guarded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future)
        .await
        .expect("it never came to that")
}

/// A DEVOPS pool under the CA of another, or with a root of its own.
pub(crate) fn pool(id: &str, parent: Option<&str>, policy: IssuancePolicy) -> PoolSpec {
    let name = |id| PoolName::new(PROJECT, LOCATION, id).expect("a name");
    PoolSpec {
        name: name(id),
        tier: Tier::Devops,
        issuance_policy: policy,
        ca: CaSpec {
            common_name: format!("the CA of {id}"),
            key: CaKey::EcP256,
            lifetime: SignedDuration::from_hours(24 * 365),
            parent: parent.map(name),
        },
    }
}

/// The guide's two pools and these.
pub(crate) fn guide_and(pools: impl IntoIterator<Item = PoolSpec>) -> EmulatorConfig {
    let mut config = EmulatorConfig::guide(PROJECT, LOCATION).expect("names");
    config.pools.extend(pools);
    config
}

/// The guide's two pools, the issuing one with this policy.
pub(crate) fn guide_with(policy: IssuancePolicy) -> EmulatorConfig {
    let mut config = guide_and([]);
    config.pools[1].issuance_policy = policy;
    config
}

/// What a pool of one DEVOPS CA is sent at once after a rest. The clock of a test goes by whole seconds,
/// and a second that passes at once is such a rest.
pub(crate) const RATE: usize = 20;

/// Steps the clock by single seconds, each as soon as all that the quota lets through in it was
/// sent, until nothing is due any more. Gives how many seconds that took.
pub(crate) async fn drain(lab: &Lab, agent: &RunningAgent) -> i64 {
    let due = |statuses: &[VolumeStatus]| {
        let now = lab.now();
        statuses
            .iter()
            .filter(|status| status.next_attempt <= now)
            .count()
    };
    let mut seconds = 0;
    loop {
        lab.step(1);
        seconds += 1;
        let (before, sent) = (due(&agent.statuses()), creates(lab));
        let all = sent + u64::try_from(RATE).expect("a small number");
        until(agent, |statuses| {
            due(statuses) <= before.saturating_sub(RATE) || creates(lab) >= all
        })
        .await;
        if due(&agent.statuses()) == 0 {
            return seconds;
        }
    }
}

/// Writes as many workloads, `w000` and so on.
pub(crate) fn write_workloads(lab: &Lab, numbers: std::ops::Range<usize>) {
    let mut documents = String::new();
    for number in numbers.clone() {
        let name = format!("w{number:03}");
        let volume = lab.volume(&name);
        std::fs::create_dir_all(&volume).expect("a directory");
        documents += "---\n";
        documents += &certagent_tests::workload(&name, &volume);
    }
    lab.write_config(&format!("workloads-{}.yaml", numbers.start), &documents);
}

/// A pool of the guide's two, and another below the same root to fall back to.
pub(crate) async fn two_pools() -> Lab {
    let second = pool("second-pool", Some("root-pool"), IssuancePolicy::default());
    Lab::with(guide_and([second])).await
}

/// Which pools sold, in order.
pub(crate) fn sellers(lab: &Lab) -> Vec<String> {
    let sold = lab.emulator.sold();
    sold.iter().map(|one| one.pool.id().to_owned()).collect()
}

/// Which pools were asked, in order.
pub(crate) fn asked(lab: &Lab) -> Vec<String> {
    let id = |parent: &String| parent.rsplit('/').next().unwrap().to_owned();
    let requests = lab.emulator.create_requests();
    requests.iter().map(|request| id(&request.parent)).collect()
}

/// An hour's certificates from the guide's issuing pool, or else from the second.
pub(crate) fn with_fallback() -> Policy {
    Policy {
        fallbacks: vec!["second-pool".to_owned()],
        ..an_hour()
    }
}
