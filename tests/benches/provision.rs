//! The main path against the bare sum of its cryptography, in one run.
//!
//! `provision` is the real one with its real files; only the CA is near: an [`Issuer`] that calls
//! the emulator in this process. The limit is what no implementation could leave out: making the
//! key, signing the CSR, signing the certificate, verifying it. Each round measures the steps
//! alone and then `provision`, so that both see the same machine.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and what fails in it ends it"
)]
use std::{
    collections::BTreeMap,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use certagent::{
    admin::Metrics,
    clock::{Clock as _, ManualClock},
    config::ActiveConfig,
    google::Caller,
    held::{Assignment, Held},
    issuer::{Behalf, IssueError, Issuer, Preflight},
    keys::{self, Keys},
    provision::{self, Context},
    trust::Trust,
    volume::StateDir,
};
use certagent_core::{
    algorithm::KeyAlgorithm,
    config::{CertificatePolicy, Config, TrustAnchor, TrustPolicy, VolumeSpec},
    issued::{IssuedChain, RawChain},
    names::SubjectNames,
    plan::{self, IssuePlan},
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm},
};
use certagent_emulator::{CreateQuery, Emulator, EmulatorConfig};
use certagent_svid::{Certificate, TrustBundle, TrustDomain};
use certagent_tests::{LOCATION, Lab, PROJECT, TRUST_DOMAIN, clock_of};
use jiff::SignedDuration;
use tempfile::TempDir;
use tokio::sync::watch;

/// The share of the limit that P-256 is to reach.
const GOAL: f64 = 60.0;

/// What every certificate asks for; the clock moves by half of it from one to the next.
const VALIDITY: Duration = Duration::from_secs(3600);

fn main() {
    // `cargo test --benches` is not after figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let dir = place();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    for (algorithm, rounds) in [
        (KeyAlgorithm::EcdsaP256, 2000),
        (KeyAlgorithm::EcdsaP384, 400),
        (KeyAlgorithm::Rsa2048, 100),
    ] {
        let dir = dir.path().join(algorithm.to_string());
        std::fs::create_dir(&dir).unwrap();
        let times = runtime.block_on(measure(&dir, algorithm, rounds));
        times.print(algorithm, rounds);
    }
}

/// Somewhere in memory, as volumes are in earnest; a disk would be measured instead of the program.
fn place() -> TempDir {
    if let Ok(dir) = tempfile::tempdir_in("/dev/shm")
        && StateDir::open(&dir.path().join("trial"), false).is_ok()
    {
        println!("the files are in memory, below /dev/shm");
        return dir;
    }
    let dir = tempfile::tempdir().unwrap();
    println!(
        "THE FILES ARE ON A DISK, below {}: its speed is in the figures",
        dir.path().display()
    );
    dir
}

/// Runs the rounds of one kind of key.
async fn measure(dir: &Path, algorithm: KeyAlgorithm, rounds: usize) -> Times {
    let bench = Bench::new(algorithm);
    let state = StateDir::open(&dir.join("state"), true).unwrap();
    let mut held = bench.hold(&state, &dir.join("whole"));
    let mut apart = bench.hold(&state, &dir.join("apart"));
    let mut times = Times::default();
    for round in 0..=rounds {
        let steps = bench.steps(&mut apart).await;
        let start = Instant::now();
        provision::provision(&bench.context, &mut held, &mut None)
            .await
            .unwrap();
        let whole = start.elapsed();
        // The first round also fills caches and finds an empty volume.
        if round > 0 {
            times.add(steps, whole);
        }
        bench
            .clock
            .step(SignedDuration::try_from(VALIDITY / 2).unwrap());
    }
    times
}

/// All that one kind of key is measured with.
struct Bench {
    clock: ManualClock,
    context: Context,
    config: Arc<Config>,
    bundle: TrustBundle,
}

