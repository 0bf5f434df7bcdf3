//! An API server that somebody else has started, its clients, and a controller of its own.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use certagent::keys::{Keys, pod_csr_pem};
use certagent_core::{
    algorithm::KeyAlgorithm,
    approval::{POD_NAME, USAGES},
    names::SubjectNames,
    plan::{self, IssuePlan},
    request::SubjectMode,
};
use certagent_svid::{PrivateKey, TrustDomain};
use certagent_tests::TRUST_DOMAIN;
use futures::{StreamExt as _, stream};
use k8s_openapi::{
    ByteString,
    api::{certificates::v1::CertificateSigningRequest, core::v1::Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::{Place, driver::Driver};

/// Says where the kubeconfigs `admin`, `node` and `controller` are.
const CLUSTER: &str = "CERTAGENT_BENCH_CLUSTER";
/// The program that the controller is; the one that is tested, if nothing is said.
const PROGRAM: &str = "CERTAGENT_BENCH_CONTROLLER";
pub(crate) const SIGNER: &str = "spiffe.gke.io/spiffe-leaf-signer";
pub(crate) const DRIVER: &str = "workloadcertificates.security.cloud.google.com";
/// The node whose token is in the kubeconfig `node`; it has no kubelet.
const NODE: &str = "bench-node";
/// Calls of the benchmark to the API server at one moment.
const CALLS: usize = 32;

/// An API server with the objects of `deploy/` and of the guide.
pub(crate) struct Cluster {
    directory: PathBuf,
    state: PathBuf,
    admin: Client,
    /// As the driver of the node.
    node: Client,
    keys: Keys,
}

/// A pod of the node, as the API server has it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Cluster {
    pub(crate) async fn given(place: &Place) -> Self {
        let directory = env::var_os(CLUSTER).map(PathBuf::from);
        let directory = directory.expect("run tests/cluster/bench-controller.sh");
        let client = async |name: &str| {
            let file = directory.join(name);
            certagent::kube::client(Some(&file)).await.unwrap()
        };
        Self {
            state: place.directory("cluster"),
            admin: client("admin").await,
            node: client("node").await,
            keys: Keys::default(),
            directory,
        }
    }

    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts a controller; the first request that is signed says that it works.
    pub(crate) fn start(&self, endpoint: &str, name: &str) -> Driver {
        let tested = PathBuf::from(env!("CARGO_BIN_EXE_certagent-under-test"));
        let program = env::var_os(PROGRAM).map_or(tested, PathBuf::from);
        self.start_of(&program, endpoint, name)
    }

    /// The same with the program that knows how to do without quotas.
    pub(crate) fn start_without_quotas(&self, endpoint: &str, name: &str) -> Driver {
        let program = Path::new(env!("CARGO_BIN_EXE_certagent-under-test"));
        self.start_of(program, endpoint, name)
    }

    fn start_of(&self, program: &Path, endpoint: &str, name: &str) -> Driver {
        let state = self.state.join(name);
        fs::create_dir(&state).unwrap();
        let mut command = Command::new(program);
        command
            .args(["controller", "--trust-domain", TRUST_DOMAIN])
            .args(["--ca-endpoint", endpoint, "--replica", name, "--kubeconfig"])
            .arg(self.kubeconfig("controller"))
            .arg("--state-dir")
            .arg(&state);
        Driver::start(&mut command, &self.directory.join(format!("{name}.log")))
    }

    /// Makes so many pods more, with the volume, whose names begin so.
    pub(crate) async fn pods(&self, name: &str, count: usize) -> Vec<Known> {
        let api = &self.all_pods();
        let made = stream::iter(0..count).map(async |number| {
            let pod = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}-{number}")},
                "spec": {
                    "nodeName": NODE,
                    "serviceAccountName": "web",
                    "automountServiceAccountToken": false,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "none", "image": "none"}],
                    "volumes": [{"name": "certs", "csi": {"driver": DRIVER}}],
                },
            }));
            let pod = api.create(&PostParams::default(), &pod.unwrap()).await;
            let pod = pod.unwrap();
            Known {
                name: pod.name_any(),
                uid: pod.uid().unwrap(),
            }
        });
        made.buffered(CALLS).collect().await
    }

    /// A request as the driver makes it.
    pub(crate) async fn request(
        &self,
        pod: &Known,
        signer: &str,
    ) -> (PrivateKey, CertificateSigningRequest) {
        let domain = TrustDomain::new(TRUST_DOMAIN).unwrap();
        let plan = IssuePlan {
            spiffe_id: plan::workload_id(&domain, "default", "web").unwrap(),
            algorithm: KeyAlgorithm::EcdsaP256,
            validity: Duration::from_secs(86_400),
            rotation_window_percentage: 50,
            subject_mode: SubjectMode::Default,
            names: SubjectNames::default(),
        };
        let key = self.keys.generate(plan.algorithm).await.unwrap();
        let pem = pod_csr_pem(&plan, &key, &pod.uid).unwrap();
        let request = serde_json::from_value(json!({
            "metadata": {"generateName": "bench-", "annotations": {POD_NAME: pod.name}},
            "spec": {"request": ByteString(pem.into_bytes()), "signerName": signer, "usages": USAGES},
        }));
        (key, request.unwrap())
    }

    /// The requests, as the driver may make them.
    pub(crate) fn csrs(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.node.clone())
    }

    /// All requests, as whoever may list them has them.
    pub(crate) fn all_csrs(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.admin.clone())
    }

    pub(crate) fn all_pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), "default")
    }

    /// Nothing of an earlier part is left.
    pub(crate) async fn clear(&self) {
        let all = ListParams::default();
        let now = DeleteParams::default().grace_period(0);
        drop(self.all_pods().delete_collection(&now, &all).await.unwrap());
        let csrs = self.all_csrs();
        drop(csrs.delete_collection(&now, &all).await.unwrap());
        let start = Instant::now();
        while !csrs.list(&all).await.unwrap().items.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "requests stay");
        }
    }
}
