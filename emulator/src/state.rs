//! The state directory: CAs and issued certificates as one JSON file each, so that writing one
//! certificate costs the same however many there are.
//!
//! ```text
//! DIR/lock                  held while an emulator uses the directory
//! DIR/cas/POOL.json         a CA's key and chain
//! DIR/certificates/SERIAL.json
//! ```
//! Files appear whole (temporary name, then rename) and are readable by their owner alone. A file
//! that cannot be understood stops the start: keys are never made anew in silence.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::errors::EmulatorError;
use crate::issue::Authority;
use crate::pool::PoolName;
use crate::wire::CertificateJson;

const VERSION: u32 = 1;

/// An open state directory; nobody else's as long as this value lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    dir: PathBuf,
    _lock: File,
}

/// One issued certificate as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredCertificate {
    version: u32,
    pub(crate) pool: String,
    pub(crate) certificate_id: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) certificate: CertificateJson,
}

impl StoredCertificate {
    pub(crate) fn new(
        pool: &PoolName,
        certificate_id: Option<&str>,
        request_id: Option<String>,
        created: Timestamp,
        certificate: CertificateJson,
    ) -> Self {
        Self {
            version: VERSION,
            pool: pool.to_string(),
            certificate_id: certificate_id.map(str::to_owned),
            request_id,
            created,
            certificate,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CaOut<'a> {
    version: u32,
    pool: String,
    id: &'a str,
    private_key: &'a str,
    chain: &'a [String],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaIn {
    version: u32,
    pool: String,
    id: String,
    private_key: Zeroizing<String>,
    chain: Vec<String>,
}

impl StateDir {
    /// Opens `dir`, which is made if it is missing, and takes its lock.
    pub(crate) fn open(dir: &Path) -> Result<Self, EmulatorError> {
        for directory in [dir.to_owned(), dir.join("cas"), dir.join("certificates")] {
            make_dir(&directory).map_err(failed("create", &directory))?;
        }
        let path = dir.join("lock");
        let lock = open_private(&path).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(EmulatorError::StateInUse {
                path: dir.to_owned(),
            }),
            Err(fs::TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// The stored CA of `pool`, if there is one. `above` is the chain that it must
    /// stand on: its parent's.
    pub(crate) fn load_ca(
        &self,
        pool: &PoolName,
        above: Option<&[String]>,
    ) -> Result<Option<Authority>, EmulatorError> {
        let path = self.ca_path(pool);
        let corrupt = |reason| EmulatorError::StateCorrupt {
            path: path.clone(),
            reason,
        };
        let Some(stored) = read_json::<CaIn>(&path)? else {
            return Ok(None);
        };
        if stored.version != VERSION {
            return Err(corrupt("it was written by another version"));
        }
        if stored.pool != pool.to_string() {
            return Err(corrupt("it belongs to another pool"));
        }
        if stored.chain.get(1..).unwrap_or_default() != above.unwrap_or_default() {
            return Err(corrupt("its CA is not signed by the CA of the parent pool"));
        }
        Authority::restore(pool, stored.id, &stored.private_key, stored.chain)
            .map(Some)
            .map_err(corrupt)
    }

    /// Stores a new CA, durably.
    pub(crate) fn save_ca(&self, pool: &PoolName, ca: &Authority) -> Result<(), EmulatorError> {
        let path = self.ca_path(pool);
        let key = ca.key_pem();
        let out = CaOut {
            version: VERSION,
            pool: pool.to_string(),
            id: ca.id(),
            private_key: &key,
            chain: ca.chain(),
        };
        write_json(&path, &out, Durable::Yes)
    }

    /// Every stored certificate, in no order.
    pub(crate) fn load_certificates(&self) -> Result<Vec<StoredCertificate>, EmulatorError> {
        let dir = self.dir.join("certificates");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let path = entry.map_err(failed("read", &dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            if let Some(stored) = read_json::<StoredCertificate>(&path)? {
                if stored.version != VERSION {
                    let reason = "it was written by another version";
                    return Err(EmulatorError::StateCorrupt { path, reason });
                }
                found.push(stored);
            }
        }
        Ok(found)
    }

    pub(crate) fn save_certificate(&self, stored: &StoredCertificate) -> Result<(), EmulatorError> {
        write_json(
            &self.certificate_path(&stored.certificate),
            stored,
            Durable::No,
        )
    }

    /// Forgets a certificate. One that cannot be removed is only untidy: it is skipped by its age
    /// at the next start.
    pub(crate) fn remove_certificate(&self, certificate: &CertificateJson) {
        let path = self.certificate_path(certificate);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an old certificate");
        }
    }

    fn ca_path(&self, pool: &PoolName) -> PathBuf {
        self.dir
            .join("cas")
            .join(format!("{}.json", pool.file_stem()))
    }

    fn certificate_path(&self, certificate: &CertificateJson) -> PathBuf {
        let serial = &certificate
            .certificate_description
            .subject_description
            .hex_serial_number;
        self.dir.join("certificates").join(format!("{serial}.json"))
    }
}

/// Whether bytes must survive a power cut, not only the end of the process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EmulatorError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("read", path)(source)),
    };
    // serde's message may quote the file, and the file may hold a key.
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|_error| EmulatorError::StateCorrupt {
            path: path.to_owned(),
            reason: "it is not the JSON that the emulator wrote",
        })
}

fn write_json(path: &Path, value: &impl Serialize, durable: Durable) -> Result<(), EmulatorError> {
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

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn make_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> EmulatorError {
    let path = path.to_owned();
    move |source| EmulatorError::StateIo {
        action,
        path: path.clone(),
        source,
    }
}
