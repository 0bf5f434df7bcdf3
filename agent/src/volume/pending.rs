//! The one request of a volume that is under way: its key, and its exact bytes.
//!
//! Both are here before the first byte leaves, so that after a crash or a lost reply the same
//! request goes out again and no certificate is bought twice.
use std::path::{Path, PathBuf};

use certagent_core::request::PreparedRequest;
use certagent_svid::{KeyError, PrivateKey, certificate::hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::state::{self, StateError};
use crate::crash;

const KEY: &str = "key.pem";
const REQUEST: &str = "request.json";

/// The place of a volume's pending request.
#[derive(Clone, Debug)]
pub struct Pending {
    path: PathBuf,
    on_disk: bool,
}

/// Why a pending request cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PendingError {
    /// A file cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The request is there, but not whole: a certificate that it bought is lost.
    #[error("the pending request in {path} is discarded: {reason}; a new one will be made")]
    Incomplete {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: Incomplete,
    },
}

/// What a pending request lacks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// There is a request, and no key.
    #[error("its key is missing")]
    NoKey,
    /// The key does not parse.
    #[error("its key cannot be read ({0})")]
    Key(KeyError),
    /// The key is not the one that the request is for.
    #[error("its key is another than the one that was asked for")]
    OtherKey,
    /// The request does not parse.
    #[error("its request cannot be read ({0})")]
    Request(#[from] serde_json::Error),
    /// The request says something else than what was written.
    #[error("its request has a wrong checksum")]
    Checksum,
}

/// The request as it stands in its file.
#[derive(Serialize, Deserialize)]
struct Envelope<R> {
    /// SHA-256 of the key's `SubjectPublicKeyInfo`.
    public_key: String,
    /// SHA-256 of the request's compact JSON.
    checksum: String,
    request: R,
}

impl Pending {
    pub(super) fn new(path: PathBuf, on_disk: bool) -> Self {
        Self { path, on_disk }
    }

    /// Keeps a key and the request for it. The request's file comes last: only with it the two
    /// count. Whatever was pending before is gone.
    pub fn save(&self, key: &PrivateKey, request: &PreparedRequest) -> Result<(), StateError> {
        if let Some(parent) = self.path.parent() {
            make(parent)?;
        }
        make(&self.path)?;
        // An older request must not meet the new key.
        self.remove(REQUEST)?;
        state::store(
            &self.path,
            KEY,
            key.to_pem().as_bytes(),
            self.on_disk,
            || (),
        )?;
        crash::point("pending-key");
        self.store_request(&digest(key.public_key()), request)?;
        crash::point("pending-request");
        Ok(())
    }

    /// The pending key and request; `None` if nothing is pending. After
    /// [`PendingError::Incomplete`] the caller says so and calls [`Pending::clear`].
    pub fn load(&self) -> Result<Option<(PrivateKey, PreparedRequest)>, PendingError> {
        let Some(text) = state::load(&self.path.join(REQUEST))? else {
            return Ok(None);
        };
        let key = state::load(&self.path.join(KEY))?.map(Zeroizing::new);
        let incomplete = |reason| PendingError::Incomplete {
            path: self.path.clone(),
            reason,
        };
        let key = key
            .ok_or(Incomplete::NoKey)
            .and_then(|pem| PrivateKey::from_pem(&pem).map_err(Incomplete::Key));
        key.and_then(|key| parse(&text, &key).map(|request| Some((key, request))))
            .map_err(incomplete)
    }

    /// The pending request without its key, for whoever only looks: another process may hold the
    /// volume, and change what is pending at any moment.
    pub fn peek(&self) -> Result<Option<PreparedRequest>, PendingError> {
        let Some(text) = state::load(&self.path.join(REQUEST))? else {
            return Ok(None);
        };
        let read = read(&text).map(|envelope| Some(envelope.request));
        read.map_err(|reason| PendingError::Incomplete {
            path: self.path.clone(),
            reason,
        })
    }

    /// Replaces the request, and keeps its key: which must be pending.
    pub fn update(&self, request: &PreparedRequest) -> Result<(), PendingError> {
        let incomplete = |reason| PendingError::Incomplete {
            path: self.path.clone(),
            reason,
        };
        let pem = state::load(&self.path.join(KEY))?
            .map(Zeroizing::new)
            .ok_or_else(|| incomplete(Incomplete::NoKey))?;
        let key = PrivateKey::from_pem(&pem).map_err(|error| incomplete(Incomplete::Key(error)))?;
        Ok(self.store_request(&digest(key.public_key()), request)?)
    }

    /// Forgets the pending request: first the request, then its key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.remove(REQUEST)?;
        self.remove(KEY)?;
        if self.path.exists() {
            state::sync_directory(&self.path, self.on_disk)
                .map_err(|error| StateError::io(&self.path, error))?;
        }
        crash::point("pending-cleared");
        Ok(())
    }

    fn store_request(&self, public_key: &str, request: &PreparedRequest) -> Result<(), StateError> {
        let failed =
            |error: serde_json::Error| StateError::io(&self.path.join(REQUEST), error.into());
        let envelope = Envelope {
            public_key: public_key.to_owned(),
            checksum: checksum(request).map_err(failed)?,
            request,
        };
        let text = serde_json::to_vec_pretty(&envelope).map_err(failed)?;
        state::store(&self.path, REQUEST, &text, self.on_disk, || ())
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        state::remove(&path).map_err(|error| StateError::io(&path, error))
    }
}

fn make(path: &Path) -> Result<(), StateError> {
    state::make_directories(path).map_err(|error| StateError::io(path, error))
}

fn read(text: &[u8]) -> Result<Envelope<PreparedRequest>, Incomplete> {
    let envelope: Envelope<PreparedRequest> = serde_json::from_slice(text)?;
    if envelope.checksum != checksum(&envelope.request)? {
        return Err(Incomplete::Checksum);
    }
    Ok(envelope)
}

fn parse(text: &[u8], key: &PrivateKey) -> Result<PreparedRequest, Incomplete> {
    let envelope = read(text)?;
    if envelope.public_key != digest(key.public_key()) {
        return Err(Incomplete::OtherKey);
    }
    Ok(envelope.request)
}

fn checksum(request: &PreparedRequest) -> Result<String, serde_json::Error> {
    Ok(digest(&serde_json::to_vec(request)?))
}

fn digest(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    hex(&digest)
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
