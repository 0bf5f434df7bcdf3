//! One generation: a directory with the five files, written whole before anybody sees it.
use std::{
    fmt,
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use certagent_svid::layout;
use jiff::{SignedDuration, Timestamp};
use rustix::{
    fs::{Mode, Stat, Timespec, Timestamps, fchmod, fchown, fstat, fsync, futimens},
    process::{Gid, Uid},
};
use zeroize::Zeroizing;

use super::at;

/// What a credential needs, roughly, in bytes.
const TRIAL_BYTES: usize = 64 * 1024;

/// Whose the files of a volume are and who may read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The user that owns directories and files; the agent's own if not given.
    pub owner: Option<u32>,
    /// Their group; the agent's own if not given.
    pub group: Option<u32>,
    /// Mode of the volume's directory and of every generation's.
    pub directory_mode: u32,
    /// Mode of the two files with the private key in them.
    pub key_mode: u32,
    /// Mode of the other three files.
    pub file_mode: u32,
    /// A private key may be on a filesystem that is not in memory.
    pub allow_disk: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            owner: None,
            group: None,
            directory_mode: 0o755,
            key_mode: 0o640,
            file_mode: 0o644,
            allow_disk: false,
        }
    }
}

impl Access {
    fn file_mode(&self, name: &str) -> u32 {
        if layout::holds_key(name) {
            self.key_mode
        } else {
            self.file_mode
        }
    }

    /// A directory or file with this status is as configured.
    fn agrees(&self, stat: &Stat, mode: u32) -> bool {
        stat.st_mode & 0o7777 == mode
            && self.owner.is_none_or(|owner| owner == stat.st_uid)
            && self.group.is_none_or(|group| group == stat.st_gid)
    }

    pub(super) fn agrees_with_directory(&self, stat: &Stat) -> bool {
        self.agrees(stat, self.directory_mode)
    }

    /// Sets mode and owner, whatever the umask is. The owner comes last: after it, the file may
    /// no longer be ours to change.
    fn apply(&self, fd: BorrowedFd<'_>, mode: u32) -> Result<(), WriteFault> {
        fchmod(fd, Mode::from_raw_mode(mode)).map_err(io::Error::from)?;
        let stat = fstat(fd).map_err(io::Error::from)?;
        if self.agrees(&stat, mode) {
            return Ok(());
        }
        let (owner, group) = (self.owner.map(Uid::from_raw), self.group.map(Gid::from_raw));
        match fchown(fd, owner, group) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::PERM) => Err(WriteFault::CannotGive),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    pub(super) fn apply_to_directory(&self, fd: BorrowedFd<'_>) -> Result<(), WriteFault> {
        self.apply(fd, self.directory_mode)
    }
}

/// Why a generation was not written.
#[derive(Debug)]
pub(super) enum WriteFault {
    CannotGive,
    Io(io::Error),
}

impl From<io::Error> for WriteFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a generation holds: the texts of its files.
pub struct Content {
    /// Leaf, then intermediates, as PEM.
    pub certificates: String,
    /// The private key, PKCS#8 as PEM.
    pub private_key: Zeroizing<String>,
    /// The roots of the workload's own trust domain, as PEM.
    pub ca_certificates: String,
    /// The bundle map of every trust domain, as JSON.
    pub trust_bundles: String,
}

/// The key is not shown.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("certificates", &self.certificates)
            .field("ca_certificates", &self.ca_certificates)
            .finish_non_exhaustive()
    }
}

