//! Locations and pools: made, found, listed, changed, deleted, and the roots of their CAs.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::emulator::Emulator;
use crate::errors::{ApiError, Code};
use crate::json::{from_body, from_value, parse_json};
use crate::listing::Page;
use crate::mask::Mask;
use crate::operations::{Operation, Started};
use crate::pool::{PoolName, is_resource_id};
use crate::resources::{ActionBody, CaPoolJson, CaState, PoolBody, PoolSettings, check_labels};
use crate::wire::{CertChain, FetchCaCertsJson};
use crate::world::Pool;

/// The locations that every project has, beside those where it has pools.
const LOCATIONS: [&str; 5] = [
    "asia-east1",
    "europe-west1",
    "us-central1",
    "us-east1",
    "us-west1",
];

const TYPE: &str = "CaPool";

impl Emulator {
    /// `GetCaPool`.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get_ca_pool(&self, name: &str) -> Result<CaPoolJson, ApiError> {
        Ok(self.pool(name)?.json())
    }

    /// `FetchCaCerts`: the chains of the pool's CAs, their roots last. CAs that are deleted or have
    /// no certificate yet are left out.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn fetch_ca_certs(&self, pool: &str) -> Result<FetchCaCertsJson, ApiError> {
        let pool = self.pool(pool)?;
        let ca_certs = pool
            .cas(self.now())
            .filter(|ca| ca.record.state != CaState::Deleted)
            .filter_map(|ca| ca.authority.as_deref())
            .map(|authority| CertChain {
                certificates: authority.chain().to_vec(),
            })
            .collect();
        Ok(FetchCaCertsJson { ca_certs })
    }

    /// As [`fetch_ca_certs`](Self::fetch_ca_certs), with the request's body.
    pub(crate) fn fetch_ca_certs_with(
        &self,
        pool: &str,
        body: &[u8],
    ) -> Result<FetchCaCertsJson, ApiError> {
        from_body::<ActionBody>(body)?;
        self.fetch_ca_certs(pool)
    }

    pub(crate) fn list_locations(&self, project: &str, page: &Page) -> Result<Value, ApiError> {
        let names = self.locations(project);
        page.answer(
            "locations",
            names.iter().map(|name| (name.clone(), location(name))),
        )
    }

    pub(crate) fn get_location(&self, name: &str) -> Result<Value, ApiError> {
        let (project, _) = name.split_once("/locations/").unwrap_or_default();
        if self.locations(project).contains(name) {
            return Ok(location(name));
        }
        Err(ApiError::not_found(name))
    }

    fn locations(&self, project: &str) -> BTreeSet<String> {
        let known = LOCATIONS.map(|id| format!("{project}/locations/{id}"));
        let pools = self.world.all();
        let used = pools.iter().map(|pool| pool.name.location());
        let used = used.filter(|location| is_below(location, project));
        known.into_iter().chain(used.map(str::to_owned)).collect()
    }

    pub(crate) fn create_ca_pool(
        &self,
        location: &str,
        id: Option<&str>,
        request_id: Option<&str>,
        body: &[u8],
    ) -> Result<Operation, ApiError> {
        let id = id.ok_or_else(|| ApiError::invalid("ca_pool_id is required."))?;
        if !is_resource_id(id) {
            return Err(ApiError::invalid(format!(
                "ca_pool_id {id:?} does not match [a-zA-Z0-9_-]{{1,63}}."
            )));
        }
        let name =
            PoolName::in_location(location, id).map_err(|_error| ApiError::not_found(location))?;
        let body: PoolBody = from_body(body)?;
        let tier = body
            .tier
            .ok_or_else(|| ApiError::invalid("ca_pool.tier is required."))?;
        let settings = PoolSettings {
            issuance_policy: body.issuance_policy,
            publishing_options: body.publishing_options,
            labels: body.labels,
        };
        check_settings(&settings)?;
        let started = Started {
            location,
            target: name.to_string(),
            verb: "create",
            request_id,
        };
        self.operate(started, || {
            let _changing = self.world.change();
            if self.world.get(&name).is_some() {
                return Err(ApiError::already_exists(&name.to_string()));
            }
            let pool = Pool::new(name.clone(), tier, settings);
            if let Some(state) = &self.state {
                state
                    .save_pool(&pool, false)
                    .map_err(|error| ApiError::internal("The pool was not stored", error))?;
            }
            let json = pool.json();
            self.world.put(pool);
            Ok((TYPE, json))
        })
    }

    /// `-` as the location stands for all of the project's.
    pub(crate) fn list_ca_pools(&self, location: &str, page: &Page) -> Result<Value, ApiError> {
        let (project, id) = location.split_once("/locations/").unwrap_or_default();
        let pools = self.world.all();
        let found = pools.iter().filter(|pool| {
            let place = pool.name.location();
            place == location || (id == "-" && is_below(place, project))
        });
        page.answer(
            "caPools",
            found.map(|pool| (pool.name.to_string(), pool.json())),
        )
    }

    pub(crate) fn update_ca_pool(
        &self,
        name: &str,
        mask: &Mask,
        request_id: Option<&str>,
        body: &[u8],
    ) -> Result<Operation, ApiError> {
        let change = parse_json(body)?;
        from_value::<PoolBody>(&change)?;
        let location = self.pool(name)?.name.location().to_owned();
        let started = Started {
            location: &location,
            target: name.to_owned(),
            verb: "update",
            request_id,
        };
        self.operate(started, || {
            let json = self.change_pool(name, |pool, _| {
                let mut settings = serde_json::to_value(&pool.settings)
                    .map_err(|error| ApiError::internal("The pool", error))?;
                let fields = ["issuancePolicy", "publishingOptions", "labels"];
                mask.apply(&mut settings, &change, &fields)?;
                pool.settings = from_value(&settings)?;
                check_settings(&pool.settings)?;
                Ok(pool.json())
            })?;
            Ok((TYPE, json))
        })
    }

    /// Deletes a pool. CAs in it are an obstacle, deleted ones in their grace period too, but with
    /// `ignore_dependents` they go with it, at once.
    pub(crate) fn delete_ca_pool(
        &self,
        name: &str,
        ignore_dependents: bool,
        request_id: Option<&str>,
    ) -> Result<Operation, ApiError> {
        let parsed: PoolName = name.parse().map_err(|_error| ApiError::not_found(name))?;
        let started = Started {
            location: parsed.location(),
            target: name.to_owned(),
            verb: "delete",
            request_id,
        };
        self.operate(started, || {
            self.change_pool(name, |pool, now| {
                check_deletable(pool, ignore_dependents, now)?;
                pool.all_cas.clear();
                Ok(())
            })?;
            let _changing = self.world.change();
            // Who made a CA in between has won.
            check_deletable(&*self.pool(name)?, false, self.now())?;
            if let Some(state) = &self.state {
                state
                    .remove_pool(&parsed)
                    .map_err(|error| ApiError::internal("The pool was not removed", error))?;
            }
            self.world.remove(&parsed);
            self.forget_certificates(&parsed);
            Ok(("", json!({})))
        })
    }
}

fn check_settings(settings: &PoolSettings) -> Result<(), ApiError> {
    settings.issuance_policy.check()?;
    check_labels(&settings.labels)
}

fn check_deletable(pool: &Pool, ignore_dependents: bool, now: Timestamp) -> Result<(), ApiError> {
    if ignore_dependents || pool.cas(now).next().is_none() {
        return Ok(());
    }
    Err(ApiError::new(
        Code::FailedPrecondition,
        format!(
            "The CA pool {} contains certificate authorities; delete them first, or set \
             ignore_dependent_resources.",
            pool.name
        ),
    ))
}

fn location(name: &str) -> Value {
    let id = name.rsplit('/').next().unwrap_or_default();
    json!({ "name": name, "locationId": id })
}

fn is_below(location: &str, project: &str) -> bool {
    location
        .strip_prefix(project)
        .is_some_and(|rest| rest.starts_with('/'))
}
