//! Readers while the volume rotates at full speed: each rotation is one step of 61 s of the clock.
//!
//! - *bundle*: one read of `credential-bundle.pem`.
//! - *pinned*: `..data` is opened once, key and certificate are read through it, as a consumer
//!   that knows the layout does.
//! - *library*: `certagent_credentials::read`.
//! - *two paths*: `private_key.pem`, then `certificates.pem`. It may see two generations, and its
//!   mismatches are counted only to be shown.
//!
//! A generation stays for 60 s after it was replaced. A reader that takes microseconds must not
//! lose it because minutes pass meanwhile, and opening a path is a pin, too: the system follows
//! `..data` and then looks for what it names. So the clock is not stepped a second time while a
//! read goes on that began before the first step. One rotation during a read is what is tortured;
//! there are as many as there can be. (The library reads again by itself, and is not waited for.)
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use certagent_svid::{Chain, PrivateKey, layout};
use certagent_tests::{GUARD, Lab, all_ready, until, workload};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tempfile::TempDir;

/// Each rotation is after the end of the certificate before it.
const STEP: i64 = 61;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_one_generation_never_see_two() {
    torture(2_000, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a million reads, for a release build"]
async fn readers_of_one_generation_never_see_two_in_a_million_reads() {
    torture(1_000_000, 2_000).await;
}

/// At least `reads`, shared by the readers that must never fail, during at least `least` rotations.
async fn torture(reads: u64, least: u64) {
    let lab = Lab::new().await;
    // In memory where that is possible, as a real volume is.
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let volume: TempDir = memory.expect("a directory");
    lab.write_config("workload.yaml", &workload("a", volume.path()));
    let agent = lab.agent().await;
    until(&agent, all_ready).await;

    let began = Instant::now();
    let seen = Arc::new(Seen::default());
    let threads: Vec<_> = [
        Reader::Bundle,
        Reader::Pinned,
        Reader::Library,
        Reader::TwoPaths,
    ]
    .into_iter()
    .map(|reader| {
        let (seen, volume) = (Arc::clone(&seen), volume.path().to_owned());
        std::thread::spawn(move || reader.run(&volume, &seen, reads))
    })
    .collect();

    let mut rotations = 0;
    while seen.good() < reads || rotations < least {
        seen.wait_for_old_reads(rotations);
        rotations += 1;
        lab.step(STEP);
        until(&agent, |statuses| {
            statuses[0].rotations == rotations && statuses[0].failures == 0
        })
        .await;
        seen.rotations.store(rotations, Ordering::SeqCst);
        if threads.iter().any(std::thread::JoinHandle::is_finished) {
            break;
        }
    }
    seen.enough.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.join().expect("a reader saw what it must not see");
    }
    agent.stop().await;
    seen.report(rotations, began);
    assert_eq!(seen.bad(), 0);
    assert!(seen.good() >= reads);
    assert_eq!(
        lab.emulator.sold_serials().len() as u64,
        rotations + 1,
        "sold == used"
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Bundle,
    Pinned,
    Library,
    TwoPaths,
}

/// What readers saw, and where they are.
#[derive(Default)]
struct Seen {
    rotations: AtomicU64,
    enough: AtomicBool,
    bundle: Count,
    pinned: Count,
    library: Count,
    two_paths: Count,
}

#[derive(Default)]
struct Count {
    /// 1 + the number of rotations at which the read under way began; 0 between two reads.
    began_at: AtomicU64,
    good: AtomicU64,
    mismatches: AtomicU64,
    missing: AtomicU64,
}

/// One read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Good,
    Mismatch,
    Missing,
}

impl Reader {
    fn run(self, volume: &Path, seen: &Seen, reads: u64) {
        let count = match self {
            Self::Bundle => &seen.bundle,
            Self::Pinned => &seen.pinned,
            Self::Library => &seen.library,
            Self::TwoPaths => &seen.two_paths,
        };
        let mut pairs = Pairs::default();
        while !seen.enough.load(Ordering::SeqCst) {
            if self != Self::Library {
                let rotations = seen.rotations.load(Ordering::SeqCst);
                count.began_at.store(rotations + 1, Ordering::SeqCst);
            }
            let read = match self {
                Self::Bundle => bundle(volume, &mut pairs),
                Self::Pinned => pinned(volume, &mut pairs),
                Self::Library => library(volume),
                Self::TwoPaths => two_paths(volume, &mut pairs),
            };
            count.began_at.store(0, Ordering::SeqCst);
            count.add(read);
            if self == Self::TwoPaths && count.good.load(Ordering::SeqCst) > reads {
                // It has had its share of the two cores.
                std::thread::yield_now();
            }
        }
    }
}

fn bundle(volume: &Path, pairs: &mut Pairs) -> Read {
    let Ok(bytes) = fs::read(volume.join(layout::CREDENTIAL_BUNDLE)) else {
        return Read::Missing;
    };
    pairs.check(&bytes, &bytes)
}

fn pinned(volume: &Path, pairs: &mut Pairs) -> Read {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(generation) = openat(CWD, volume.join(layout::DATA), flags, Mode::empty()) else {
        return Read::Missing;
    };
    let through = |name| {
        let path = PathBuf::from(format!(
            "/proc/self/fd/{}/{name}",
            std::os::fd::AsRawFd::as_raw_fd(&generation)
        ));
        fs::read(path)
    };
    let (Ok(key), Ok(chain)) = (through(layout::PRIVATE_KEY), through(layout::CERTIFICATES)) else {
        return Read::Missing;
    };
    for name in layout::FILES {
        if through(name).is_ok_and(|bytes| !bytes.is_empty()) {
            continue;
        }
        return Read::Missing;
    }
    pairs.check(&key, &chain)
}

fn library(volume: &Path) -> Read {
    match certagent_credentials::read(volume) {
        Ok(_) => Read::Good,
        Err(certagent_credentials::ReadError::KeyMismatch { .. }) => Read::Mismatch,
        Err(_) => Read::Missing,
    }
}

fn two_paths(volume: &Path, pairs: &mut Pairs) -> Read {
    let key = fs::read(volume.join(layout::PRIVATE_KEY));
    let chain = fs::read(volume.join(layout::CERTIFICATES));
    match (key, chain) {
        (Ok(key), Ok(chain)) => pairs.check(&key, &chain),
        _ => Read::Missing,
    }
}

/// Key and chain that were read together, and whether they fit. Most reads see what the one before
/// saw: the same bytes are checked once.
#[derive(Default)]
struct Pairs(HashMap<(Vec<u8>, Vec<u8>), Read>);

impl Pairs {
    fn check(&mut self, key: &[u8], chain: &[u8]) -> Read {
        let pair = (key.to_owned(), chain.to_owned());
        if self.0.len() > 64 {
            self.0.clear();
        }
        *self.0.entry(pair).or_insert_with(|| {
            match (PrivateKey::from_pem(key), Chain::parse_pem(chain)) {
                (Ok(key), Ok(chain)) if key.fits(chain.leaf()) => Read::Good,
                // Half a file counts as one that does not fit.
                _ => Read::Mismatch,
            }
        })
    }
}

impl Seen {
    fn good(&self) -> u64 {
        self.careful()
            .map(|count| count.good.load(Ordering::SeqCst))
            .sum()
    }

    fn bad(&self) -> u64 {
        let bad = |count: &Count| {
            count.mismatches.load(Ordering::SeqCst) + count.missing.load(Ordering::SeqCst)
        };
        self.careful().map(bad).sum()
    }

    fn careful(&self) -> impl Iterator<Item = &Count> {
        [&self.bundle, &self.pinned, &self.library].into_iter()
    }

    /// Waits until no read is under way that began before the rotation `now`.
    fn wait_for_old_reads(&self, now: u64) {
        let began = Instant::now();
        for count in [&self.bundle, &self.pinned, &self.two_paths] {
            while matches!(count.began_at.load(Ordering::SeqCst), at if at > 0 && at - 1 < now) {
                assert!(began.elapsed() < GUARD, "a reader hangs");
                std::thread::yield_now();
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "the figures are for people")]
    fn report(&self, rotations: u64, began: Instant) {
        println!(
            "{rotations} rotations in {:.1} s",
            began.elapsed().as_secs_f64()
        );
        for (name, count) in [
            ("bundle", &self.bundle),
            ("pinned", &self.pinned),
            ("library", &self.library),
            ("two paths", &self.two_paths),
        ] {
            println!("{name:>10}: {count}");
        }
    }
}

impl Count {
    fn add(&self, read: Read) {
        let counter = match read {
            Read::Good => &self.good,
            Read::Mismatch => &self.mismatches,
            Read::Missing => &self.missing,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [good, mismatches, missing] =
            [&self.good, &self.mismatches, &self.missing].map(|count| count.load(Ordering::SeqCst));
        write!(
            f,
            "{good} good reads, {mismatches} mismatches, {missing} missing files"
        )
    }
}
