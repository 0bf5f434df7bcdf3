//! Why a volume cannot be used.
use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use certagent_credentials::ReadError;
use rustix::{fs::Stat, io::Errno, process::geteuid};

/// Why a volume cannot be opened, read or written. What was valid in it still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// There is nothing at the path.
    #[error("the volume {path} does not exist; create the directory, or correct the path")]
    Missing {
        /// The volume's path.
        path: PathBuf,
    },
    /// The path leads to something else.
    #[error("the volume {path} is not a directory; give the path of one")]
    NotADirectory {
        /// The volume's path.
        path: PathBuf,
    },
    /// The directory would put a private key on a disk.
    #[error(
        "the volume {path} is on a disk (filesystem: {filesystem}) and would keep a private key there; mount a tmpfs on it, or set allowDisk: true (--allow-disk on the command line) if that is meant"
    )]
    OnDisk {
        /// The volume's path.
        path: PathBuf,
        /// The filesystem's name, if it is known, or its magic number.
        filesystem: String,
    },
    /// The filesystem is mounted for reading only.
    #[error("the volume {path} is read-only; mount it for writing in the agent")]
    ReadOnly {
        /// The volume's path.
        path: PathBuf,
    },
    /// The directory belongs to somebody else.
    #[error(
        "the volume {path} belongs to uid {owner} and the agent runs as uid {agent}: permission denied to {doing}; give the directory to uid {agent}, or run the agent as its owner",
        owner = known(*owner)
    )]
    NoPermission {
        /// The volume's path.
        path: PathBuf,
        /// The directory's owner.
        owner: Option<u32>,
        /// The agent's effective user id.
        agent: u32,
        /// What was refused.
        doing: &'static str,
    },
    /// The files cannot be given to the configured owner and group.
    #[error(
        "the files in the volume {path} cannot be given to owner {owner} and group {group} by uid {agent}; run the agent as root, or leave owner and group out",
        owner = configured(*owner),
        group = configured(*group)
    )]
    CannotGive {
        /// The volume's path.
        path: PathBuf,
        /// The configured owner.
        owner: Option<u32>,
        /// The configured group.
        group: Option<u32>,
        /// The agent's effective user id.
        agent: u32,
    },
    /// Another agent writes this volume.
    #[error(
        "the volume {path} is held by another running agent; end that one, or give each its own volume"
    )]
    Held {
        /// The volume's path.
        path: PathBuf,
    },
    /// There is no space left.
    #[error(
        "the volume {path} is full{}; free some space or enlarge it (a credential needs about 64 KiB)",
        Room::told(*room)
    )]
    Full {
        /// The volume's path.
        path: PathBuf,
        /// How much it could hold, if its filesystem says so.
        room: Option<Room>,
    },
    /// A directory with content stands where one of our names belongs.
    #[error(
        "in the volume {path}, {name} is a directory that is not empty, where the agent's own file or link belongs; move it away"
    )]
    InTheWay {
        /// The volume's path.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Somebody else changed the volume while it was written.
    #[error(
        "in the volume {path}, somebody else changed {name} while the agent wrote it; only the agent may write there"
    )]
    Tampered {
        /// The volume's path.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// What is, or was about to be, in the volume does not read back as a credential.
    #[error("the volume {path} holds no credential that its readers could use: {source}")]
    Unreadable {
        /// The volume's path.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
    /// The caller's own check refused the new generation.
    #[error("the new credential for the volume {path} was not published: {source}")]
    Refused {
        /// The volume's path.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system refuses for another reason.
    #[error("the volume {path}: cannot {doing}: {source}")]
    Io {
        /// The volume's path.
        path: PathBuf,
        /// What was refused.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How much a filesystem can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub bytes: u64,
    /// Files and directories; none where that is not limited.
    pub files: Option<u64>,
}

impl Room {
    /// That of the filesystem that a path is on. The path may be missing, its directory not.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(path).or_else(|missing| {
            let parent = path.parent().ok_or(missing)?;
            rustix::fs::statvfs(parent)
        });
        let found = found.ok()?;
        let bytes = found.f_blocks.checked_mul(found.f_frsize)?;
        (bytes > 0).then_some(Self {
            bytes,
            files: Some(found.f_files).filter(|files| *files > 0),
        })
    }

    /// For the middle of a message.
    pub(super) fn told(room: Option<Self>) -> String {
        room.map_or_else(String::new, |room| format!(" (it has room for {room})"))
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.bytes / 1024)?;
        match self.files {
            Some(files) => write!(f, " and {files} files"),
            None => Ok(()),
        }
    }
}

fn known(id: Option<u32>) -> String {
    id.map_or_else(|| "(not known)".to_owned(), |id| id.to_string())
}

fn configured(id: Option<u32>) -> String {
    id.map_or_else(|| "(unchanged)".to_owned(), |id| id.to_string())
}

impl VolumeError {
    /// The directory itself could not be opened.
    pub(super) fn open(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => {
                let owner = rustix::fs::stat(&path).ok();
                Self::below(&path, owner.as_ref(), "open it", source)
            }
        }
    }

    /// A call below the open directory failed; `directory` is that directory's own status.
    pub(super) fn below(
        path: &Path,
        directory: Option<&Stat>,
        doing: &'static str,
        source: io::Error,
    ) -> Self {
        let path = path.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full {
                room: Room::of(&path),
                path,
            },
            Some(Errno::ROFS) => Self::ReadOnly { path },
            Some(Errno::ACCESS | Errno::PERM) => Self::NoPermission {
                path,
                owner: directory.map(|stat| stat.st_uid),
                agent: geteuid().as_raw(),
                doing,
            },
            _ => Self::Io {
                path,
                doing,
                source,
            },
        }
    }
}
