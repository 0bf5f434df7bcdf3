//! The configuration of a cluster: its two objects, what the controller has made of them, and what
//! has become of the nodes' requests. It asks the API server alone, no CA; of a spread rotation it
//! has the API server ask the drivers.
mod checks;
mod next;
mod report;
mod rotation;
mod tally;
mod text;

use ::kube::Client;
use certagent_core::config::Settings;
use futures::join;
use jiff::Timestamp;

use super::super::cluster::{ConfigObject, Controller, Requests, Seen, version};
use crate::{
    clock::SharedClock,
    config::{ClusterConfig, Found},
    kube::Kind,
};

use rotation::Progress;

pub(crate) use report::Report;

/// What is looked at, and what with.
#[derive(Clone, Debug)]
pub(crate) struct ClusterWanted {
    pub(crate) signer: String,
    /// What the objects are read with.
    pub(crate) settings: Settings,
    /// Certificates come by the controller.
    pub(crate) by_controller: bool,
}

/// Everything that was found.
#[derive(Clone, Debug)]
struct Facts {
    /// What the API server says, or why it says nothing.
    cluster: Result<Cluster, String>,
}

/// What the API server says.
#[derive(Clone, Debug)]
struct Cluster {
    version: Option<String>,
    /// In the order of the kinds.
    objects: [Seen<Option<ConfigObject>>; 2],
    /// What they mean, or why that is not known.
    found: Result<Found, String>,
    controller: Controller,
    requests: Seen<Requests>,
    /// How far a spread rotation is; none if nobody asked for one.
    rotation: Option<Seen<Progress>>,
}

/// Looks at the objects of a cluster. Without a client, the reason for that is told.
pub(crate) async fn inspect(
    wanted: &ClusterWanted,
    client: Result<Client, String>,
    clock: &SharedClock,
) -> Report {
    let facts = gather(wanted, client).await;
    judge(wanted, &facts, clock.now())
}

async fn gather(wanted: &ClusterWanted, client: Result<Client, String>) -> Facts {
    let cluster = async {
        let client = client?;
        let version = version(&client).await?;
        let [certificates, trust] = Kind::ALL;
        let (certificates, trust, found, controller, requests) = join!(
            Box::pin(ConfigObject::look(&client, certificates)),
            Box::pin(ConfigObject::look(&client, trust)),
            Box::pin(ClusterConfig::look(&client, &wanted.settings)),
            Box::pin(Controller::look(&client)),
            Box::pin(Requests::look(&client, &wanted.signer, |_| true)),
        );
        let config = found.as_ref().ok().and_then(|found| found.config.as_ref());
        let asked = config.and_then(|config| config.spread_rotation);
        let rotation = match asked {
            Some(_) => Some(Progress::look(&client).await),
            None => None,
        };
        Ok(Cluster {
            version,
            objects: [certificates, trust],
            found,
            controller,
            requests,
            rotation,
        })
    };
    Facts {
        cluster: cluster.await,
    }
}

/// From here on everything is pure.
fn judge(wanted: &ClusterWanted, facts: &Facts, now: Timestamp) -> Report {
    let (checks, evidence) = checks::run(wanted, facts, now);
    let next = |cause: &_, evidence: &_| next::steps(facts, cause, evidence);
    let names = Kind::ALL.map(Kind::object);
    Report::new(&names.join(", "), now, checks, evidence, next)
}

#[cfg(test)]
mod tests;
