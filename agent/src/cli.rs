//! The command line: what can be typed, and nothing of what it does.
mod controller;
mod exit;
mod inspect;
mod node;
pub(crate) mod print;
#[cfg(test)]
#[path = "cli/tests.rs"]
mod tests;
mod value;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use certagent_core::{
    algorithm::KeyAlgorithm,
    config::{Settings, WorkloadSpec, WorkloadVolumeSpec},
    request::SubjectMode,
};
use certagent_svid::TrustDomain;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::trust::Fingerprint;

pub(crate) use controller::ControllerArgs;
pub(crate) use exit::Exit;
pub(crate) use inspect::{
    InspectArgs, InspectConfigArgs, InspectNodeArgs, InspectPodArgs, InspectPoolArgs,
    InspectSubject,
};
pub(crate) use node::{DriverArgs, NodeArgs};

use crate::google::IdentityMode;

const ABOUT: &str = "SPIFFE certificates for workloads, from CA Service, kept fresh";

const EXIT_CODES: &str = "\
Exit codes:
   0  all is well; also after Ctrl-C and SIGTERM, but for run --once
   1  it failed, or what was looked at has a problem
   2  it could not be checked (inspect)
  64  the command line is wrong";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "certagent", version, about = ABOUT, max_term_width = 100)]
#[command(after_help = format!("\
Example:
  certagent quickstart

{EXIT_CODES}"))]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// How the log looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogArgs {
    /// How log lines look, on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "CERTAGENT_LOG_FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, or a filter by module
    #[arg(long, global = true, value_name = "FILTER", env = "CERTAGENT_LOG")]
    #[arg(value_parser = value::log_filter)]
    pub(crate) log_level: Option<String>,
}

/// The look of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try certagent: an embedded CA, one volume that rotates, shown live
    #[command(after_help = format!("\
Example:
  certagent quickstart --key-algorithm rsa-2048 --validity 2m --for 5m

A second start in the same directory continues where the first one was.

{EXIT_CODES}"))]
    Quickstart(QuickstartArgs),
    /// Keep the volumes of workloads supplied: for a sidecar or a machine
    #[command(after_help = format!("\
Examples:
  certagent run --config /etc/certagent
  certagent run --config objects.yaml --ca-endpoint http://127.0.0.1:8080 \\
      --volume /run/workload-certificates --namespace default --service-account web

Edits of the configuration take effect at each certificate's next renewal.

{EXIT_CODES}"))]
    Run(Box<RunArgs>),
    /// Keep the volumes of a node's pods supplied: the CSI driver for Kubernetes
    #[command(after_help = format!("\
Examples:
  certagent node --trust-domain p.svc.id.goog --node-name n
  certagent node --trust-domain p.svc.id.goog --node-name n --unsafe-node-identity
  certagent node --trust-domain p.svc.id.goog --node-name n --identity reflected \\
      --token-audience p.svc.id.goog \\
      --sts-audience //iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/mesh/providers/cluster

It runs as root in a DaemonSet: deploy/node.yaml.

{EXIT_CODES}"))]
    #[command(mut_arg("identity", |identity| identity.help(
        "Who calls CA Service [default: nobody, certificates come by way of the controller]"
    )))]
    Node(Box<NodeArgs>),
    /// Approve and sign the requests of a cluster's node drivers, and render what nodes trust
    #[command(after_help = format!("\
Example:
  certagent controller --trust-domain p.svc.id.goog

It runs as a Deployment: deploy/controller.yaml.

{EXIT_CODES}"))]
    #[command(mut_arg("identity", |identity| identity.help(
        "Who calls CA Service: direct, or none for an emulator [default: direct by https, none on \
         loopback]"
    )))]
    Controller(Box<ControllerArgs>),
    /// Wait until a directory holds a valid credential: for init containers
    #[command(after_help = format!("\
Example:
  certagent wait /run/workload-certificates --timeout 60s

{EXIT_CODES}"))]
    Wait(WaitArgs),
    /// Serve CA pools on loopback, for tests and for trying things
    #[command(after_help = format!("\
Example:
  certagent emulator --listen 127.0.0.1:8080 --state ./ca | tee objects.yaml

