//! What every mode that keeps volumes supplied is made of: who asks the CA, what is trusted, and the
//! set of volumes.
use std::sync::Arc;

use anyhow::Result;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    admin::Metrics,
    cas::{CasClient, Endpoint, Roots},
    clock::SharedClock,
    config::ActiveConfig,
    google::{IdentityChoice, SubjectTokens},
    issuer::CasIssuer,
    keys::Keys,
    limit::Limiter,
    provision::Context,
    trust::{Distrust, EndpointClient, Sources, Trust, TrustTask, wait_ready},
    volume::StateDir,
    volumes::Volumes,
};

/// Whom an engine asks, and as whom.
pub(super) struct EngineOptions {
    /// The CA Service endpoint.
    pub(super) endpoint: Endpoint,
    /// Who the agent is to Google.
    pub(super) identity: IdentityChoice,
    /// The workloads' own tokens.
    pub(super) tokens: SubjectTokens,
    /// The CA certificates that https servers are checked by.
    pub(super) roots: Roots,
    /// Roots of workloads that are in no bundle.
    pub(super) distrust: Distrust,
    /// The share of each pool's quota that is taken, in percent.
    pub(super) quota_share: u8,
}

/// An engine at work.
pub(super) struct Engine {
    pub(super) volumes: Arc<Volumes>,
    pub(super) trust: watch::Receiver<Arc<Trust>>,
    /// They end after the cancellation.
    pub(super) tasks: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Builds the parts in order and starts them. The set of volumes is empty.
    pub(super) async fn start(
        options: EngineOptions,
        config: watch::Receiver<Arc<ActiveConfig>>,
        state: Arc<StateDir>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        raise_open_files();
        let EngineOptions {
            endpoint,
            identity,
            tokens,
            roots,
            distrust,
            quota_share,
        } = options;
        let identity = identity.identity(&roots, &clock, tokens)?;
        let client = CasClient::with_roots(&endpoint, &roots, identity)?;
        let sources = Sources {
            pools: client.clone(),
            endpoints: EndpointClient::new(&roots)?,
        };
        if let Err(error) = state.save_distrust(&distrust) {
            warn!(%error, "`inspect` will not know what --distrust names");
        }
        let (trust_task, mut trust) = TrustTask::new(
            sources,
            distrust,
            Arc::clone(&state),
            Arc::clone(&clock),
            config.clone(),
        );
        metrics.watch_trust(trust.clone());
        let trust_task = tokio::spawn(trust_task.run(cancel.clone()));
        // With or without an answer: what is not known yet is asked for again.
        if let Some(Err(stopped)) = cancel.run_until_cancelled(wait_ready(&mut trust)).await
            && !cancel.is_cancelled()
        {
            return Err(stopped.into());
        }
        let limiter = Limiter::new(Arc::clone(&clock), quota_share, Arc::clone(&metrics));
        let issuer = Arc::new(CasIssuer::new(
            client,
            Arc::clone(&clock),
            Arc::new(limiter),
            trust.clone(),
        ));
        let context = Context {
            clock,
            issuer,
            keys: Keys::default(),
            config,
            trust: trust.clone(),
            metrics,
        };
        let volumes = Arc::new(Volumes::new(context, state));
        let run = tokio::spawn(Arc::clone(&volumes).run(cancel.clone()));
        Ok(Self {
            volumes,
            trust,
            tasks: vec![trust_task, run],
        })
    }
}

/// Each volume holds one open directory, so that its lock lives as long as the agent.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}
