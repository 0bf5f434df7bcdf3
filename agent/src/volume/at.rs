//! System calls below an open directory: one component, no link followed.
use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstatfs, openat, openat2, statat,
        unlinkat,
    },
    io::Errno,
};
use zeroize::Zeroizing;

/// The most entries of a directory that one clean-up looks at: a workload may have made more.
const MAX_ENTRIES: usize = 4096;

/// Opens `name`, one component, in `directory`; a link is refused.
pub(super) fn open(
    directory: BorrowedFd<'_>,
    name: &str,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    debug_assert!(
        !name.contains('/') && name != ".." && name != ".",
        "{name} leads elsewhere"
    );
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(directory, name, flags, mode, resolve) {
        // An old kernel, or a seccomp filter that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => Ok(openat(directory, name, flags, mode)?),
        opened => Ok(opened?),
    }
}

/// Opens a directory in `directory`.
pub(super) fn open_directory(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    open(
        directory,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )
}

/// Creates a file for writing that must not exist, for nobody else to read yet.
pub(super) fn create(directory: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    Ok(open(directory, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// The content of a regular file of exactly `length` bytes; `None` for anything else.
pub(super) fn read_exactly(
    directory: BorrowedFd<'_>,
    name: &str,
    length: usize,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(directory, name, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || usize::try_from(metadata.len()) != Ok(length) {
        return Ok(None);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(metadata.len() + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() == length).then_some(bytes))
}

/// The content of a regular file of at most `most` bytes; `None` for anything else. Not for files
/// with a key in them.
pub(super) fn read(
    directory: BorrowedFd<'_>,
    name: &str,
    most: usize,
) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(directory, name, flags, Mode::empty())?);
    let length = file.metadata().map(|found| {
        let length = usize::try_from(found.len()).ok();
        length.filter(|length| found.is_file() && *length <= most)
    })?;
    let Some(length) = length else {
        return Ok(None);
    };
    let mut bytes = Vec::with_capacity(length);
    // It may grow meanwhile.
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// What stands at `name`, itself and not what it points to; `None` if nothing does.
pub(super) fn stat(directory: BorrowedFd<'_>, name: &str) -> io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// The names in a directory for which `wanted` holds, and whether there are any others.
pub(super) fn names(
    directory: BorrowedFd<'_>,
    wanted: impl Fn(&str) -> bool,
) -> io::Result<(Vec<String>, bool)> {
    let (mut names, mut others) = (Vec::new(), false);
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) if wanted(name) => {
                if names.len() < MAX_ENTRIES {
                    names.push(name.to_owned());
                }
            }
            _ => others = true,
        }
    }
    Ok((names, others))
}

/// Removes a file, a link, or a directory and the files in it. What does not exist is removed
/// already; a directory that holds directories with content stays and is an error.
pub(super) fn remove(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let inner = open_directory(directory, name)?;
    // Its mode may forbid even us to take something out; if this fails, so will that.
    let _mode = rustix::fs::fchmod(&inner, Mode::RWXU);
    for entry in Dir::read_from(&inner)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." && unlinkat(&inner, name, AtFlags::empty()).is_err() {
            // An empty directory goes; anything else makes the last call below fail.
            let _empty = unlinkat(&inner, name, AtFlags::REMOVEDIR);
        }
    }
    match unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The filesystem that a descriptor is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filesystem(u32);

const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;

impl Filesystem {
    pub(super) fn of(fd: impl AsFd) -> io::Result<Self> {
        // A signed word on some machines, and half of it on others.
        let magic = i128::from(fstatfs(fd)?.f_type) & i128::from(u32::MAX);
        Ok(Self(u32::try_from(magic).unwrap_or_default()))
    }

    /// What is written there does not outlive the machine's power.
    pub(super) fn is_memory(self) -> bool {
        self.0 == TMPFS || self.0 == RAMFS
    }
}

/// The names stand in linux/magic.h.
impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            TMPFS => "tmpfs",
            RAMFS => "ramfs",
            0xef53 => "ext2, ext3 or ext4",
            0x5846_5342 => "xfs",
            0x9123_683e => "btrfs",
            0x794c_7630 => "overlayfs",
            0xf2f5_2010 => "f2fs",
            0x2fc1_2fc1 => "zfs",
            0x6969 => "nfs",
            0x6573_5546 => "fuse",
            0x0102_1997 => "9p",
            0xff53_4d42 | 0xfe53_4d42 => "smb",
            0x4d44 => "vfat",
            other => return write!(f, "unknown, magic number {other:#x}"),
        })
    }
}
