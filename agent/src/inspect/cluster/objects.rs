//! The two objects of the configuration, as far as the controller has written into them.
use ::kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use jiff::SignedDuration;
use serde::{Deserialize as _, Serialize};

use super::{super::text::clean, Permission, Seen};
use crate::kube::{GROUP, Kind, OBJECT_NAME, Trouble, VERSION, answer, schema::Condition};

/// More pools than a configuration can name are not read.
const MOST_POOLS: usize = 16;

/// One object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::inspect) struct ConfigObject {
    pub(in crate::inspect) generation: Option<i64>,
    /// What the controller says of it; none before it has.
    pub(in crate::inspect) ready: Option<Ready>,
    /// The CA pools that it names, of a `WorkloadCertificateConfig`.
    pub(in crate::inspect) pools: Vec<String>,
    pub(in crate::inspect) validity: Option<SignedDuration>,
    pub(in crate::inspect) rotation_window_percentage: Option<u8>,
    /// The status as it is, for whoever reads more of it.
    pub(in crate::inspect) status: Option<serde_json::Value>,
}

/// The condition `Ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct Ready {
    pub(in crate::inspect) status: String,
    pub(in crate::inspect) reason: String,
    pub(in crate::inspect) message: String,
    pub(in crate::inspect) observed_generation: Option<i64>,
}

impl ConfigObject {
    /// None if there is none, or not even its kind.
    pub(in crate::inspect) async fn look(client: &Client, kind: Kind) -> Seen<Option<Self>> {
        let gvk = GroupVersionKind::gvk(GROUP, VERSION, kind.name());
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let needed = Permission::of("get", resource_of(kind));
        match answer(objects.get_opt(OBJECT_NAME)).await {
            Ok(there) => Ok(there.as_ref().map(Self::of)),
            Err(Trouble::UnknownKind) => Ok(None),
            Err(trouble) => Err(needed.unseen(trouble)),
        }
    }

    pub(super) fn of(object: &DynamicObject) -> Self {
        let spec = &object.data["spec"];
        let cas = &spec["certificateAuthorityConfig"]["certificateAuthorityServiceConfig"];
        let fallbacks = cas["fallbackURIs"].as_array();
        let pools = std::iter::once(&cas["endpointURI"])
            .chain(fallbacks.into_iter().flatten())
            .filter_map(|pool| pool.as_str());
        let percentage = spec["rotationWindowPercentage"].as_u64();
        Self {
            generation: object.metadata.generation,
            ready: Ready::of(&object.data["status"]),
            pools: pools.take(MOST_POOLS).map(clean).collect(),
            validity: spec["validityDurationSeconds"]
                .as_i64()
                .map(SignedDuration::from_secs),
            rotation_window_percentage: percentage.and_then(|one| one.try_into().ok()),
            status: object.data.get("status").cloned(),
        }
    }

    /// The controller has not looked at the object as it is now.
    pub(in crate::inspect) fn is_newer(&self) -> bool {
        let observed = self
            .ready
            .as_ref()
            .and_then(|ready| ready.observed_generation);
        matches!((self.generation, observed), (Some(now), Some(then)) if then < now)
    }
}

impl Ready {
    fn of(status: &serde_json::Value) -> Option<Self> {
        let conditions = Vec::<Condition>::deserialize(&status["conditions"]).ok()?;
        let ready = conditions.into_iter().find(|one| one.r#type == "Ready")?;
        Some(Self {
            status: clean(&ready.status),
            reason: clean(&ready.reason),
            message: clean(&ready.message),
            observed_generation: ready.observed_generation,
        })
    }

    pub(in crate::inspect) fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// What kubectl calls it.
const fn resource_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Certificates => "workloadcertificateconfigs.security.cloud.google.com",
        Kind::Trust => "trustconfigs.security.cloud.google.com",
    }
}
