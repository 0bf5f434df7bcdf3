//! What can be typed after `certagent node`.
use std::{net::SocketAddr, path::PathBuf};

use certagent_core::{config::Settings, request::SubjectMode};
use certagent_csi::DriverName;
use certagent_svid::TrustDomain;
use clap::Args;

use super::{CaArgs, ExchangeArgs, value};
use crate::{google::IdentityMode, trust::Fingerprint};

/// The signer of the guide: `kubectl get csr --field-selector=spec.signerName=…`.
pub(crate) const SIGNER: &str = "spiffe.gke.io/spiffe-leaf-signer";

/// A driver, its places, and whence it has its configuration.
#[derive(Clone, Debug, Args)]
pub(crate) struct DriverArgs {
    /// The driver's name, as pods write it
    #[arg(long, value_name = "NAME", env = "CERTAGENT_DRIVER_NAME")]
    #[arg(default_value = "workloadcertificates.security.cloud.google.com")]
    pub(crate) driver_name: DriverName,
    /// Kubelet's directory, by its whole path
    #[arg(long, value_name = "DIR", env = "CERTAGENT_KUBELET_ROOT")]
    #[arg(default_value = "/var/lib/kubelet", value_parser = value::absolute_path)]
    pub(crate) kubelet_root: PathBuf,
    /// Files or directories with the two objects, in place of the cluster's own
    #[arg(long, num_args = 1.., value_name = "PATH", env = "CERTAGENT_CONFIG")]
    #[arg(value_parser = value::path)]
    pub(crate) config: Vec<PathBuf>,
    /// How the API server is reached [default: the service account of the pod that this runs in]
    #[arg(long, value_name = "FILE", value_parser = value::path)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Run by definitions and a `CSIDriver` object that somebody else has installed
    #[arg(long, env = "CERTAGENT_ADOPT_FOREIGN_OBJECTS")]
    pub(crate) adopt_foreign_objects: bool,
}

/// `certagent node`.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// The cluster's trust domain: that of every pod's identity
    #[arg(long, value_name = "DOMAIN", env = "CERTAGENT_TRUST_DOMAIN")]
    #[arg(value_parser = value::trust_domain)]
    pub(crate) trust_domain: TrustDomain,
    /// The name of this node
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) node_name: String,
    /// Which driver it is, and where.
    #[command(flatten)]
    pub(crate) driver: DriverArgs,
    /// The signer whose controller issues the certificates
    #[arg(long, value_name = "NAME", env = "CERTAGENT_SIGNER_NAME")]
    #[arg(default_value = SIGNER, value_parser = value::signer)]
    #[arg(help_heading = "Without --identity")]
    pub(crate) signer_name: String,
    /// How CA Service is reached.
    #[command(flatten)]
    pub(crate) ca: CaArgs,
    /// Ask for the certificates of all pods with one identity, so that whoever takes this node over
    /// can have every identity of the trust domain; CA Service is asked then, also without --identity
    #[arg(long, env = "CERTAGENT_UNSAFE_NODE_IDENTITY")]
    pub(crate) unsafe_node_identity: bool,
    /// In an emergency: drop this root, by the SHA-256 of its certificate, from every bundle at
    /// once; may be given several times
    #[arg(
        long,
        value_name = "SHA256",
        env = "CERTAGENT_DISTRUST",
        value_delimiter = ','
    )]
    pub(crate) distrust: Vec<Fingerprint>,
    /// Where the last good configuration and what is known of roots are kept
    /// [default: `state` in the driver's directory below kubelet's]
    #[arg(long, value_name = "DIR", env = "CERTAGENT_STATE_DIR", value_parser = value::path)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Take at most this share of each CA pool's quota: other nodes take theirs
    #[arg(
        long,
        value_name = "PERCENT",
        env = "CERTAGENT_QUOTA_SHARE",
        default_value_t = 100
    )]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quota_share: u8,
    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, value_name = "ADDR:PORT", env = "CERTAGENT_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// How pods' tokens are exchanged.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
    /// Which of a pod's tokens is exchanged: its audience in tokenRequests of the `CSIDriver` object
    #[arg(long, value_name = "AUDIENCE", env = "CERTAGENT_TOKEN_AUDIENCE")]
    #[arg(help_heading = "With --identity reflected")]
    pub(crate) token_audience: Option<String>,
    /// Accept validities and windows that are too short for anything but tests
    #[arg(long, hide = true, env = "CERTAGENT_LIFT_MINIMUMS")]
    pub(crate) lift_minimums: bool,
    /// Believe whoever calls the driver's socket, and ask no API server: for conformance tests
    #[arg(long, hide = true)]
    pub(crate) unsafe_any_caller: bool,
}

impl NodeArgs {
    /// Certificates come by way of the cluster's controller: nobody said who asks CA Service.
    pub(crate) fn by_controller(&self) -> bool {
        self.ca.identity.is_none() && !self.unsafe_node_identity
    }

    /// What the objects are read with.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            lift_minimums: self.lift_minimums,
            trust_domain: Some(self.trust_domain.clone()),
            subject_mode: Some(self.subject_mode()),
            workload: None,
        }
    }

    /// Who puts the names into certificates.
    pub(crate) fn subject_mode(&self) -> SubjectMode {
        let identity = self.ca.identity;
        identity.map_or(SubjectMode::Default, IdentityMode::subject_mode)
    }
}
