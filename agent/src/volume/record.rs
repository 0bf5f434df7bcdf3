//! What was issued for a volume, and how: what the files themselves do not say.
//!
//! An agent reads what an older or a newer one wrote: fields that it does not know are passed over,
//! new ones are optional, and the checksum is over the text as it stands in the file. Where that
//! cannot be, [`Record::VERSION`] rises.
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use certagent_core::names::SubjectNames;
use certagent_svid::certificate::hex;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::state::{self, StateError};
use crate::crash;

const NAME: &str = "record.json";
const ASIDE: &str = "record.json.corrupt";

/// What the agent remembers of a volume's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of this format: [`Record::VERSION`].
    pub version: u32,
    /// The volume's path.
    pub volume: String,
    /// Whose certificate it is.
    pub spiffe_id: String,
    /// When it was issued, by the agent's clock.
    pub issued_at: Timestamp,
    /// The validity that was asked for, in seconds.
    pub validity_seconds: u64,
    /// The share of the validity that remains when renewal may start, in percent.
    pub rotation_window_percentage: u8,
    /// The certificate's serial number, lowercase hex.
    pub serial: String,
    /// The pool that issued it, if that is known.
    pub pool: Option<String>,
    /// For each trust domain of the bundle map, its sequence number.
    pub sequences: BTreeMap<String, Sequence>,
    /// The pod whose volume it is, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRecord>,
    /// The names that are asked for now, where the certificate has others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_names: Option<SubjectNames>,
}

/// A pod that a volume belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRecord {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// The group that reads the volume, where the pod has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<u32>,
}

/// The sequence number of one trust domain, and the roots that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sequence {
    /// `spiffe_sequence`: rises when, and only when, the roots change.
    pub sequence: u64,
    /// SHA-256 over the roots' fingerprints, lowercase hex.
    pub roots: String,
}

/// Why a record cannot be used. The volume's files are not concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file cannot be read.
    #[error("the record {path} cannot be read: {source}; the volume's credential stays")]
    Unreadable {
        /// The record's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is torn, or was changed by somebody else.
    #[error(
        "the record {path} is corrupt: {reason}; it is set aside and rebuilt from the volume, whose credential stays"
    )]
    Corrupt {
        /// The record's path.
        path: PathBuf,
        /// What is wrong with it.
        reason: Corruption,
    },
    /// Another version of the agent wrote it.
    #[error(
        "the record {path} has version {found}, and this agent reads {expected}; it was written by another version of the agent",
        expected = Record::VERSION
    )]
    Version {
        /// The record's path.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// What is wrong with a corrupt record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Corruption {
    /// It is not the JSON of a record.
    #[error("it does not parse ({0})")]
    Json(#[from] serde_json::Error),
    /// It parses, but says something else than what was written.
    #[error("its checksum is wrong")]
    Checksum,
}

#[derive(Serialize, Deserialize)]
struct Envelope<R> {
    record: R,
    /// SHA-256 of the record's text.
    checksum: String,
}

/// What every version of the format has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Record {
    /// The version of the format that this agent reads and writes.
    pub const VERSION: u32 = 1;

    /// The record in `directory`; `None` if there is none.
    pub(super) fn load(directory: &Path) -> Result<Option<Self>, RecordError> {
        let path = directory.join(NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RecordError::Unreadable { path, source }),
        };
        let corrupt = |reason| RecordError::Corrupt {
            path: path.clone(),
            reason,
        };
        let versioned: Envelope<Versioned> =
            serde_json::from_slice(&text).map_err(|error| corrupt(error.into()))?;
        let found = versioned.record.version;
        if found != Self::VERSION {
            return Err(RecordError::Version { path, found });
        }
        let envelope: Envelope<&RawValue> =
            serde_json::from_slice(&text).map_err(|error| corrupt(error.into()))?;
        // What does not parse says where; that is worth more than that its checksum is wrong.
        let record =
            serde_json::from_str(envelope.record.get()).map_err(|error| corrupt(error.into()))?;
        if checksum(envelope.record) != envelope.checksum {
            return Err(corrupt(Corruption::Checksum));
        }
        Ok(Some(record))
    }

    pub(super) fn save(&self, directory: &Path, on_disk: bool) -> Result<(), StateError> {
        let failed = |error: serde_json::Error| StateError::io(&directory.join(NAME), error.into());
        let pretty = serde_json::to_string_pretty(self).map_err(failed)?;
        let record = RawValue::from_string(pretty).map_err(failed)?;
        let text = serde_json::to_vec_pretty(&Envelope {
            checksum: checksum(&record),
            record,
        })
        .map_err(failed)?;
        state::store(directory, NAME, &text, on_disk, || {
            crash::point("record-begun");
        })?;
        crash::point("record-written");
        Ok(())
    }

    pub(super) fn set_aside(directory: &Path) -> Result<Option<PathBuf>, StateError> {
        let aside = directory.join(ASIDE);
        match std::fs::rename(directory.join(NAME), &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::io(&directory.join(NAME), error)),
        }
    }
}

/// The record in a directory that is for one volume alone, as [`super::VolumeState::at`] keeps it;
/// `None` if there is none. Another process may hold the volume.
pub fn read_record(state: &Path) -> Result<Option<Record>, RecordError> {
    Record::load(state)
}

/// Over every byte as it is written, so that nobody has to know all fields.
fn checksum(record: &RawValue) -> String {
    let digest: [u8; 32] = Sha256::digest(record.get()).into();
    hex(&digest)
}

#[cfg(test)]
#[path = "record_tests.rs"]
pub(super) mod tests;
