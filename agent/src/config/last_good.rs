//! The last configuration without errors, as text that survives a restart.
use std::path::Path;

use certagent_core::config::Source;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    schema_version: u32,
    sources: Vec<KeptSource>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptSource {
    name: String,
    text: String,
}

/// The text to keep. Names of files become absolute: the next process may start elsewhere.
pub(super) fn encode(sources: &[Source]) -> Result<String, serde_json::Error> {
    let kept = |source: &Source| {
        let file = Some(Path::new(&source.name)).filter(|name| name.exists());
        let absolute = file.and_then(|name| std::path::absolute(name).ok());
        let name = absolute.and_then(|path| path.to_str().map(str::to_owned));
        KeptSource {
            name: name.unwrap_or_else(|| source.name.clone()),
            text: source.text.clone(),
        }
    };
    serde_json::to_string(&Kept {
        schema_version: VERSION,
        sources: sources.iter().map(kept).collect(),
    })
}

/// What was kept; none if another version wrote it or it is damaged.
pub(super) fn decode(text: &str) -> Option<Vec<Source>> {
    let kept: Kept = serde_json::from_str(text).ok()?;
    let sources = kept
        .sources
        .into_iter()
        .map(|KeptSource { name, text }| Source { name, text });
    (kept.schema_version == VERSION).then(|| sources.collect())
}
