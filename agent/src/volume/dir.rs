//! The directory of one volume.
use std::{
    error::Error,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use certagent_credentials::{ReadError, Snapshot, read_generation};
use certagent_svid::layout;
use jiff::Timestamp;
use rustix::{
    fs::{
        CWD, FlockOperation, Mode, OFlags, flock, fstat, fsync, mkdirat, openat, readlinkat,
        renameat, symlinkat,
    },
    io::Errno,
    process::geteuid,
};

use super::{
    Access, Content, VolumeError, VolumeId,
    at::{self, Filesystem},
    generation::{self, WriteFault},
    retention,
};
use crate::crash;

/// A generation that is being written. One fixed name: there is one writer, and what a crash
/// leaves behind is known by it.
const DATA_NEW: &str = "..data_new";
/// A link before its rename.
const LINK_NEW: &str = "..link_new";

#[path = "cleanup.rs"]
mod cleanup;

/// A volume's directory, open, and held against every other agent as long as this value lives.
#[derive(Debug)]
pub struct VolumeDir {
    path: PathBuf,
    id: VolumeId,
    directory: OwnedFd,
    access: Access,
    on_disk: bool,
    /// One change at a time: a clean-up must not take away what is being written.
    turn: Mutex<()>,
}

/// What [`VolumeDir::write`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The name of the generation that is published now.
    pub generation: String,
    /// It is a new one; otherwise the volume held the same already, and nothing was touched.
    pub changed: bool,
}

impl VolumeDir {
    /// Opens the volume at `path`, and finds out whether it can be written *before* anything is
    /// asked of a CA for it. What a crash left behind is removed, and the links are repaired.
    ///
    /// From here on the path is not used again: a link that leads to the directory is followed
    /// now and never more.
    pub fn open(path: &Path, access: &Access) -> Result<Self, VolumeError> {
        let volume = Self::look(path, access)?;
        match flock(&volume.directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => {
                return Err(VolumeError::Held {
                    path: path.to_owned(),
                });
            }
            Err(error) => {
                return Err(VolumeError::below(path, None, "lock it", error.into()));
            }
        }
        volume.recover()?;
        Ok(volume)
    }

    /// The credential that is published in the volume at `path`, which somebody else may hold;
    /// `None` if nothing is. Nothing is changed, and no link leads out of the volume.
    pub fn peek(path: &Path) -> Result<Option<Snapshot>, VolumeError> {
        let reading = Access {
            allow_disk: true,
            ..Access::default()
        };
        Self::look(path, &reading)?.read_current()
    }

    /// The published certificates as PEM, for whoever only looks and has no business with the key;
    /// `None` if there are none, or not in a file of a sensible size. As careful as
    /// [`VolumeDir::peek`].
    pub fn peek_certificates(path: &Path) -> Result<Option<Vec<u8>>, VolumeError> {
        let reading = Access {
            allow_disk: true,
            ..Access::default()
        };
        let volume = Self::look(path, &reading)?;
        let Some((_, generation)) = volume.current()? else {
            return Ok(None);
        };
        let name = layout::CERTIFICATES;
        match at::read(
            generation.as_fd(),
            name,
            certagent_credentials::MAX_FILE_BYTES,
        ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map_err(|error| volume.failed("read its certificates", error)),
        }
    }

    /// The volume's directory, open, and not locked yet.
    fn look(path: &Path, access: &Access) -> Result<Self, VolumeError> {
        let canonical = path
            .canonicalize()
            .map_err(|source| VolumeError::open(path, source))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(CWD, &canonical, flags, Mode::empty())
            .map_err(|error| VolumeError::open(path, error.into()))?;
        let filesystem = Filesystem::of(&directory)
            .map_err(|source| VolumeError::below(path, None, "look at its filesystem", source))?;
        let on_disk = !filesystem.is_memory();
        if on_disk && !access.allow_disk {
            let (path, filesystem) = (path.to_owned(), filesystem.to_string());
            return Err(VolumeError::OnDisk { path, filesystem });
        }
        Ok(Self {
            path: path.to_owned(),
            id: VolumeId::of(&canonical),
            directory,
            access: *access,
            on_disk,
            turn: Mutex::new(()),
        })
    }

    /// The path as it was given: for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The volume's id: the same for every path that leads to the directory.
    pub fn id(&self) -> &VolumeId {
        &self.id
    }

    /// It is on a disk, not in memory only.
    pub fn is_on_disk(&self) -> bool {
        self.on_disk
    }

