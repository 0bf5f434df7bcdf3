//! A configuration with all that it names: the objects, the pools that it issues from, and where
//! its roots come from. It asks the pools what an agent would ask them, and buys nothing. `cluster`
//! looks at that of a cluster, as its API server has it.
mod anchor;
mod cluster;
mod configuration;
mod report;

use std::path::PathBuf;

use certagent_core::{
    config::{Config, Settings},
    pool::CaPoolName,
};
use certagent_svid::{Certificate, TrustDomain};
use futures::{future::join_all, join};

use super::pool::{self, Anchoring, Facts, Wanted};
use crate::{
    clock::SharedClock,
    config::Found,
    google::Caller,
    issuer::cas::check_anchored,
    trust::{Sources, Trust},
};

pub(crate) use cluster::{ClusterWanted, inspect as cluster};
pub(crate) use report::ConfigReport;

/// Asks every pool and every anchor, and judges the answers.
pub(crate) async fn inspect(
    sources: &Sources,
    paths: &[PathBuf],
    found: &Found,
    settings: &Settings,
    caller: &Caller,
    clock: &SharedClock,
) -> ConfigReport {
    let client = &sources.pools;
    let asked = found.config.as_ref().and_then(|config| {
        let wanted = Wanted::configured(config, paths, settings, None)?;
        Some((config, wanted))
    });
    let Some((config, wanted)) = asked else {
        let now = clock.now();
        return ConfigReport {
            checked_at: now,
            configuration: configuration::judge(found, paths, found.config.is_none(), now),
            pools: Vec::new(),
            anchors: Vec::new(),
        };
    };
    let issuing = &config.certificates.pools;
    let looks = issuing
        .iter()
        .map(|pool| pool::gather(client, pool, &wanted, caller, clock));
    let (facts, trust) = join!(join_all(looks), sources.look(&config.trust, clock.now()));
    let now = clock.now();
    let domains = domains(config, settings);
    let endpoint = client.endpoint().to_string();
    let pools = issuing.iter().zip(&facts).map(|(pool, facts)| {
        let anchoring = anchoring(pool, facts, config, &domains, &trust);
        pool::judge(pool, &endpoint, facts, &wanted, &anchoring, now)
    });
    let anchors = config.trust.stores.iter().flat_map(|(domain, anchors)| {
        let judge = |one| anchor::judge(domain, one, &trust, now);
        anchors.iter().map(judge)
    });
    ConfigReport {
        checked_at: now,
        configuration: configuration::judge(found, paths, true, now),
        pools: pools.collect(),
        anchors: anchors.collect(),
    }
}

/// The trust domains that certificates are issued in: all of them must be anchored. None if the
/// configuration leaves that to whoever uses it.
fn domains(config: &Config, settings: &Settings) -> Vec<TrustDomain> {
    let mut domains: Vec<TrustDomain> = Vec::new();
    let of_workloads = config.workloads.iter().map(|one| &one.trust_domain);
    for domain in of_workloads.chain(&settings.trust_domain) {
        if !domains.contains(domain) {
            domains.push(domain.clone());
        }
    }
    domains
}

/// Where the pool's CAs lead: what it issues can be verified only below an anchor.
fn anchoring(
    pool: &CaPoolName,
    facts: &Facts,
    config: &Config,
    domains: &[TrustDomain],
    trust: &Trust,
) -> Anchoring {
    let Some(chains) = facts.chains() else {
        return Anchoring::Unknown("the pool's chains are not known".to_owned());
    };
    let leads = |domain: &TrustDomain| Anchoring::Leads(format!("to an anchor of {domain}"));
    let mut stores = config.trust.stores.keys();
    let judged = |domain| anchored(pool, chains, domain, trust);
    let found: Vec<Anchoring> = if domains.is_empty() {
        // Any trust domain may be the one.
        let any = stores.clone().find(|domain| judged(domain).is_none());
        match (any, stores.next()) {
            (Some(any), _) => return leads(any),
            (None, first) => first.and_then(judged).into_iter().collect(),
        }
    } else {
        domains.iter().filter_map(judged).collect()
    };
    found
        .into_iter()
        .next()
        .or_else(|| domains.first().map(leads))
        .unwrap_or(Anchoring::Unasked)
}

/// What keeps the pool from leading to an anchor of a trust domain.
fn anchored(
    pool: &CaPoolName,
    chains: &[Vec<Certificate>],
    domain: &TrustDomain,
    trust: &Trust,
) -> Option<Anchoring> {
    let Some(bundle) = trust.bundle(domain) else {
        return Some(Anchoring::Unknown(trust.trouble(domain)));
    };
    match check_anchored(pool, chains, bundle, trust) {
        Ok(()) => None,
        Err(error) if trust.is_complete(domain) => Some(Anchoring::Astray(error.to_string())),
        // An anchor that did not answer may be the one.
        Err(_) => Some(Anchoring::Unknown(trust.trouble(domain))),
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
mod tests;
