//! From the flags of `certagent node` to its options.
use anyhow::{Context as _, Result};

use super::{UsageError, endpoint, identity, node};
use crate::{
    cli::{Exit, NodeArgs},
    clock::SharedClock,
    config::ConfigFiles,
    google::IdentityMode,
    shutdown,
};

/// Runs a node driver until a signal comes.
pub(super) async fn run(args: NodeArgs, clock: SharedClock) -> Result<Exit> {
    let cancel = shutdown::on_signals().context("cannot wait for signals")?;
    let endpoint = endpoint(&args.ca)?;
    check_identity(&args, identity::mode(&args.ca, &endpoint))?;
    let identity = identity::choice(&args.ca, &endpoint, &args.exchange)?;
    let options = node::NodeOptions {
        roots: identity::roots(&args.ca, &endpoint, &identity)?,
        config: match args.config.as_slice() {
            [] => node::ConfigSource::Cluster(args.settings()),
            paths => node::ConfigSource::Files(ConfigFiles::new(paths.to_vec(), args.settings())),
        },
        endpoint,
        identity,
        trust_domain: args.trust_domain,
        token_audience: args.token_audience,
        node_name: args.node_name,
        driver_name: args.driver_name,
        kubelet_root: args.kubelet_root,
        kubeconfig: args.kubeconfig,
        distrust: args.distrust.iter().copied().collect(),
        state_dir: args.state_dir,
        quota_share: args.quota_share,
        admin: args.admin,
        any_caller: args.unsafe_any_caller,
        clock,
    };
    node::run(options, cancel).await?;
    Ok(Exit::Ok)
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
