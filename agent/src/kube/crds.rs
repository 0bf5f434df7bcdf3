//! Whose the definitions and the `CSIDriver` object in the cluster are.
//!
//! GKE installs the same ones. Two drivers of one name on a node, or two that write one object's
//! status, harm each other, so the agent asks before it does anything.
use std::{collections::BTreeMap, fmt};

use k8s_openapi::{
    api::storage::v1::CSIDriver,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, ResourceExt as _};

use super::{Kind, OURS, Trouble, answer};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that is there is ours.
    Ours,
    /// Something is somebody else's: running beside it would do harm.
    Foreign(Foreign),
    /// It cannot be told now.
    Unknown {
        /// Why, and what to do.
        message: String,
    },
}

/// Objects that were not installed from `deploy/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Each as kind and name.
    pub objects: Vec<String>,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (label, value) = OURS;
        write!(
            f,
            "this cluster has {} of another installation (without the label {label}: {value}), as \
            GKE with mesh certificates has; two of them on one node harm each other. Turn the other \
            one off and apply deploy/, choose another name with --driver-name, or take these over \
            with --adopt-foreign-objects",
            self.objects.join(" and ")
        )
    }
}

/// Looks at the two definitions and at the driver's object.
pub async fn check(client: Client, driver: &str) -> Verdict {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let drivers: Api<CSIDriver> = Api::all(client);
    let mut labels = Vec::new();
    for kind in Kind::ALL {
        let name = kind.definition();
        let object = format!("CustomResourceDefinition {name}");
        match answer(definitions.get_opt(&name)).await {
            Ok(found) => labels.push((object, found.map(|found| found.labels().clone()))),
            Err(trouble) => return unknown(&object, &trouble),
        }
    }
    let object = format!("CSIDriver {driver}");
    match answer(drivers.get_opt(driver)).await {
        Ok(found) => labels.push((object, found.map(|found| found.labels().clone()))),
        Err(trouble) => return unknown(&object, &trouble),
    }
    judge(labels)
}

fn unknown(object: &str, trouble: &Trouble) -> Verdict {
    Verdict::Unknown {
        message: trouble.explain(&format!("the {object}"), "crds.yaml"),
    }
}

/// Each object by its description, with its labels if it is there.
fn judge(objects: Vec<(String, Option<BTreeMap<String, String>>)>) -> Verdict {
    let (label, value) = OURS;
    let is_foreign = |labels: Option<BTreeMap<String, String>>| {
        labels.is_some_and(|labels| labels.get(label).is_none_or(|there| there != value))
    };
    let objects: Vec<_> = objects
        .into_iter()
        .filter_map(|(object, labels)| is_foreign(labels).then_some(object))
        .collect();
    if objects.is_empty() {
        Verdict::Ours
    } else {
        Verdict::Foreign(Foreign { objects })
    }
}

#[cfg(test)]
#[path = "crds_tests.rs"]
mod tests;
