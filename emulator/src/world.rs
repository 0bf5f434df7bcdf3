//! What there is: pools by name, each with its CAs.
//!
//! A pool and a CA are values that never change: who reads holds one and is not disturbed, who
//! changes puts another in its place. Changes come one after the other, and are on the disk before
//! anybody sees them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::errors::{ApiError, Code};
use crate::iam_store::Policy;
use crate::issue::Authority;
use crate::keys::{CaKey, CaKeyPair};
use crate::ledger::lock;
use crate::pool::{PoolName, Tier};
use crate::resources::{
    AccessUrls, CaJson, CaPoolJson, CaState, CaType, KeySpec, Labels, PoolSettings,
    SubordinateConfig,
};
use crate::scalars::ProtoDuration;

/// A pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) name: PoolName,
    pub(crate) tier: Tier,
    pub(crate) settings: PoolSettings,
    /// Who may do what with it.
    pub(crate) iam: Policy,
    /// By id. Among them may be some whose grace period is over: see [`cas`](Self::cas).
    pub(crate) all_cas: BTreeMap<String, Arc<Ca>>,
    /// Counts the certificates for which nobody named a CA.
    turn: Arc<AtomicUsize>,
}

/// A CA.
#[derive(Clone, Debug)]
pub(crate) struct Ca {
    pub(crate) record: CaRecord,
    pub(crate) key: CaKeyPair,
    /// None before the activation.
    pub(crate) authority: Option<Arc<Authority>>,
}

/// What is known of a CA beside its key and its chain, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CaRecord {
    pub(crate) pool: PoolName,
    pub(crate) id: String,
    /// Tells what this CA publishes from what others publish, however often its name is used.
    pub(crate) content_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: CaType,
    /// As it was asked for.
    pub(crate) config: Value,
    pub(crate) lifetime: ProtoDuration,
    pub(crate) key: CaKey,
    pub(crate) state: CaState,
    pub(crate) labels: Labels,
    pub(crate) subordinate_config: Option<SubordinateConfig>,
    /// A subordinate's request to be signed, in PEM.
    pub(crate) pem_csr: Option<String>,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) delete_time: Option<Timestamp>,
    /// When a deleted CA is gone for good.
    pub(crate) expire_time: Option<Timestamp>,
}

impl Pool {
    /// An empty pool that nobody has a role on.
    pub(crate) fn new(name: PoolName, tier: Tier, settings: PoolSettings) -> Self {
        Self {
            name,
            tier,
            settings,
            iam: Policy::default(),
            all_cas: BTreeMap::new(),
            turn: Arc::default(),
        }
    }

    /// The CAs that there are at `now`, by id.
    pub(crate) fn cas(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Ca>> {
        self.all_cas
            .values()
            .filter(move |ca| !ca.record.is_gone(now))
    }

    pub(crate) fn ca(&self, id: &str, now: Timestamp) -> Result<&Arc<Ca>, ApiError> {
        self.all_cas
            .get(id)
            .filter(|ca| !ca.record.is_gone(now))
            .ok_or_else(|| ApiError::not_found(&ca_name(&self.name, id)))
    }

    /// The CA that signs next: the named one, else the enabled ones in turn.
    pub(crate) fn signer(
        &self,
        named: Option<&str>,
        now: Timestamp,
    ) -> Result<&Authority, ApiError> {
        if let Some(id) = named {
            let ca = self.ca(id, now)?;
            let may = matches!(ca.record.state, CaState::Enabled | CaState::Staged);
            return ca
                .authority
                .as_deref()
                .filter(|_| may)
                .ok_or_else(|| ca.refusal("issue certificates", "ENABLED or STAGED"));
        }
        let list = self.signers(now);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        turn.checked_rem(list.len())
            .and_then(|index| list.get(index).copied())
            .ok_or_else(|| {
                ApiError::new(
                    Code::FailedPrecondition,
                    format!(
                        "The CA pool {} has no certificate authority in state ENABLED.",
                        self.name
                    ),
                )
            })
    }

    /// The CAs that sign in turn: the enabled ones.
    pub(crate) fn signers(&self, now: Timestamp) -> Vec<&Authority> {
        let enabled: Vec<&Authority> = self
            .cas(now)
            .filter(|ca| ca.record.state == CaState::Enabled)
            .filter_map(|ca| ca.authority.as_deref())
            .collect();
        let alive: Vec<&Authority> = enabled
            .iter()
            .copied()
            .filter(|authority| now <= authority.validity().1)
            .collect();
        // With expired ones alone, the refusal comes from there and says so.
        if alive.is_empty() { enabled } else { alive }
    }

    /// Whether certificates say where their issuer's can be had.
    pub(crate) fn publishes_ca_certs(&self) -> bool {
        self.settings
            .publishing_options
            .is_some_and(|options| options.publish_ca_cert)
    }

    pub(crate) fn json(&self) -> CaPoolJson {
        CaPoolJson {
            name: self.name.to_string(),
            tier: self.tier,
            issuance_policy: self.settings.issuance_policy.clone(),
            publishing_options: self.settings.publishing_options,
            labels: self.settings.labels.clone(),
        }
    }
}

impl Ca {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        ca_name(&self.record.pool, &self.record.id)
    }

