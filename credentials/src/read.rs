//! The files of one generation, as bytes.
use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use certagent_svid::{bundle_map, layout};
use zeroize::Zeroizing;

use crate::{FileProblem, ReadError, Snapshot, place::Place};

/// The largest PEM file that is read, in bytes. A bundle map may be as large as
/// [`bundle_map::MAX_BYTES`].
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// How often a directory that changes under the reader is read again.
pub(crate) const TRIES: usize = 16;

/// How often plain files that do not fit each other are read again, and how long after the last
/// time: 5 reads in 200 ms.
const PLAIN_TRIES: u32 = 5;
const PLAIN_PAUSE: Duration = Duration::from_millis(50);

/// How the files of a directory are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// By a swap of `..data`: all of them at once.
    #[non_exhaustive]
    Swapped {
        /// The name of the generation that was read.
        generation: String,
    },
    /// One by one, or with the whole directory: there is no `..data`.
    Plain,
}

/// The five files of a credential directory, all of one moment.
pub struct Files {
    layout: Layout,
    directory: PathBuf,
    contents: BTreeMap<&'static str, Result<Zeroizing<Vec<u8>>, FileProblem>>,
}

/// Reads the credential in `directory`, coherently. See [`read_files`] and [`Snapshot::parse`].
///
/// Blocks. Where files are rewritten one by one, what does not fit is read again for up to 200 ms:
/// a writer may be between two of them.
pub fn read(directory: impl AsRef<Path>) -> Result<Snapshot, ReadError> {
    let directory = directory.as_ref();
    let mut tries = 1;
    loop {
        let files = read_files(directory)?;
        match Snapshot::parse(&files) {
            Err(_between_two) if *files.layout() == Layout::Plain && tries < PLAIN_TRIES => {
                tries += 1;
                std::thread::sleep(PLAIN_PAUSE);
            }
            result => return result,
        }
    }
}

/// Reads the files of `directory`, all of one generation.
///
/// With a `..data` link its target is opened once and everything is read through it. Without one,
/// the files are read again until two reads in a row agree. A file that is missing or cannot be
/// read is recorded, and is no error of this function.
pub fn read_files(directory: impl AsRef<Path>) -> Result<Files, ReadError> {
    let directory = directory.as_ref();
    let mut dangling = None;
    for _ in 0..TRIES {
        match attempt(directory)? {
            Attempt::Read(files) => return Ok(files),
            Attempt::Moved => dangling = None,
            Attempt::Dangling(generation) => dangling = Some(generation),
        }
    }
    let directory = directory.to_owned();
    Err(match dangling {
        Some(generation) => ReadError::Dangling {
            directory,
            generation,
        },
        None => ReadError::Unstable { directory },
    })
}

/// Reads the files of a generation's directory that is already open, published or not.
///
/// `directory` is its path for messages. No link in it is followed.
#[cfg(unix)]
pub fn read_generation(
    generation: std::os::fd::BorrowedFd<'_>,
    directory: &Path,
    name: &str,
) -> Files {
    Files {
        layout: Layout::Swapped {
            generation: name.to_owned(),
        },
        directory: directory.join(name),
        contents: layout::FILES
            .into_iter()
            .map(|file| {
                (
                    file,
                    crate::place::read_no_link(generation, file, limit(file)),
                )
            })
            .collect(),
    }
}

enum Attempt {
    Read(Files),
    /// The generation went away, or the files changed, while they were read.
    Moved,
    /// `..data` points to something that is not there: replaced this moment, or broken.
    Dangling(String),
}

fn attempt(directory: &Path) -> Result<Attempt, ReadError> {
    let failed = |source: io::Error| ReadError::open(directory, source);
    let place = Place::open(directory).map_err(failed)?;
    let target = match place.read_link(layout::DATA) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(read_plain(&place, directory));
        }
        // `..data` is no link: whatever it is, it is the one generation.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => layout::DATA.into(),
        Err(error) => return Err(failed(error)),
    };
    let name = target.to_string_lossy().into_owned();
    let generation = match place.open_below(&target) {
        Ok(generation) => generation,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Attempt::Dangling(name));
        }
        Err(error) => return Err(ReadError::open(&directory.join(&target), error)),
    };
    let contents = read_all(&generation);
    let vanished = contents
        .values()
        .any(|content| matches!(content, Err(FileProblem::Missing)));
    if vanished && place.read_link(layout::DATA).is_ok_and(|now| now != target) {
        return Ok(Attempt::Moved);
    }
    Ok(Attempt::Read(Files {
        layout: Layout::Swapped { generation: name },
        directory: directory.to_owned(),
        contents,
    }))
}

fn read_plain(place: &Place, directory: &Path) -> Attempt {
    let first = read_all(place);
    let second = read_all(place);
    let same = first
        .iter()
        .all(|(name, content)| match (content, second.get(name)) {
            (Ok(first), Some(Ok(second))) => first == second,
            (Err(first), Some(Err(second))) => {
                std::mem::discriminant(first) == std::mem::discriminant(second)
            }
            _ => false,
        });
    if same {
        Attempt::Read(Files {
            layout: Layout::Plain,
            directory: directory.to_owned(),
            contents: second,
        })
    } else {
        Attempt::Moved
    }
}

fn read_all(place: &Place) -> BTreeMap<&'static str, Result<Zeroizing<Vec<u8>>, FileProblem>> {
    layout::FILES
        .into_iter()
        .map(|name| (name, place.read(name, limit(name))))
        .collect()
}

fn limit(name: &str) -> usize {
    if name == layout::TRUST_BUNDLES {
        bundle_map::MAX_BYTES
    } else {
        MAX_FILE_BYTES
    }
}

impl Files {
    /// How the directory's files are replaced.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The content of one of [`layout::FILES`], or why there is none. Other names are missing.
    pub fn get(&self, name: &str) -> Result<&[u8], &FileProblem> {
        match self.contents.get(name) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(problem)) => Err(problem),
            None => Err(&FileProblem::Missing),
        }
    }

    /// The content of a file that may be missing.
    pub fn optional(&self, name: &str) -> Result<Option<&[u8]>, &FileProblem> {
        match self.get(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(FileProblem::Missing) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of a file, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Sizes only: a content may be a key.
impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, content) in &self.contents {
            map.entry(name, &content.as_ref().map(|bytes| bytes.len()));
        }
        map.finish()
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
