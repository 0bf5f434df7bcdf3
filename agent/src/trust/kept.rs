//! What of trust outlives the process: the roots that were published last, when those on their way
//! out began to leave, and how far each bundle endpoint had come.
use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use certagent_svid::{Certificate, CertificateError, TrustDomain};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::removal::{DomainMemory, Grace, Memory, Rebuilding, Remembered};

const VERSION: u32 = 1;

/// The kept part of trust, in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) memory: Memory,
    /// The highest `spiffe_sequence` of each endpoint.
    pub(super) sequences: BTreeMap<String, u64>,
}

/// Why a text is not what was kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error("it does not parse ({0})")]
    Json(#[from] serde_json::Error),
    #[error("it has version {0}, and this agent reads {VERSION}")]
    Version(u32),
    #[error("it names something that is not a trust domain")]
    TrustDomain,
    #[error("it has a certificate that is not base64")]
    Base64,
    #[error("it has a certificate that cannot be read: {0}")]
    Certificate(#[from] CertificateError),
}

/// What every version of the format has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    sequences: BTreeMap<String, u64>,
    domains: BTreeMap<String, FileDomain>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDomain {
    rebuilding: FileRebuilding,
    roots: Vec<FileRoot>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum FileRebuilding {
    No,
    UntilKnown,
    Leaving(FileGrace),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRoot {
    certificate: String,
    anchors: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaving: Option<FileGrace>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileGrace {
    since: Timestamp,
    seconds: u32,
}

/// The text to keep: the same for the same content.
pub(super) fn encode(kept: &Kept) -> Result<String, serde_json::Error> {
    let domain = |(name, memory): (&TrustDomain, &DomainMemory)| {
        let file = FileDomain {
            rebuilding: match memory.rebuilding {
                Rebuilding::No => FileRebuilding::No,
                Rebuilding::UntilKnown => FileRebuilding::UntilKnown,
                Rebuilding::Leaving(grace) => FileRebuilding::Leaving(grace.into()),
            },
            roots: memory.roots.values().map(FileRoot::from).collect(),
        };
        (name.to_string(), file)
    };
    let file = File {
        version: VERSION,
        sequences: kept.sequences.clone(),
        domains: kept.memory.domains.iter().map(domain).collect(),
    };
    Ok(serde_json::to_string_pretty(&file)? + "\n")
}

/// What was kept.
pub(super) fn decode(text: &str) -> Result<Kept, KeptError> {
    let Versioned { version } = serde_json::from_str(text)?;
    if version != VERSION {
        return Err(KeptError::Version(version));
    }
    let file: File = serde_json::from_str(text)?;
    let mut memory = Memory::default();
    for (name, domain) in file.domains {
        let name = TrustDomain::new(&name).map_err(|_other| KeptError::TrustDomain)?;
        let roots = domain.roots.into_iter().map(FileRoot::read);
        let domain = DomainMemory {
            roots: roots
                .map(|root| root.map(|root| (root.root.fingerprint(), root)))
                .collect::<Result<_, _>>()?,
            rebuilding: match domain.rebuilding {
                FileRebuilding::No => Rebuilding::No,
                FileRebuilding::UntilKnown => Rebuilding::UntilKnown,
                FileRebuilding::Leaving(grace) => Rebuilding::Leaving(grace.into()),
            },
        };
        memory.domains.insert(name, domain);
    }
    Ok(Kept {
        memory,
        sequences: file.sequences,
    })
}

impl FileRoot {
    fn read(self) -> Result<Remembered, KeptError> {
        let der = STANDARD
            .decode(self.certificate)
            .map_err(|_not_base64| KeptError::Base64)?;
        Ok(Remembered {
            root: Certificate::from_der(der)?,
            anchors: self.anchors,
            leaving: self.leaving.map(Grace::from),
        })
    }
}

impl From<&Remembered> for FileRoot {
    fn from(known: &Remembered) -> Self {
        Self {
            certificate: STANDARD.encode(known.root.der()),
            anchors: known.anchors.clone(),
            leaving: known.leaving.map(FileGrace::from),
        }
    }
}

impl From<Grace> for FileGrace {
    fn from(grace: Grace) -> Self {
        Self {
            since: grace.since,
            seconds: u32::try_from(grace.length.as_secs()).unwrap_or(u32::MAX),
        }
    }
}

impl From<FileGrace> for Grace {
    fn from(grace: FileGrace) -> Self {
        Self {
            since: grace.since,
            length: SignedDuration::from_secs(grace.seconds.into()),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "kept_tests.rs"]
mod tests;
