//! A pod that fights its driver: while its volume rotates it replaces whatever the driver writes,
//! or is about to write, by links out of the volume, pipes, hard links and directories.
use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use certagent_svid::layout;
use certagent_tests::Lab;
use rustix::fs::{CWD, Mode, mkfifoat};
use tokio::time::timeout;

use certagent_tests::kubelet::Pod;

use crate::support::{Node, frozen};

const ROUNDS: usize = 10_000;
/// Each round is after the end of the certificate before it.
const STEP: i64 = 61;
/// The names that the driver uses in a volume beside those of its readers and of generations.
const TEMPORARY: [&str; 3] = ["..data_new", "..link_new", layout::DATA_TMP];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "root, in a mount namespace of its own"]
async fn a_pod_that_fights_its_driver_changes_nothing_outside_and_ends_nobody() {
    let rounds = env::var("CERTAGENT_TEST_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let node = Node::start().await;
    let (hostile, neighbour) = (node.pod("hostile"), node.pod("neighbour"));
    node.publish(&hostile).await;
    node.publish(&neighbour).await;
    let outside = outside();
    let before = frozen(outside.path());
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let open = descriptors();

    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let fight = Fight {
        volume: hostile.target.clone(),
        outside: outside.path().to_owned(),
        seen: Arc::clone(&seen),
        seed: 0x2545_f491_4f6c_dd1d,
        made: 0,
    };
    let ends = Arc::clone(&stop);
    let fighter = std::thread::spawn(move || fight.until(&ends));
    for round in 0..rounds {
        rotate(&node.lab).await;
        if round % 500 == 499 {
            node.probe().await;
            node.until_valid(&neighbour).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let deeds = fighter.join().unwrap();

    assert_eq!(
        frozen(outside.path()),
        before,
        "something outside was changed"
    );
    let rotations = seen.lock().unwrap().len();
    println!("{rounds} rounds, {deeds} deeds, {rotations} generations seen in the volume");
    assert!(deeds > rounds && rotations > rounds / 20, "nobody fought");
    assert!(descriptors() < open + 32, "descriptors are left open");
    beside(&hostile);
    // Whatever it did to its volume ends with it.
    clear(&hostile.target);
    node.until_valid(&hostile).await;
    let read = certagent_credentials::read(&hostile.target);
    assert!(read.is_ok(), "{read:?}");
    node.probe().await;
    // A volume goes in whatever state it is.
    symlink(outside.path(), hostile.target.join("..data_new/more")).unwrap_or_default();
    node.unpublish(&hostile).await;
    node.unpublish(&neighbour).await;
    assert_eq!(frozen(outside.path()), before);
    node.stop().await;
}

/// Lets one certificate end, and gives whoever renews it a moment.
async fn rotate(lab: &Lab) {
    let sold = lab.emulator.stats().total_sold();
    lab.step(STEP);
    let both = async {
        while lab.emulator.stats().total_sold() < sold + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // After a failure the driver rests for some rounds: then there is nothing to wait for.
    let _rests = timeout(Duration::from_millis(25), both).await;
}

/// What stands for the rest of the node.
fn outside() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    let etc = outside.path().join("etc");
    fs::create_dir(&etc).unwrap();
    for name in layout::FILES.into_iter().chain(["passwd", "shadow"]) {
        fs::write(etc.join(name), "theirs").unwrap();
    }
    // Looks like a generation, and like the driver's own.
    let generation = etc.join("..2026_11_21_12_00_00.1");
    fs::create_dir(&generation).unwrap();
    fs::write(generation.join(layout::PRIVATE_KEY), "theirs").unwrap();
    fs::create_dir(etc.join("..data_new")).unwrap();
    outside
}

/// Beside the data nothing is but what the driver keeps there, for nobody else.
fn beside(pod: &Pod) {
    for entry in fs::read_dir(&pod.kept).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let known = ["data", "record.json", "record.json.new", "pending"];
        assert!(known.contains(&&*name), "{name}");
        let mode = entry.metadata().unwrap().permissions().mode();
        assert!(
            name == "data" || mode.trailing_zeros() >= 6,
            "{name}: {mode:o}"
        );
    }
}

/// Empties a directory; what is in it may be anything.
fn clear(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        remove(&entry.unwrap().path());
    }
}

fn remove(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else {
        return;
    };
    // The driver may be faster.
    if found.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap_or_default();
        fs::remove_dir_all(path).unwrap_or_default();
    } else {
        fs::remove_file(path).unwrap_or_default();
    }
}

