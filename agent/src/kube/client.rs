//! A client of the API server.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt as _, retry::RetryPolicy},
    config::{InClusterError, InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use rustls::pki_types::ServerName;
use tower::{ServiceBuilder, retry::RetryLayer};

use super::connections::{Connections, Pulse};

/// An API server that does not answer is noticed so soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Less than the deadline of a call, and than the time in which a holder of the Lease has to renew it:
/// so a connection that is dead costs one call.
const PULSE: Pulse = Pulse {
    silence: Duration::from_secs(3),
    patience: Duration::from_secs(4),
};

/// Why there is no client. None of it is about the server: that is not asked yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The process is not in a pod, and nobody said where the API server is.
    #[error(
        "there is no API server to talk to: {}; run as a pod with a mounted service account \
        token, or name a file with --kubeconfig",
        chain(source)
    )]
    NotInCluster {
        /// What a pod would have.
        source: InClusterError,
    },
    /// A person's own kubeconfig says nothing of a cluster, and this is no pod.
    #[error(
        "there is no API server to talk to: {}; name a file with --kubeconfig, or in KUBECONFIG as \
        for kubectl",
        kubeconfig(source)
    )]
    NoKubeconfig {
        /// Where it was looked for.
        source: Box<InferConfigError>,
    },
    /// The file cannot be used.
    #[error("--kubeconfig {}: {}; check the file, as `kubectl --kubeconfig` does", path.display(), chain(source))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// The certificates or credentials cannot be used.
    #[error(
        "the API server's certificates or this process's credentials cannot be used: {}; check \
        the cluster's CA and the credentials that {origin} names",
        chain(source)
    )]
    Credentials {
        /// Where they come from.
        origin: String,
        /// What is wrong with them.
        source: Box<kube::Error>,
    },
}

/// A client by the kubeconfig file, or by what Kubernetes gives to every pod.
///
/// Nothing is sent yet. Several clients are as good as one that is cloned, but hold more
/// connections.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, ClientError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::incluster().map_err(|source| ClientError::NotInCluster { source })?,
    };
    let origin = || "the pod's service account".to_owned();
    with(config, kubeconfig, origin)
}

/// A client for a person: without a file by what kubectl would use, `KUBECONFIG` or
/// `~/.kube/config`.
pub async fn persons_client(kubeconfig: Option<&Path>) -> Result<Client, ClientError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::infer().await.map_err(|source| {
            let source = Box::new(source);
            ClientError::NoKubeconfig { source }
        })?,
    };
    with(config, kubeconfig, || "the kubeconfig".to_owned())
}

fn with(
    mut config: Config,
    kubeconfig: Option<&Path>,
    origin: fn() -> String,
) -> Result<Client, ClientError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // The library takes the process's own. Somebody may have been faster; then it is the same.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    built(config, PULSE).map_err(|source| ClientError::Credentials {
        origin: kubeconfig.map_or_else(origin, |path| path.display().to_string()),
        source: Box::new(source),
    })
}

/// As the library builds one, but with HTTP/2 where the API server has it: the library's has a
/// connection for each watch, and for each call that is made at the same moment. What is written is
/// sent at once: else the first request of a connection waits up to 40 ms for an acknowledgement
/// (Nagle's algorithm). Nor is a failed call logged here, without a word what it was for.
pub(super) fn built(config: Config, pulse: Pulse) -> kube::Result<Client> {
    // What these need only the library can do; it speaks HTTP/1.1 then.
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut tls = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        // The library's error cannot be made here.
        let Ok(name) = ServerName::try_from(name.clone()) else {
            return Client::try_from(config);
        };
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let tls = tls.enable_all_versions().wrap_connector(tcp);
    let mut connector = TimeoutConnector::new(tls);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http = Connections::new(&connector, pulse);
    let retry = config.default_retry.then(RetryPolicy::server_retry);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(retry.map(RetryLayer::new))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

async fn from_file(path: &Path) -> Result<Config, ClientError> {
    let failed = |source| ClientError::Kubeconfig {
        path: path.to_owned(),
        source,
    };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(failed)
}

/// What kubectl would have told.
fn kubeconfig(error: &InferConfigError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), chain)
}

/// An error with the causes that its own text leaves out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
