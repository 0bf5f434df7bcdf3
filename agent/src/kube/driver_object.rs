//! The driver's own object in the cluster: what kubelet tells the driver depends on it.
use futures::StreamExt as _;
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::{Client, api::ApiResource};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::objects::{Looked, look};

/// What the `CSIDriver` object makes of the driver. Each text is for the event of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverObject {
    /// Not known yet, or any more.
    Unknown(String),
    /// There is none.
    Missing(String),
    /// Kubelet does not say what the driver has to know.
    Wrong(String),
    /// All is well.
    Right,
}

/// Follows the `CSIDriver` object of a name until `cancel`. With `tokens`, it must make kubelet bring
/// the pods' tokens, again and again.
pub fn follow(
    client: Client,
    name: String,
    tokens: bool,
    cancel: CancellationToken,
) -> (watch::Receiver<DriverObject>, JoinHandle<()>) {
    let unknown = format!("the API server was not asked for CSIDriver/{name} yet");
    let (sender, receiver) = watch::channel(DriverObject::Unknown(unknown));
    let kind = ApiResource::erase::<CSIDriver>(&());
    let follow = async move {
        let mut looked = Box::pin(look(client, &kind, &name));
        while let Some(looked) = looked.next().await {
            let before = sender.borrow().clone();
            let now = match looked {
                Looked::Found(object) => match object.try_parse() {
                    Ok(object) => judge(&object, tokens),
                    Err(error) => DriverObject::Wrong(format!("CSIDriver/{name}: {error}")),
                },
                Looked::Missing => DriverObject::Missing(format!(
                    "there is no CSIDriver/{name} in the cluster; apply the one of deploy/"
                )),
                // What was known stays right while the API server is away.
                Looked::Unknown(reason) => match &before {
                    DriverObject::Unknown(_) => DriverObject::Unknown(reason),
                    known => known.clone(),
                },
            };
            if now != before {
                match &now {
                    DriverObject::Right => info!(driver = name, "its CSIDriver object is right"),
                    DriverObject::Unknown(reason)
                    | DriverObject::Missing(reason)
                    | DriverObject::Wrong(reason) => warn!(driver = name, "{reason}"),
                }
                sender.send_replace(now);
            }
        }
    };
    let task = tokio::spawn(async move {
        cancel.run_until_cancelled(follow).await;
    });
    (receiver, task)
}

/// What is wrong with the object.
fn judge(object: &CSIDriver, tokens: bool) -> DriverObject {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let spec = &object.spec;
    let modes = spec.volume_lifecycle_modes.as_deref().unwrap_or_default();
    let lacks = if spec.pod_info_on_mount != Some(true) {
        "podInfoOnMount: true, so that kubelet says whose volume it is"
    } else if !modes.iter().any(|mode| mode == "Ephemeral") {
        "volumeLifecycleModes: [Ephemeral], so that pods may have it inline"
    } else if tokens && spec.token_requests.as_ref().is_none_or(Vec::is_empty) {
        "tokenRequests, so that kubelet brings the pods' tokens"
    } else if tokens && spec.requires_republish != Some(true) {
        "requiresRepublish: true, so that kubelet brings newer tokens"
    } else {
        return DriverObject::Right;
    };
    DriverObject::Wrong(format!(
        "CSIDriver/{name} lacks {lacks}; its fields cannot be changed, so delete it and apply the \
         one of deploy/"
    ))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::storage::v1::{CSIDriverSpec, TokenRequest};

    use super::*;

    fn object(change: impl FnOnce(&mut CSIDriverSpec)) -> CSIDriver {
        let mut object = CSIDriver::default();
        object.metadata.name = Some("driver.example.com".to_owned());
        object.spec.pod_info_on_mount = Some(true);
        object.spec.requires_republish = Some(true);
        object.spec.volume_lifecycle_modes = Some(vec!["Ephemeral".to_owned()]);
        object.spec.token_requests = Some(vec![TokenRequest::default()]);
        change(&mut object.spec);
        object
    }

    type Change = fn(&mut CSIDriverSpec);

    #[test]
    fn what_the_object_lacks_is_named() {
        assert_eq!(judge(&object(|_| {}), true), DriverObject::Right);
        let cases: [(Change, bool, Option<&str>); 6] = [
            (
                |spec| spec.pod_info_on_mount = None,
                false,
                Some("podInfoOnMount: true"),
            ),
            (
                |spec| spec.pod_info_on_mount = Some(false),
                true,
                Some("podInfoOnMount: true"),
            ),
            (
                |spec| spec.volume_lifecycle_modes = None,
                false,
                Some("[Ephemeral]"),
            ),
            (
                |spec| spec.token_requests = Some(Vec::new()),
                true,
                Some("tokenRequests"),
            ),
            (
                |spec| spec.requires_republish = None,
                true,
                Some("requiresRepublish"),
            ),
            (
                |spec| {
                    spec.requires_republish = None;
                    spec.token_requests = None;
                },
                false,
                None,
            ),
        ];
        for (change, tokens, lacks) in cases {
            match (judge(&object(change), tokens), lacks) {
                (DriverObject::Right, None) => {}
                (DriverObject::Wrong(text), Some(lacks)) => {
                    assert!(
                        text.contains(lacks) && text.contains("driver.example.com"),
                        "{text}"
                    );
                }
                (judged, lacks) => panic!("{judged:?} instead of {lacks:?}"),
            }
        }
    }
}
