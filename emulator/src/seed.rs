//! The first start: the pools of the configuration, each with its CA, as if somebody had made them
//! over the API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::authorities::ca_params;
use crate::errors::{ApiError, EmulatorError};
use crate::issue::{Authority, ca_terms, random_id, self_sign};
use crate::keys::CaKeyPair;
use crate::policy::MAX_BACKDATE;
use crate::pool::{EmulatorConfig, PoolName, PoolSpec};
use crate::resources::{
    CaState, CaType, EncodingFormat, Labels, PoolSettings, PublishingOptions, SubordinateConfig,
};
use crate::scalars::ProtoDuration;
use crate::state::StateDir;
use crate::world::{Ca, CaRecord, Pool, ca_name};

/// Makes the pools of the configuration that are not there yet.
pub(crate) fn seed(
    config: EmulatorConfig,
    pools: &mut BTreeMap<PoolName, Arc<Pool>>,
    state: Option<&StateDir>,
    now: Timestamp,
) -> Result<(), EmulatorError> {
    let mut seen = BTreeSet::new();
    for spec in config.pools {
        check(&spec, &seen, pools)?;
        seen.insert(spec.name.clone());
        if pools.contains_key(&spec.name) {
            continue;
        }
        let settings = PoolSettings {
            issuance_policy: spec.issuance_policy.clone(),
            publishing_options: Some(PublishingOptions {
                publish_ca_cert: true,
                publish_crl: false,
                encoding_format: Some(EncodingFormat::Pem),
            }),
            labels: Labels::new(),
        };
        let mut pool = Pool::new(spec.name.clone(), spec.tier, settings);
        if let Some(state) = state {
            state.save_pool(&pool, true)?;
        }
        let ca = first_ca(&spec, pools, now)?;
        if let Some(state) = state {
            state.save_ca(&ca)?;
        }
        pool.all_cas.insert(ca.record.id.clone(), Arc::new(ca));
        if let Some(state) = state {
            state.save_pool(&pool, false)?;
        }
        pools.insert(spec.name, Arc::new(pool));
    }
    Ok(())
}

fn check(
    spec: &PoolSpec,
    seen: &BTreeSet<PoolName>,
    pools: &BTreeMap<PoolName, Arc<Pool>>,
) -> Result<(), EmulatorError> {
    if seen.contains(&spec.name) {
        return Err(EmulatorError::DuplicatePool(spec.name.clone()));
    }
    let backdate = spec.issuance_policy.backdate();
    if backdate.is_negative() || backdate > MAX_BACKDATE {
        return Err(EmulatorError::Backdate(spec.name.clone()));
    }
    if let Some(parent) = &spec.ca.parent
        && !seen.contains(parent)
        && !pools.contains_key(parent)
    {
        return Err(EmulatorError::UnknownParent {
            pool: spec.name.clone(),
            parent: parent.clone(),
        });
    }
    Ok(())
}

/// The enabled CA with which a pool of the configuration starts.
fn first_ca(
    spec: &PoolSpec,
    pools: &BTreeMap<PoolName, Arc<Pool>>,
    now: Timestamp,
) -> Result<Ca, EmulatorError> {
    let pool = &spec.name;
    let failed = |error: ApiError| EmulatorError::Ca {
        pool: pool.clone(),
        reason: error.message,
    };
    let lifetime = spec.ca.lifetime;
    let fits = lifetime >= SignedDuration::from_secs(1) && now.checked_add(lifetime).is_ok();
    if !fits {
        return Err(EmulatorError::CaLifetime(pool.clone()));
    }
    let parent = spec
        .ca
        .parent
        .as_ref()
        .map(|parent| parent_authority(pool, parent, pools, now))
        .transpose()?;
    let ca_options = match &parent {
        None => json!({ "isCa": true }),
        Some(_) => json!({ "isCa": true, "maxIssuerPathLength": 0 }),
    };
    let config = json!({
        "subjectConfig": { "subject": { "commonName": spec.ca.common_name } },
        "x509Config": {
            "caOptions": ca_options,
            "keyUsage": { "baseKeyUsage": { "certSign": true, "crlSign": true } },
        },
    });
    let params = ca_params(&config).map_err(failed)?;
    let key = CaKeyPair::generate(spec.ca.key).map_err(|error| EmulatorError::Ca {
        pool: pool.clone(),
        reason: error.to_string(),
    })?;
    let chain = match &parent {
        None => self_sign(params, &key, lifetime, now),
        Some(parent) => parent.sign_ca(params, &key, ca_terms(lifetime, now)),
    }
    .map_err(failed)?;
    let (id, content_id) = (random_id().map_err(failed)?, random_id().map_err(failed)?);
    let authority = Authority::new(ca_name(pool, &id), &content_id, key.clone(), chain);
    let authority = authority.map_err(|reason| failed(ApiError::internal("The new CA", reason)))?;
    Ok(Ca {
        record: CaRecord {
            pool: pool.clone(),
            id,
            content_id,
            kind: match &parent {
                None => CaType::SelfSigned,
                Some(_) => CaType::Subordinate,
            },
            config,
            lifetime: ProtoDuration(lifetime),
            key: spec.ca.key,
            state: CaState::Enabled,
            labels: Labels::new(),
            subordinate_config: parent
                .map(|parent| SubordinateConfig::CertificateAuthority(parent.name().to_owned())),
            pem_csr: None,
            create_time: now,
            update_time: now,
            delete_time: None,
            expire_time: None,
        },
        key,
        authority: Some(Arc::new(authority)),
    })
}

fn parent_authority(
    pool: &PoolName,
    parent: &PoolName,
    pools: &BTreeMap<PoolName, Arc<Pool>>,
    now: Timestamp,
) -> Result<Arc<Authority>, EmulatorError> {
    let found = pools.get(parent).and_then(|above| {
        above
            .cas(now)
            .filter(|ca| ca.record.state == CaState::Enabled)
            .find_map(|ca| ca.authority.clone())
    });
    let (pool, parent) = (pool.clone(), parent.clone());
    match found {
        None => Err(EmulatorError::ParentWithoutCa { pool, parent }),
        Some(authority) if authority.path_length() == Some(0) => {
            Err(EmulatorError::ParentNotRoot { pool, parent })
        }
        Some(authority) => Ok(authority),
    }
}
