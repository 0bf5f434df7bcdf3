//! The parts with which CA Service itself is asked: for certificates, and for roots.
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
    limit::Limiter,
    trust::{Distrust, EndpointClient, Sources, Trust, TrustTask, wait_ready},
    volume::StateDir,
};

/// Where CA Service is, and who asks it.
pub(super) struct CasOptions {
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

/// Who issues, and whose roots are in force.
pub(super) struct Cas {
    pub(super) issuer: Arc<CasIssuer>,
    pub(super) trust: watch::Receiver<Arc<Trust>>,
    /// Keeps the roots fresh, and ends after the cancellation.
    pub(super) task: JoinHandle<()>,
}

impl Cas {
    /// Builds the parts in order, and waits until every source of roots was asked once.
    pub(super) async fn start(
        options: CasOptions,
        config: watch::Receiver<Arc<ActiveConfig>>,
        state: Arc<StateDir>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let CasOptions {
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
        let now = Arc::clone(&clock);
        let (task, mut trust) = TrustTask::new(sources, distrust, state, now, config);
        metrics.watch_trust(trust.clone());
        let task = tokio::spawn(task.run(cancel.clone()));
        // With or without an answer: what is not known yet is asked for again.
        if let Some(Err(stopped)) = cancel.run_until_cancelled(wait_ready(&mut trust)).await
            && !cancel.is_cancelled()
        {
            return Err(stopped.into());
        }
        let limiter = Limiter::new(Arc::clone(&clock), quota_share, metrics);
        let issuer = CasIssuer::new(client, clock, Arc::new(limiter), trust.clone());
        Ok(Self {
            issuer: Arc::new(issuer),
            trust,
            task,
        })
    }
}
