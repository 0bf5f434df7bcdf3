//! What is around the files: links, modes, the file system.
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use certagent_credentials::{Files, Layout};
use certagent_svid::layout;
use jiff::Timestamp;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of `linux/magic.h`.
const MEMORY_FILESYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Everything that an inspection sees besides the files' contents.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Names that do not lead to `..data`, though the generation has them.
    pub(super) astray: Vec<&'static str>,
    /// Who can read the key; nothing if that could not be seen.
    pub(super) key_modes: Option<KeyModes>,
    pub(super) filesystem: Filesystem,
    /// The directory is where something is mounted.
    pub(super) is_mount: bool,
    /// When the link of an unfinished write was made.
    pub(super) data_tmp_since: Option<Timestamp>,
}

/// Who can read the key.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyModes {
    /// The files with a key in them that everybody can read, and their modes.
    pub(super) world_readable: Vec<(&'static str, u32)>,
}

/// Where the key lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Filesystem {
    Memory,
    Disk,
    #[default]
    Unknown,
}

impl Surroundings {
    /// A tmpfs of its own, as a CSI driver mounts it: only the pod that mounts it sees it.
    pub(super) fn is_volume_mount(&self) -> bool {
        self.is_mount && self.filesystem == Filesystem::Memory
    }
}

/// Looks around. What cannot be seen is left out.
pub(super) fn look(dir: &Path, files: Option<&Files>) -> Surroundings {
    let Some(files) = files else {
        return Surroundings::default();
    };
    let swapped = matches!(files.layout(), Layout::Swapped { .. });
    let place = if swapped {
        dir.join(layout::DATA)
    } else {
        dir.to_owned()
    };
    Surroundings {
        astray: if swapped {
            astray(dir, files)
        } else {
            Vec::new()
        },
        key_modes: key_modes(dir, &place),
        filesystem: filesystem(&place),
        is_mount: is_mount(dir).unwrap_or(false),
        data_tmp_since: data_tmp_since(dir),
    }
}

fn astray(dir: &Path, files: &Files) -> Vec<&'static str> {
    let leads_to_data = |name: &str| {
        fs::read_link(dir.join(name))
            .is_ok_and(|target| target.ends_with(Path::new(layout::DATA).join(name)))
    };
    layout::FILES
        .into_iter()
        .filter(|name| files.optional(name).is_ok_and(|content| content.is_some()))
        .filter(|name| !leads_to_data(name))
        .collect()
}

fn key_modes(dir: &Path, place: &Path) -> Option<KeyModes> {
    let searchable = [dir, place]
        .into_iter()
        .map(fs::metadata)
        .collect::<io::Result<Vec<_>>>();
    let searchable = searchable
        .ok()?
        .iter()
        .all(|metadata| metadata.mode() & 0o001 != 0);
    let mut modes = KeyModes::default();
    let mut seen = false;
    for name in layout::FILES
        .into_iter()
        .filter(|name| layout::holds_key(name))
    {
        let Ok(metadata) = fs::metadata(place.join(name)) else {
            continue;
        };
        seen = true;
        if searchable && metadata.mode() & 0o004 != 0 {
            modes.world_readable.push((name, metadata.mode() & 0o7777));
        }
    }
    seen.then_some(modes)
}

fn filesystem(place: &Path) -> Filesystem {
    match rustix::fs::statfs(place).map(|found| u64::try_from(found.f_type)) {
        Ok(Ok(magic)) if MEMORY_FILESYSTEMS.contains(&magic) => Filesystem::Memory,
        Ok(_) => Filesystem::Disk,
        Err(_) => Filesystem::Unknown,
    }
}

fn is_mount(dir: &Path) -> io::Result<bool> {
    let dir: PathBuf = fs::canonicalize(dir)?;
    match dir.parent() {
        Some(parent) => Ok(fs::metadata(&dir)?.dev() != fs::metadata(parent)?.dev()),
        None => Ok(true),
    }
}

fn data_tmp_since(dir: &Path) -> Option<Timestamp> {
    let metadata = fs::symlink_metadata(dir.join(layout::DATA_TMP)).ok()?;
    Timestamp::from_second(metadata.mtime()).ok()
}
