//! The state directory: one JSON file for each pool, CA and certificate, so that writing one costs
//! the same however many there are.
//!
//! ```text
//! DIR/lock                  held while an emulator uses the directory
//! DIR/pools/POOL.json       a pool, its IAM policy and the ids of its CAs
//! DIR/cas/POOL.ID.json      a CA: its key, chain, state, unsigned request
//! DIR/certificates/SERIAL.json
//! DIR/projects.json         the IAM policies of projects
//! DIR/history.jsonl         what was sold and replayed, see `history.rs`
//! ```
//! Files appear whole (temporary name, then rename) and are readable by their owner alone. A file
//! that cannot be understood, or that is missing where another one names it, stops the start: keys
//! are never made anew in silence. Files are written before the file that names them and removed
//! after it, so what nobody names is the rest of a change that was cut short.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::errors::EmulatorError;
use crate::files::{
    Durable, VERSION, corrupt, failed, make_dir, open_private, read_json, remove, write_json,
};
use crate::history::History;
use crate::iam_store::Policy;
use crate::issue::Authority;
use crate::keys::CaKeyPair;
use crate::pool::{PoolName, Tier};
use crate::resources::PoolSettings;
use crate::wire::CertificateJson;
use crate::world::{Ca, CaRecord, Pool};

/// An open state directory; nobody else's as long as this value lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    dir: PathBuf,
    pub(crate) history: History,
    _lock: File,
}

/// One issued certificate as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredCertificate {
    version: u32,
    pub(crate) pool: PoolName,
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
            pool: pool.clone(),
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
    private_key: &'a str,
    chain: &'a [String],
    ca: &'a CaRecord,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaIn {
    #[serde(rename = "version")]
    _version: u32,
    private_key: Zeroizing<String>,
    chain: Vec<String>,
    ca: CaRecord,
}

/// A pool as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredPool {
    version: u32,
    name: PoolName,
    tier: Tier,
    settings: PoolSettings,
    iam: Policy,
    cas: Vec<String>,
    /// It is being made from the configuration: at the next start that begins anew.
    unfinished: bool,
}

/// The IAM policies of projects as they are stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredProjects {
    version: u32,
    policies: BTreeMap<String, Policy>,
}

