//! Whether `certagent controller` works, and who of its replicas.
use ::kube::{Api, Client};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use serde::Serialize;

use super::{
    super::text::{clean, relative},
    NAMESPACE, Permission, Seen, Unseen,
};

/// The name of the Deployment and of the Lease.
pub(super) const NAME: &str = "certagent-controller";

/// A Lease that nobody has renewed for so long is nobody's. It is renewed each few seconds; the
/// rest is for clocks that differ.
const STALE: SignedDuration = SignedDuration::from_secs(60);

/// What the API server says of it.
#[derive(Clone, Debug)]
pub(in crate::inspect) struct Controller {
    pub(in crate::inspect) deployed: Seen<Option<Deployed>>,
    pub(in crate::inspect) led: Seen<Option<Led>>,
}

/// Its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct Deployed {
    pub(in crate::inspect) ready: i32,
    pub(in crate::inspect) wanted: i32,
}

/// Its Lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct Led {
    pub(in crate::inspect) holder: Option<String>,
    pub(in crate::inspect) renewed_at: Option<Timestamp>,
}

/// What that adds up to.
#[derive(Clone, Debug)]
pub(in crate::inspect) enum Works {
    Yes(String),
    /// Nobody approves and signs.
    No(String),
    Unseen(Unseen),
}

impl Controller {
    pub(in crate::inspect) async fn look(client: &Client) -> Self {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
        let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
        let deployed = Permission::of("get", "deployments.apps").within(NAMESPACE);
        let led = Permission::of("get", "leases.coordination.k8s.io").within(NAMESPACE);
        let (deployed, led) = futures::join!(
            deployed.ask(deployments.get_opt(NAME)),
            led.ask(leases.get_opt(NAME))
        );
        Self {
            deployed: deployed.map(|there| there.as_ref().map(Deployed::of)),
            led: led.map(|there| there.as_ref().map(Led::of)),
        }
    }

    /// The Lease says who works; the Deployment says why nobody does.
    pub(in crate::inspect) fn works(&self, now: Timestamp) -> Works {
        let nobody = match &self.led {
            Ok(led) => match led.as_ref().map(|led| led.now(now)) {
                Some(Ok(holder)) => return Works::Yes(format!("{holder} leads")),
                Some(Err(why)) => why,
                None => format!("there is no Lease {NAME} in {NAMESPACE}"),
            },
            Err(unseen) => {
                return match &self.deployed {
                    Ok(Some(there)) if there.ready > 0 => Works::Yes(there.to_string()),
                    Ok(there) => Works::No(without_pods(there.as_ref())),
                    Err(_) => Works::Unseen(unseen.clone()),
                };
            }
        };
        let pods = match &self.deployed {
            Ok(there) => without_pods(there.as_ref()),
            Err(unseen) => unseen.text.clone(),
        };
        Works::No(format!("{nobody}; {pods}"))
    }

    /// There is no Deployment of it at all.
    pub(in crate::inspect) fn is_missing(&self) -> bool {
        matches!(self.deployed, Ok(None))
    }
}

fn without_pods(there: Option<&Deployed>) -> String {
    match there {
        Some(there) => there.to_string(),
        None => format!("there is no Deployment {NAME} in {NAMESPACE}"),
    }
}

impl std::fmt::Display for Deployed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} pods of the controller ready",
            self.ready, self.wanted
        )
    }
}

impl Deployed {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let status = deployment.status.as_ref();
        Self {
            ready: status.and_then(|one| one.ready_replicas).unwrap_or(0),
            // As the API server takes it.
            wanted: deployment.spec.replicas.unwrap_or(1),
        }
    }
}

impl Led {
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|one| one.holder_identity.as_deref());
        Self {
            holder: holder.filter(|one| !one.is_empty()).map(clean),
            renewed_at: spec.and_then(|one| Some(one.renew_time.as_ref()?.0)),
        }
    }

    /// Who holds it, or why nobody does.
    fn now(&self, now: Timestamp) -> Result<&str, String> {
        let Some(holder) = &self.holder else {
            return Err(format!("nobody holds the Lease {NAME}"));
        };
        match self.renewed_at {
            Some(at) if now.duration_since(at) <= STALE => Ok(holder),
            Some(at) => Err(format!(
                "{holder} holds the Lease {NAME}, and renewed it last at {}",
                relative(at, now)
            )),
            None => Err(format!(
                "{holder} holds the Lease {NAME}, and never renewed it"
            )),
        }
    }
}
