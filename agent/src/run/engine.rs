//! What every mode that keeps volumes supplied is made of: who asks the CA, what is trusted, and the
//! set of volumes.
use std::sync::Arc;

use ::kube::Client;
use anyhow::Result;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::cas::{Cas, CasOptions};
use crate::{
    admin::Metrics,
    clock::SharedClock,
    config::ActiveConfig,
    issuer::{CsrIssuer, Issuer},
    keys::Keys,
    provision::Context,
    trust::Trust,
    volume::StateDir,
    volumes::Volumes,
};

/// Whom an engine asks for certificates.
pub(super) enum Asking {
    /// CA Service itself.
    Cas(CasOptions),
    /// The cluster's controller, by way of the API server: no client of the CA and no identity at
    /// Google is built.
    Cluster {
        /// The API server.
        client: Client,
        /// The name of the signer.
        signer: String,
        /// What the controller has rendered.
        trust: watch::Receiver<Arc<Trust>>,
    },
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
        asking: Asking,
        config: watch::Receiver<Arc<ActiveConfig>>,
        state: Arc<StateDir>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        raise_open_files();
        let mut tasks = Vec::new();
        let (issuer, trust): (Arc<dyn Issuer>, _) = match asking {
            Asking::Cluster {
                client,
                signer,
                trust,
            } => {
                let issuer = CsrIssuer::new(client, signer, Arc::clone(&clock));
                metrics.watch_trust(trust.clone());
                (Arc::new(issuer), trust)
            }
            Asking::Cas(options) => {
                let (config, state) = (config.clone(), Arc::clone(&state));
                let (metrics, clock) = (Arc::clone(&metrics), Arc::clone(&clock));
                let cas = Cas::start(options, config, state, metrics, clock, cancel).await?;
                tasks.push(cas.task);
                (cas.issuer, cas.trust)
            }
        };
        let context = Context {
            clock,
            issuer,
            keys: Keys::default(),
            config,
            trust: trust.clone(),
            metrics,
        };
        let volumes = Arc::new(Volumes::new(context, state));
        tasks.push(tokio::spawn(Arc::clone(&volumes).run(cancel.clone())));
        Ok(Self {
            volumes,
            trust,
            tasks,
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
