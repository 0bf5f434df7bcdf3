//! What the agent has to do with a cluster's API server.
//!
//! `client` reaches it by `connections`, `crds` looks whether the cluster's definitions are ours, `csi_driver`
//! follows the `CSIDriver` object, `schema` is where our definitions in `deploy/` come from. How the two
//! objects of the configuration are followed is in `config::cluster`.
pub mod client;
mod connections;
pub mod crds;
pub mod csi_driver;
pub mod schema;
mod trouble;

pub(crate) use client::chain;
pub use client::{ClientError, client, persons_client};
pub use crds::{Foreign, Verdict};
pub use csi_driver::{DriverObject, Tokens};
pub(crate) use trouble::{Trouble, answer, within};

/// The API group of the two objects.
pub const GROUP: &str = "security.cloud.google.com";

/// The one version of the group that is served.
pub const VERSION: &str = "v1";

/// The label of everything that `deploy/` installs, and its value. It tells ours from another's of
/// the same name.
pub const OURS: (&str, &str) = ("app.kubernetes.io/part-of", "certagent");

/// The name of the one object of each kind that counts. There can be others only where the definitions
/// are not ours.
pub const OBJECT_NAME: &str = "default";

/// The two kinds of objects that make the configuration of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `WorkloadCertificateConfig`.
    Certificates,
    /// `TrustConfig`.
    Trust,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Certificates, Self::Trust];

    /// The kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificates => "WorkloadCertificateConfig",
            Self::Trust => "TrustConfig",
        }
    }

    /// The one object of the kind that counts, for people.
    pub fn object(self) -> String {
        format!("{}/{OBJECT_NAME}", self.name())
    }

    /// The name of the resource.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Certificates => "workloadcertificateconfigs",
            Self::Trust => "trustconfigs",
        }
    }

    /// The name of the `CustomResourceDefinition`.
    pub fn definition(self) -> String {
        format!("{}.{GROUP}", self.plural())
    }
}

#[cfg(test)]
mod deploy_tests;