impl Bench {
    fn new(algorithm: KeyAlgorithm) -> Self {
        let clock = ManualClock::new("2026-11-21T12:00:00Z".parse().unwrap());
        let guide = EmulatorConfig::guide(PROJECT, LOCATION).unwrap();
        let emulator = Emulator::new(guide, clock_of(&clock), None).unwrap();
        let root = root(&emulator);
        let trust_domain = TrustDomain::new(TRUST_DOMAIN).unwrap();
        let config = Arc::new(Config {
            spread_rotation: None,
            certificates: CertificatePolicy {
                pools: vec![Lab::pool("issuing-pool").parse().unwrap()],
                algorithm,
                validity: VALIDITY,
                rotation_window_percentage: 50,
            },
            trust: TrustPolicy {
                stores: BTreeMap::from([(
                    trust_domain.clone(),
                    vec![TrustAnchor::Pem(root.clone())],
                )]),
            },
            workloads: Vec::new(),
        });
        let active = ActiveConfig {
            config: Arc::clone(&config),
            problem: None,
            version: 1,
        };
        let context = Context {
            clock: Arc::new(clock.clone()),
            issuer: Arc::new(NearIssuer { emulator }),
            keys: Keys::default(),
            // The last value stays when the sender is gone.
            config: watch::channel(Arc::new(active)).1,
            trust: watch::channel(Arc::new(Trust::new(&config.trust))).1,
            metrics: Arc::new(Metrics::default()),
        };
        Self {
            clock,
            context,
            config,
            bundle: TrustBundle::new(trust_domain, [root]),
        }
    }

    fn hold(&self, state: &StateDir, path: &Path) -> Held {
        std::fs::create_dir(path).unwrap();
        let assignment = Assignment {
            path: path.to_owned(),
            spiffe_id: plan::workload_id(self.bundle.trust_domain(), "default", "bench").unwrap(),
            names: SubjectNames::default(),
            volume: VolumeSpec {
                path: path.display().to_string(),
                owner: None,
                group: None,
                directory_mode: VolumeSpec::DIRECTORY_MODE,
                key_mode: VolumeSpec::KEY_MODE,
                file_mode: VolumeSpec::FILE_MODE,
                allow_disk: true,
            },
            caller: Caller::Agent,
            beside: None,
        };
        let now = self.clock.now();
        Held::open(&assignment, state, &self.config.certificates, now).unwrap()
    }

    /// One certificate, step by step, each step for itself.
    async fn steps(&self, held: &mut Held) -> [Duration; STEPS.len()] {
        let policy = &self.config.certificates;
        let id = held.spiffe_id().clone();
        let plan = IssuePlan::new(policy, &self.config.trust, id).unwrap();
        let trust = Arc::clone(&self.context.trust.borrow());
        let now = self.clock.now();
        let mut watch = Stopwatch::default();

        watch.start();
        let key = self.context.keys.generate(plan.algorithm).await.unwrap();
        let key_time = watch.stop();
        let csr = keys::csr_pem(&plan, &key).unwrap();
        let csr_time = watch.stop();
        let request = PreparedRequest::new(
            plan,
            policy.pools[0].clone(),
            RequestForm::Config,
            key.public_key(),
            &csr,
            now,
        );
        watch.start();
        let raw = self
            .context
            .issuer
            .issue(&request, &held.behalf(now))
            .await
            .unwrap();
        let issue_time = watch.stop();
        let issued = IssuedChain::check(
            &raw,
            key.public_key(),
            &request.plan,
            &self.bundle,
            webpki::ALL_VERIFICATION_ALGS,
            now,
        )
        .unwrap();
        let check_time = watch.stop();
        held.keep_pending(&key, &request).unwrap();
        let keep_time = watch.stop();
        held.publish(&key, &issued, &request, &trust, now).unwrap();
        let publish_time = watch.stop();
        [
            key_time,
            csr_time,
            issue_time,
            check_time,
            keep_time,
            publish_time,
        ]
    }
}

