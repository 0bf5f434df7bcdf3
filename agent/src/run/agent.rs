//! `certagent run`: the plain agent, for a sidecar or a machine.
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use certagent_core::{config::Config, request::SubjectMode};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    cas::CasOptions,
    engine::{Asking, Engine},
    once,
};
use crate::{
    admin::{self, Metrics, Readiness},
    cas::{Endpoint, Roots},
    clock::SharedClock,
    config::{ActiveConfig, ConfigFiles},
    google::{IdentityChoice, SubjectToken, SubjectTokens},
    held::Assignment,
    hooks::{HookPlan, Hooked, Hooks},
    status::VolumeStatus,
    trust::{Distrust, Trust},
    volume::{StateDir, VolumeId},
    volumes::Volumes,
};

/// What `certagent run` was told.
pub struct AgentOptions {
    /// Where the objects and the workloads are.
    pub config: ConfigFiles,
    /// The CA Service endpoint.
    pub endpoint: Endpoint,
    /// Who the agent is to Google.
    pub identity: IdentityChoice,
    /// The CA certificates that https servers are checked by.
    pub roots: Roots,
    /// Roots of workloads that are in no bundle.
    pub distrust: Distrust,
    /// Where records and pending requests are kept.
    pub state_dir: PathBuf,
    /// The state may be on a disk.
    pub allow_disk: bool,
    /// Where the admin server listens, if at all.
    pub admin: Option<SocketAddr>,
    /// The share of each pool's quota that this agent takes, in percent, 1 to 100.
    pub quota_share: u8,
    /// The time.
    pub clock: SharedClock,
}

/// An agent at work.
pub struct RunningAgent {
    volumes: Arc<Volumes>,
    hooks: Hooks,
    trust: watch::Receiver<Arc<Trust>>,
    config: watch::Receiver<Arc<ActiveConfig>>,
    clock: SharedClock,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    admin: Option<SocketAddr>,
}

/// Builds the parts in order and starts them.
pub async fn start(options: AgentOptions, cancel: CancellationToken) -> Result<RunningAgent> {
    let AgentOptions {
        config,
        endpoint,
        identity,
        roots,
        distrust,
        state_dir,
        allow_disk,
        admin,
        quota_share,
        clock,
    } = options;
    // Whoever was started before something fails has to end with it.
    let guard = cancel.clone().drop_guard();
    let subject_mode = identity.mode().subject_mode();
    let state = Arc::new(StateDir::open(&state_dir, allow_disk)?);
    let metrics = Arc::new(Metrics::default());

    let config = config.start(
        &state,
        Arc::clone(&metrics),
        Arc::clone(&clock),
        cancel.clone(),
    )?;
    let tokens = token_files(config.clone());
    let asking = Asking::Cas(CasOptions {
        endpoint,
        identity,
        tokens,
        roots,
        distrust,
        quota_share,
    });
    let engine = Engine::start(
        asking,
        config.clone(),
        Arc::clone(&state),
        Arc::clone(&metrics),
        Arc::clone(&clock),
        &cancel,
    )
    .await?;
    let Engine {
        volumes,
        trust,
        mut tasks,
    } = engine;
    let assigned = assign(
        &volumes,
        &BTreeMap::new(),
        &config.borrow().config,
        subject_mode,
    );
    if assigned.opened == 0 && assigned.failed > 0 {
        bail!("none of the volumes can be used; the errors above say why");
    }

    let (plan, planned) = watch::channel(assigned.hooks);
    let (hooks, task) = Hooks::start(
        Arc::clone(&volumes),
        state,
        planned,
        Arc::clone(&metrics),
        Arc::clone(&clock),
        cancel.clone(),
    );
    tasks.push(task);

    let server = match admin {
        Some(address) => {
            Some(serve_admin(address, &volumes, metrics, Arc::clone(&clock), &cancel).await?)
        }
        None => None,
    };
    tasks.push(tokio::spawn(follow(
        Arc::clone(&volumes),
        config.clone(),
        assigned.ids,
        plan,
        subject_mode,
        cancel.clone(),
    )));
    let admin = server.as_ref().map(|server| server.address);
    tasks.extend(server.map(|server| server.task));
    guard.disarm();
    Ok(RunningAgent {
        volumes,
        hooks,
        trust,
        config,
        clock,
        cancel,
        tasks,
        admin,
    })
}

/// Tells of the volumes over HTTP.
async fn serve_admin(
    address: SocketAddr,
    volumes: &Arc<Volumes>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    cancel: &CancellationToken,
) -> Result<admin::AdminServer> {
    let source = Arc::clone(volumes);
    let statuses = Arc::new(move || source.statuses());
    let readiness = Readiness::Volumes;
    admin::start(address, metrics, statuses, readiness, clock, cancel.clone())
        .await
        .with_context(|| format!("the admin server cannot listen on {address}"))
}

impl RunningAgent {
    /// Every volume, as it stands.
    pub fn statuses(&self) -> Vec<VolumeStatus> {
        self.volumes.statuses()
    }

    /// Where the admin server listens.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The configuration that is active, and what is wrong with its files.
    pub fn config(&self) -> &watch::Receiver<Arc<ActiveConfig>> {
        &self.config
    }

    /// The set of volumes.
    pub fn volumes(&self) -> &Arc<Volumes> {
        &self.volumes
    }

