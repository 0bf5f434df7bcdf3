//! The agent's own directory, where workloads cannot look.
//!
//! ```text
//! STATE/last-good.json
//! STATE/trust.json
//! STATE/distrust
//! STATE/volumes/ID/record.json
//! STATE/volumes/ID/hooks.json
//! STATE/volumes/ID/pending/{key.pem,request.json}
//! ```
use std::{
    ffi::OsString,
    fmt,
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use certagent_svid::certificate::hex;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::geteuid,
};
use sha2::{Digest as _, Sha256};

use super::{HookRecord, Pending, Record, RecordError, Room, at::Filesystem};
use crate::trust::Distrust;

const LAST_GOOD: &str = "last-good.json";
const TRUST: &str = "trust.json";
const DISTRUST: &str = "distrust";
const TRUST_ASIDE: &str = "trust.json.corrupt";
const VOLUMES: &str = "volumes";

/// A volume's id: 32 hex digits of the SHA-256 of its canonical path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeId(String);

impl VolumeId {
    /// The id of the volume at a path that was made canonical.
    pub fn of(canonical: &Path) -> Self {
        let digest: [u8; 32] = Sha256::digest(canonical.as_os_str().as_bytes()).into();
        let mut id = hex(&digest);
        id.truncate(32);
        Self(id)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Nobody said where it is.
    #[error(
        "there is no place for the agent's state: give --state-dir, or set RUNTIME_DIRECTORY (as systemd's RuntimeDirectory= does) or XDG_RUNTIME_DIR"
    )]
    NoLocation,
    /// Its parent directory is missing.
    #[error(
        "the state directory {path} cannot be made: its parent does not exist; make that first"
    )]
    NoParent {
        /// Its path.
        path: PathBuf,
    },
    /// The path leads to something else.
    #[error("the state directory {path} is not a directory; give another with --state-dir")]
    NotADirectory {
        /// Its path.
        path: PathBuf,
    },
    /// It is on a disk, and would hold private keys.
    #[error(
        "the state directory {path} is on a disk (filesystem: {filesystem}) and would keep private keys there; give one on a tmpfs with --state-dir, or pass --allow-disk if that is meant"
    )]
    OnDisk {
        /// Its path.
        path: PathBuf,
        /// The filesystem's name.
        filesystem: String,
    },
    /// Another agent uses it.
    #[error(
        "the state directory {path} is held by another running agent; end that one, or give each its own with --state-dir"
    )]
    Held {
        /// Its path.
        path: PathBuf,
    },
    /// Others than its owner may write in it.
    #[error(
        "the state directory {path} can be written by others (mode {mode:o}); chmod 700 it, or give another with --state-dir"
    )]
    Exposed {
        /// Its path.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It must not be written by this user.
    #[error(
        "the agent, uid {agent}, must not write {path}: permission denied; give the state directory to uid {agent}, or another with --state-dir"
    )]
    NoPermission {
        /// The directory or file.
        path: PathBuf,
        /// The agent's effective user id.
        agent: u32,
    },
    /// It is mounted for reading only.
    #[error("{path} is read-only; give a state directory that can be written with --state-dir")]
    ReadOnly {
        /// The directory or file.
        path: PathBuf,
    },
    /// There is no space left.
    #[error(
        "there is no space left to write {path}; free some, or enlarge its filesystem{}",
        Room::told(*room)
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// How much its filesystem could hold, if that says so.
        room: Option<Room>,
    },
    /// The system refuses for another reason.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::ACCESS | Errno::PERM) => Self::NoPermission {
                path,
                agent: geteuid().as_raw(),
            },
            Some(Errno::ROFS) => Self::ReadOnly { path },
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full {
                room: Room::of(&path),
                path,
            },
            Some(Errno::NOTDIR) => Self::NotADirectory { path },
            _ => Self::Io { path, source },
        }
    }
}

/// The state directory, held against every other agent as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    on_disk: bool,
    _lock: File,
}