What it prints are the two objects that fit its pools. Without --identities it signs for
everybody who reaches it: never a production CA. Its faults on demand are listed at
/emulator/v1/faults/catalogue.

{EXIT_CODES}"))]
    Emulator(EmulatorArgs),
    /// Say everything that is wrong with configuration files
    #[command(after_help = format!("\
Example:
  certagent validate /etc/certagent --output json

{EXIT_CODES}"))]
    Validate(ValidateArgs),
    /// Say what is wrong with a credential directory, a CA pool, a configuration, a node or a pod
    #[command(after_help = format!("\
Examples:
  certagent inspect /run/workload-certificates
  certagent inspect pool projects/my-project/locations/us-central1/caPools/issuing-pool
  certagent inspect config /etc/certagent --ca-endpoint http://127.0.0.1:8080
  certagent inspect node
  certagent inspect pod shop/cart-7d9f

It also reads directories that certagent did not write, and it never prints a key. A directory
that is called pool, config, node or pod is written ./pool and so on. No certificate is bought.

{EXIT_CODES}"))]
    Inspect(Box<InspectArgs>),
    /// Print a completion script for a shell
    #[command(after_help = format!("\
Example:
  certagent completions bash > ~/.local/share/bash-completion/completions/certagent

{EXIT_CODES}"))]
    Completions(CompletionsArgs),
}

/// `certagent quickstart`.
#[derive(Clone, Debug, Args)]
pub(crate) struct QuickstartArgs {
    /// Where everything is kept; made if it does not exist
    #[arg(long, default_value = "./certagent-quickstart", value_parser = value::path)]
    pub(crate) dir: PathBuf,
    /// Write this kind of key into the configuration [default: ecdsa-p256]
    #[arg(long, value_name = "ALGORITHM", value_parser = value::key_algorithm())]
    pub(crate) key_algorithm: Option<KeyAlgorithm>,
    /// Write this validity into the configuration [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = value::validity)]
    pub(crate) validity: Option<Duration>,
    /// Write this share of the validity, at whose rest renewal begins, into the configuration
    /// [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    pub(crate) rotation_window: Option<u8>,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = value::duration)]
    pub(crate) run_for: Option<Duration>,
    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, value_name = "ADDR:PORT", env = "CERTAGENT_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// Accept validities and windows that are too short for anything but tests
    #[arg(long, hide = true, env = "CERTAGENT_LIFT_MINIMUMS")]
    pub(crate) lift_minimums: bool,
}

/// `certagent run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Files or directories (*.yaml, *.yml, *.json) with the configuration
    #[arg(long, required = true, num_args = 1.., value_name = "PATH", env = "CERTAGENT_CONFIG")]
    #[arg(value_parser = value::path)]
    pub(crate) config: Vec<PathBuf>,
    /// The trust domain of all workloads; a v1alpha1 object that names another is an error
    #[arg(long, value_name = "DOMAIN", env = "CERTAGENT_TRUST_DOMAIN")]
    #[arg(value_parser = value::trust_domain)]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// Provide every workload once, then exit; with 1 if that fails or a signal comes first
    #[arg(long)]
    pub(crate) once: bool,
    /// How CA Service is reached.
    #[command(flatten)]
    pub(crate) ca: CaArgs,
    /// In an emergency: drop this root, by the SHA-256 of its certificate, from every bundle at
    /// once, whoever still names it; may be given several times
    #[arg(
        long,
        value_name = "SHA256",
        env = "CERTAGENT_DISTRUST",
        value_delimiter = ','
    )]
    pub(crate) distrust: Vec<Fingerprint>,
    /// Where records and pending requests are kept, out of the workloads' sight
    /// [default: `$RUNTIME_DIRECTORY`, else `$XDG_RUNTIME_DIR/certagent`]
    #[arg(long, value_name = "DIR", env = "CERTAGENT_STATE_DIR", value_parser = value::path)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Take at most this share of each CA pool's quota, for agents that share a pool
    #[arg(
        long,
        value_name = "PERCENT",
        env = "CERTAGENT_QUOTA_SHARE",
        default_value_t = 100
    )]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quota_share: u8,
    /// Accept that keys are written to a disk: in the state directory, and in --volume
    #[arg(long, env = "CERTAGENT_ALLOW_DISK")]
    pub(crate) allow_disk: bool,
    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, value_name = "ADDR:PORT", env = "CERTAGENT_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// Accept validities and windows that are too short for anything but tests
    #[arg(long, hide = true, env = "CERTAGENT_LIFT_MINIMUMS")]
    pub(crate) lift_minimums: bool,
    /// The one workload, if it is not a document.
    #[command(flatten)]
    pub(crate) workload: WorkloadArgs,
    /// How workloads' tokens are exchanged.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// How the tokens of workloads become access tokens.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "With --identity reflected")]
