//! Files that are read whole, because they are small.
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

/// Why a small file was not read. The path is the caller's to name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmallFileError {
    /// Nothing is there.
    #[error("no such file or directory")]
    Missing,
    /// A directory, a pipe, a device.
    #[error("not a file")]
    Special,
    /// It has more bytes than anybody would write there.
    #[error("larger than {limit} bytes, so it is not read")]
    TooLarge {
        /// The most that is read.
        limit: usize,
    },
    /// The system refuses.
    #[error("cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for SmallFileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Io(error),
        }
    }
}

/// Reads a file of at most `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, SmallFileError> {
    let metadata = fs::metadata(path)?;
    // Opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(SmallFileError::Special);
    }
    let most = limit as u64;
    if metadata.len() > most {
        return Err(SmallFileError::TooLarge { limit });
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile, and files of /proc have no size.
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(SmallFileError::TooLarge { limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_nothing_else_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        let refused = |path: &Path, limit| read(path, limit).unwrap_err().to_string();
        assert_eq!(refused(&file, 4), "larger than 4 bytes, so it is not read");
        assert_eq!(refused(dir.path(), 4), "not a file");
        assert_eq!(
            refused(&dir.path().join("none"), 4),
            "no such file or directory"
        );
        // It says that it is empty, and is not.
        assert!(refused(Path::new("/proc/self/status"), 4).starts_with("larger"));
    }
}
