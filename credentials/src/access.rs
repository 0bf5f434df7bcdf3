//! Who may have a file, and who asks for it.
use std::{fmt, path::Path};

/// Who asks for a file or directory, and who may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The effective user of this process.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// The owner.
    pub owner: u32,
    /// The group.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uid,
            gid,
            owner,
            group,
            mode,
        } = self;
        write!(
            f,
            "this process runs as uid {uid} and gid {gid}, and it belongs to {owner}:{group} with mode {mode:04o}; run as a user or group that may read it, or have it written for this one"
        )
    }
}

impl Access {
    /// What the system says of a path, if it may be asked.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        rustix::fs::stat(path)
            .ok()
            .map(|found| Self::in_stat(&found))
    }

    #[cfg(not(unix))]
    pub(crate) fn of(_path: &Path) -> Option<Self> {
        None
    }
}

#[cfg(unix)]
impl Access {
    /// What the system said of a file or directory.
    pub(crate) fn in_stat(found: &rustix::fs::Stat) -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            owner: found.st_uid,
            group: found.st_gid,
            mode: found.st_mode & 0o7777,
        }
    }
}