pub(crate) struct ExchangeArgs {
    /// The pool and the provider at which workloads' tokens are exchanged:
    /// //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER,
    /// or on GKE `identitynamespace:POOL:CLUSTER_URL`
    #[arg(long, value_name = "AUDIENCE", env = "CERTAGENT_STS_AUDIENCE")]
    pub(crate) sts_audience: Option<String>,
    /// Where they are exchanged
    #[arg(long, value_name = "URL", env = "CERTAGENT_STS_ENDPOINT")]
    #[arg(default_value = crate::google::STS)]
    pub(crate) sts_endpoint: String,
    /// Look at pools and their roots as this service account, which a workload may impersonate.
    /// Certificates are always asked for with the workload's own identity
    #[arg(long, value_name = "EMAIL", env = "CERTAGENT_IMPERSONATE")]
    pub(crate) impersonate: Option<String>,
    /// Where tokens of the service account are made
    #[arg(long, value_name = "URL", env = "CERTAGENT_IAMCREDENTIALS_ENDPOINT")]
    #[arg(default_value = crate::google::IAM_CREDENTIALS)]
    pub(crate) iamcredentials_endpoint: String,
}

/// CA Service itself.
pub(crate) const CA_ENDPOINT: &str = "https://privateca.googleapis.com";

/// How CA Service is reached, by every command that does.
#[derive(Clone, Debug, Args)]
pub(crate) struct CaArgs {
    /// Where CA Service is: https, or http on loopback for an emulator
    #[arg(long, value_name = "URL", env = "CERTAGENT_CA_ENDPOINT")]
    #[arg(default_value = CA_ENDPOINT)]
    pub(crate) ca_endpoint: String,
    /// Who calls CA Service [default: direct by https, none on loopback]
    #[arg(long, value_enum, value_name = "WHO", env = "CERTAGENT_IDENTITY")]
    pub(crate) identity: Option<IdentityMode>,
    /// CA certificates (PEM) that https servers are checked by; Google's library, which reads
    /// credential files, knows only `$SSL_CERT_FILE` [default: `$SSL_CERT_FILE`, else the system's]
    #[arg(long, value_name = "FILE", env = "CERTAGENT_CA_BUNDLE", value_parser = value::path)]
    pub(crate) ca_bundle: Option<PathBuf>,
}

/// Exactly one workload by flags.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "One workload by flags, instead of documents of kind Workload")]
pub(crate) struct WorkloadArgs {
    /// The directory for its credential
    #[arg(long, value_name = "DIR", env = "CERTAGENT_VOLUME")]
    #[arg(requires_all = ["namespace", "service_account"])]
    pub(crate) volume: Option<String>,
    /// Its namespace
    #[arg(
        long,
        value_name = "NAME",
        env = "CERTAGENT_NAMESPACE",
        requires = "volume"
    )]
    pub(crate) namespace: Option<String>,
    /// Its service account
    #[arg(
        long,
        value_name = "NAME",
        env = "CERTAGENT_SERVICE_ACCOUNT",
        requires = "volume"
    )]
    pub(crate) service_account: Option<String>,
    /// The file with its own token, for --identity reflected
    #[arg(
        long,
        value_name = "FILE",
        env = "CERTAGENT_TOKEN_FILE",
        requires = "volume"
    )]
    pub(crate) token_file: Option<String>,
}

