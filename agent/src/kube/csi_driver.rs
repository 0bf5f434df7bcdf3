//! The cluster's `CSIDriver` object, by which the kubelet decides what it tells the driver.
//!
//! Without `podInfoOnMount` any pod could call itself by another pod's name in its volume's
//! attributes, so nothing is published until the object is known to be right.
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Trouble, answer};

/// What is known of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverObject {
    /// The API server has not told yet.
    Unknown {
        /// Why, and what to do, for a pod's event.
        message: String,
    },
    /// There is none.
    Missing {
        /// What to do, for a pod's event.
        message: String,
    },
    /// The kubelet tells the driver less than it needs, because of the object.
    Wrong {
        /// What is wrong and what to do, for a pod's event.
        message: String,
    },
    /// Volumes can be published.
    Right,
}

/// Whether the kubelet has to pass on tokens of the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// No: the driver has an identity of its own.
    NotNeeded,
    /// Yes, for this audience.
    For(String),
}

impl DriverObject {
    /// Follows the object of the driver until `cancel`. What was known stays when the API server
    /// goes away.
    pub fn watch(
        client: Client,
        driver: &str,
        tokens: Tokens,
        cancel: CancellationToken,
    ) -> watch::Receiver<Self> {
        let (sender, receiver) = watch::channel(Self::unknown(driver, None));
        let driver = driver.to_owned();
        tokio::spawn(async move {
            let follow = follow(client, &driver, &tokens, &sender);
            cancel.run_until_cancelled(follow).await
        });
        receiver
    }

    /// The object as it is now.
    pub async fn look(client: Client, driver: &str, tokens: &Tokens) -> Self {
        let api: Api<CSIDriver> = Api::all(client);
        match answer(api.get_opt(driver)).await {
            Ok(object) => Self::judge(object.as_ref(), driver, tokens),
            Err(trouble) => Self::unknown(driver, Some(&trouble)),
        }
    }

    /// What an object means for the driver.
    pub fn judge(object: Option<&CSIDriver>, driver: &str, tokens: &Tokens) -> Self {
        let manifest = match tokens {
            Tokens::NotNeeded => "csidriver.yaml",
            Tokens::For(_) => "csidriver-reflected.yaml",
        };
        let Some(object) = object else {
            return Self::Missing {
                message: format!(
                    "the cluster has no CSIDriver {driver}, so the kubelet does not say which pod \
                    a volume is for; apply deploy/{manifest}"
                ),
            };
        };
        match lacks(object, tokens) {
            None => Self::Right,
            Some(lacks) => Self::Wrong {
                message: format!("the CSIDriver {driver} {lacks}; apply deploy/{manifest}"),
            },
        }
    }

    fn unknown(driver: &str, trouble: Option<&Trouble>) -> Self {
        let object = format!("the CSIDriver {driver}");
        let message = match trouble {
            Some(trouble) => trouble.explain(&object, "csidriver.yaml"),
            None => format!("the API server has not answered yet, so {object} is not known"),
        };
        Self::Unknown { message }
    }

    /// What there is to say; none if all is right.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Unknown { message } | Self::Missing { message } | Self::Wrong { message } => {
                Some(message)
            }
            Self::Right => None,
        }
    }
}

/// The first thing that is missing, and why it is needed.
fn lacks(object: &CSIDriver, tokens: &Tokens) -> Option<String> {
    let spec = &object.spec;
    if spec.pod_info_on_mount != Some(true) {
        return Some(
            "lacks podInfoOnMount: true, so the kubelet does not say which pod a volume is for"
                .to_owned(),
        );
    }
    let modes = spec.volume_lifecycle_modes.as_deref().unwrap_or_default();
    if !modes.iter().any(|mode| mode == "Ephemeral") {
        return Some(
            "lacks Ephemeral in volumeLifecycleModes, so the kubelet mounts no volume that a pod \
            names itself"
                .to_owned(),
        );
    }
    let Tokens::For(audience) = tokens else {
        return None;
    };
    let requests = spec.token_requests.as_deref().unwrap_or_default();
    if !requests.iter().any(|request| request.audience == *audience) {
        return Some(format!(
            "lacks the audience {audience:?} in tokenRequests, so the kubelet passes on no token \
            by which a pod could ask for its own certificate"
        ));
    }
    (spec.requires_republish != Some(true)).then(|| {
        "lacks requiresRepublish: true, so the kubelet passes on no fresh tokens for the renewals"
            .to_owned()
    })
}

async fn follow(
    client: Client,
    driver: &str,
    tokens: &Tokens,
    sender: &watch::Sender<DriverObject>,
) {
    let api: Api<CSIDriver> = Api::all(client);
    let events = watcher::watch_object(api, driver).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(object) => DriverObject::judge(object.as_ref(), driver, tokens),
            Err(error) => {
                let is_known = !matches!(*sender.borrow(), DriverObject::Unknown { .. });
                match Trouble::of(&error) {
                    Some(trouble) if !is_known => DriverObject::unknown(driver, Some(&trouble)),
                    _ => continue,
                }
            }
        };
        let is_new = sender.send_if_modified(|before| {
            let is_new = *before != now;
            before.clone_from(&now);
            is_new
        });
        if is_new {
            if let Some(problem) = now.problem() {
                warn!("{problem}");
            } else {
                info!(driver, "the CSIDriver object is as it has to be");
            }
        }
    }
}

#[cfg(test)]
#[path = "csi_driver_tests.rs"]
mod tests;
