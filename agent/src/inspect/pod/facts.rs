//! What can be learned of a pod's certificate from the API server.
use ::kube::{Api, Client, api::ListParams};
use certagent_svid::TrustDomain;
use futures::join;
use k8s_openapi::api::{core::v1 as core, storage::v1::CSIDriver};

use super::{
    super::cluster::{
        ConfigObject, Controller, DRIVER_LABEL, NAMESPACE, Permission, Request, Requests, Seen,
        version,
    },
    objects::{Complaint, Driver, Mode, Pod},
};
use crate::{
    kube::{Kind, Tokens},
    trust::rendered,
};

/// More events of one pod are not read.
const MOST_EVENTS: u32 = 500;

/// Which pod is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) signer: String,
    /// The cluster's, to know the pod's identity by.
    pub(crate) trust_domain: Option<TrustDomain>,
}

/// Everything that was found.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What the API server says, or why it says nothing.
    pub(super) cluster: Result<Cluster, String>,
}

/// What the API server says.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) version: Option<String>,
    pub(super) pod: Seen<Option<Pod>>,
    /// Nothing of it is asked for a pod that is not there.
    pub(super) around: Option<Around>,
}

/// What is around the pod.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub(super) complaint: Seen<Option<Complaint>>,
    /// Those for this pod.
    pub(super) requests: Seen<Requests>,
    /// On the pod's node; none if there is none, or no node.
    pub(super) driver: Seen<Option<Driver>>,
    pub(super) driver_object: Seen<Option<CSIDriver>>,
    /// In the order of the kinds.
    pub(super) objects: [Seen<Option<ConfigObject>>; 2],
    pub(super) controller: Controller,
}

impl Wanted {
    /// As it was typed.
    pub(super) fn pod(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// A request is for this pod: by its UID, or, if nobody may know that, by its names.
    fn is_for(&self, pod: Option<&Pod>, request: &Request) -> bool {
        let is_named = request.pod_name.as_deref() == Some(self.name.as_str());
        match (pod, &request.pod_uid) {
            (Some(pod), Some(uid)) => *uid == pod.uid,
            // Nobody can read whose it is: its own node's, by its name.
            (Some(pod), None) => is_named && request.node.is_some() && request.node == pod.node,
            (None, _) => {
                let id = request.spiffe_id.as_deref().unwrap_or_default();
                is_named && id.contains(&format!("/ns/{}/", self.namespace))
            }
        }
    }
}

impl Around {
    /// Who gets the pod's certificate: what the driver was told, else what its object lets it do.
    pub(super) fn mode(&self) -> Mode {
        match (&self.driver, self.tokens()) {
            (Ok(Some(driver)), _) => driver.mode,
            (_, Tokens::For(_)) => Mode::PodTokens,
            (_, Tokens::NotNeeded) => Mode::Controller,
        }
    }

    /// Which tokens kubelet passes on, by the driver's object.
    pub(super) fn tokens(&self) -> Tokens {
        let object = self.driver_object.as_ref().ok().and_then(Option::as_ref);
        let requests = object.and_then(|object| object.spec.token_requests.as_deref());
        match requests.and_then(<[_]>::first) {
            Some(first) => Tokens::For(first.audience.clone()),
            None => Tokens::NotNeeded,
        }
    }

    /// The requests of the pod's own node, the newest first.
    pub(super) fn own<'a>(&'a self, pod: Option<&'a Pod>) -> impl Iterator<Item = &'a Request> {
        self.split(pod, true)
    }

    /// The requests for the pod by nodes that it does not run on.
    pub(super) fn foreign<'a>(&'a self, pod: Option<&'a Pod>) -> impl Iterator<Item = &'a Request> {
        self.split(pod, false)
    }

    fn split<'a>(&'a self, pod: Option<&'a Pod>, own: bool) -> impl Iterator<Item = &'a Request> {
        let node = pod.and_then(|pod| pod.node.as_ref());
        let requests = self.requests.iter().flat_map(|requests| &requests.all);
        requests.filter(move |request| {
            let is_foreign =
                node.is_some() && request.node.is_some() && request.node.as_ref() != node;
            is_foreign != own
        })
    }

