//! Calls of kubelet to a driver, as often as it takes.
use std::path::Path;

use certagent_csi::api::{
    InfoRequest, node_client::NodeClient, registration_client::RegistrationClient,
};
use certagent_tests::kubelet::{Pod, connect};
use tonic::{Code, transport::Channel};

use crate::driver::NAME;

/// The first `count` pods of a node.
pub(crate) fn pods(root: &Path, count: usize) -> Vec<Pod> {
    let uid = |number| format!("00000000-0000-0000-0000-{number:012}");
    let pods = (0..count).map(|number| Pod::new(root, NAME, &uid(number)).unwrap());
    pods.collect()
}

/// A connection to a driver.
#[derive(Clone)]
pub(crate) struct Kubelet(NodeClient<Channel>);

impl Kubelet {
    pub(crate) async fn connect(socket: &Path) -> Option<Self> {
        Some(Self(NodeClient::new(connect(socket).await?)))
    }

    /// Asks for the volume until it is there: a call that waits too long ends, and is repeated.
    pub(crate) async fn publish(&self, pod: &Pod) {
        loop {
            let answer = self.0.clone().node_publish_volume(pod.publish(true)).await;
            match answer.map_err(|status| status.code()) {
                Err(Code::DeadlineExceeded) => {}
                answer => {
                    answer.unwrap();
                    return;
                }
            }
        }
    }

    pub(crate) async fn unpublish(&self, pod: &Pod) {
        self.0
            .clone()
            .node_unpublish_volume(pod.unpublish())
            .await
            .unwrap();
    }
}

/// Whether a driver announces itself at this socket.
pub(crate) async fn is_announced(socket: &Path) -> bool {
    let Some(channel) = connect(socket).await else {
        return false;
    };
    let mut client = RegistrationClient::new(channel);
    client.get_info(InfoRequest {}).await.is_ok()
}
