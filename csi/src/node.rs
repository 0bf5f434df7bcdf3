//! CSI's Node service: thin, so that what a call does stands in `volumes`.
use std::{path::PathBuf, sync::Arc};

use tonic::{Request, Response, Status, async_trait};
use tracing::warn;

use crate::{
    api::{
        NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest,
        NodeGetInfoResponse, NodePublishVolumeRequest, NodePublishVolumeResponse,
        NodeServiceCapability, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, Rpc,
        VOLUME_MOUNT_GROUP, node_server::Node,
    },
    content::{VolumeContent, VolumeId},
    request,
    status::CallError,
    volumes::Volumes,
};

pub(crate) struct NodeService<C> {
    pub(crate) volumes: Arc<Volumes<C>>,
    pub(crate) node_id: String,
}

#[async_trait]
impl<C: VolumeContent> Node for NodeService<C> {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let volumes = &self.volumes;
        volumes.check_caller()?;
        let places = &volumes.settings.places;
        let request = request.into_inner();
        let id = VolumeId::new(&request.volume_id);
        let target = PathBuf::from(&request.target_path);
        match request::publish(request, places, volumes.settings.any_caller) {
            Ok(publish) => volumes.publish(publish).await?,
            // Kubelet may take a volume away from a running pod when told of an error.
            Err(reason) => match id {
                Some(id) if volumes.is_bound(&id, &target)? => {
                    warn!(volume = %id, reason, "this call brings nothing new; the pod keeps what it has");
                }
                _ => return Err(CallError::Invalid(reason).into()),
            },
        }
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let volumes = &self.volumes;
        let NodeUnpublishVolumeRequest {
            volume_id,
            target_path,
        } = request.into_inner();
        let settings = &volumes.settings;
        let unpublish = request::unpublish(
            &volume_id,
            &target_path,
            &settings.places,
            settings.any_caller,
        )
        .map_err(CallError::Invalid)?;
        volumes.unpublish(unpublish).await?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let rpc = Rpc {
            r#type: VOLUME_MOUNT_GROUP,
        };
        Ok(Response::new(NodeGetCapabilitiesResponse {
            capabilities: vec![NodeServiceCapability { rpc: Some(rpc) }],
        }))
    }

    async fn node_get_info(
        &self,
        _request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let node_id = self.node_id.clone();
        Ok(Response::new(NodeGetInfoResponse { node_id }))
    }
}
