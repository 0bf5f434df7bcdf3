//! What can be typed after `certagent inspect`.
use std::{net::SocketAddr, path::PathBuf};

use certagent_core::pool::CaPoolName;
use certagent_csi::DriverName;
use certagent_svid::{SpiffeId, TrustDomain};
use clap::{Args, Subcommand};

use crate::trust::Fingerprint;

use super::{
    CaArgs, DriverArgs, EXIT_CODES, ExchangeArgs, Output,
    node::SIGNER,
    value::{self, PodName},
};

/// `certagent inspect`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct InspectArgs {
    /// Something else than a directory.
    #[command(subcommand)]
    pub(crate) subject: Option<InspectSubject>,
    /// The credential directory
    #[arg(required = true, value_parser = value::path)]
    pub(crate) dir: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Where the agent keeps its records, to say more about renewals
    #[arg(long, value_name = "DIR", env = "CERTAGENT_STATE_DIR", value_parser = value::path)]
    pub(crate) state_dir: Option<PathBuf>,
    /// The SHA-256 of a root that is not to be trusted, beside those that the agent was told; may be
    /// given several times
    #[arg(
        long,
        value_name = "SHA256",
        env = "CERTAGENT_DISTRUST",
        value_delimiter = ','
    )]
    pub(crate) distrust: Vec<Fingerprint>,
}

/// What else can be inspected.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum InspectSubject {
    /// Say whether a CA pool would issue, and if not, why and what to do
    #[command(after_help = format!("\
Examples:
  certagent inspect pool projects/my-project/locations/us-central1/caPools/issuing-pool
  certagent inspect pool \\
      //privateca.googleapis.com/projects/my-project/locations/us-central1/caPools/issuing-pool \\
      --config /etc/certagent --output json

It asks whether a certificate would be issued (validateOnly), and buys none.

{EXIT_CODES}"))]
    Pool(InspectPoolArgs),
    /// Say whether configuration files, the pools and the trust anchors that they name work together,
    /// or how far a cluster's controller has come with its configuration
    #[command(after_help = format!("\
Examples:
  certagent inspect config /etc/certagent
  certagent inspect config --cluster

It says what `validate` says, then asks the pools. It buys no certificate. With --cluster it says
the same of the cluster's two objects, then what the controller has made of them and of the
nodes' requests; it asks the API server as kubectl does, and no pool.

{EXIT_CODES}"))]
    Config(InspectConfigArgs),
    /// Say whether the CSI driver of this Kubernetes node works, and how its volumes are
    #[command(after_help = format!("\
Example:
  certagent inspect node --node-name n --admin 127.0.0.1:9465

It runs as root on the node, or in the driver's container:
  kubectl --namespace certagent-system exec POD -- /certagent inspect node

It changes nothing, and reads no key. Without an API server it says what the node itself shows.

{EXIT_CODES}"))]
    Node(InspectNodeArgs),
    /// Say whether a pod of a cluster has its certificate, and if not, what it waits for
    #[command(after_help = format!("\
Examples:
  certagent inspect pod shop/cart-7d9f
  certagent inspect pod shop/cart-7d9f --kubeconfig admin.kubeconfig --output json

It runs anywhere, and asks the API server as kubectl does. Whatever this user may not read is told,
and the rest is looked at all the same. It changes nothing, and reads no Secret.

{EXIT_CODES}"))]
    Pod(InspectPodArgs),
}

/// `certagent inspect pool`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InspectPoolArgs {
    /// The pool: //privateca.googleapis.com/projects/P/locations/L/caPools/N, or from projects/ on
    #[arg(value_name = "URI", value_parser = value::ca_pool)]
    pub(crate) pool: CaPoolName,
    /// Files or directories (*.yaml, *.yml, *.json) with the configuration that the pool is to serve
    #[arg(long, num_args = 1.., value_name = "PATH", value_parser = value::path)]
    pub(crate) config: Vec<PathBuf>,
    /// Ask for this identity [default: the first workload's, else one made up for the question]
    #[arg(long, value_name = "ID", value_parser = value::spiffe_id)]
    pub(crate) spiffe_id: Option<SpiffeId>,
    /// How CA Service is reached.
    #[command(flatten)]
    pub(crate) ca: CaArgs,
    /// How workloads' tokens are exchanged.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
    /// With --identity reflected: the file with the token of the workload to ask as
    #[arg(long, value_name = "FILE", env = "CERTAGENT_TOKEN_FILE", value_parser = value::path)]
    pub(crate) token_file: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// `certagent inspect node`: the flags of `certagent node` that say where to look.
