//! What was sold and replayed, kept over restarts: a file that only grows, a line for each.
//!
//! Certificates leave the state directory, or are never in it; that they were sold does not. A
//! certificate is stored first and entered here second, and who finds one at the start that is not
//! entered makes up for it: so a count is right wherever the process was killed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::errors::EmulatorError;
use crate::files::{VERSION, corrupt, failed, open_private};
use crate::ledger::{Ledger, Sold, lock};
use crate::pool::PoolName;

/// The file, open to be appended to.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    end: Mutex<End>,
}

#[derive(Debug)]
struct End {
    file: File,
    /// The length of what was written whole.
    length: u64,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Entry {
    /// The first line.
    Version(u32),
    #[serde(rename_all = "camelCase")]
    Sold {
        pool: PoolName,
        serial: String,
        request_id: Option<String>,
    },
    /// The certificate with this serial was asked for again.
    Replayed(String),
}

impl History {
    /// Opens or makes the file. [`restore`](Self::restore) comes before anything is entered.
    pub(crate) fn open(path: PathBuf) -> Result<Self, EmulatorError> {
        let file = open_private(&path).map_err(failed("open", &path))?;
        let end = Mutex::new(End { file, length: 0 });
        Ok(Self { path, end })
    }

    /// Counts what is written here, and returns the serials that were sold.
    pub(crate) fn restore(&self, ledger: &mut Ledger) -> Result<HashSet<String>, EmulatorError> {
        let bytes = fs::read(&self.path).map_err(failed("read", &self.path))?;
        // What follows the last line end was cut short by the end of the process.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(&[][..], |last| bytes.get(..=last).unwrap_or_default());
        let mut serials = HashSet::new();
        for (index, line) in whole.split_inclusive(|byte| *byte == b'\n').enumerate() {
            match (index, read(line, &self.path)?) {
                (0, Entry::Version(VERSION)) => {}
                (0, Entry::Version(_)) => {
                    return Err(corrupt(&self.path, "it was written by another version"));
                }
                (0, _) | (_, Entry::Version(_)) => return Err(unreadable(&self.path)),
                (_, Entry::Replayed(_)) => ledger.replayed += 1,
                (
                    _,
                    Entry::Sold {
                        pool,
                        serial,
                        request_id,
                    },
                ) => {
                    serials.insert(serial.clone());
                    ledger.sell(Sold {
                        pool,
                        serial,
                        request_id,
                    });
                }
            }
        }
        let length = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        lock(&self.end)
            .cut(length)
            .map_err(failed("write", &self.path))?;
        if whole.is_empty() {
            self.append(&Entry::Version(VERSION))?;
        }
        Ok(serials)
    }

    pub(crate) fn enter_sold(&self, sold: &Sold) -> Result<(), EmulatorError> {
        self.append(&Entry::Sold {
            pool: sold.pool.clone(),
            serial: sold.serial.clone(),
            request_id: sold.request_id.clone(),
        })
    }

    pub(crate) fn enter_replayed(&self, serial: &str) -> Result<(), EmulatorError> {
        self.append(&Entry::Replayed(serial.to_owned()))
    }

    fn append(&self, entry: &Entry) -> Result<(), EmulatorError> {
        let failed = failed("write", &self.path);
        let mut line = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        lock(&self.end).append(&line).map_err(failed)
    }
}

impl End {
    /// Cuts the file to `length`, after which the next line comes.
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        self.file.set_len(length)
    }

    /// Writes the line, or nothing of it.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        if let Err(error) = self.file.write_all(line) {
            self.cut(self.length)?;
            return Err(error);
        }
        self.length += u64::try_from(line.len()).unwrap_or_default();
        Ok(())
    }
}

fn read(line: &[u8], path: &Path) -> Result<Entry, EmulatorError> {
    serde_json::from_slice(line).map_err(|_error| unreadable(path))
}

fn unreadable(path: &Path) -> EmulatorError {
    corrupt(path, "it is not the JSON that the emulator wrote")
}
