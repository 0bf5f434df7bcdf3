//! What is kept of a workload's hooks, beside its volume's record: the record is its volume's alone
//! to write.
use std::{io, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{self, StateError};

const NAME: &str = "hooks.json";

/// For which generation the hooks have succeeded, and what is wrong since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookRecord {
    /// The last generation for which every hook has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// The hooks that fail, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<HookFailure>,
}

/// Hooks that fail, and are tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookFailure {
    /// The generation that they are for.
    pub generation: String,
    /// When the first attempt was made.
    pub since: Timestamp,
    /// How often they were tried.
    pub attempts: u32,
    /// Which hook failed, and how: of those that failed last, the first.
    pub error: String,
    /// The same of the others that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
}

impl HookRecord {
    /// What is kept in `directory`; empty if nothing is.
    pub(super) fn load(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(NAME);
        let Some(text) = state::load(&path)? else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&text).map_err(|error| {
            let broken = io::Error::new(io::ErrorKind::InvalidData, error);
            StateError::io(&path, broken)
        })
    }

    pub(super) fn save(&self, directory: &Path, on_disk: bool) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| StateError::io(&directory.join(NAME), error.into()))?;
        state::store(directory, NAME, &text, on_disk, || ())
    }
}
