//! `certagent controller`: who gets a certificate in a cluster, and what its nodes trust.
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use certagent_core::{approval, config::Settings};
use certagent_svid::TrustBundles;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    ENDED_BADLY,
    alone::alone,
    cas::{Cas, CasOptions},
};
use crate::{
    admin::{self, Metrics, Readiness},
    clock::SharedClock,
    config::{ClusterConfig, ClusterState},
    controller::{Authority, Candidate, Deciding, Requests, status},
    kube,
    volume::StateDir,
};

/// What `certagent controller` was told.
pub struct ControllerOptions {
    /// What the two objects are read with.
    pub settings: Settings,
    /// Whose requests are approved.
    pub approval: approval::Settings,
    /// Where CA Service is, and who asks it.
    pub(super) cas: CasOptions,
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub lease: String,
    /// What no other replica is called.
    pub replica: String,
    /// Run also by objects of the cluster that are another installation's.
    pub adopt_foreign: bool,
    /// How the API server is reached, if not as usual.
    pub kubeconfig: Option<PathBuf>,
    /// Where state is kept that holds no keys.
    pub state_dir: PathBuf,
    /// Where the admin server listens, if at all.
    pub admin: Option<SocketAddr>,
    /// The time.
    pub clock: SharedClock,
}

/// Builds the parts in order, starts them, and works until `cancel` whenever this replica leads.
pub async fn run(options: ControllerOptions, cancel: CancellationToken) -> Result<()> {
    let ControllerOptions {
        settings,
        approval,
        cas,
        namespace,
        lease,
        replica,
        adopt_foreign,
        kubeconfig,
        state_dir,
        admin,
        clock,
    } = options;
    // Whoever was started before something fails has to end with it.
    let _guard = cancel.clone().drop_guard();
    let state = Arc::new(StateDir::open(&state_dir, true)?);
    let metrics = Arc::new(Metrics::default());
    let client = kube::client(kubeconfig.as_deref()).await?;
    let driver = approval.driver_name.clone();
    let alone = if adopt_foreign {
        None
    } else {
        alone(client.clone(), driver, &clock, &cancel).await?
    };

    info!(version = env!("CARGO_PKG_VERSION"), replica, signer = approval.signer_name,
        requester = approval.requester, driver = approval.driver_name,
        trust_domain = %approval.trust_domain, "the controller begins; it works when it leads");

    let config = {
        let (metrics, clock) = (Arc::clone(&metrics), Arc::clone(&clock));
        ClusterConfig::start(&client, settings, &state, metrics, clock, cancel.clone())
    };
    let (authority, start) = authority(
        cas,
        config.clone(),
        state,
        Arc::clone(&metrics),
        Arc::clone(&clock),
        cancel.clone(),
    );
    let (rendered, signable) = watch::channel(TrustBundles::default());
    let told = status::Settings {
        client: client.clone(),
        instance: replica.clone(),
        trust_domain: approval.trust_domain.clone(),
        config: config.clone(),
        supply: authority.clone(),
        rendered,
        clock: Arc::clone(&clock),
    };
    let requests = Arc::new(Requests::new(Deciding {
        client: client.clone(),
        settings: approval,
        config: config.clone(),
        authority,
        rendered: signable,
        instance: replica.clone(),
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(&clock),
    }));

    let mut tasks = Vec::new();
    if let Some(address) = admin {
        let known = config.clone();
        let readiness = Readiness::Told(Arc::new(move || has_answered(&known.borrow())));
        let (statuses, clock) = (Arc::new(Vec::new), Arc::clone(&clock));
        let server = admin::start(address, metrics, statuses, readiness, clock, cancel.clone());
        let failed = || format!("the admin server cannot listen on {address}");
        tasks.push(server.await.with_context(failed)?.task);
    }
    let candidate = Candidate::new(client, &namespace, lease, replica, clock);
    let lead = |leading: CancellationToken| {
        let (requests, told) = (Arc::clone(&requests), told.clone());
        async move {
            let status = status::run(told, leading.clone());
            tokio::join!(status, requests.run(leading));
        }
    };
    Box::pin(candidate.run(lead, &cancel)).await;
    info!("the controller is ending");
    cancel.cancel();
    for task in tasks {
        if let Err(error) = task.await {
            error!(%error, "{ENDED_BADLY}");
        }
    }
    for ended in [Some(start), alone].into_iter().flatten() {
        ended.await.context(ENDED_BADLY)??;
    }
    Ok(())
}

/// Who signs, as soon as there is a configuration; it follows every later one.
fn authority(
    options: CasOptions,
    mut config: watch::Receiver<ClusterState>,
    state: Arc<StateDir>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    cancel: CancellationToken,
) -> (watch::Receiver<Option<Authority>>, JoinHandle<Result<()>>) {
    let (sender, receiver) = watch::channel(None);
    let task = tokio::spawn(async move {
        let there = async {
            let state = config.wait_for(|state| state.active.is_some()).await;
            state.ok().and_then(|state| state.active.clone())
        };
        let Some(Some(first)) = cancel.run_until_cancelled(there).await else {
            return Ok(());
        };
        let (active, follower) = watch::channel(first);
        let started = Cas::start(options, follower, state, metrics, clock, &cancel).await;
        let Cas {
            issuer,
            trust,
            task,
        } = started.inspect_err(|_| cancel.cancel())?;
        sender.send_replace(Some(Authority { issuer, trust }));
        while let Some(Ok(())) = cancel.run_until_cancelled(config.changed()).await {
            let newer = config.borrow_and_update().active.clone();
            if let Some(newer) = newer.filter(|newer| !Arc::ptr_eq(newer, &active.borrow())) {
                active.send_replace(newer);
            }
        }
        if let Err(error) = task.await {
            error!(%error, "{ENDED_BADLY}");
        }
        Ok(())
    });
    (receiver, task)
}

/// A replica is ready when it can take over: it knows what the cluster says.
fn has_answered(state: &ClusterState) -> Result<(), String> {
    if state.is_settling {
        return Err("the API server has not answered yet".to_owned());
    }
    Ok(())
}
