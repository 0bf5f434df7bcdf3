//! What can be typed after `certagent controller`.
use std::{net::SocketAddr, path::PathBuf};

use certagent_core::{config::Settings, request::SubjectMode};
use certagent_csi::DriverName;
use certagent_svid::TrustDomain;
use clap::{Args, builder::NonEmptyStringValueParser};

use super::{CaArgs, node::SIGNER, value};
use crate::trust::Fingerprint;

/// `certagent controller`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ControllerArgs {
    /// The cluster's trust domain: that of every pod's identity
    #[arg(long, value_name = "DOMAIN", env = "CERTAGENT_TRUST_DOMAIN")]
    #[arg(value_parser = value::trust_domain)]
    pub(crate) trust_domain: TrustDomain,
    /// The signer whose requests are approved and signed
    #[arg(long, value_name = "NAME", env = "CERTAGENT_SIGNER_NAME")]
    #[arg(default_value = SIGNER, value_parser = value::signer)]
    pub(crate) signer_name: String,
    /// The user that the node drivers are to the API server: nobody else gets a certificate
    #[arg(long, value_name = "USER", env = "CERTAGENT_REQUESTER")]
    #[arg(default_value = "system:serviceaccount:certagent-system:certagent-node")]
    #[arg(value_parser = value::requester)]
    pub(crate) requester: String,
    /// The driver's name, as pods write it
    #[arg(long, value_name = "NAME", env = "CERTAGENT_DRIVER_NAME")]
    #[arg(default_value = "workloadcertificates.security.cloud.google.com")]
    pub(crate) driver_name: DriverName,
    /// How CA Service is reached.
    #[command(flatten)]
    pub(crate) ca: CaArgs,
    /// In an emergency: drop this root, by the SHA-256 of its certificate, from every bundle at
    /// once; may be given several times
    #[arg(
        long,
        value_name = "SHA256",
        env = "CERTAGENT_DISTRUST",
        value_delimiter = ','
    )]
    pub(crate) distrust: Vec<Fingerprint>,
    /// Take at most this share of each CA pool's quota: others take theirs
    #[arg(
        long,
        value_name = "PERCENT",
        env = "CERTAGENT_QUOTA_SHARE",
        default_value_t = 100
    )]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quota_share: u8,
    /// The namespace that the Lease is in
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    #[arg(default_value = "certagent-system", value_parser = value::namespace)]
    pub(crate) namespace: String,
    /// The Lease by which one of several replicas works
    #[arg(long, value_name = "NAME", env = "CERTAGENT_LEASE_NAME")]
    #[arg(default_value = "certagent-controller", value_parser = value::object)]
    pub(crate) lease_name: String,
    /// What no other replica is called [default: the name of this machine]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) replica: Option<String>,
    /// How the API server is reached [default: the service account of the pod that this runs in]
    #[arg(long, value_name = "FILE", value_parser = value::path)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Run by definitions and a `CSIDriver` object that somebody else has installed
    #[arg(long, env = "CERTAGENT_ADOPT_FOREIGN_OBJECTS")]
    pub(crate) adopt_foreign_objects: bool,
    /// Where the last good configuration and what is known of roots are kept
    /// [default: `$RUNTIME_DIRECTORY`, else `$XDG_RUNTIME_DIR/certagent`]
    #[arg(long, value_name = "DIR", env = "CERTAGENT_STATE_DIR", value_parser = value::path)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, value_name = "ADDR:PORT", env = "CERTAGENT_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// Accept validities and windows that are too short for anything but tests
    #[arg(long, hide = true, env = "CERTAGENT_LIFT_MINIMUMS")]
    pub(crate) lift_minimums: bool,
}

impl ControllerArgs {
    /// What the objects are read with.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            lift_minimums: self.lift_minimums,
            trust_domain: Some(self.trust_domain.clone()),
            subject_mode: Some(SubjectMode::Default),
            workload: None,
        }
    }
}