impl RunArgs {
    /// What the objects are read with.
    pub(crate) fn settings(&self) -> Settings {
        let WorkloadArgs {
            volume,
            namespace,
            service_account,
            token_file,
        } = &self.workload;
        let workload = volume.as_ref().map(|volume| WorkloadSpec {
            trust_domain: None,
            namespace: namespace.clone(),
            service_account: service_account.clone(),
            token_file: token_file.clone(),
            volume: Some(WorkloadVolumeSpec {
                path: Some(volume.clone()),
                allow_disk: Some(self.allow_disk),
                ..WorkloadVolumeSpec::default()
            }),
            ..WorkloadSpec::default()
        });
        Settings {
            lift_minimums: self.lift_minimums,
            trust_domain: self.trust_domain.clone(),
            subject_mode: Some(
                self.ca
                    .identity
                    .map_or(SubjectMode::Default, IdentityMode::subject_mode),
            ),
            workload,
        }
    }
}

/// `certagent wait`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitArgs {
    /// The credential directory
    #[arg(value_parser = value::path)]
    pub(crate) dir: PathBuf,
    /// Give up after this time
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "60s",
        env = "CERTAGENT_WAIT_TIMEOUT"
    )]
    #[arg(value_parser = value::duration)]
    pub(crate) timeout: Duration,
}

/// `certagent emulator`.
#[derive(Clone, Debug, Args)]
pub(crate) struct EmulatorArgs {
    /// The loopback address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", env = "CERTAGENT_EMULATOR_LISTEN")]
    pub(crate) listen: SocketAddr,
    /// Keep pools, CAs, certificates and their counts here over restarts [default: in memory]
    #[arg(long, value_name = "DIR", env = "CERTAGENT_EMULATOR_STATE", value_parser = value::path)]
    pub(crate) state: Option<PathBuf>,
    /// Start without pools: make them over the API, with gcloud for example
    #[arg(long, conflicts_with_all = ["ca_key_algorithm", "project", "location"])]
    pub(crate) empty: bool,
    /// The kind of key of both CAs, if they are made now
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    #[arg(value_parser = value::key_algorithm())]
    pub(crate) ca_key_algorithm: KeyAlgorithm,
    /// The project in the pools' names
    #[arg(long, default_value = "demo-project")]
    pub(crate) project: String,
    /// The location in the pools' names
    #[arg(long, default_value = "us-central1")]
    pub(crate) location: String,
    /// Who may call, and the tokens they get: a YAML or JSON file that names at least one caller
    /// [default: everybody, as an administrator]
    #[arg(long, value_name = "FILE", env = "CERTAGENT_EMULATOR_IDENTITIES", value_parser = value::path)]
    pub(crate) identities: Option<PathBuf>,
    /// Whether the service's quotas hold
    #[arg(long, value_enum, default_value_t, env = "CERTAGENT_EMULATOR_QUOTAS")]
    pub(crate) quotas: QuotaMode,
    /// Listen on an address that other machines reach: whoever reaches it has it sign anything
    #[arg(long)]
    pub(crate) allow_remote_callers: bool,
}

/// Whether the emulator refuses what is over CA Service's quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuotaMode {
    /// As the service has them, and a refusal says how long to wait.
    #[default]
    Service,
    /// As the service has them, and a refusal says nothing more.
    ServiceWithoutRetryInfo,
    /// None.
    Off,
}

/// `certagent validate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Files or directories (*.yaml, *.yml, *.json)
    #[arg(required = true, value_name = "PATH", value_parser = value::path)]
    pub(crate) paths: Vec<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// The trust domain of all workloads, as `run` would be told
    #[arg(long, value_name = "DOMAIN", env = "CERTAGENT_TRUST_DOMAIN")]
    #[arg(value_parser = value::trust_domain)]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// Who would call CA Service, as `run` would be told: what a workload needs depends on it
    #[arg(long, value_enum, value_name = "WHO", env = "CERTAGENT_IDENTITY")]
    pub(crate) identity: Option<IdentityMode>,
    /// Accept validities and windows that are too short for anything but tests
    #[arg(long, hide = true, env = "CERTAGENT_LIFT_MINIMUMS")]
    pub(crate) lift_minimums: bool,
}

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object with a `schemaVersion`.
    Json,
}

/// `certagent completions`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// The shells that completions are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}
