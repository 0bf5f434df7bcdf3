//! How a driver makes itself known to kubelet, without a sidecar.
use std::{path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::watch, time::timeout};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Channel, Endpoint, Uri},
};
use tracing::{error, info};

use crate::api::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_client::RegistrationClient, registration_server::Registration as Service,
};

/// Kubelet itself waits this long for the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What kubelet made of the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// It has not asked yet.
    #[default]
    Waiting,
    /// It has registered the driver.
    Registered,
    /// It refuses.
    Refused(String),
}

pub(crate) struct RegistrationService {
    pub(crate) info: PluginInfo,
    pub(crate) state: watch::Sender<Registration>,
}

#[async_trait]
impl Service for RegistrationService {
    async fn get_info(
        &self,
        _request: Request<InfoRequest>,
    ) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        let registration = if status.plugin_registered {
            info!(driver = self.info.name, "kubelet has registered the driver");
            Registration::Registered
        } else {
            error!(
                driver = self.info.name,
                reason = status.error,
                "kubelet refuses the driver"
            );
            Registration::Refused(status.error)
        };
        self.state.send_replace(registration);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

/// Who announces itself at this socket; none if nobody answers.
pub(crate) async fn ask(socket: &Path) -> Option<PluginInfo> {
    let ask = async {
        let channel = connect(socket).await?;
        let answer = RegistrationClient::new(channel)
            .get_info(InfoRequest {})
            .await;
        answer.ok().map(Response::into_inner)
    };
    timeout(PATIENCE, ask).await.ok().flatten()
}

/// A channel over a socket in the file system.
pub(crate) async fn connect(socket: &Path) -> Option<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .ok()
}
