//! `certagent node`: the CSI driver of one Kubernetes node.
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use ::kube::Client;
use anyhow::{Context as _, Result, bail};
use certagent_core::config::{Settings, TrustPolicy};
use certagent_csi::{Driver, DriverSettings, Registration};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    ENDED_BADLY,
    alone::alone,
    cas::CasOptions,
    engine::{Asking, Engine},
};
use crate::{
    admin::{self, Metrics, Readiness},
    cas::{Endpoint, Roots},
    clock::SharedClock,
    config::{ActiveConfig, ClusterConfig, ClusterState, ConfigFiles},
    google::{IdentityChoice, SubjectTokens},
    kube::{self, DriverObject, Tokens},
    node::{NodeContent, NodeSettings, Supply},
    status::VolumeStatus,
    trust::{Distrust, rendered::RenderedTrust},
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

/// Who is asked for certificates.
pub enum Issuing {
    /// The cluster's controller, which signs `CertificateSigningRequest`s.
    Controller {
        /// The name of its signer.
        signer: String,
    },
    /// CA Service.
    Cas {
        /// Its endpoint.
        endpoint: Endpoint,
        /// Who asks.
        identity: IdentityChoice,
        /// The CA certificates that https servers are checked by.
        roots: Roots,
        /// The share of each pool's quota that this node takes, in percent, 1 to 100.
        quota_share: u8,
    },
}

/// What `certagent node` was told.
pub struct NodeOptions {
    /// Where the two objects are.
    pub config: ConfigSource,
    /// The driver, as kubelet sees it.
    pub driver: DriverSettings,
    /// Whose certificates pods get.
    pub node: NodeSettings,
    /// Who is asked for the pods' certificates.
    pub issuing: Issuing,
    /// Roots of workloads that are in no bundle.
    pub distrust: Distrust,
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
        issuing,
        distrust,
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
    let config = match (config, client.clone()) {
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
        asking: Begin::of(issuing, client, distrust, content.tokens())?,
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
        ..ClusterState::default()
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

/// Whom the engine will ask.
enum Begin {
    Cas(CasOptions),
    Cluster {
        client: Client,
        signer: String,
        distrust: Distrust,
    },
}

impl Begin {
    fn of(
        issuing: Issuing,
        client: Option<Client>,
        distrust: Distrust,
        tokens: SubjectTokens,
    ) -> Result<Self> {
        match (issuing, client) {
            (Issuing::Controller { signer }, Some(client)) => Ok(Self::Cluster {
                client,
                signer,
                distrust,
            }),
            (Issuing::Controller { .. }, None) => {
                bail!("without an API server there is no controller to ask: give --identity")
            }
            (
                Issuing::Cas {
                    endpoint,
                    identity,
                    roots,
                    quota_share,
                },
                _,
            ) => Ok(Self::Cas(CasOptions {
                endpoint,
                identity,
                tokens,
                roots,
                distrust,
                quota_share,
            })),
        }
    }

    /// Nodes that ask the controller go by what it has rendered, too.
    fn needs_rendered(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    fn by_cluster(self, rendered: Option<&TrustPolicy>) -> Result<(Asking, Option<RenderedTrust>)> {
        match self {
            Self::Cas(options) => Ok((Asking::Cas(options), None)),
            Self::Cluster {
                client,
                signer,
                distrust,
            } => {
                let rendered = rendered.context("there is no rendered trust")?;
                let (follower, trust) = RenderedTrust::new(rendered, distrust);
                let asking = Asking::Cluster {
                    client,
                    signer,
                    trust,
                };
                Ok((asking, Some(follower)))
            }
        }
    }
}

/// What an engine starts from when there is a configuration.
struct Starting {
    asking: Begin,
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
        let Starting {
            asking,
            state,
            metrics,
            clock,
        } = self;
        let needs_rendered = asking.needs_rendered();
        let there = async {
            let is_enough = |state: &ClusterState| {
                state.active.is_some() && (state.rendered.is_some() || !needs_rendered)
            };
            let state = config.wait_for(is_enough).await.ok()?;
            Some((state.active.clone()?, state.rendered.clone()))
        };
        let Some(Some((mut last, rendered))) = cancel.run_until_cancelled(there).await else {
            return Ok(());
        };
        let for_us = |active: &Arc<ActiveConfig>| {
            if needs_rendered {
                Arc::new(active.with_first_pool())
            } else {
                Arc::clone(active)
            }
        };
        let (asking, follower) = asking.by_cluster(rendered.as_deref())?;
        let (sender, active) = watch::channel(for_us(&last));
        let engine = Engine::start(asking, active, state, metrics, clock, &cancel).await;
        let engine = engine.inspect_err(|_| cancel.cancel())?;
        info!("there is a configuration: volumes are filled by it");
        supplier.send_replace(Some(Supply {
            volumes: Arc::clone(&engine.volumes),
            trust: engine.trust.clone(),
        }));
        content.supply_all();
        while let Some(Ok(())) = cancel.run_until_cancelled(config.changed()).await {
            let now = config.borrow_and_update().clone();
            if let Some(newer) = now.active.filter(|newer| !Arc::ptr_eq(newer, &last)) {
                sender.send_replace(for_us(&newer));
                last = newer;
            }
            if let Some((follower, rendered)) = follower.as_ref().zip(now.rendered) {
                follower.take(&rendered);
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
