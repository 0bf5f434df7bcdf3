//! `certagent node`: the CSI driver of one Kubernetes node.
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use certagent_core::config::Settings;
use certagent_csi::{Driver, DriverName, DriverSettings, Registration};
use certagent_svid::TrustDomain;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::engine::{Engine, EngineOptions};
use crate::{
    admin::{self, Metrics, Readiness},
    cas::{Endpoint, Roots},
    clock::SharedClock,
    config::{ActiveConfig, ConfigFiles, ConfigState, cluster},
    google::IdentityChoice,
    kube::{self, DriverObject},
    node::{NodeContent, NodeSettings, Supply},
    trust::Distrust,
    volume::StateDir,
};

/// A volume holds a key, a chain, and every trust domain's roots, three times over while they
/// change.
const VOLUME_BYTES: u64 = 2 << 20;
const VOLUME_INODES: u64 = 256;
/// Kubelet waits for 120 s.
const PUBLISH_WAIT: Duration = Duration::from_secs(100);

/// Where the two objects are.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// In the cluster, read with these settings.
    Cluster(Settings),
    /// In files.
    Files(ConfigFiles),
}

/// What `certagent node` was told.
pub struct NodeOptions {
    /// Where the two objects are.
    pub config: ConfigSource,
    /// The CA Service endpoint.
    pub endpoint: Endpoint,
    /// Who asks for the pods' certificates.
    pub identity: IdentityChoice,
    /// The CA certificates that https servers are checked by.
    pub roots: Roots,
    /// The cluster's trust domain.
    pub trust_domain: TrustDomain,
    /// Which of a pod's tokens is exchanged.
    pub token_audience: Option<String>,
    /// The node's name.
    pub node_name: String,
    /// The driver's name.
    pub driver_name: DriverName,
    /// Kubelet's directory.
    pub kubelet_root: PathBuf,
    /// How the API server is reached, if not as usual.
    pub kubeconfig: Option<PathBuf>,
    /// Roots of workloads that are in no bundle.
    pub distrust: Distrust,
    /// Where state is kept that holds no keys.
    pub state_dir: Option<PathBuf>,
    /// The share of each pool's quota that this node takes, in percent, 1 to 100.
    pub quota_share: u8,
    /// Where the admin server listens, if at all.
    pub admin: Option<SocketAddr>,
    /// For conformance tests only.
    pub any_caller: bool,
    /// The time.
    pub clock: SharedClock,
}

/// Builds the parts in order, starts them, and serves until `cancel`.
pub async fn run(options: NodeOptions, cancel: CancellationToken) -> Result<()> {
    let NodeOptions {
        config,
        endpoint,
        identity,
        roots,
        trust_domain,
        token_audience,
        node_name,
        driver_name,
        kubelet_root,
        kubeconfig,
        distrust,
        state_dir,
        quota_share,
        admin,
        any_caller,
        clock,
    } = options;
    let subject_mode = identity.mode().subject_mode();
    let plugin = kubelet_root.join("plugins").join(driver_name.as_str());
    let name = driver_name.to_string();
    let (driver, found) = Driver::open(DriverSettings {
        name: driver_name,
        kubelet_root,
        node_id: node_name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        volume_size: VOLUME_BYTES,
        volume_inodes: VOLUME_INODES,
        publish_wait: PUBLISH_WAIT,
        any_caller,
    })
    .await?;
    // Keys and records are with the volumes; what is here may be on a disk.
    let state_dir = state_dir.unwrap_or_else(|| plugin.join("state"));
    let state = Arc::new(StateDir::open(&state_dir, true)?);
    let metrics = Arc::new(Metrics::default());
    let mut tasks = Vec::new();

    let tokens = subject_mode == certagent_core::request::SubjectMode::ReflectedSpiffe;
    let client = if any_caller {
        None
    } else {
        Some(kube::client(kubeconfig.as_deref()).await?)
    };
    let driver_object = match &client {
        None => watch::channel(DriverObject::Right).1,
        Some(client) => {
            let (object, task) =
                kube::follow_driver_object(client.clone(), name, tokens, cancel.clone());
            tasks.push(task);
            object
        }
    };
    let (config, task) = match (config, client) {
        (ConfigSource::Files(files), _) => {
            let (state, metrics) = (&state, Arc::clone(&metrics));
            follow_files(files.start(state, metrics, Arc::clone(&clock), cancel.clone())?)
        }
        (ConfigSource::Cluster(settings), Some(client)) => {
            let (state, metrics) = (Arc::clone(&state), Arc::clone(&metrics));
            cluster::follow(&client, settings, state, metrics, cancel.clone())
        }
        (ConfigSource::Cluster(_), None) => {
            anyhow::bail!("without an API server the objects are in files: give --config")
        }
    };
    tasks.push(task);

    let (supply_there, supply) = watch::channel(None);
    let settings = NodeSettings {
        trust_domain,
        subject_mode,
        token_audience,
    };
    let content = NodeContent::new(
        settings,
        Arc::clone(&clock),
        config.clone(),
        driver_object,
        supply.clone(),
    );
    content.resume(found);
    let content = Arc::new(content);
    let engine = Starting {
        options: EngineOptions {
            endpoint,
            identity,
            tokens: content.tokens(),
            roots,
            distrust,
            quota_share,
        },
        state,
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(&clock),
    };
    let start = start_engine(
        engine,
        config,
        supply_there,
        Arc::clone(&content),
        cancel.clone(),
    );
    tasks.push(tokio::spawn(start));

    let registration = driver.registration();
    if let Some(address) = admin {
        let statuses = move || {
            let supply = supply.borrow();
            supply
                .as_ref()
                .map_or_else(Vec::new, |supply| supply.volumes.statuses())
        };
        let readiness = Readiness::Told(Arc::new(move || registered(&registration.borrow())));
        let server = admin::start(
            address,
            metrics,
            Arc::new(statuses),
            readiness,
            clock,
            cancel.clone(),
        );
        let server = server
            .await
            .with_context(|| format!("the admin server cannot listen on {address}"))?;
        tasks.push(server.task);
    }
    let served = driver.serve(content, cancel.clone()).await;
    cancel.cancel();
    for task in tasks {
        if let Err(error) = task.await {
            error!(%error, "a task ended badly");
        }
    }
    Ok(served?)
}

