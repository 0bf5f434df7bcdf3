//! Mounts: a tmpfs for each volume, and its part `data/` bound into the pod.
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use procfs::{
    FromBufRead as _,
    process::{MountInfo, MountInfos},
};
use rustix::{
    fs::{
        AtFlags, CWD, StatVfsMountFlags, Statx, StatxAttributes, StatxFlags, statfs, statvfs, statx,
    },
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount},
};
use tracing::warn;

/// Nobody runs programs, devices or another user's rights from a credential.
const FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Why a mount cannot be made, looked at or taken away.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct MountError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl MountError {
    fn new(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// The mounts of this process's namespace.
pub(crate) struct Mounts(Vec<MountInfo>);

impl Mounts {
    /// Reads them.
    pub(crate) fn read() -> Result<Self, MountError> {
        let path = Path::new("/proc/self/mountinfo");
        let failed = |error: &dyn std::fmt::Display| {
            MountError::new("read", path, io::Error::other(error.to_string()))
        };
        let text = fs::read(path).map_err(|error| failed(&error))?;
        let infos = MountInfos::from_buf_read(&text[..]).map_err(|error| failed(&error))?;
        Ok(Self(infos.0))
    }

    /// The uppermost mount at exactly this path.
    pub(crate) fn at(&self, path: &Path) -> Option<&MountInfo> {
        self.0.iter().rev().find(|mount| mount.mount_point == path)
    }

    /// The mount that a path is on.
    pub(crate) fn holding(&self, path: &Path) -> Option<&MountInfo> {
        let holds = self
            .0
            .iter()
            .filter(|mount| path.starts_with(&mount.mount_point));
        // Of several at one place the last is on top.
        holds.max_by_key(|mount| mount.mount_point.as_os_str().len())
    }

    /// The tmpfs mounts directly below `directory`.
    pub(crate) fn volumes(&self, directory: &Path) -> impl Iterator<Item = &MountInfo> {
        self.0.iter().filter(move |mount| {
            mount.fs_type == "tmpfs" && mount.mount_point.parent() == Some(directory)
        })
    }

    /// Where `data/` of the tmpfs at `volume` is bound. `below` is where to look: one bind mount is
    /// seen once, whatever other paths lead to it.
    pub(crate) fn bound(&self, volume: &Path, below: Option<&Path>) -> Vec<&MountInfo> {
        let Some(tmpfs) = self.at(volume) else {
            return Vec::new();
        };
        let is_bind = |mount: &&MountInfo| {
            mount.majmin == tmpfs.majmin
                && mount.root == "/data"
                && below.is_none_or(|below| mount.mount_point.starts_with(below))
        };
        self.0.iter().filter(is_bind).collect()
    }

    /// What is mounted at `target` is `data/` of some tmpfs.
    pub(crate) fn is_a_volume_s(&self, target: &Path) -> bool {
        self.at(target)
            .is_some_and(|mount| mount.fs_type == "tmpfs" && mount.root == "/data")
    }

    /// `data/` of the tmpfs at `volume` is bound at `target`.
    pub(crate) fn is_bound(&self, volume: &Path, target: &Path) -> bool {
        let tmpfs = self.at(volume).filter(|mount| mount.fs_type == "tmpfs");
        tmpfs
            .zip(self.at(target))
            .is_some_and(|(tmpfs, bound)| tmpfs.majmin == bound.majmin && bound.root == "/data")
    }
}

/// Something is mounted at exactly this path. The kernel is asked about the path alone: its list of
/// all mounts takes the longer the more volumes there are.
pub(crate) fn is_mounted(path: &Path) -> Result<bool, MountError> {
    match look(path) {
        Ok(there)
            if there
                .stx_attributes_mask
                .contains(StatxAttributes::MOUNT_ROOT) =>
        {
            Ok(there.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        // Kernels before 5.8 do not tell it so.
        Ok(_) | Err(_) => Ok(Mounts::read()?.at(path).is_some()),
    }
}

/// `data/` of the tmpfs at `volume` is bound at `target`: both are mounts, and what is at the target
/// is that directory itself.
pub(crate) fn is_bound(volume: &Path, target: &Path) -> Result<bool, MountError> {
    /// `TMPFS_MAGIC` of linux/magic.h.
    const TMPFS: u64 = 0x0102_1994;
    if !is_mounted(target)? || !is_mounted(volume)? {
        return Ok(false);
    }
    let place = |there: &Statx| (there.stx_dev_major, there.stx_dev_minor, there.stx_ino);
    let is_the_same = || {
        let (data, bound) = (look(&volume.join("data"))?, look(target)?);
        let kind = statfs(volume)?.f_type;
        Ok::<_, Errno>(
            u64::try_from(kind).is_ok_and(|kind| kind == TMPFS) && place(&data) == place(&bound),
        )
    };
    match is_the_same() {
        Ok(is_the_same) => Ok(is_the_same),
        Err(_) => Ok(Mounts::read()?.is_bound(volume, target)),
    }
}

fn look(path: &Path) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(CWD, path, flags, StatxFlags::BASIC_STATS)
}

/// A mount whose mounts are seen by other namespaces, and outlive this process's.
pub(crate) fn is_shared(mount: &MountInfo) -> bool {
    mount
        .opt_fields
        .iter()
        .any(|field| matches!(field, procfs::process::MountOptFields::Shared(_)))
}

/// The size of a volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// Mounts a tmpfs with a directory `data/` at `path`, which is made. What an earlier process has
/// made of that stays.
pub(crate) fn make_volume(path: &Path, size: Size) -> Result<(), MountError> {
    if !is_mounted(path)? {
        make_tmpfs(path, size)?;
    }
    make_directory(&path.join("data"), 0o755)
}

fn make_tmpfs(path: &Path, size: Size) -> Result<(), MountError> {
    make_directory(path, 0o700)?;
    let plain = format!("size={},nr_inodes={},mode=0700", size.bytes, size.inodes);
    // Keys must not reach a disk by way of swap; kernels before 6.4 do not know the option.
    let mounted = match mount_tmpfs(path, &format!("{plain},noswap")) {
        Err(Errno::INVAL) => mount_tmpfs(path, &plain),
        mounted => mounted,
    };
    mounted.map_err(|error| MountError::new("mount a tmpfs at", path, error))
}

fn mount_tmpfs(path: &Path, options: &str) -> rustix::io::Result<()> {
    let options = std::ffi::CString::new(options).map_err(|_nul| Errno::INVAL)?;
    mount("tmpfs", path, "tmpfs", FLAGS, Some(options.as_c_str()))
}

/// Binds `data/` of the volume at `target`, which is made.
pub(crate) fn bind(volume: &Path, target: &Path, read_only: bool) -> Result<(), MountError> {
    make_directory(target, 0o750)?;
    mount_bind(volume.join("data"), target)
        .map_err(|error| MountError::new("bind the volume at", target, error))?;
    set_flags(target, read_only).inspect_err(|_| {
        let _already_failing = unmount(target, UnmountFlags::DETACH);
    })
}

/// Gives a mount at `target` the flags that it lacks because its driver was killed before it could.
pub(crate) fn mend_flags(target: &Path, read_only: bool) -> Result<(), MountError> {
    if check_flags(target, read_only).is_ok() {
        return Ok(());
    }
    set_flags(target, read_only)
}

fn set_flags(target: &Path, read_only: bool) -> Result<(), MountError> {
    let mut flags = MountFlags::BIND.union(FLAGS);
    if read_only {
        flags = flags.union(MountFlags::RDONLY);
    }
    let flagged = mount_remount(target, flags, "").map_err(io::Error::from);
    flagged
        .and_then(|()| check_flags(target, read_only))
        .map_err(|error| MountError::new("set the flags of", target, error))
}

/// The mount at `target` is what a credential's has to be, by the kernel's own word.
fn check_flags(target: &Path, read_only: bool) -> io::Result<()> {
    let there = statvfs(target)?.f_flag;
    let mut wanted =
        StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV | StatVfsMountFlags::NOEXEC;
    if read_only {
        wanted |= StatVfsMountFlags::RDONLY;
    }
    let lacks = wanted - there;
    if lacks.is_empty() {
        return Ok(());
    }
    Err(io::Error::other(format!("the kernel tells no {lacks:?}")))
}

/// Unmounts what is mounted at `path`, however often. A mount that is in use is detached, and said.
pub(crate) fn take_away(path: &Path) -> Result<(), MountError> {
    while is_mounted(path)? {
        let flags = UnmountFlags::NOFOLLOW;
        match unmount(path, flags) {
            Ok(()) => {}
            // Somebody else was faster; otherwise it will not go by trying again either.
            Err(Errno::INVAL | Errno::NOENT) if !is_mounted(path)? => {}
            Err(Errno::BUSY) => {
                warn!(path = %path.display(),
                    "it is in use, so it is detached: it goes when the last user does");
                unmount(path, flags.union(UnmountFlags::DETACH))
                    .map_err(|error| MountError::new("detach", path, error))?;
            }
            Err(error) => return Err(MountError::new("unmount", path, error)),
        }
    }
    Ok(())
}

/// Removes an empty directory that may be missing.
pub(crate) fn remove_directory(path: &Path) -> Result<(), MountError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(MountError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Makes a directory that may exist. Its parent must.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), MountError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_directory = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
            if is_directory {
                Ok(())
            } else {
                Err(MountError::new("make a directory at", path, error))
            }
        }
        Err(error) => Err(MountError::new("make a directory at", path, error)),
        // Whatever the umask is.
        Ok(()) => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(path, mode)
                .map_err(|error| MountError::new("set the mode of", path, error))
        }
    }
}
