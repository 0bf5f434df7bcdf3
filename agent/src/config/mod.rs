//! The configuration that is active, and how it follows its source.
//!
//! `files` reads files and directories, `reload` watches them, `cluster` follows the objects of a
//! cluster, `judged` what is to be told at each of them; `object` is what such an object is as a source.
//! `activation` makes active what is good, `last_good` keeps what worked last over a restart. What the objects mean is decided in `certagent_core::config`.
mod activation;
mod cluster;
mod files;
mod judged;
mod last_good;
mod object;
mod reload;

use std::{collections::BTreeSet, fmt::Display, sync::Arc};

use certagent_core::{
    config::{CertificatePolicy, Config, Problem, Workload},
    spread_rotation::SpreadRotation,
};

pub(crate) use cluster::objects_of;
pub use cluster::{ClusterConfig, ClusterState};
pub use files::{ConfigFiles, FileError, Found};
pub use judged::JudgedObject;

/// The configuration that certificates are issued by now.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveConfig {
    /// The last one without errors.
    pub config: Arc<Config>,
    /// Why what its source says now is not what is active; none if it is.
    pub problem: Option<String>,
    /// Rises with every change of `config`.
    pub version: u64,
}

impl ActiveConfig {
    /// What is to be renewed ahead of its time.
    pub fn spread_rotation(&self) -> Option<SpreadRotation> {
        self.config.spread_rotation
    }

    /// The same with the first pool alone: for whoever leaves the choice of the pool to the
    /// controller, and only has to name one.
    #[must_use]
    pub fn with_first_pool(&self) -> Self {
        let mut config = (*self.config).clone();
        config.certificates.pools.truncate(1);
        Self {
            config: Arc::new(config),
            ..self.clone()
        }
    }
}

/// A configuration that cannot be used, and nothing to use instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration cannot be used:{}", list(problems))]
pub struct BadConfig {
    /// Everything that is wrong, warnings included.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .flat_map(|problem| ["\n  ".to_owned(), problem.to_string()])
        .collect()
}

/// What a person who edited the configuration wants to read back, one line per change.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    policy_changes(&old.certificates, &new.certificates, &mut changes);
    if let Some(rotation) = new
        .spread_rotation
        .filter(|one| old.spread_rotation != Some(*one))
    {
        changes.push(rotation.to_string());
    } else if old.spread_rotation != new.spread_rotation {
        changes.push("nothing is renewed ahead of its time any more".to_owned());
    }
    if old.trust != new.trust {
        let names = |config: &Config| -> BTreeSet<String> {
            config
                .trust
                .stores
                .keys()
                .map(ToString::to_string)
                .collect()
        };
        let (before, after) = (names(old), names(new));
        added_and_removed("trust domain", &before, &after, &mut changes);
        for name in before.intersection(&after) {
            let anchors = |config: &Config| {
                let store = config
                    .trust
                    .stores
                    .iter()
                    .find(|(domain, _)| domain.as_str() == name);
                store.map(|(_, anchors)| anchors.clone())
            };
            if anchors(old) != anchors(new) {
                changes.push(format!("other trust anchors for {name}"));
            }
        }
    }
    let names = |config: &Config| -> BTreeSet<String> {
        config
            .workloads
            .iter()
            .map(|workload| workload.name.clone())
            .collect()
    };
    let (before, after) = (names(old), names(new));
    added_and_removed("workload", &before, &after, &mut changes);
    // Where it was read from says nothing about the workload itself.
    let plain = |config: &Config, name: &String| {
        let workload = config
            .workloads
            .iter()
            .find(|workload| workload.name == *name);
        workload.map(|workload| Workload {
            source: String::new(),
            ..workload.clone()
        })
    };
    for name in before
        .intersection(&after)
        .filter(|name| plain(old, name) != plain(new, name))
    {
        changes.push(format!("workload {name} changed"));
    }
    changes
}

fn policy_changes(old: &CertificatePolicy, new: &CertificatePolicy, changes: &mut Vec<String>) {
    let mut compare = |what, old: &dyn Display, new: &dyn Display| {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            changes.push(format!("{what} {old} -> {new}"));
        }
    };
    let pools = |policy: &CertificatePolicy| -> String {
        let names: Vec<_> = policy.pools.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    compare("key algorithm", &old.algorithm, &new.algorithm);
    compare(
        "validity",
        &humantime::format_duration(old.validity),
        &humantime::format_duration(new.validity),
    );
    compare(
        "rotation window",
        &format_args!("{}%", old.rotation_window_percentage),
        &format_args!("{}%", new.rotation_window_percentage),
    );
    compare("pools", &pools(old), &pools(new));
}

fn added_and_removed(
    what: &str,
    before: &BTreeSet<String>,
    after: &BTreeSet<String>,
    changes: &mut Vec<String>,
) {
    changes.extend(
        after
            .difference(before)
            .map(|name| format!("{what} {name} added")),
    );
    changes.extend(
        before
            .difference(after)
            .map(|name| format!("{what} {name} removed")),
    );
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod reload_tests;

#[cfg(test)]
mod tests {
    use super::{fixture::Objects, *};

    #[test]
    fn a_change_is_told_in_the_words_of_the_file() {
        let old = Objects::default();
        let new = Objects {
            algorithm: "rsa:\n      modulusSize: 3072",
            validity: 7200,
            window: 25,
            workloads: &["a", "c"],
        };
        assert_eq!(
            changes(&old.config(), &new.config()),
            [
                "key algorithm ecdsa-p256 -> rsa-3072",
                "validity 1h -> 2h",
                "rotation window 50% -> 25%",
                "workload c added",
                "workload b removed",
            ]
        );
        assert_eq!(changes(&old.config(), &old.config()), Vec::<String>::new());
    }
}