/// A node is ready when kubelet can use it. That a pod has no certificate is the pod's event, and
/// no reason to hold up a roll-out.
fn registered(registration: &Registration) -> Result<(), String> {
    match registration {
        Registration::Registered => Ok(()),
        Registration::Waiting => Err("kubelet has not registered the driver yet".to_owned()),
        Registration::Refused(reason) => Err(format!("kubelet refuses the driver: {reason}")),
    }
}

/// The files' configuration in the form of the cluster's.
fn follow_files(
    mut active: watch::Receiver<Arc<ActiveConfig>>,
) -> (watch::Receiver<ConfigState>, JoinHandle<()>) {
    let state = |active: &Arc<ActiveConfig>| ConfigState {
        active: Some(Arc::clone(active)),
        problem: active.problem.clone(),
    };
    let (sender, receiver) = watch::channel(state(&active.borrow()));
    let task = tokio::spawn(async move {
        // It ends with whoever follows the files.
        while active.changed().await.is_ok() {
            let now = state(&active.borrow_and_update());
            sender.send_replace(now);
        }
    });
    (receiver, task)
}

/// What an engine starts from when there is a configuration.
struct Starting {
    options: EngineOptions,
    state: Arc<StateDir>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

/// Starts the engine with the first configuration, and gives it every later one.
async fn start_engine(
    starting: Starting,
    mut config: watch::Receiver<ConfigState>,
    supply: watch::Sender<Option<Supply>>,
    content: Arc<NodeContent>,
    cancel: CancellationToken,
) {
    let there = async {
        let state = config.wait_for(|state| state.active.is_some()).await;
        state.ok().and_then(|state| state.active.clone())
    };
    let Some(Some(first)) = cancel.run_until_cancelled(there).await else {
        return;
    };
    let (sender, active) = watch::channel(first);
    let Starting {
        options,
        state,
        metrics,
        clock,
    } = starting;
    let engine = match Engine::start(options, active, state, metrics, clock, &cancel).await {
        Ok(engine) => engine,
        Err(error) => {
            error!("the driver cannot begin: {error:#}");
            cancel.cancel();
            return;
        }
    };
    info!("there is a configuration: volumes are filled by it");
    supply.send_replace(Some(Supply {
        volumes: Arc::clone(&engine.volumes),
        trust: engine.trust.clone(),
    }));
    content.supply_all();
    while let Some(Ok(())) = cancel.run_until_cancelled(config.changed()).await {
        let newer = config.borrow_and_update().active.clone();
        if let Some(newer) = newer.filter(|newer| !Arc::ptr_eq(newer, &sender.borrow())) {
            sender.send_replace(newer);
        }
    }
    for task in engine.tasks {
        if let Err(error) = task.await {
            error!(%error, "a task ended badly");
        }
    }
}
