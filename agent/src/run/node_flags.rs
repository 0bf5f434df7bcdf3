//! From the flags of `certagent node` to its options.
use std::time::Duration;

use anyhow::{Context as _, Result};
use certagent_core::request::SubjectMode;
use certagent_csi::DriverSettings;

use super::{UsageError, endpoint, identity, node};
use crate::{
    cli::{CA_ENDPOINT, Exit, NodeArgs},
    clock::SharedClock,
    config::ConfigFiles,
    google::IdentityMode,
    node::NodeSettings,
    shutdown,
};

/// A volume holds a key, a chain, and every trust domain's roots, three times over while they
/// change.
const VOLUME_BYTES: u64 = 2 << 20;
const VOLUME_INODES: u64 = 256;
/// Kubelet waits for 120 s.
const PUBLISH_WAIT: Duration = Duration::from_secs(100);

/// Runs a node driver until a signal comes.
pub(super) async fn run(args: NodeArgs, clock: SharedClock) -> Result<Exit> {
    let cancel = shutdown::on_signals().context("cannot wait for signals")?;
    let (issuing, subject_mode) = issuing(&args)?;
    let options = node::NodeOptions {
        config: match args.driver.config.as_slice() {
            [] => node::ConfigSource::Cluster(args.settings()),
            paths => node::ConfigSource::Files(ConfigFiles::new(paths.to_vec(), args.settings())),
        },
        driver: DriverSettings {
            name: args.driver.driver_name,
            kubelet_root: args.driver.kubelet_root,
            node_id: args.node_name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            volume_size: VOLUME_BYTES,
            volume_inodes: VOLUME_INODES,
            publish_wait: PUBLISH_WAIT,
            any_caller: args.unsafe_any_caller,
        },
        node: NodeSettings {
            trust_domain: args.trust_domain,
            subject_mode,
            token_audience: args.token_audience,
            by_controller: matches!(issuing, node::Issuing::Controller { .. }),
        },
        issuing,
        distrust: args.distrust.iter().copied().collect(),
        adopt_foreign: args.driver.adopt_foreign_objects,
        kubeconfig: args.driver.kubeconfig,
        state_dir: args.state_dir,
        admin: args.admin,
        clock,
    };
    node::run(options, cancel).await?;
    Ok(Exit::Ok)
}

/// Who is asked: the controller, unless somebody says with which identity CA Service is.
fn issuing(args: &NodeArgs) -> Result<(node::Issuing, SubjectMode)> {
    if args.by_controller() {
        check_by_controller(args)?;
        let signer = args.signer_name.clone();
        return Ok((node::Issuing::Controller { signer }, SubjectMode::Default));
    }
    let endpoint = endpoint(&args.ca)?;
    let mode = identity::mode(&args.ca, &endpoint);
    check_identity(args, mode)?;
    check_audience(args, mode)?;
    let identity = identity::choice(&args.ca, &endpoint, &args.exchange)?;
    let subject_mode = identity.mode().subject_mode();
    let issuing = node::Issuing::Cas {
        roots: identity::roots(&args.ca, &endpoint, &identity)?,
        endpoint,
        identity,
        quota_share: args.quota_share,
    };
    Ok((issuing, subject_mode))
}

/// What somebody says who wants CA Service to be asked from here.
fn check_by_controller(args: &NodeArgs) -> Result<(), UsageError> {
    let given = [
        ("--config", !args.driver.config.is_empty()),
        ("--token-audience", args.token_audience.is_some()),
        ("--unsafe-any-caller", args.unsafe_any_caller),
        ("--ca-endpoint", args.ca.ca_endpoint != CA_ENDPOINT),
        ("--ca-bundle", args.ca.ca_bundle.is_some()),
        ("--sts-audience", args.exchange.sts_audience.is_some()),
        ("--impersonate", args.exchange.impersonate.is_some()),
        ("--quota-share", args.quota_share != 100),
    ];
    let Some((flag, _)) = given.into_iter().find(|(_, is_given)| *is_given) else {
        return Ok(());
    };
    Err(UsageError(format!(
        "{flag}: without --identity certificates and roots come by way of the cluster's controller, \
         which takes both objects from the cluster; say with --identity who asks CA Service, or \
         leave it out"
    )))
}

/// One identity for every pod of the trust domain is nothing that anybody gets without asking.
fn check_identity(args: &NodeArgs, mode: IdentityMode) -> Result<(), UsageError> {
    match mode {
        IdentityMode::Reflected if args.unsafe_node_identity => Err(UsageError(
            "--unsafe-node-identity: it goes with --identity direct; leave it out".to_owned(),
        )),
        IdentityMode::None | IdentityMode::Direct if !args.unsafe_node_identity => Err(UsageError(
            "with one identity for all pods, whoever takes this node over can have every \
                 identity of the trust domain: use --identity reflected, with which each pod's \
                 certificate is asked for with its own token, or say --unsafe-node-identity"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Which token is exchanged must be said with tokens, and cannot be without.
fn check_audience(args: &NodeArgs, mode: IdentityMode) -> Result<(), UsageError> {
    match (mode, &args.token_audience) {
        (IdentityMode::Reflected, None) => Err(UsageError(
            "--identity reflected needs --token-audience: the audience in tokenRequests of the \
             CSIDriver object, which the workload identity provider takes"
                .to_owned(),
        )),
        (IdentityMode::None | IdentityMode::Direct, Some(_)) => Err(UsageError(
            "--token-audience: it is used with --identity reflected only; add that, or leave it \
             out"
            .to_owned(),
        )),
        _ => Ok(()),
    }
}