    /// The volume's path still leads to this directory: nobody has replaced it.
    pub fn is_at_its_path(&self) -> bool {
        match (rustix::fs::stat(&self.path), fstat(&self.directory)) {
            (Ok(there), Ok(ours)) => (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino),
            _ => false,
        }
    }

    /// A generation is published, and every name leads to it.
    pub fn is_published(&self) -> bool {
        matches!(self.current(), Ok(Some(_)))
            && layout::FILES.iter().all(|name| self.is_linked(name))
    }

    fn is_linked(&self, name: &str) -> bool {
        let target = format!("{}/{name}", layout::DATA);
        readlinkat(&self.directory, name, Vec::new())
            .is_ok_and(|found| found.as_bytes() == target.as_bytes())
    }

    /// The credential that is published now; `None` if nothing is.
    pub fn read_current(&self) -> Result<Option<Snapshot>, VolumeError> {
        let Some((name, generation)) = self.current()? else {
            return Ok(None);
        };
        self.snapshot(&generation, &name).map(Some)
    }

    /// The name of the generation that is published now; none if there is none, or it cannot be
    /// told.
    pub fn generation(&self) -> Option<String> {
        self.current().ok().flatten().map(|(name, _)| name)
    }

    /// Publishes `content`: a new generation, swapped in whole.
    ///
    /// If the volume holds the same bytes, modes and owners already, nothing is touched.
    /// Otherwise the new generation is read back as its readers will read it and given to
    /// `check`; whatever fails before the swap takes the new generation away and leaves the old
    /// one as it is. `now` names the generation and dates its files.
    pub fn write<E: Error + Send + Sync + 'static>(
        &self,
        content: &Content,
        now: Timestamp,
        check: &dyn Fn(&Snapshot) -> Result<(), E>,
    ) -> Result<Written, VolumeError> {
        let _turn = self.turn();
        self.remove_leftovers()?;
        self.clear_the_way()?;
        let files = content.files();
        let current = self.current()?;
        if let Some((name, generation)) = &current {
            let same = generation::holds(generation, &files, &self.access)
                .map_err(|error| self.failed("compare the files", error))?;
            if same {
                self.link_files()?;
                return Ok(Written {
                    generation: name.clone(),
                    changed: false,
                });
            }
        }
        let previous = match &current {
            Some((_, generation)) => generation::newest_modified(generation)
                .map_err(|error| self.failed("look at its files", error))?,
            None => None,
        };
        self.remove_replaced(now, 1)?;
        let modified = generation::next_modified(now, previous);
        let fill = |directory: &OwnedFd| {
            generation::fill(directory, &files, &self.access, modified, self.on_disk)
                .map_err(|fault| self.fault("write its files", fault))?;
            let snapshot = self.snapshot(directory, DATA_NEW)?;
            check(&snapshot).map_err(|refused| VolumeError::Refused {
                path: self.path.clone(),
                source: Box::new(refused),
            })?;
            crash::point("generation-written");
            Ok(())
        };
        let published = match self.build(now, fill) {
            // Whoever still reads a replaced one finds it gone and reads again; a renewal that never
            // comes helps nobody.
            Err(VolumeError::Full { .. }) if self.give_up_replaced()? => self.build(now, fill)?,
            built => built?,
        };
        crash::point("swapped");
        self.link_files()?;
        crash::point("links-written");
        Ok(Written {
            generation: published,
            changed: true,
        })
    }

    /// Removes the replaced generations whose time is over.
    pub fn prune(&self, now: Timestamp) -> Result<(), VolumeError> {
        let _turn = self.turn();
        self.remove_leftovers()?;
        self.remove_replaced(now, 0)
    }

    /// When, after `now`, [`VolumeDir::prune`] has something to do next. What is overdue at `now`
    /// does not count: it goes with the next prune or write, or cannot be removed.
    pub fn next_prune(&self, now: Timestamp) -> Option<Timestamp> {
        self.generations().ok()?.next(now)
    }

    /// Makes a new generation with `fill`, and publishes it. Removes it if anything fails.
    fn build(
        &self,
        now: Timestamp,
        fill: impl FnOnce(&OwnedFd) -> Result<(), VolumeError>,
    ) -> Result<String, VolumeError> {
        let built = self.make(DATA_NEW).and_then(|directory| {
            crash::point("generation-begun");
            fill(&directory)?;
            Ok(directory)
        });
        let directory = built.inspect_err(|_| self.abandon(DATA_NEW))?;
        let name = self
            .free_name(now)
            .and_then(|name| self.give_name(&directory, &name).map(|()| name))
            .inspect_err(|_| self.abandon(DATA_NEW))?;
        self.swap(&name).inspect_err(|_| self.abandon(&name))?;
        self.sync().map(|()| name)
    }

    fn make(&self, name: &str) -> Result<OwnedFd, VolumeError> {
        mkdirat(&self.directory, name, Mode::RWXU)
            .map_err(io::Error::from)
            .and_then(|()| at::open_directory(self.directory.as_fd(), name))
            .map_err(|error| self.failed("make a directory in it", error))
    }

    fn free_name(&self, now: Timestamp) -> Result<String, VolumeError> {
        let (taken, _) = self.names(layout::is_generation)?;
        Ok(retention::free_name(now, &taken))
    }

    /// Renames the finished directory, and makes sure that it was that one.
    fn give_name(&self, directory: &OwnedFd, name: &str) -> Result<(), VolumeError> {
        let failed = |error: io::Error| self.failed("rename a directory in it", error);
        renameat(&self.directory, DATA_NEW, &self.directory, name)
            .map_err(|error| failed(error.into()))?;
        let ours = fstat(directory).map_err(|error| failed(error.into()))?;
        match at::stat(self.directory.as_fd(), name).map_err(failed)? {
            Some(found) if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino) => Ok(()),
            _ => Err(VolumeError::Tampered {
                path: self.path.clone(),
                name: name.to_owned(),
            }),
        }
    }

    fn swap(&self, name: &str) -> Result<(), VolumeError> {
        let failed = |error: Errno| self.failed("swap ..data", error.into());
        symlinkat(name, &self.directory, layout::DATA_TMP).map_err(failed)?;
        crash::point("swap-begun");
        renameat(
            &self.directory,
            layout::DATA_TMP,
            &self.directory,
            layout::DATA,
        )
        .map_err(failed)
    }

    /// Makes the five names lead through `..data`; those that do already are left alone.
    fn link_files(&self) -> Result<(), VolumeError> {
        let mut changed = false;
        for name in layout::FILES {
            if self.is_linked(name) {
                continue;
            }
            changed = true;
            let target = format!("{}/{name}", layout::DATA);
            self.clear(name)?;
            symlinkat(&target, &self.directory, LINK_NEW)
                .and_then(|()| renameat(&self.directory, LINK_NEW, &self.directory, name))
                .map_err(|error| self.failed("make a link in it", error.into()))?;
        }
        if changed { self.sync() } else { Ok(()) }
    }

    /// The generation that `..data` points to. Anything that is none of ours counts as nothing.
    fn current(&self) -> Result<Option<(String, OwnedFd)>, VolumeError> {
        let target = match readlinkat(&self.directory, layout::DATA, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(self.failed("read ..data", error.into())),
        };
        let Ok(name) = target.into_string() else {
            return Ok(None);
        };
        if !layout::is_generation(&name) {
            return Ok(None);
        }
        match at::open_directory(self.directory.as_fd(), &name) {
            Ok(generation) => Ok(Some((name, generation))),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                _ => Err(self.failed("open the current generation", error)),
            },
        }
    }

    fn snapshot(&self, generation: &OwnedFd, name: &str) -> Result<Snapshot, VolumeError> {
        let files = read_generation(generation.as_fd(), &self.path, name);
        // Readers of the bundle need no other, but there are readers of these two.
        [layout::CERTIFICATES, layout::PRIVATE_KEY]
            .into_iter()
            .try_for_each(|file| match files.get(file) {
                Ok(_) => Ok(()),
                Err(problem) => Err(ReadError::File {
                    path: files.path(file),
                    problem: problem.clone(),
                }),
            })
            .and_then(|()| Snapshot::parse(&files))
            .map_err(|source| VolumeError::Unreadable {
                path: self.path.clone(),
                source,
            })
    }

    fn sync(&self) -> Result<(), VolumeError> {
        if !self.on_disk {
            return Ok(());
        }
        fsync(&self.directory).map_err(|error| self.failed("sync it", error.into()))
    }

    fn stat(&self) -> Result<rustix::fs::Stat, VolumeError> {
        fstat(&self.directory).map_err(|error| self.failed("look at it", error.into()))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // The directory is the state, and each change of it is whole or undone.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, doing: &'static str, fault: WriteFault) -> VolumeError {
        match fault {
            WriteFault::Io(error) => self.failed(doing, error),
            WriteFault::CannotGive => VolumeError::CannotGive {
                path: self.path.clone(),
                owner: self.access.owner,
                group: self.access.group,
                agent: geteuid().as_raw(),
            },
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> VolumeError {
        let stat = fstat(&self.directory).ok();
        VolumeError::below(&self.path, stat.as_ref(), doing, source)
    }
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;
