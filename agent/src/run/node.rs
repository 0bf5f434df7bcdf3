//! `certagent node`: the CSI driver of one Kubernetes node.
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use ::kube::Client;
use anyhow::{Context as _, Result, bail};
use certagent_core::config::Settings;
use certagent_csi::{Driver, DriverSettings, Registration};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::engine::{Engine, EngineOptions};
use crate::{
    admin::{self, Metrics, Readiness},
    cas::{Endpoint, Roots},
    clock::SharedClock,
    config::{ActiveConfig, ClusterConfig, ClusterState, ConfigFiles},
    google::IdentityChoice,
    kube::{self, DriverObject, Tokens, Verdict, crds},
    node::{NodeContent, NodeSettings, Supply},
    status::VolumeStatus,
    trust::Distrust,
    volume::StateDir,
};

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
    /// The driver, as kubelet sees it.
    pub driver: DriverSettings,
    /// Whose certificates pods get.
    pub node: NodeSettings,
    /// The CA Service endpoint.
    pub endpoint: Endpoint,
    /// Who asks for the pods' certificates.
    pub identity: IdentityChoice,
    /// The CA certificates that https servers are checked by.
    pub roots: Roots,
    /// Roots of workloads that are in no bundle.
    pub distrust: Distrust,
    /// The share of each pool's quota that this node takes, in percent, 1 to 100.
    pub quota_share: u8,
    /// Run also by objects of the cluster that are another installation's.
    pub adopt_foreign: bool,
    /// How the API server is reached, if not as usual.
    pub kubeconfig: Option<PathBuf>,
    /// Where state is kept that holds no keys; with the driver's own files if not given.
    pub state_dir: Option<PathBuf>,
    /// Where the admin server listens, if at all.
    pub admin: Option<SocketAddr>,
    /// The time.
    pub clock: SharedClock,
}

/// Builds the parts in order, starts them, and serves until `cancel`.
pub async fn run(options: NodeOptions, cancel: CancellationToken) -> Result<()> {
    let NodeOptions {
        config,
        driver,
        node,
        endpoint,
        identity,
        roots,
        distrust,
        quota_share,
        adopt_foreign,
        kubeconfig,
        state_dir,
        admin,
        clock,
    } = options;
    // Whoever was started before something fails has to end with it.
    let _guard = cancel.clone().drop_guard();
    let (name, any_caller) = (driver.name.to_string(), driver.any_caller);
    let plugin = driver.kubelet_root.join("plugins").join(&name);
    let (driver, found) = Driver::open(driver).await?;
    // Keys and records are with the volumes; what is here may be on a disk.
    let state_dir = state_dir.unwrap_or_else(|| plugin.join("state"));
    let state = Arc::new(StateDir::open(&state_dir, true)?);
    let metrics = Arc::new(Metrics::default());
    let mut tasks = Vec::new();

    let client = if any_caller {
        None
    } else {
        Some(kube::client(kubeconfig.as_deref()).await?)
    };
    if let Some(client) = client.as_ref().filter(|_| !adopt_foreign) {
        refuse_foreign(client, &name).await?;
    }
    let driver_object = match &client {
        None => watch::channel(DriverObject::Right).1,
        Some(client) => {
            let tokens = tokens(&node);
            DriverObject::watch(client.clone(), &name, tokens, cancel.clone())
        }
    };
    let config = match (config, client) {
        (ConfigSource::Files(files), _) => {
            let (state, metrics) = (&state, Arc::clone(&metrics));
            let files = files.start(state, metrics, Arc::clone(&clock), cancel.clone())?;
            let (config, task) = follow_files(files);
            tasks.push(task);
            config
        }
        (ConfigSource::Cluster(settings), Some(client)) => {
            let metrics = Arc::clone(&metrics);
            let clock = Arc::clone(&clock);
            ClusterConfig::start(&client, settings, &state, metrics, clock, cancel.clone())
        }
        (ConfigSource::Cluster(_), None) => {
            bail!("without an API server the objects are in files: give --config")
        }
    };

    let (supplier, supply) = watch::channel(None);
    let now = Arc::clone(&clock);
    let content = NodeContent::new(node, now, config.clone(), driver_object, supply.clone());
    content.resume(found);
    let content = Arc::new(content);
    let starting = Starting {
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
    let start = starting.run(config, supplier, Arc::clone(&content), cancel.clone());
    tasks.push(tokio::spawn(start));

    if let Some(address) = admin {
        let registration = driver.registration();
        let readiness = Readiness::Told(Arc::new(move || registered(&registration.borrow())));
        let statuses = Arc::new(move || statuses(&supply));
        let server = admin::start(address, metrics, statuses, readiness, clock, cancel.clone());
        let failed = || format!("the admin server cannot listen on {address}");
        tasks.push(server.await.with_context(failed)?.task);
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

/// Refuses to run beside another driver of the same name, or by objects whose form is another's.
/// While the API server does not answer, nothing is known against it: pods that run must go on.
async fn refuse_foreign(client: &Client, driver: &str) -> Result<()> {
    match crds::check(client.clone(), driver).await {
        Verdict::Ours => Ok(()),
        Verdict::Unknown { message } => {
            warn!("whether this driver is alone of its name is not known: {message}");
            Ok(())
        }
        Verdict::Foreign(foreign) => bail!("{foreign}"),
    }
}

/// What kubelet has to bring.
fn tokens(node: &NodeSettings) -> Tokens {
    match &node.token_audience {
        Some(audience) => Tokens::For(audience.clone()),
        None => Tokens::NotNeeded,
    }
}

/// Every volume, as it stands.
fn statuses(supply: &watch::Receiver<Option<Supply>>) -> Vec<VolumeStatus> {
    let supply = supply.borrow();
    supply
        .as_ref()
        .map_or_else(Vec::new, |supply| supply.volumes.statuses())
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
) -> (watch::Receiver<ClusterState>, JoinHandle<()>) {
    let state = |active: &Arc<ActiveConfig>| ClusterState {
        active: Some(Arc::clone(active)),
        problem: active.problem.clone(),
        is_settling: false,
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

impl Starting {
    /// Starts the engine with the first configuration, and gives it every later one.
    async fn run(
        self,
        mut config: watch::Receiver<ClusterState>,
        supplier: watch::Sender<Option<Supply>>,
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
        } = self;
        let engine = match Engine::start(options, active, state, metrics, clock, &cancel).await {
            Ok(engine) => engine,
            Err(error) => {
                error!("the driver cannot begin: {error:#}");
                cancel.cancel();
                return;
            }
        };
        info!("there is a configuration: volumes are filled by it");
        supplier.send_replace(Some(Supply {
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
}
