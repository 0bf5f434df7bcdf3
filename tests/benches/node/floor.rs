//! What no driver could leave out: a do-nothing driver's call, a key, the call to the CA, and the
//! look at what it answers. All of it without a thought for failures, restarts or quotas.
use std::{fs, sync::Arc, time::Duration};

use certagent::{
    cas::{CasClient, Endpoint},
    google::{Caller, Identity},
    keys::{self, Keys},
};
use certagent_core::{
    algorithm::KeyAlgorithm,
    config::{CertificatePolicy, TrustAnchor, TrustPolicy},
    issued::IssuedChain,
    plan::{self, IssuePlan},
    request::{PreparedRequest, RequestForm},
};
use certagent_csi::api::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest,
    NodeGetInfoResponse, NodePublishVolumeRequest, NodePublishVolumeResponse,
    NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    node_server::{Node, NodeServer},
};
use certagent_svid::{Certificate, PrivateKey, SpiffeId, TrustBundle, TrustDomain};
use certagent_tests::{LOCATION, Lab, PROJECT, TRUST_DOMAIN, kubelet::Pod};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tokio::{net::UnixListener, task::block_in_place};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, async_trait, transport::Server};

use crate::{Place, kubelet::Kubelet};

/// All that the floor is made of. Clones share it.
#[derive(Clone)]
pub(crate) struct Floor {
    nothing: Kubelet,
    client: CasClient,
    keys: Keys,
    policy: Arc<CertificatePolicy>,
    trust: Arc<TrustPolicy>,
    bundle: Arc<TrustBundle>,
    identity: SpiffeId,
}

impl Floor {
    pub(crate) async fn new(place: &Place, name: &str, algorithm: KeyAlgorithm) -> Self {
        let socket = place.directory(name).join("csi.sock");
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let server = Server::builder().add_service(NodeServer::new(Nothing));
        tokio::spawn(server.serve_with_incoming(listener));
        let domain = TrustDomain::new(TRUST_DOMAIN).unwrap();
        let root = root(place);
        let endpoint = Endpoint::parse(&place.endpoint).unwrap();
        Self {
            nothing: Kubelet::connect(&socket).await.unwrap(),
            client: CasClient::new(&endpoint, Identity::Anonymous).unwrap(),
            keys: Keys::default(),
            policy: Arc::new(CertificatePolicy {
                pools: vec![Lab::pool("issuing-pool").parse().unwrap()],
                algorithm,
                validity: Duration::from_secs(86_400),
                rotation_window_percentage: 50,
            }),
            trust: Arc::new(TrustPolicy {
                stores: [(domain.clone(), vec![TrustAnchor::Pem(root.clone())])].into(),
            }),
            identity: plan::workload_id(&domain, "default", "web").unwrap(),
            bundle: Arc::new(TrustBundle::new(domain, [root])),
        }
    }

    /// One volume, one certificate.
    pub(crate) async fn publish(&self, pod: &Pod) {
        self.mount(pod).await;
        let key = self.keys.generate(self.policy.algorithm).await.unwrap();
        self.buy(&key).await;
    }

    /// A volume with nothing in it.
    pub(crate) async fn mount(&self, pod: &Pod) {
        self.nothing.publish(pod).await;
    }

    /// A certificate for a key.
    pub(crate) async fn buy(&self, key: &PrivateKey) -> IssuedChain {
        let plan = IssuePlan::new(&self.policy, &self.trust, self.identity.clone()).unwrap();
        let csr = keys::csr_pem(&plan, key).unwrap();
        let request = PreparedRequest::new(
            plan,
            self.policy.pools[0].clone(),
            RequestForm::Config,
            key.public_key(),
            &csr,
            certagent_emulator::system_clock()(),
        );
        let raw = self.client.create(&request, &Caller::Agent).await.unwrap();
        IssuedChain::check(
            &raw,
            key.public_key(),
            &request.plan,
            &self.bundle,
            webpki::ALL_VERIFICATION_ALGS,
            certagent_emulator::system_clock()(),
        )
        .unwrap()
    }

    pub(crate) async fn unpublish(&self, pod: &Pod) {
        self.nothing.unpublish(pod).await;
    }
}

/// The root of the guide's pools.
fn root(place: &Place) -> Certificate {
    let name = format!("projects/{PROJECT}/locations/{LOCATION}/caPools/root-pool");
    let chains = place.emulator.fetch_ca_certs(&name).unwrap().ca_certs;
    let pem = chains[0].certificates.last().unwrap();
    let mut certificates = Certificate::parse_pem_list(pem.as_bytes()).unwrap();
    certificates.remove(0)
}

/// A driver that mounts an empty volume and knows nothing.
struct Nothing;

#[async_trait]
impl Node for Nothing {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let target = request.into_inner().target_path;
        block_in_place(|| {
            fs::create_dir(&target).unwrap();
            mount(
                "tmpfs",
                &target,
                "tmpfs",
                MountFlags::empty(),
                Some(c"size=1m"),
            )
            .unwrap();
        });
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let target = request.into_inner().target_path;
        block_in_place(|| {
            unmount(&target, UnmountFlags::empty()).unwrap();
            fs::remove_dir(&target).unwrap();
        });
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn node_get_info(
        &self,
        _request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