    pub(crate) fn json(&self, pool: &Pool) -> CaJson<'_> {
        let record = &self.record;
        let authority = self.authority.as_deref();
        CaJson {
            name: self.name(),
            kind: record.kind,
            config: &record.config,
            lifetime: record.lifetime,
            key_spec: KeySpec {
                algorithm: record.key,
            },
            subordinate_config: record.subordinate_config.as_ref(),
            tier: pool.tier,
            state: record.state,
            pem_ca_certificates: authority.map(Authority::chain).unwrap_or_default(),
            ca_certificate_descriptions: authority.map(Authority::descriptions).unwrap_or_default(),
            access_urls: authority
                .filter(|_| pool.publishes_ca_certs())
                .map(|ca| AccessUrls {
                    ca_certificate_access_url: ca.url(),
                }),
            create_time: record.create_time,
            update_time: record.update_time,
            delete_time: record.delete_time,
            expire_time: record.expire_time,
            labels: &record.labels,
        }
    }

    /// The refusal of what the CA's state does not allow.
    pub(crate) fn refusal(&self, action: &str, needed: &str) -> ApiError {
        let state = serde_json::to_value(self.record.state);
        let state = state.as_ref().ok().and_then(Value::as_str);
        ApiError::new(
            Code::FailedPrecondition,
            format!(
                "The certificate authority {} is in state {} and cannot {action}: it must be {needed}.",
                self.name(),
                state.unwrap_or("unknown"),
            ),
        )
    }
}

impl CaRecord {
    /// Whether it was deleted, and its grace period is over.
    pub(crate) fn is_gone(&self, now: Timestamp) -> bool {
        self.expire_time.is_some_and(|gone| gone <= now)
    }
}

/// `projects/P/locations/L/caPools/N/certificateAuthorities/ID`
pub(crate) fn ca_name(pool: &PoolName, id: &str) -> String {
    format!("{pool}/certificateAuthorities/{id}")
}

/// All pools.
#[derive(Debug, Default)]
pub(crate) struct World {
    pools: RwLock<BTreeMap<PoolName, Arc<Pool>>>,
    /// Held over every change, from the first look to the last write.
    changes: Mutex<()>,
}

impl World {
    pub(crate) fn new(pools: BTreeMap<PoolName, Arc<Pool>>) -> Self {
        Self {
            pools: RwLock::new(pools),
            changes: Mutex::default(),
        }
    }

    /// The pool as it is now.
    pub(crate) fn get(&self, name: &PoolName) -> Option<Arc<Pool>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.get(name).cloned()
    }

    /// All pools as they are now, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().cloned().collect()
    }

    /// Keeps others from changing anything as long as the guard lives.
    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        lock(&self.changes)
    }

    /// Shows a pool to everybody. Only for the holder of [`change`](Self::change).
    pub(crate) fn put(&self, pool: Pool) {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        pools.insert(pool.name.clone(), Arc::new(pool));
    }

    /// Takes a pool away. Only for the holder of [`change`](Self::change).
    pub(crate) fn remove(&self, name: &PoolName) {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        pools.remove(name);
    }
}