impl Content {
    /// The five files with their names. The credential bundle is the key, then the chain.
    pub(super) fn files(&self) -> [(&'static str, Zeroizing<Vec<u8>>); 5] {
        let key = self.private_key.as_bytes();
        let newline: &[u8] = if key.ends_with(b"\n") { b"" } else { b"\n" };
        layout::FILES.map(|name| {
            let text = match name {
                layout::CERTIFICATES => self.certificates.as_bytes().to_vec(),
                layout::PRIVATE_KEY => key.to_vec(),
                layout::CA_CERTIFICATES => self.ca_certificates.as_bytes().to_vec(),
                layout::TRUST_BUNDLES => self.trust_bundles.as_bytes().to_vec(),
                _ => [key, newline, self.certificates.as_bytes()].concat(),
            };
            (name, Zeroizing::new(text))
        })
    }
}

type Files = [(&'static str, Zeroizing<Vec<u8>>); 5];

/// Writes the files into the new, empty `directory`, then sets times, modes and owners of all.
pub(super) fn fill(
    directory: &OwnedFd,
    files: &Files,
    access: &Access,
    modified: Timestamp,
    on_disk: bool,
) -> Result<(), WriteFault> {
    for (name, text) in files {
        let mut file = at::create(directory.as_fd(), name)?;
        file.write_all(text)?;
        set_modified(file.as_fd(), modified)?;
        access.apply(file.as_fd(), access.file_mode(name))?;
        if on_disk {
            file.sync_all()?;
        }
    }
    set_modified(directory.as_fd(), modified)?;
    access.apply_to_directory(directory.as_fd())?;
    if on_disk {
        fsync(directory).map_err(io::Error::from)?;
    }
    Ok(())
}

/// Writes a file as large as a credential with the key's mode and owner, and the directory's: what
/// a volume refuses, it refuses here already.
pub(super) fn try_out(directory: &OwnedFd, access: &Access) -> Result<(), WriteFault> {
    let mut file = at::create(directory.as_fd(), "trial")?;
    file.write_all(&vec![0; TRIAL_BYTES])?;
    access.apply(file.as_fd(), access.key_mode)?;
    access.apply_to_directory(directory.as_fd())
}

/// The generation in `directory` has exactly these bytes, modes and owners.
pub(super) fn holds(directory: &OwnedFd, files: &Files, access: &Access) -> io::Result<bool> {
    if !access.agrees_with_directory(&fstat(directory)?) {
        return Ok(false);
    }
    for (name, text) in files {
        let agrees = at::stat(directory.as_fd(), name)?
            .is_some_and(|stat| access.agrees(&stat, access.file_mode(name)));
        if !agrees {
            return Ok(false);
        }
        let found = at::read_exactly(directory.as_fd(), name, text.len());
        if !found.is_ok_and(|found| found.as_ref() == Some(text)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The mtime of a generation that replaces one of `previous`. Readers compare whole seconds.
pub(super) fn next_modified(now: Timestamp, previous: Option<Timestamp>) -> Timestamp {
    previous
        .and_then(|previous| previous.checked_add(SignedDuration::from_secs(1)).ok())
        .map_or(now, |least| least.max(now))
}

/// The newest mtime in a generation: its directory's or a file's, if somebody touched that.
pub(super) fn newest_modified(directory: &OwnedFd) -> io::Result<Option<Timestamp>> {
    let mut newest = modified(&fstat(directory)?);
    for name in layout::FILES {
        if let Some(stat) = at::stat(directory.as_fd(), name)? {
            newest = newest.max(modified(&stat));
        }
    }
    Ok(newest)
}

/// The mtime of a status, if it is one that people live in.
pub(super) fn modified(stat: &Stat) -> Option<Timestamp> {
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).ok()?;
    Timestamp::new(stat.st_mtime, nanoseconds).ok()
}

fn set_modified(fd: BorrowedFd<'_>, moment: Timestamp) -> io::Result<()> {
    // Before 1970 the two parts of a Timestamp are negative; the system wants a positive fraction.
    let moment = moment.max(Timestamp::UNIX_EPOCH);
    let time = Timespec {
        tv_sec: moment.as_second(),
        tv_nsec: moment.subsec_nanosecond().into(),
    };
    Ok(futimens(
        fd,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )?)
}
