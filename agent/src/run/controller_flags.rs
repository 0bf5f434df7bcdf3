//! From the flags of `certagent controller` to its options.
use anyhow::{Context as _, Result};
use certagent_core::approval;

use super::{UsageError, cas::CasOptions, controller, endpoint, identity};
use crate::{
    cli::{ControllerArgs, Exit},
    clock::SharedClock,
    google::{Environment, IdentityChoice, IdentityMode},
    shutdown,
    volume::StateDir,
};

/// Runs a controller until a signal comes.
pub(super) async fn run(args: ControllerArgs, clock: SharedClock) -> Result<Exit> {
    let cancel = shutdown::on_signals().context("cannot wait for signals")?;
    let endpoint = endpoint(&args.ca)?;
    let identity = match identity::mode(&args.ca, &endpoint) {
        IdentityMode::None => IdentityChoice::None,
        IdentityMode::Direct => IdentityChoice::Direct(Environment::Process),
        IdentityMode::Reflected => {
            return Err(UsageError(
                "--identity reflected: a controller asks with its own identity, for it has no \
                 tokens of pods; leave it out, or give it to `certagent node`"
                    .to_owned(),
            )
            .into());
        }
    };
    let options = controller::ControllerOptions {
        settings: args.settings(),
        approval: approval::Settings {
            signer_name: args.signer_name,
            requester: args.requester,
            driver_name: args.driver_name.to_string(),
            trust_domain: args.trust_domain,
        },
        cas: CasOptions {
            roots: identity::roots(&args.ca, &endpoint, &identity)?,
            endpoint,
            identity,
            tokens: std::sync::Arc::new(Vec::new),
            distrust: args.distrust.iter().copied().collect(),
            quota_share: args.quota_share,
        },
        namespace: args.namespace,
        lease: args.lease_name,
        replica: args.replica.unwrap_or_else(machine),
        adopt_foreign: args.adopt_foreign_objects,
        kubeconfig: args.kubeconfig,
        state_dir: StateDir::default_location(args.state_dir, |name| std::env::var_os(name))
            .map_err(|error| UsageError(error.to_string()))?,
        admin: args.admin,
        clock,
    };
    Box::pin(controller::run(options, cancel)).await?;
    Ok(Exit::Ok)
}

/// In a pod, the pod's name.
fn machine() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}
