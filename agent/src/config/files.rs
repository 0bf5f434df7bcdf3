//! Reading the files and directories that were given with `--config`.
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use certagent_core::config::{self, Config, MAX_BYTES, Problem, Rule, Settings, Severity, Source};

use crate::small_file::{self, SmallFileError};

/// The endings of the files that are read in a directory.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// A directory that is swapped again and again while it is read is read at most so often.
const MAX_READS: usize = 5;

/// Where the configuration is, and what it is read with.
#[derive(Clone, Debug)]
pub struct ConfigFiles {
    paths: Vec<PathBuf>,
    settings: Settings,
}

/// What is there now.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The texts, in the order in which they were read.
    pub sources: Vec<Source>,
    /// Everything that is wrong: with files, then with what they say.
    pub problems: Vec<Problem>,
    /// What they mean, if nothing is an error. The workloads' paths are absolute.
    pub config: Option<Config>,
}

/// Why a path cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Nothing is there.
    #[error("{}: no such file or directory; check the path, or make a first configuration with `certagent quickstart`", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A directory without a file to read.
    #[error("{}: the directory has no file whose name ends in .yaml, .yml or .json; put the objects there", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// Neither a file nor a directory.
    #[error("{}: neither a file nor a directory; give the path of a file", path.display())]
    Special {
        /// The path.
        path: PathBuf,
    },
    /// Larger than any configuration.
    #[error("{}: larger than {MAX_BYTES} bytes, so it is not read; split it, or check that it is the right file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not text.
    #[error("{}: not UTF-8 text at byte {at}; save it as UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The index of the first byte that is none.
        at: usize,
    },
    /// The system refuses.
    #[error("{}: cannot be read: {source}; check its permissions", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Found {
    /// Checks texts that were read, now or earlier.
    pub(crate) fn check(sources: Vec<Source>, settings: &Settings) -> Self {
        let config::Loaded { problems, config } = config::load(&sources, settings);
        Self {
            sources,
            problems,
            config: config.map(with_absolute_paths),
        }
    }
}

impl ConfigFiles {
    /// Files and directories; directories are not searched below.
    pub fn new(paths: Vec<PathBuf>, settings: Settings) -> Self {
        Self { paths, settings }
    }

    /// The paths as they were given.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// What they are read with.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads all files, once.
    pub fn read(&self) -> Result<Vec<Source>, Vec<FileError>> {
        let (sources, errors) = self.read_some();
        if errors.is_empty() {
            Ok(sources)
        } else {
            Err(errors)
        }
    }

    /// Reads and checks everything.
    pub fn load(&self) -> Found {
        let (sources, errors) = self.read_some();
        let mut found = Found::check(sources, &self.settings);
        if !errors.is_empty() {
            found.config = None;
            // What seems to be missing may be in the files that were not read; problems of a
            // certain line are real.
            found.problems.retain(|problem| problem.line > 0);
            let problems = errors.iter().map(problem);
            found.problems.splice(0..0, problems);
        }
        found
    }

    /// The files that can be read, and what is wrong with the others.
    fn read_some(&self) -> (Vec<Source>, Vec<FileError>) {
        // A ConfigMap's files lead through `..data`, which may be swapped between two of them.
        let mut read = (self.generations(), self.read_each());
        for _ in 1..MAX_READS {
            let generations = self.generations();
            if read.0 == generations {
                break;
            }
            read = (generations, self.read_each());
        }
        read.1
    }

    fn generations(&self) -> Vec<Option<PathBuf>> {
        self.paths
            .iter()
            .map(|path| fs::read_link(path.join("..data")).ok())
            .collect()
    }

    fn read_each(&self) -> (Vec<Source>, Vec<FileError>) {
        let (mut sources, mut errors, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for path in &self.paths {
            let files = match files_at(path) {
                Ok(files) => files,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            for file in files {
                // The same file given twice, or by itself and with its directory.
                if !seen.insert(fs::canonicalize(&file).unwrap_or_else(|_| file.clone())) {
                    continue;
                }
                match read_text(&file) {
                    Ok(text) => sources.push(Source {
                        name: file.display().to_string(),
                        text,
                    }),
                    Err(error) => errors.push(error),
                }
            }
        }
        (sources, errors)
    }
}

impl FileError {
    fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Io { path, source },
        }
    }

    /// What cannot be read.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::Empty { path }
            | Self::Special { path }
            | Self::TooLarge { path }
            | Self::NotText { path, .. }
            | Self::Io { path, .. } => path,
        }
    }
}

/// The error in the form of all other problems.
fn problem(error: &FileError) -> Problem {
    let file = error.path().display().to_string();
    let message = error.to_string();
    let message = message
        .strip_prefix(&format!("{file}: "))
        .unwrap_or(&message)
        .to_owned();
    Problem {
        severity: Severity::Error,
        rule: Rule::Unreadable,
        file,
        line: 0,
        column: 0,
        object: None,
        field: None,
        message,
        allowed: None,
    }
}

/// A file itself, or the files of a directory in the order of their names.
fn files_at(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |error| FileError::new(path, error);
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        // Hidden names are editors' own files, and `..data` of a ConfigMap.
        let is_hidden = file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let is_ours = file
            .extension()
            .is_some_and(|ending| ENDINGS.iter().any(|ours| ending == *ours));
        if is_ours && !is_hidden && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(FileError::Empty {
            path: path.to_owned(),
        });
    }
    files.sort();
    Ok(files)
}

fn read_text(path: &Path) -> Result<String, FileError> {
    let owned = || path.to_owned();
    let bytes = small_file::read(path, MAX_BYTES).map_err(|error| match error {
        SmallFileError::Missing => FileError::Missing { path: owned() },
        SmallFileError::Special => FileError::Special { path: owned() },
        SmallFileError::TooLarge { .. } => FileError::TooLarge { path: owned() },
        SmallFileError::Io(source) => FileError::Io {
            path: owned(),
            source,
        },
    })?;
    String::from_utf8(bytes).map_err(|error| FileError::NotText {
        path: path.to_owned(),
        at: error.utf8_error().valid_up_to(),
    })
}

/// Relative paths of a workload start at the directory of the file they stand in, and those of the
/// command line at the working directory.
fn with_absolute_paths(mut config: Config) -> Config {
    for workload in &mut config.workloads {
        let directory = Path::new(&workload.source)
            .parent()
            .unwrap_or(Path::new(""));
        make_absolute(&mut workload.volume.path, directory);
        if let Some(file) = &mut workload.token_file {
            make_absolute(file, directory);
        }
    }
    config
}

/// Fails only without a working directory; then the path stays as it was typed.
fn make_absolute(path: &mut String, directory: &Path) {
    let absolute = std::path::absolute(directory.join(&*path));
    if let Some(absolute) = absolute
        .ok()
        .and_then(|path| path.to_str().map(str::to_owned))
    {
        *path = absolute;
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
