//! A directory that is open: everything below goes through it, whatever its path means by then.
use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::FileProblem;

pub(crate) use platform::Place;

/// Reads a regular file of at most `limit` bytes. No copy of it is left in freed memory.
fn read_bounded(file: File, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileProblem::NotAFile);
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > limit {
        return Err(FileProblem::TooLarge { limit });
    }
    // Room for one byte more, and no more is read: a buffer that must grow would leave its old self
    // behind. A file that grows meanwhile is being written, and is read again.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    let bound = u64::try_from(size).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(FileProblem::TooLarge { limit });
    }
    Ok(bytes)
}

#[cfg(unix)]
mod platform {
    use std::os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    };

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, readlinkat, statat};

    use super::{File, FileProblem, Path, PathBuf, Zeroizing, io, read_bounded};
    use crate::Access;

    /// A directory, held by its descriptor.
    pub(crate) struct Place(OwnedFd);

    impl Place {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            open_directory(CWD, path).map(Self)
        }

        pub(crate) fn open_below(&self, name: &Path) -> io::Result<Self> {
            open_directory(self.0.as_fd(), name).map(Self)
        }

        pub(crate) fn read_link(&self, name: &str) -> io::Result<PathBuf> {
            let target = readlinkat(&self.0, name, Vec::new())?;
            Ok(std::ffi::OsString::from_vec(target.into_bytes()).into())
        }

        pub(crate) fn read(
            &self,
            name: &str,
            limit: usize,
        ) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
            read_at(self.0.as_fd(), name, limit, OFlags::empty())
        }
    }

    /// Reads `name` in `directory`, and refuses a link in its place.
    pub(crate) fn read_no_link(
        directory: BorrowedFd<'_>,
        name: &str,
        limit: usize,
    ) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
        read_at(directory, name, limit, OFlags::NOFOLLOW)
    }

    fn read_at(
        directory: BorrowedFd<'_>,
        name: &str,
        limit: usize,
        extra: OFlags,
    ) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
        // Not blocking: a FIFO in the file's place must not hold us for ever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | extra;
        match openat(directory, name, flags, Mode::empty()) {
            Ok(file) => read_bounded(File::from(file), limit),
            Err(rustix::io::Errno::LOOP) if extra.contains(OFlags::NOFOLLOW) => {
                Err(FileProblem::Link)
            }
            Err(rustix::io::Errno::LOOP) => Err(FileProblem::LinkLoop),
            Err(rustix::io::Errno::ACCESS) => Err(denied(directory, name)),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Names who may read the file, where the system tells.
    fn denied(directory: BorrowedFd<'_>, name: &str) -> FileProblem {
        match statat(directory, name, AtFlags::empty()) {
            Ok(found) => FileProblem::NotReadable(Access::in_stat(&found)),
            Err(_untold) => FileProblem::Denied,
        }
    }

    fn open_directory(at: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(at, name, flags, Mode::empty())?)
    }
}

#[cfg(not(unix))]
mod platform {
    use super::{File, FileProblem, Path, PathBuf, Zeroizing, io, read_bounded};

    /// A directory, held by its path: a generation's name is never used twice, so the path of a
    /// generation pins it as well as a descriptor does.
    pub(crate) struct Place(PathBuf);

    impl Place {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            if std::fs::metadata(path)?.is_dir() {
                Ok(Self(path.to_owned()))
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            }
        }

        pub(crate) fn open_below(&self, name: &Path) -> io::Result<Self> {
            Self::open(&self.0.join(name))
        }

        pub(crate) fn read_link(&self, name: &str) -> io::Result<PathBuf> {
            let path = self.0.join(name);
            // As elsewhere: what exists and is no link is an invalid input.
            if std::fs::symlink_metadata(&path)?.is_symlink() {
                std::fs::read_link(path)
            } else {
                Err(io::ErrorKind::InvalidInput.into())
            }
        }

        pub(crate) fn read(
            &self,
            name: &str,
            limit: usize,
        ) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
            let path = self.0.join(name);
            if !std::fs::metadata(&path)?.is_file() {
                return Err(FileProblem::NotAFile);
            }
            read_bounded(File::open(path)?, limit)
        }
    }
}

#[cfg(unix)]
pub(crate) use platform::read_no_link;
