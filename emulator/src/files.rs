//! Reading and writing the files of the state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::errors::EmulatorError;

/// The version of all files; it changes with what they hold.
pub(crate) const VERSION: u32 = 2;

/// The part of every file that tells whether the rest can be understood.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Whether bytes must survive a power cut, not only the end of the process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Yes,
    No,
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EmulatorError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("read", path)(source)),
    };
    // serde's message may quote the file, and the file may hold a key.
    let unreadable = |_| corrupt(path, "it is not the JSON that the emulator wrote");
    let versioned: Versioned = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if versioned.version != VERSION {
        return Err(corrupt(path, "it was written by another version"));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
}

pub(crate) fn write_json(
    path: &Path,
    value: &impl Serialize,
    durable: Durable,
) -> Result<(), EmulatorError> {
    let failed = failed("write", path);
    let bytes = serde_json::to_vec_pretty(value).map(Zeroizing::new);
    let written = bytes.map_err(io::Error::from).and_then(|bytes| {
        let temporary = path.with_extension("tmp");
        let mut file = open_private(&temporary)?;
        file.set_len(0)?;
        file.write_all(&bytes)?;
        if durable == Durable::Yes {
            file.sync_all()?;
        }
        drop(file);
        fs::rename(&temporary, path)
    });
    written.map_err(failed)
}

pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Removes a file that nothing names any more; when that fails it is only untidy.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove an old file");
    }
}

pub(crate) fn corrupt(path: &Path, reason: &'static str) -> EmulatorError {
    EmulatorError::StateCorrupt {
        path: path.to_owned(),
        reason,
    }
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> EmulatorError {
    let path = path.to_owned();
    move |source| EmulatorError::StateIo {
        action,
        path: path.clone(),
        source,
    }
}
