//! What an inspection of a node's driver looks at, and what it learns.
use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    super::report::{self, CheckName, Subject},
    text,
    volume::Volume,
};

/// The driver of one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node;

/// The outcome of inspecting a node's driver.
pub(crate) type Report = report::Report<Node>;

/// A check of a node's driver.
pub(super) type Check = report::Check<CheckId>;

impl Subject for Node {
    type Id = CheckId;
    type Evidence = Evidence;

    const NAME: &'static str = "kubelet";

    fn summary(report: &Report) -> String {
        text::summary(report)
    }

    fn unseen(id: CheckId) -> Option<&'static str> {
        text::unseen(id)
    }

    fn evidence(report: &Report) -> Vec<(&'static str, String)> {
        text::evidence(report)
    }
}

/// The checks: first what is on the node, then what the API server says, then the volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckId {
    /// Kubelet's directory and the driver's own are there, under the paths that the kernel uses.
    Places,
    /// What is mounted in them reaches the pods, and outlives the driver.
    SharedMounts,
    /// A driver of this name answers at its socket.
    Socket,
    /// It is announced to kubelet, and nobody else by its name.
    Announcement,
    /// Kubelet has registered it.
    Registered,
    /// The API server answers.
    ApiServer,
    /// Definitions and driver object are this installation's.
    Definitions,
    /// Kubelet tells the driver what it needs, because of its `CSIDriver` object.
    DriverObject,
    /// The two objects of the configuration are there, and mean something.
    Objects,
    /// The volumes can be looked at.
    Volumes,
    /// What pods have mounted is a credential that is valid now.
    Credentials,
    /// What is filled is mounted in its pod.
    Bindings,
    /// No pod waits for its volume.
    Waiting,
    /// Certificates are renewed in time.
    Renewals,
    /// What the driver keeps of its volumes can be read.
    Records,
    /// Nothing is left of volumes that are no more.
    Leftovers,
}

impl CheckName for CheckId {
    const ALL: &'static [Self] = &[
        Self::Places,
        Self::SharedMounts,
        Self::Socket,
        Self::Announcement,
        Self::Registered,
        Self::ApiServer,
        Self::Definitions,
        Self::DriverObject,
        Self::Objects,
        Self::Volumes,
        Self::Credentials,
        Self::Bindings,
        Self::Waiting,
        Self::Renewals,
        Self::Records,
        Self::Leftovers,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Places => "places",
            Self::SharedMounts => "shared-mounts",
            Self::Socket => "socket",
            Self::Announcement => "announcement",
            Self::Registered => "registered",
            Self::ApiServer => "api-server",
            Self::Definitions => "definitions",
            Self::DriverObject => "driver-object",
            Self::Objects => "objects",
            Self::Volumes => "volumes",
            Self::Credentials => "credentials",
            Self::Bindings => "bindings",
            Self::Waiting => "waiting",
            Self::Renewals => "renewals",
            Self::Records => "records",
            Self::Leftovers => "leftovers",
        }
    }

    fn needs(self) -> &'static [Self] {
        match self {
            Self::Places
            | Self::SharedMounts
            | Self::Socket
            | Self::Announcement
            | Self::ApiServer
            | Self::Volumes => &[],
            Self::Registered => &[Self::Socket, Self::Announcement],
            Self::Definitions | Self::DriverObject | Self::Objects => &[Self::ApiServer],
            Self::Credentials
            | Self::Bindings
            | Self::Waiting
            | Self::Renewals
            | Self::Records
            | Self::Leftovers => &[Self::Volumes],
        }
    }
}

/// What is known of the driver, whatever the verdict.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence {
    pub(super) node: Option<String>,
    pub(super) driver: String,
    /// As the one that answers says.
    pub(super) driver_version: Option<String>,
    pub(super) kubernetes: Option<String>,
    /// The CA pools of the configuration.
    pub(super) pools: Vec<String>,
    /// How many volumes are in each state; none if they could not be looked at.
    pub(super) states: Option<BTreeMap<&'static str, usize>>,
    /// All of them, the worst first.
    pub(super) volumes: Vec<Volume>,
}
