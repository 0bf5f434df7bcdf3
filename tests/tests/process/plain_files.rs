//! Readers while three plain files are rewritten in place, as some writers do that are not ours.
//!
//! No reader can be always right here. There is a moment between two files, and one within each:
//! a file is empty before it is full. So the library looks twice, compares key and certificate, and
//! tries again for 200 ms. What it gives is never wrong; but where the writer never pauses, it may
//! give nothing. Both are counted, beside what a reader of two paths would have taken for a pair.
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use certagent_credentials::{ReadError, read};
use certagent_svid::{Chain, PrivateKey, layout};
use certagent_tests::{Lab, all_ready, until};

/// How many credentials go round: enough for no two after each other to be the same.
const CREDENTIALS: usize = 4;

#[tokio::test]
async fn what_is_read_from_plain_files_is_never_of_two_generations() {
    torture(200).await;
}

#[tokio::test]
#[ignore = "tens of thousands of reads, for a release build"]
async fn what_is_read_from_plain_files_is_never_of_two_generations_in_many_reads() {
    torture(100_000).await;
}

#[derive(Default)]
struct Counts {
    good: AtomicU64,
    mixed: AtomicU64,
    torn: AtomicU64,
    gave_up: AtomicU64,
}

async fn torture(reads: u64) {
    let generations = generations().await;
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = memory.expect("a directory");
    write(directory.path(), &generations[0]);
    let (library, two_paths) = (Counts::default(), Counts::default());
    let (enough, began) = (AtomicBool::new(false), Instant::now());
    let mut rewritten = 0_u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::SeqCst) {
                two_paths.add(pair(directory.path()));
            }
        });
        let reader = scope.spawn(|| {
            for _ in 0..reads {
                library.add(look(directory.path()));
            }
            enough.store(true, Ordering::SeqCst);
        });
        // At full speed for a burst, then a pause in which a reader gets through: somebody who
        // renews without any pause would leave no moment at which the files fit.
        while !reader.is_finished() {
            for _ in 0..50 {
                rewritten += 1;
                let index = usize::try_from(rewritten).expect("small") % CREDENTIALS;
                write(directory.path(), &generations[index]);
            }
            let before = library.all();
            while library.all() < before + (reads / 500).max(10) && !reader.is_finished() {
                std::thread::yield_now();
            }
        }
    });
    report(rewritten, began, &library, &two_paths);
    assert_eq!(library.mixed.load(Ordering::SeqCst), 0);
    assert!(library.good.load(Ordering::SeqCst) > reads / 2);
}

/// The three files of a generation.
type Three = [(&'static str, Vec<u8>); 3];

/// Real credentials of one workload: what the agent wrote at each of its rotations.
async fn generations() -> Vec<Three> {
    let lab = Lab::new().await;
    lab.write_workload("a");
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    let mut all = Vec::new();
    for rotation in 1..=CREDENTIALS {
        let content = |name| (name, fs::read(lab.volume("a").join(name)).expect("a file"));
        all.push(
            [
                layout::CERTIFICATES,
                layout::PRIVATE_KEY,
                layout::CA_CERTIFICATES,
            ]
            .map(content),
        );
        lab.step(61);
        let wanted = u64::try_from(rotation).expect("small");
        until(&agent, |statuses| statuses[0].rotations == wanted).await;
    }
    agent.stop().await;
    all
}

fn write(directory: &Path, generation: &Three) {
    for (name, content) in generation {
        fs::write(directory.join(name), content).expect("written");
    }
}

/// What a read gave.
#[derive(Clone, Copy)]
enum Read {
    Good,
    /// Key and certificate of two generations.
    Mixed,
    /// Half a file, or none.
    Torn,
    /// An error that says that the files do not fit or do not stand still.
    GaveUp,
}

fn look(directory: &Path) -> Read {
    match read(directory) {
        Ok(found) if found.key().fits(found.chain().leaf()) => Read::Good,
        Ok(_) => Read::Mixed,
        Err(
            ReadError::Unstable { .. }
            | ReadError::KeyMismatch { .. }
            | ReadError::Chain { .. }
            | ReadError::Key { .. }
            | ReadError::NoRoots { .. }
            | ReadError::Roots { .. },
        ) => Read::GaveUp,
        Err(error) => panic!("another error than that the files do not fit: {error}"),
    }
}

fn pair(directory: &Path) -> Read {
    let read = |name| fs::read(directory.join(name)).expect("it is always there");
    let (chain, key) = (read(layout::CERTIFICATES), read(layout::PRIVATE_KEY));
    match (Chain::parse_pem(&chain), PrivateKey::from_pem(&key)) {
        (Ok(chain), Ok(key)) if key.fits(chain.leaf()) => Read::Good,
        (Ok(_), Ok(_)) => Read::Mixed,
        _ => Read::Torn,
    }
}

impl Counts {
    fn add(&self, read: Read) {
        let counter = match read {
            Read::Good => &self.good,
            Read::Mixed => &self.mixed,
            Read::Torn => &self.torn,
            Read::GaveUp => &self.gave_up,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    fn all(&self) -> u64 {
        [&self.good, &self.mixed, &self.torn, &self.gave_up]
            .map(|counter| counter.load(Ordering::SeqCst))
            .iter()
            .sum()
    }
}

#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn report(rewritten: u64, began: Instant, library: &Counts, two_paths: &Counts) {
    println!(
        "{rewritten} times three plain files in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    for (name, counts) in [("library", library), ("two paths", two_paths)] {
        let [good, mixed, torn, gave_up] =
            [&counts.good, &counts.mixed, &counts.torn, &counts.gave_up]
                .map(|counter| counter.load(Ordering::SeqCst));
        println!(
            "{name:>10}: {good} good, {mixed} of two generations, {torn} with half a file, {gave_up} given up"
        );
    }
}
