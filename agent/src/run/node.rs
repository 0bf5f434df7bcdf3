//! `certagent node`: the CSI driver of one Kubernetes node.
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use ::kube::Client;
use anyhow::{Context as _, Result, bail};
use certagent_core::config::Settings;
use certagent_csi::{Driver, DriverSettings, Registration};
use jiff::SignedDuration;
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

/// The API server is waited for so long before the driver serves.
const PATIENCE: SignedDuration = SignedDuration::from_secs(1);
/// So often it is asked after that, until it answers.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

const ENDED_BADLY: &str = "a task ended badly";

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
    let alone = match client.clone().filter(|_| !adopt_foreign) {
        Some(client) => alone(client, name.clone(), &clock, &cancel).await?,
        None => None,
    };
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
    let start = tokio::spawn(start);

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
            error!(%error, "{ENDED_BADLY}");
        }
    }
    for ended in [Some(start), alone].into_iter().flatten() {
        ended.await.context(ENDED_BADLY)??;
    }
    Ok(served?)
}

/// Refuses to run beside another driver of the same name, or by objects whose form is another's.
///
/// The API server is waited for only shortly: pods that run must go on, and those that end must go,
/// also while it does not answer. The task that is given back then goes on asking, and ends the
/// driver if it has to.
async fn alone(
    client: Client,
    driver: String,
    clock: &SharedClock,
    cancel: &CancellationToken,
) -> Result<Option<JoinHandle<Result<()>>>> {
    let (asking, cancel) = (Arc::clone(clock), cancel.clone());
    let mut task = tokio::spawn(async move {
        let refused = refuse_foreign(&client, &driver, &asking);
        let result = cancel.run_until_cancelled(refused).await.unwrap_or(Ok(()));
        if result.is_err() {
            cancel.cancel();
        }
        result
    });
    let patience = clock.now().saturating_add(PATIENCE).unwrap_or_default();
    tokio::select! {
        ended = &mut task => ended.context(ENDED_BADLY)?.map(|()| None),
        () = clock.sleep_until(patience) => Ok(Some(task)),
    }
}

async fn refuse_foreign(client: &Client, driver: &str, clock: &SharedClock) -> Result<()> {
    let mut is_told = false;
    loop {
        match crds::check(client.clone(), driver).await {
            Verdict::Ours => return Ok(()),
            Verdict::Foreign(foreign) => bail!("{foreign}"),
            Verdict::Unknown { message } => {
                if !is_told {
                    warn!("whether this driver is alone of its name is not known yet: {message}");
                }
                is_told = true;
                let again = clock.now().saturating_add(AGAIN).unwrap_or_default();
                clock.sleep_until(again).await;
            }
        }
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
    ) -> Result<()> {
        let there = async {
            let state = config.wait_for(|state| state.active.is_some()).await;
            state.ok().and_then(|state| state.active.clone())
        };
        let Some(Some(first)) = cancel.run_until_cancelled(there).await else {
            return Ok(());
        };
        let (sender, active) = watch::channel(first);
        let Starting {
            options,
            state,
            metrics,
            clock,
        } = self;
        let engine = Engine::start(options, active, state, metrics, clock, &cancel).await;
        let engine = engine.inspect_err(|_| cancel.cancel())?;
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
                error!(%error, "{ENDED_BADLY}");
            }
        }
        Ok(())
    }
}