impl StateDir {
    /// Opens `dir`, which is made if it is missing, and takes its lock.
    pub(crate) fn open(dir: &Path) -> Result<Self, EmulatorError> {
        for directory in [
            dir.to_owned(),
            dir.join("pools"),
            dir.join("cas"),
            dir.join("certificates"),
        ] {
            make_dir(&directory).map_err(failed("create", &directory))?;
        }
        let path = dir.join("lock");
        let lock = open_private(&path).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                history: History::open(dir.join("history.jsonl"))?,
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(EmulatorError::StateInUse {
                path: dir.to_owned(),
            }),
            Err(fs::TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// Every stored pool with its CAs.
    pub(crate) fn load_pools(&self) -> Result<BTreeMap<PoolName, Arc<Pool>>, EmulatorError> {
        let mut cas = self.load_cas()?;
        let mut pools = BTreeMap::new();
        for path in self.json_files("pools")? {
            let Some(stored) = read_json::<StoredPool>(&path)? else {
                continue;
            };
            if path != self.pool_path(&stored.name) {
                return Err(corrupt(&path, "it belongs to another pool"));
            }
            if stored.unfinished {
                // Its CA, if there is one, is made anew: nobody has seen it.
                cas.retain(|_, ca| ca.record.pool != stored.name);
                continue;
            }
            let mut pool = Pool::new(stored.name, stored.tier, stored.settings);
            pool.iam = stored.iam;
            for id in stored.cas {
                let path = self.ca_path(&pool.name, &id);
                let ca = cas
                    .remove(&path)
                    .ok_or_else(|| corrupt(&path, "it is missing, but its pool names it"))?;
                pool.all_cas.insert(id, Arc::new(ca));
            }
            pools.insert(pool.name.clone(), Arc::new(pool));
        }
        for (path, ca) in cas {
            if !pools.contains_key(&ca.record.pool) {
                return Err(corrupt(&path, "the file of its pool is missing"));
            }
            tracing::warn!(path = %path.display(), "a CA whose making or deletion was cut short is removed");
            remove(&path);
        }
        Ok(pools)
    }

    fn load_cas(&self) -> Result<BTreeMap<PathBuf, Ca>, EmulatorError> {
        let mut cas = BTreeMap::new();
        for path in self.json_files("cas")? {
            let Some(stored) = read_json::<CaIn>(&path)? else {
                continue;
            };
            let record = stored.ca;
            if path != self.ca_path(&record.pool, &record.id) {
                return Err(corrupt(&path, "it belongs to another CA"));
            }
            let key = CaKeyPair::from_pem(&stored.private_key)
                .map_err(|_error| corrupt(&path, "the CA's key cannot be read"))?;
            let mut ca = Ca {
                record,
                key,
                authority: None,
            };
            if !stored.chain.is_empty() {
                let authority = Authority::new(
                    ca.name(),
                    &ca.record.content_id,
                    ca.key.clone(),
                    stored.chain,
                )
                .map_err(|reason| corrupt(&path, reason))?;
                ca.authority = Some(Arc::new(authority));
            }
            cas.insert(path, ca);
        }
        Ok(cas)
    }

    /// Stores a pool, durably, but not its CAs.
    pub(crate) fn save_pool(&self, pool: &Pool, unfinished: bool) -> Result<(), EmulatorError> {
        let stored = StoredPool {
            version: VERSION,
            name: pool.name.clone(),
            tier: pool.tier,
            settings: pool.settings.clone(),
            iam: pool.iam.clone(),
            cas: pool.all_cas.keys().cloned().collect(),
            unfinished,
        };
        write_json(&self.pool_path(&pool.name), &stored, Durable::Yes)
    }

    /// Forgets a pool that has no CAs any more.
    pub(crate) fn remove_pool(&self, pool: &PoolName) -> Result<(), EmulatorError> {
        let path = self.pool_path(pool);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// Stores a CA, durably.
    pub(crate) fn save_ca(&self, ca: &Ca) -> Result<(), EmulatorError> {
        let key = ca.key.pem();
        let out = CaOut {
            version: VERSION,
            private_key: &key,
            chain: ca
                .authority
                .as_deref()
                .map(Authority::chain)
                .unwrap_or_default(),
            ca: &ca.record,
        };
        let path = self.ca_path(&ca.record.pool, &ca.record.id);
        write_json(&path, &out, Durable::Yes)
    }

    /// Forgets a CA that its pool no longer names.
    pub(crate) fn remove_ca(&self, ca: &CaRecord) {
        remove(&self.ca_path(&ca.pool, &ca.id));
    }

    /// The stored IAM policies of projects.
    pub(crate) fn load_projects(&self) -> Result<BTreeMap<String, Policy>, EmulatorError> {
        let stored = read_json::<StoredProjects>(&self.projects_path())?;
        Ok(stored.map(|stored| stored.policies).unwrap_or_default())
    }

    /// Stores the IAM policies of all projects, durably.
    pub(crate) fn save_projects(
        &self,
        policies: &BTreeMap<String, Policy>,
    ) -> Result<(), EmulatorError> {
        let stored = StoredProjects {
            version: VERSION,
            policies: policies.clone(),
        };
        write_json(&self.projects_path(), &stored, Durable::Yes)
    }

    /// Every stored certificate, in no order.
    pub(crate) fn load_certificates(&self) -> Result<Vec<StoredCertificate>, EmulatorError> {
        let paths = self.json_files("certificates")?;
        paths
            .iter()
            .filter_map(|path| read_json::<StoredCertificate>(path).transpose())
            .collect()
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
        remove(&self.certificate_path(certificate));
    }

    fn json_files(&self, directory: &str) -> Result<Vec<PathBuf>, EmulatorError> {
        let dir = self.dir.join(directory);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let path = entry.map_err(failed("read", &dir))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    fn pool_path(&self, pool: &PoolName) -> PathBuf {
        self.dir
            .join("pools")
            .join(format!("{}.json", pool.file_stem()))
    }

    fn ca_path(&self, pool: &PoolName, id: &str) -> PathBuf {
        self.dir
            .join("cas")
            .join(format!("{}.{id}.json", pool.file_stem()))
    }

    fn projects_path(&self) -> PathBuf {
        self.dir.join("projects.json")
    }

    fn certificate_path(&self, certificate: &CertificateJson) -> PathBuf {
        let serial = certificate.serial();
        self.dir.join("certificates").join(format!("{serial}.json"))
    }
}