#[derive(Clone, Debug, Args)]
pub(crate) struct InspectNodeArgs {
    /// Which driver, and where.
    #[command(flatten)]
    pub(crate) driver: DriverArgs,
    /// The name of this node, to see whether kubelet lists the driver
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node_name: Option<String>,
    /// The cluster's trust domain
    #[arg(long, value_name = "DOMAIN", env = "CERTAGENT_TRUST_DOMAIN")]
    #[arg(value_parser = value::trust_domain)]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// With --identity reflected: the audience of the pods' tokens, as the driver is told
    #[arg(long, value_name = "AUDIENCE", env = "CERTAGENT_TOKEN_AUDIENCE")]
    pub(crate) token_audience: Option<String>,
    /// Where the driver serves /readyz, to hear whether kubelet has registered it
    #[arg(long, value_name = "ADDR:PORT", env = "CERTAGENT_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Accept validities and windows that are too short for anything but tests
    #[arg(long, hide = true, env = "CERTAGENT_LIFT_MINIMUMS")]
    pub(crate) lift_minimums: bool,
}

/// `certagent inspect pod`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InspectPodArgs {
    /// The pod
    #[arg(value_name = "NAMESPACE/NAME", value_parser = value::pod)]
    pub(crate) pod: PodName,
    /// How the API server is reached [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE", value_parser = value::path)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The signer whose requests are looked at
    #[arg(long, value_name = "NAME", env = "CERTAGENT_SIGNER_NAME")]
    #[arg(default_value = SIGNER, value_parser = value::signer)]
    pub(crate) signer_name: String,
    /// The driver's name, as pods write it
    #[arg(long, value_name = "NAME", env = "CERTAGENT_DRIVER_NAME")]
    #[arg(default_value = "workloadcertificates.security.cloud.google.com")]
    pub(crate) driver_name: DriverName,
    /// The cluster's trust domain, to know the pod's identity by
    #[arg(long, value_name = "DOMAIN", env = "CERTAGENT_TRUST_DOMAIN")]
    #[arg(value_parser = value::trust_domain)]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// `certagent inspect config`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InspectConfigArgs {
    /// Files or directories (*.yaml, *.yml, *.json)
    #[arg(required_unless_present = "cluster", value_name = "PATH", value_parser = value::path)]
    pub(crate) paths: Vec<PathBuf>,
    /// The two objects of a cluster, in place of files
    #[arg(long, conflicts_with = "paths")]
    pub(crate) cluster: bool,
    /// How the API server is reached [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE", value_parser = value::path, conflicts_with = "paths")]
    #[arg(help_heading = "With --cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The signer whose requests are looked at
    #[arg(long, value_name = "NAME", env = "CERTAGENT_SIGNER_NAME")]
    #[arg(default_value = SIGNER, value_parser = value::signer)]
    #[arg(help_heading = "With --cluster")]
    pub(crate) signer_name: String,
    /// The trust domain of all workloads, as `run` would be told
    #[arg(long, value_name = "DOMAIN", env = "CERTAGENT_TRUST_DOMAIN")]
    #[arg(value_parser = value::trust_domain)]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// How CA Service is reached.
    #[command(flatten)]
    pub(crate) ca: CaArgs,
    /// How workloads' tokens are exchanged.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Accept validities and windows that are too short for anything but tests
    #[arg(long, hide = true, env = "CERTAGENT_LIFT_MINIMUMS")]
    pub(crate) lift_minimums: bool,
}