    /// Waits until every volume was looked at, a renewal that is due included, and holds a valid
    /// credential that leads to a trusted root; what is still missing when each pool had its time,
    /// or can only be helped by a change, is an error. Then it waits until the hooks were run, too;
    /// nobody would run one again that failed, so that is an error as well.
    pub async fn once(&self) -> Result<()> {
        self.supplied().await?;
        if let Some(kept) = self.statuses().iter().find(|status| status.is_misnamed) {
            bail!(
                "the volume {} keeps a certificate with other names than commonName and dnsNames ask for: {}",
                kept.path.display(),
                kept.last_error
                    .as_deref()
                    .unwrap_or("no other was issued yet")
            );
        }
        tokio::select! {
            failed = self.hooks.settled() => match failed.as_slice() {
                [] => Ok(()),
                _ => bail!(
                    "every volume holds a valid credential, and a hook failed: {}; it is tried again at the next start",
                    failed.join("; ")
                ),
            },
            () = self.cancel.cancelled() => bail!(
                "a signal ended --once before the hooks were done; they run at the next start"
            ),
        }
    }

    async fn supplied(&self) -> Result<()> {
        if let Some(problem) = &self.config.borrow().problem {
            bail!("the configuration has errors, and --once uses no earlier one: {problem}");
        }
        if self.statuses().is_empty() {
            bail!("there is no workload: add a document of kind Workload, or use --volume");
        }
        let clock = &self.clock;
        let pools = self.config.borrow().config.certificates.pools.len();
        let patience = once::patience(pools);
        let give_up = clock.now().saturating_add(patience).unwrap_or_default();
        loop {
            // Made before the look, so that no change falls between the two.
            let changed = self.volumes.changed();
            let now = clock.now();
            let statuses = self.statuses();
            let trust = Arc::clone(&self.trust.borrow());
            let missing = once::Missing::of(&statuses, &trust, now);
            let all_seen = statuses.iter().all(|status| status.next_attempt > now);
            if missing.is_empty() && (all_seen || now >= give_up) {
                return Ok(());
            }
            let is_hopeless = missing.is_hopeless(give_up);
            if is_hopeless || now >= give_up {
                missing.tell();
                bail!(missing.at_last(is_hopeless));
            }
            tokio::select! {
                () = changed => {}
                () = clock.sleep_until(give_up) => {}
                () = self.cancel.cancelled() => {
                    missing.tell();
                    bail!(missing.interrupted());
                }
            }
        }
    }

    /// Ends the agent: nothing is half-written, what was begun is taken up at the next start.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                error!(%error, "a task ended badly");
            }
        }
        // Whoever follows the files holds the state directory until it, too, has ended.
        while self.config.changed().await.is_ok() {}
    }

    /// Waits for the end that the cancellation brings.
    pub async fn join(self) {
        self.cancel.cancelled().await;
        self.stop().await;
    }
}

/// Volumes follow the workloads that the configuration names.
async fn follow(
    volumes: Arc<Volumes>,
    mut config: watch::Receiver<Arc<ActiveConfig>>,
    mut ids: BTreeMap<String, VolumeId>,
    plan: watch::Sender<HookPlan>,
    subject_mode: SubjectMode,
    cancel: CancellationToken,
) {
    while let Some(Ok(())) = cancel.run_until_cancelled(config.changed()).await {
        let active = Arc::clone(&config.borrow_and_update());
        let assigned = assign(&volumes, &ids, &active.config, subject_mode);
        ids = assigned.ids;
        plan.send_replace(assigned.hooks);
    }
}

/// The token files of the workloads, as the configuration names them at any moment.
fn token_files(config: watch::Receiver<Arc<ActiveConfig>>) -> SubjectTokens {
    Arc::new(move || {
        let active = Arc::clone(&config.borrow());
        let files = active.config.workloads.iter();
        files
            .filter_map(|workload| workload.token_file.as_deref())
            .map(|file| SubjectToken::File(Path::new(file).into()))
            .collect()
    })
}

/// What [`assign`] did.
struct Assigned {
    ids: BTreeMap<String, VolumeId>,
    hooks: HookPlan,
    opened: usize,
    failed: usize,
}

/// Publishes every workload and forgets those that are gone. What is wrong with one harms that
/// one, and is tried again.
fn assign(
    volumes: &Volumes,
    before: &BTreeMap<String, VolumeId>,
    config: &Config,
    subject_mode: SubjectMode,
) -> Assigned {
    let mut assigned = Assigned {
        ids: BTreeMap::new(),
        hooks: HookPlan::default(),
        opened: 0,
        failed: 0,
    };
    let mut hooks = BTreeMap::new();
    for workload in &config.workloads {
        let result = Assignment::of(workload, subject_mode)
            .map_err(anyhow::Error::from)
            .and_then(|assignment| {
                let id = VolumeId::of(&assignment.path);
                if let Some((other, _)) = assigned.ids.iter().find(|(_, taken)| **taken == id) {
                    bail!(
                        "its volume {} is that of the workload {other}, too; give each its own",
                        assignment.path.display()
                    );
                }
                assigned.ids.insert(workload.name.clone(), id.clone());
                if !workload.on_rotate.is_empty() {
                    let hooked = Hooked {
                        workload: workload.name.clone(),
                        hooks: workload.on_rotate.clone(),
                    };
                    hooks.insert(id, hooked);
                }
                Ok(volumes.publish(assignment)?)
            });
        match result {
            Ok(_) => assigned.opened += 1,
            Err(error) => {
                error!(workload = workload.name, "{error:#}");
                assigned.failed += 1;
            }
        }
    }
    for id in before
        .values()
        .filter(|id| !assigned.ids.values().any(|kept| kept == *id))
    {
        volumes.forget(id);
    }
    assigned.hooks = Arc::new(hooks);
    if assigned.ids.is_empty() {
        info!("there is no workload yet: add a document of kind Workload, or use --volume");
    }
    assigned
}
