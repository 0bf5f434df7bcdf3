//! How the API server is reached.
use std::path::{Path, PathBuf};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Why no client can be made. Whether the API server answers shows later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The file that was named is of no use.
    #[error("--kubeconfig: {path}: {reason}; name a file that kubectl can use")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Nothing says where a cluster is.
    #[error(
        "there is no cluster: this is no pod with a service account, and neither --kubeconfig nor KUBECONFIG names a file ({0})"
    )]
    NoCluster(String),
    /// The client itself.
    #[error("no client for the API server can be made: {0}")]
    Client(String),
}

/// A client by the file, or else as kubectl finds its cluster: a pod's service account, or
/// `KUBECONFIG`.
///
/// # Errors
/// When nothing says where the API server is. It is not asked yet.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, ClientError> {
    let config = match kubeconfig {
        Some(path) => of_file(path).await?,
        None => Config::infer()
            .await
            .map_err(|error| ClientError::NoCluster(error.to_string()))?,
    };
    Client::try_from(config).map_err(|error| ClientError::Client(error.to_string()))
}

async fn of_file(path: &Path) -> Result<Config, ClientError> {
    let failed = |reason: String| ClientError::Kubeconfig {
        path: path.to_owned(),
        reason,
    };
    let file = Kubeconfig::read_from(path).map_err(|error| failed(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    config.map_err(|error| failed(error.to_string()))
}