impl StateDir {
    /// Where the state is: `flag` (`--state-dir`), else `RUNTIME_DIRECTORY`, else
    /// `XDG_RUNTIME_DIR/certagent`. `env` looks a variable up.
    pub fn default_location(
        flag: Option<PathBuf>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<PathBuf, StateError> {
        let set = |name| env(name).filter(|value| !value.is_empty());
        if let Some(path) = flag {
            return Ok(path);
        }
        if let Some(list) = set("RUNTIME_DIRECTORY") {
            // systemd gives every RuntimeDirectory= of the unit, with colons between them.
            if let Some(first) = std::env::split_paths(&list).next() {
                return Ok(first);
            }
        }
        set("XDG_RUNTIME_DIR")
            .map(|directory| PathBuf::from(directory).join("certagent"))
            .ok_or(StateError::NoLocation)
    }

    /// Opens the state directory, and makes it, for its owner only, if its parent exists.
    pub fn open(path: &Path, allow_disk: bool) -> Result<Self, StateError> {
        match make_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::NoParent {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(StateError::io(path, error)),
            Ok(()) => {}
        }
        let failed = |error| StateError::io(path, error);
        let lock = File::open(path).map_err(failed)?;
        let metadata = lock.metadata().map_err(failed)?;
        if !metadata.is_dir() {
            return Err(StateError::NotADirectory {
                path: path.to_owned(),
            });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(StateError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let filesystem = Filesystem::of(&lock).map_err(failed)?;
        let on_disk = !filesystem.is_memory();
        if on_disk && !allow_disk {
            let (path, filesystem) = (path.to_owned(), filesystem.to_string());
            return Err(StateError::OnDisk { path, filesystem });
        }
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => {
                return Err(StateError::Held {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let state = Self {
            path: path.to_owned(),
            on_disk,
            _lock: lock,
        };
        let volumes = path.join(VOLUMES);
        make_directory(&volumes).map_err(|error| StateError::io(&volumes, error))?;
        state.try_out()?;
        Ok(state)
    }

    /// The record of a volume in the state directory at `path`, which another process may hold:
    /// for looking only.
    pub fn peek_record(path: &Path, id: &VolumeId) -> Result<Option<Record>, RecordError> {
        Record::load(&path.join(VOLUMES).join(id.as_str()))
    }

    /// How the hooks of a volume stand, in the state directory at `path`, which another process may
    /// hold: for looking only.
    pub fn peek_hooks(path: &Path, id: &VolumeId) -> Result<HookRecord, StateError> {
        HookRecord::load(&path.join(VOLUMES).join(id.as_str()))
    }

    /// The roots that are distrusted by the agent whose state directory is at `path`; none where
    /// that is not known.
    pub fn peek_distrust(path: &Path) -> Distrust {
        let text = load_text(&path.join(DISTRUST)).ok().flatten();
        let lines = text.iter().flat_map(|text| text.lines());
        lines.filter_map(|line| line.parse().ok()).collect()
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept for one volume. Nothing is made before it is written.
    pub fn volume(&self, id: &VolumeId) -> VolumeState {
        VolumeState::at(self.path.join(VOLUMES).join(id.as_str()), self.on_disk)
    }

    /// Keeps the last good config, as text.
    pub fn save_last_good(&self, text: &str) -> Result<(), StateError> {
        store(&self.path, LAST_GOOD, text.as_bytes(), self.on_disk, || ())
    }

    /// The last good config; `None` if none was kept.
    pub fn load_last_good(&self) -> Result<Option<String>, StateError> {
        load_text(&self.path.join(LAST_GOOD))
    }

    /// Keeps what is known of roots, as text.
    pub fn save_trust(&self, text: &str) -> Result<(), StateError> {
        store(&self.path, TRUST, text.as_bytes(), self.on_disk, || ())
    }

    /// Keeps the roots that are distrusted now, for those who look at the volumes.
    pub fn save_distrust(&self, distrust: &Distrust) -> Result<(), StateError> {
        let path = self.path.join(DISTRUST);
        if distrust.is_empty() {
            return remove(&path).map_err(|error| StateError::io(&path, error));
        }
        let lines: Vec<_> = distrust.iter().map(ToString::to_string).collect();
        let text = lines.join("\n");
        store(&self.path, DISTRUST, text.as_bytes(), self.on_disk, || ())
    }

    /// What was known of roots; `None` if nothing was kept.
    pub fn load_trust(&self) -> Result<Option<String>, StateError> {
        load_text(&self.trust_path())
    }

    /// Where what is known of roots is kept, for messages.
    pub fn trust_path(&self) -> PathBuf {
        self.path.join(TRUST)
    }

    /// Moves what was known of roots and cannot be read aside, to `trust.json.corrupt`, for a
    /// person to look at.
    pub fn set_trust_aside(&self) -> Result<(), StateError> {
        let path = self.trust_path();
        std::fs::rename(&path, self.path.join(TRUST_ASIDE))
            .map_err(|error| StateError::io(&path, error))
    }

    /// A directory that cannot be written is found at the start, not with a key in hand.
    fn try_out(&self) -> Result<(), StateError> {
        store(&self.path, "trial", b"trial", false, || ())?;
        let path = self.path.join("trial");
        std::fs::remove_file(&path).map_err(|error| StateError::io(&path, error))
    }
}

/// What the agent keeps for one volume.
#[derive(Clone, Debug)]
pub struct VolumeState {
    path: PathBuf,
    on_disk: bool,
}

impl VolumeState {
    /// What is kept in a directory that is for this volume alone. Whether it is on a disk decides
    /// if writes wait for that.
    pub fn at(path: PathBuf, on_disk: bool) -> Self {
        Self { path, on_disk }
    }

    /// The record of what was issued; `None` if there is none.
    pub fn load_record(&self) -> Result<Option<Record>, RecordError> {
        Record::load(&self.path)
    }

    /// Replaces the record, whole.
    pub fn save_record(&self, record: &Record) -> Result<(), StateError> {
        self.make()?;
        record.save(&self.path, self.on_disk)
    }

    /// Moves a record that cannot be read aside, to `record.json.corrupt`, for a person to look
    /// at. Gives its new path; `None` if there was no record.
    pub fn set_record_aside(&self) -> Result<Option<PathBuf>, StateError> {
        Record::set_aside(&self.path)
    }

    /// How the hooks stand; nothing is known where nothing was kept.
    pub fn load_hooks(&self) -> Result<HookRecord, StateError> {
        HookRecord::load(&self.path)
    }

    /// Keeps how the hooks stand.
    pub fn save_hooks(&self, hooks: &HookRecord) -> Result<(), StateError> {
        self.make()?;
        hooks.save(&self.path, self.on_disk)
    }

    /// The request that is under way, if there is one.
    pub fn pending(&self) -> Pending {
        Pending::new(self.path.join("pending"), self.on_disk)
    }

    /// Forgets everything that is kept for the volume.
    pub fn forget(&self) -> Result<(), StateError> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::io(&self.path, error))
            }
            _ => Ok(()),
        }
    }

    fn make(&self) -> Result<(), StateError> {
        make_directories(&self.path).map_err(|error| StateError::io(&self.path, error))
    }
}

/// Makes a directory for its owner only; one that exists stays as it is.
fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Makes a directory and those above it, as far as somebody has taken them away meanwhile.
pub(super) fn make_directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces `directory/name` by a rename; the file is for its owner only. `before_rename` is called with
/// the new content complete.
pub(super) fn store(
    directory: &Path,
    name: &str,
    content: &[u8],
    on_disk: bool,
    before_rename: impl FnOnce(),
) -> Result<(), StateError> {
    let path = directory.join(name);
    let new = directory.join(format!("{name}.new"));
    let written = write_new(&new, content, on_disk).and_then(|()| {
        before_rename();
        std::fs::rename(&new, &path)
    });
    if let Err(error) = written {
        // What was there before still is; the half-written file is of no use.
        let _removed = std::fs::remove_file(&new);
        return Err(StateError::io(&path, error));
    }
    sync_directory(directory, on_disk).map_err(|error| StateError::io(&path, error))
}

/// Makes renames and removals in `directory` outlive a loss of power.
pub(super) fn sync_directory(directory: &Path, on_disk: bool) -> io::Result<()> {
    if on_disk {
        File::open(directory)?.sync_all()
    } else {
        Ok(())
    }
}

fn write_new(path: &Path, content: &[u8], on_disk: bool) -> io::Result<()> {
    // A crash may have left one.
    remove(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    if on_disk { file.sync_all() } else { Ok(()) }
}

/// Removes a file that may be missing.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The content of a text file that may be missing.
fn load_text(path: &Path) -> Result<Option<String>, StateError> {
    let text = load(path)?.map(String::from_utf8).transpose();
    text.map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error.utf8_error());
        StateError::io(path, source)
    })
}

/// The content of a file that may be missing.
pub(super) fn load(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::io(path, error)),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