struct Fight {
    volume: PathBuf,
    outside: PathBuf,
    seen: Arc<Mutex<BTreeSet<PathBuf>>>,
    seed: u64,
    made: u64,
}

impl Fight {
    /// Gives the number of its deeds.
    fn until(mut self, stop: &AtomicBool) -> usize {
        let mut deeds = 0;
        while !stop.load(Ordering::Relaxed) {
            self.deed();
            deeds += 1;
            for _ in 0..self.draw(2_000) {
                std::hint::spin_loop();
            }
            if self.draw(4) == 0 {
                std::thread::sleep(Duration::from_micros(self.draw(400)));
            }
        }
        deeds
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let length = u64::try_from(from.len()).unwrap();
        let index = self.draw(length.max(1));
        from.get(usize::try_from(index).unwrap()).cloned()
    }

    fn generations(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.volume).unwrap().flatten();
        let is_generation =
            |name: &std::ffi::OsString| name.to_str().is_some_and(layout::is_generation);
        let names = entries.map(|entry| entry.file_name()).filter(is_generation);
        names.map(|name| self.volume.join(name)).collect()
    }

    fn deed(&mut self) {
        if let Ok(current) = fs::read_link(self.volume.join(layout::DATA)) {
            self.seen.lock().unwrap().insert(current);
        }
        let generations = self.generations();
        match self.draw(10) {
            0 | 1 => self.replace(&self.volume.join(layout::DATA)),
            2 | 3 => {
                let name = self.pick(&TEMPORARY).unwrap();
                self.replace(&self.volume.join(name));
            }
            4 => {
                let name = self.pick(&layout::FILES).unwrap();
                self.replace(&self.volume.join(name));
            }
            5 => {
                if let Some(generation) = self.pick(&generations) {
                    self.replace(&generation);
                }
            }
            6 => {
                // A file of a generation, or of one that is being written.
                let mut places = generations;
                places.push(self.volume.join(TEMPORARY[0]));
                let place = self.pick(&places).unwrap();
                let is_directory = fs::symlink_metadata(&place).is_ok_and(|found| found.is_dir());
                // A link of an earlier deed leads outside, where this pod cannot write.
                if is_directory {
                    let name = self.pick(&layout::FILES).unwrap();
                    self.replace(&place.join(name));
                }
            }
            7 => {
                // A generation of its own.
                self.made += 1;
                let name = format!("..2026_11_21_12_00_00.{}", self.made % 4);
                self.replace(&self.volume.join(name));
            }
            8 => {
                if let Some(generation) = self.pick(&generations) {
                    let aside = self.volume.join("aside");
                    remove(&aside);
                    fs::rename(&generation, &aside).unwrap_or_default();
                }
            }
            _ => {
                // It rests, so that the driver comes to an end now and then.
                clear_of_links(&self.volume);
                std::thread::sleep(Duration::from_millis(self.draw(20)));
            }
        }
    }

    fn replace(&mut self, path: &Path) {
        remove(path);
        let etc = self.outside.join("etc");
        match self.draw(8) {
            0 => symlink(&etc, path).unwrap_or_default(),
            1 => symlink(etc.join("passwd"), path).unwrap_or_default(),
            2 => symlink(etc.join("..2026_11_21_12_00_00.1"), path).unwrap_or_default(),
            3 => mkfifoat(CWD, path, Mode::RWXU).unwrap_or_default(),
            4 => {
                // To a file of the volume; none outside can be linked over a mount's edge.
                let mut files: Vec<PathBuf> = Vec::new();
                for generation in self.generations() {
                    files.extend(layout::FILES.map(|name| generation.join(name)));
                }
                if let Some(file) = self.pick(&files) {
                    fs::hard_link(file, path).unwrap_or_default();
                }
                let across = fs::hard_link(etc.join("shadow"), self.volume.join("shadow"));
                assert!(across.is_err(), "a file outside was linked into the volume");
            }
            5 => fs::create_dir_all(path.join("full/of/directories")).unwrap_or_default(),
            6 => fs::create_dir(path).unwrap_or_default(),
            _ => {}
        }
    }
}

/// Takes away what keeps the driver from writing at all.
fn clear_of_links(volume: &Path) {
    let names = layout::FILES.into_iter().chain(TEMPORARY);
    for name in names.chain([layout::DATA]) {
        let path = volume.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            remove(&path);
        }
    }
}
