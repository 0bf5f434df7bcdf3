//! What can be learned of a node's driver: by its places, from the driver itself, and from the API
//! server.
use std::{io, net::SocketAddr, time::Duration};

use ::kube::{Api, Client};
use certagent_core::config::Settings;
use certagent_csi::{
    OpenError,
    look::{self, Announcement, Answer, NoAnswer},
    paths::Places,
};
use futures::join;
use k8s_openapi::api::storage::v1::CSINode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::volume::VolumeFacts;
use crate::{
    config::{ClusterConfig, ConfigFiles, Found},
    kube::{DriverObject, Tokens, Verdict, answer, crds},
};

/// The admin server is on this machine, and answers at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// More of its answer is not read.
const LONGEST_ANSWER: u64 = 64 << 10;

/// Which driver is looked at, and what it was told.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) places: Places,
    pub(crate) driver: String,
    /// What kubelet has to bring.
    pub(crate) tokens: Tokens,
    pub(crate) node: Option<String>,
    /// Where the driver's admin server is.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) adopt_foreign: bool,
    /// What the objects are read with.
    pub(crate) settings: Settings,
    /// The objects are in these files, not in the cluster.
    pub(crate) files: Option<ConfigFiles>,
}

/// Why something is not as it should be, or cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) text: String,
    /// It says nothing about the driver: this user may not look.
    pub(super) is_unseen: bool,
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        let is_unseen = match &error {
            OpenError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            // The list of mounts.
            OpenError::Mount(_) => true,
            _ => false,
        };
        Self {
            text: error.to_string(),
            is_unseen,
        }
    }
}

impl From<NoAnswer> for Fault {
    fn from(error: NoAnswer) -> Self {
        let is_unseen = matches!(&error, NoAnswer::Connect { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied);
        Self {
            text: error.to_string(),
            is_unseen,
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) plain: Result<(), Fault>,
    pub(super) shared: Result<(), Fault>,
    pub(super) socket: Result<Answer, Fault>,
    pub(super) announced: Result<Vec<Announcement>, Fault>,
    /// What the driver says of its registration, if it was asked; or why it said nothing.
    pub(super) ready: Option<Result<Ready, String>>,
    /// What the API server says, or why it says nothing.
    pub(super) cluster: Result<Cluster, String>,
    /// The two objects, or why they are not known; none if they are in a cluster that says nothing.
    pub(super) objects: Option<Result<Found, String>>,
    pub(super) volumes: Result<Vec<VolumeFacts>, Fault>,
}

/// What `/readyz` says.
pub(super) type Ready = Result<(), String>;

/// What the API server says.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) version: String,
    pub(super) definitions: Verdict,
    pub(super) driver_object: DriverObject,
    /// The drivers of the node, or why they are not known; none if nobody said which node it is.
    pub(super) registered: Option<Result<Registered, String>>,
}

/// What the node's `CSINode` object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registered {
    Yes,
    No,
    NoObject,
}

/// Looks at everything, and asks everybody.
pub(super) async fn gather(wanted: &Wanted, client: Result<Client, String>) -> Facts {
    let places = &wanted.places;
    let socket = places.socket();
    let ready = async {
        match wanted.admin {
            Some(address) => Some(readyz(address).await),
            None => None,
        }
    };
    let (socket, announced, ready, (cluster, objects)) = join!(
        look::ask(&socket),
        look::announced(places),
        ready,
        Box::pin(cluster(wanted, client))
    );
    let volumes = look::volumes(places).map(|seen| {
        let look = |one| VolumeFacts::of(one, places);
        seen.into_iter().map(look).collect()
    });
    Facts {
        plain: look::plain(places).map_err(Fault::from),
        shared: look::shared(places).map_err(Fault::from),
        socket: socket.map_err(Fault::from),
        announced: announced.map_err(Fault::from),
        ready,
        cluster,
        objects,
        volumes: volumes.map_err(Fault::from),
    }
}

async fn cluster(
    wanted: &Wanted,
    client: Result<Client, String>,
) -> (Result<Cluster, String>, Option<Result<Found, String>>) {
    let files = wanted.files.as_ref().map(|files| Ok(files.load()));
    let client = match client {
        Ok(client) => client,
        Err(reason) => return (Err(reason), files),
    };
    // Whoever may ask for nothing else may ask for this.
    let version = match answer(client.apiserver_version()).await {
        Ok(version) => version.git_version,
        Err(trouble) => return (Err(trouble.explain("the cluster", "node.yaml")), files),
    };
    let registered = async {
        let node = wanted.node.as_deref()?;
        Some(registered(client.clone(), node, &wanted.driver).await)
    };
    let objects = async {
        match files {
            Some(found) => found,
            None => ClusterConfig::look(&client, &wanted.settings).await,
        }
    };
    let (definitions, driver_object, registered, objects) = join!(
        crds::check(client.clone(), &wanted.driver),
        DriverObject::look(client.clone(), &wanted.driver, &wanted.tokens),
        registered,
        objects
    );
    let cluster = Cluster {
        version,
        definitions,
        driver_object,
        registered,
    };
    (Ok(cluster), Some(objects))
}

async fn registered(client: Client, node: &str, driver: &str) -> Result<Registered, String> {
    let nodes: Api<CSINode> = Api::all(client);
    match answer(nodes.get_opt(node)).await {
        Ok(Some(there)) if there.spec.drivers.iter().any(|one| one.name == driver) => {
            Ok(Registered::Yes)
        }
        Ok(Some(_)) => Ok(Registered::No),
        Ok(None) => Ok(Registered::NoObject),
        Err(crate::kube::Trouble::Forbidden(why)) => Err(format!(
            "the API server does not let this process read the CSINode {node}: {why}"
        )),
        Err(trouble) => Err(trouble.explain(&format!("the CSINode {node}"), "node.yaml")),
    }
}

/// What the driver itself says of its registration.
async fn readyz(address: SocketAddr) -> Result<Ready, String> {
    let failed = |why: &str| format!("nobody says it at http://{address}/readyz: {why}");
    let asked = timeout(PATIENCE, get(address, "/readyz")).await;
    let answered = match asked {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(failed(&error.to_string())),
        Err(_elapsed) => return Err(failed("no answer")),
    };
    let (head, body) = answered.split_once("\r\n\r\n").unwrap_or((&answered, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(Ok(())),
        Some("503") => Ok(Err(body.trim().to_owned())),
        _ => Err(failed("another server answers there")),
    }
}

/// A whole answer of a server that closes the connection after it.
async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
