//! What must go from a volume, and what must be right before it is written.
use std::{io, os::fd::AsFd as _};

use certagent_svid::layout;
use jiff::Timestamp;
use rustix::{
    fs::{Access, AtFlags, accessat, fstat, unlinkat},
    io::Errno,
    process::geteuid,
};

use super::{
    super::{
        at, generation,
        retention::{Found, Generations},
    },
    DATA_NEW, LINK_NEW, VolumeDir, VolumeError,
};

impl VolumeDir {
    /// At the start: everything that would stop a write is found now, everything that a crash
    /// left behind goes, and links that it left out are made.
    pub(super) fn recover(&self) -> Result<(), VolumeError> {
        self.remove_leftovers()?;
        self.clear_the_way()?;
        self.adopt()?;
        self.generations()?
            .leftover
            .iter()
            .for_each(|name| self.discard(name));
        self.try_out()?;
        if self.current()?.is_some() {
            self.link_files()
        } else {
            Ok(())
        }
    }

    /// Gives the directory itself its mode and owner, unless it serves other purposes too:
    /// somebody who names `/tmp` as a volume must not find it closed to everybody else.
    fn adopt(&self) -> Result<(), VolumeError> {
        let stat = self.stat()?;
        let (_, strangers) = self.names(is_ours)?;
        let may = stat.st_uid == geteuid().as_raw() || geteuid().is_root();
        if strangers || !may || self.access.agrees_with_directory(&stat) {
            return Ok(());
        }
        self.access
            .apply_to_directory(self.directory.as_fd())
            .map_err(|fault| self.fault("set its mode", fault))
    }

    /// Writes as a generation is written, and takes it back. Where one is that was written with
    /// the same modes and owners, asking for permission is enough: a restart with a thousand
    /// volumes must not wait for a disk.
    fn try_out(&self) -> Result<(), VolumeError> {
        if let Some((_, generation)) = self.current()? {
            let stat =
                fstat(&generation).map_err(|error| self.failed("look at it", error.into()))?;
            if self.access.agrees_with_directory(&stat) {
                let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
                return accessat(&self.directory, ".", all, AtFlags::EACCESS)
                    .map_err(|error| self.failed("write in it", error.into()));
            }
        }
        let tried = self.make(DATA_NEW).and_then(|directory| {
            generation::try_out(&directory, &self.access)
                .map_err(|fault| self.fault("write a file in it", fault))
        });
        let removed = self.remove(DATA_NEW);
        tried.and(removed)
    }

    pub(super) fn remove_leftovers(&self) -> Result<(), VolumeError> {
        [DATA_NEW, LINK_NEW, layout::DATA_TMP]
            .iter()
            .try_for_each(|name| self.remove(name))
    }

    /// A directory may stand where a link belongs: an empty one goes, another is an error.
    pub(super) fn clear_the_way(&self) -> Result<(), VolumeError> {
        self.clear(layout::DATA)?;
        layout::FILES.iter().try_for_each(|name| self.clear(name))
    }

    pub(super) fn clear(&self, name: &str) -> Result<(), VolumeError> {
        let found = at::stat(self.directory.as_fd(), name)
            .map_err(|error| self.failed("look at its files", error))?;
        if !found.is_some_and(|stat| at::is_directory(&stat)) {
            return Ok(());
        }
        unlinkat(&self.directory, name, AtFlags::REMOVEDIR)
            .map_err(|error| self.removal_failed(name, error.into()))
    }

    pub(super) fn remove_replaced(&self, now: Timestamp, room: usize) -> Result<(), VolumeError> {
        let generations = self.generations()?;
        let leftover = generations.leftover.iter().map(String::as_str);
        generations
            .overdue(now, room)
            .chain(leftover)
            .for_each(|name| self.discard(name));
        Ok(())
    }

    /// Makes room where there is none: the replaced generations go before their time. False if
    /// there was none to give up.
    pub(super) fn give_up_replaced(&self) -> Result<bool, VolumeError> {
        let generations = self.generations()?;
        for (name, _) in &generations.replaced {
            tracing::warn!(volume = %self.path.display(), generation = name,
                "the volume is full, so the replaced generation is given up early");
            self.discard(name);
        }
        Ok(!generations.replaced.is_empty())
    }

    pub(super) fn generations(&self) -> Result<Generations, VolumeError> {
        let current = self.current()?.map(|(name, _)| name);
        let (names, _) = self.names(layout::is_generation)?;
        let mut found = Vec::new();
        for name in names {
            let stat = at::stat(self.directory.as_fd(), &name)
                .map_err(|error| self.failed("look at its generations", error))?;
            if let Some(stat) = stat {
                let modified = generation::modified(&stat).unwrap_or(Timestamp::MIN);
                found.push(Found { name, modified });
            }
        }
        Ok(Generations::sort(found, current.as_deref()))
    }

    pub(super) fn names(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(Vec<String>, bool), VolumeError> {
        at::names(self.directory.as_fd(), wanted)
            .map_err(|error| self.failed("list its files", error))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), VolumeError> {
        at::remove(self.directory.as_fd(), name).map_err(|error| self.removal_failed(name, error))
    }

    /// Takes back an unfinished generation.
    pub(super) fn abandon(&self, name: &str) {
        self.discard(name);
        self.discard(layout::DATA_TMP);
    }

    /// Removes, as far as that goes: a workload that fills a directory of its own and calls it a
    /// generation must not stop its own renewal. The next write, prune or start tries again.
    pub(super) fn discard(&self, name: &str) {
        if let Err(error) = self.remove(name) {
            tracing::warn!(%error, generation = name, "an old or unfinished generation stays");
        }
    }

    fn removal_failed(&self, name: &str, error: io::Error) -> VolumeError {
        match Errno::from_io_error(&error) {
            Some(Errno::NOTEMPTY | Errno::EXIST) => VolumeError::InTheWay {
                path: self.path.clone(),
                name: name.to_owned(),
            },
            _ => self.failed("remove a file in it", error),
        }
    }
}

fn is_ours(name: &str) -> bool {
    layout::FILES.contains(&name)
        || [layout::DATA, layout::DATA_TMP, DATA_NEW, LINK_NEW].contains(&name)
        || layout::is_generation(name)
}