    /// Drivers that go by the controller ask for nothing before it has rendered what they trust.
    pub(super) fn lacks_roots(&self) -> bool {
        let [_, trust] = &self.objects;
        let trust = trust.as_ref().ok().and_then(Option::as_ref);
        let rendered = trust.map(|trust| rendered::parse(trust.status.as_ref()));
        self.mode() == Mode::Controller && rendered == Some(Ok(None))
    }

    /// The pools that certificates come from.
    pub(super) fn pools(&self) -> &[String] {
        match &self.objects {
            [Ok(Some(certificates)), _] => &certificates.pools,
            _ => &[],
        }
    }
}

/// Asks for everything.
pub(super) async fn gather(wanted: &Wanted, client: Result<Client, String>) -> Facts {
    let cluster = async {
        let client = client?;
        let version = version(&client).await?;
        let pod = pod(wanted, &client).await;
        let around = match &pod {
            Ok(None) => None,
            Ok(Some(pod)) => Some(around(wanted, Some(pod), &client).await),
            Err(_) => Some(around(wanted, None, &client).await),
        };
        Ok(Cluster {
            version,
            pod,
            around,
        })
    };
    Facts {
        cluster: cluster.await,
    }
}

async fn pod(wanted: &Wanted, client: &Client) -> Seen<Option<Pod>> {
    let pods: Api<core::Pod> = Api::namespaced(client.clone(), &wanted.namespace);
    let needed = Permission::of("get", "pods").within(&wanted.namespace);
    let there = needed.ask(pods.get_opt(&wanted.name)).await?;
    Ok(there.map(|pod| Pod::of(&pod, &wanted.driver)))
}

async fn around(wanted: &Wanted, pod: Option<&Pod>, client: &Client) -> Around {
    let object = |kind| ConfigObject::look(client, kind);
    let [certificates, trust] = Kind::ALL;
    let (complaint, requests, driver, driver_object, certificates, trust, controller) = join!(
        Box::pin(complaint(wanted, pod, client)),
        Box::pin(Requests::look(client, &wanted.signer, |request| {
            wanted.is_for(pod, request)
        })),
        Box::pin(driver(pod, client)),
        Box::pin(driver_object(wanted, client)),
        Box::pin(object(certificates)),
        Box::pin(object(trust)),
        Box::pin(Controller::look(client)),
    );
    Around {
        complaint,
        requests,
        driver,
        driver_object,
        objects: [certificates, trust],
        controller,
    }
}

async fn complaint(wanted: &Wanted, pod: Option<&Pod>, client: &Client) -> Seen<Option<Complaint>> {
    let events: Api<core::Event> = Api::namespaced(client.clone(), &wanted.namespace);
    let about = match pod {
        Some(pod) => format!("involvedObject.uid={}", pod.uid),
        None => format!(
            "involvedObject.kind=Pod,involvedObject.name={}",
            wanted.name
        ),
    };
    let of_pod = ListParams::default().fields(&about).limit(MOST_EVENTS);
    let needed = Permission::of("list", "events").within(&wanted.namespace);
    let listed = needed.ask(events.list(&of_pod)).await?;
    let volumes = pod.map_or(&[][..], |pod| &pod.volumes);
    Ok(Complaint::last(&listed.items, volumes))
}

async fn driver(pod: Option<&Pod>, client: &Client) -> Seen<Option<Driver>> {
    let Some(node) = pod.and_then(|pod| pod.node.as_ref()) else {
        return Ok(None);
    };
    let pods: Api<core::Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let on_node = ListParams::default()
        .labels(DRIVER_LABEL)
        .fields(&format!("spec.nodeName={node}"))
        .limit(MOST_EVENTS);
    let needed = Permission::of("list", "pods").within(NAMESPACE);
    let listed = needed.ask(pods.list(&on_node)).await?;
    Ok(Driver::of(&listed.items))
}

async fn driver_object(wanted: &Wanted, client: &Client) -> Seen<Option<CSIDriver>> {
    let drivers: Api<CSIDriver> = Api::all(client.clone());
    let needed = Permission::of("get", "csidrivers.storage.k8s.io");
    needed.ask(drivers.get_opt(&wanted.driver)).await
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