/// The root of the guide's pools.
fn root(emulator: &Emulator) -> Certificate {
    let name = format!("projects/{PROJECT}/locations/{LOCATION}/caPools/root-pool");
    let chains = emulator.fetch_ca_certs(&name).unwrap().ca_certs;
    let pem = chains[0].certificates.last().unwrap();
    Certificate::parse_pem_list(pem.as_bytes())
        .unwrap()
        .remove(0)
}

/// An issuer without a network: the emulator signs on the caller's thread.
struct NearIssuer {
    emulator: Arc<Emulator>,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, IssueError>> + Send + 'a>>;

impl Issuer for NearIssuer {
    fn preflight<'a>(
        &'a self,
        _: &'a IssuePlan,
        _: &'a CaPoolName,
        _: &'a TrustBundle,
        _: &'a Behalf,
    ) -> Answer<'a, Preflight> {
        Box::pin(async {
            Ok(Preflight {
                form: RequestForm::Config,
                ca_until: None,
            })
        })
    }

    fn issue<'a>(&'a self, request: &'a PreparedRequest, _: &'a Behalf) -> Answer<'a, RawChain> {
        Box::pin(async {
            let query = CreateQuery {
                certificate_id: Some(request.certificate_id.clone()),
                request_id: Some(request.request_id.clone()),
                ..CreateQuery::default()
            };
            let parent = request.pool.resource_name();
            let sold = self
                .emulator
                .create_certificate(&parent, &query, request.body.as_bytes());
            let sold = sold.unwrap();
            Ok(RawChain {
                certificate: sold.pem_certificate.clone().unwrap_or_default(),
                chain: sold.pem_certificate_chain.clone(),
            })
        })
    }
}

/// The steps; the first [`CRYPTO`] of them are the limit.
const STEPS: [&str; 6] = [
    "key",
    "sign CSR",
    "issue (emulator)",
    "verify (IssuedChain::check)",
    "beside the limit: keep the request",
    "beside the limit: publish",
];
const CRYPTO: usize = 4;

#[derive(Default)]
struct Times {
    steps: [Vec<Duration>; STEPS.len()],
    limits: Vec<Duration>,
    whole: Vec<Duration>,
}

impl Times {
    fn add(&mut self, steps: [Duration; STEPS.len()], whole: Duration) {
        for (all, one) in self.steps.iter_mut().zip(steps) {
            all.push(one);
        }
        self.limits.push(steps[..CRYPTO].iter().sum());
        self.whole.push(whole);
    }

    fn print(mut self, algorithm: KeyAlgorithm, rounds: usize) {
        println!("\n{algorithm}, medians of {rounds} rounds");
        let limit = median(&mut self.limits);
        for (index, (name, times)) in STEPS.iter().zip(&mut self.steps).enumerate() {
            if index == CRYPTO {
                println!("  {:<36} {:>10.1} us", "= the limit", micros(limit));
            }
            println!("  {name:<36} {:>10.1} us", micros(median(times)));
        }
        let whole = median(&mut self.whole);
        println!("  {:<36} {:>10.1} us", "provision", micros(whole));
        let share = 100.0 * limit.as_secs_f64() / whole.as_secs_f64();
        let goal = match algorithm {
            KeyAlgorithm::EcdsaP256 if share >= GOAL => format!("   (goal {GOAL}%: met)"),
            KeyAlgorithm::EcdsaP256 => format!("   (goal {GOAL}%: MISSED)"),
            _ => String::new(),
        };
        println!("  provision reaches {share:.1}% of the limit{goal}");
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Times one step after the other.
struct Stopwatch(Instant);

impl Default for Stopwatch {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Stopwatch {
    fn start(&mut self) {
        self.0 = Instant::now();
    }

    /// The time since the last start or stop.
    fn stop(&mut self) -> Duration {
        let time = self.0.elapsed();
        self.0 = Instant::now();
        time
    }
}
