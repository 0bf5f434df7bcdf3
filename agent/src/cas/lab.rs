//! For tests: the emulator on a port of its own, and requests for it.
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use certagent_core::{
    algorithm::KeyAlgorithm,
    names::SubjectNames,
    plan::IssuePlan,
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm, SubjectMode},
};
use certagent_emulator::{
    ApiError, Code, Emulator, EmulatorConfig, Fault, FaultRule, ISSUING_POOL_ID, IssuancePolicy,
    PoolName, ROOT_POOL_ID,
};
use certagent_svid::{Certificate, SpiffeId, TrustDomain};
use jiff::{SignedDuration, Timestamp};
use rcgen::PublicKeyData as _;
use tokio::net::TcpListener;

use super::{CasClient, Endpoint, Roots, transport::Timeouts};
use crate::google::Identity;

const PROJECT: &str = "demo-project";
const LOCATION: &str = "us-central1";

/// An emulator that serves on loopback until the test ends.
pub(crate) struct Lab {
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) endpoint: Endpoint,
    pub(crate) client: CasClient,
    /// Seconds that have passed for the CA.
    passed: Arc<AtomicI64>,
}

impl Lab {
    /// The guide's two pools.
    pub(crate) async fn start() -> Self {
        Self::with(EmulatorConfig::guide(PROJECT, LOCATION).unwrap()).await
    }

    /// The guide's two pools with another policy for the issuing one.
    pub(crate) async fn with_policy(policy: IssuancePolicy) -> Self {
        let mut config = EmulatorConfig::guide(PROJECT, LOCATION).unwrap();
        config.pools[1].issuance_policy = policy;
        Self::with(config).await
    }

    /// The guide's two pools and `other-pool`, which has a root of its own.
    pub(crate) async fn with_other_root() -> Self {
        let mut config = EmulatorConfig::guide(PROJECT, LOCATION).unwrap();
        let mut other = config.pools[0].clone();
        other.name = PoolName::new(PROJECT, LOCATION, "other-pool").unwrap();
        other.ca.common_name = "another root CA".to_owned();
        config.pools.push(other);
        Self::with(config).await
    }

    async fn with(config: EmulatorConfig) -> Self {
        let passed = Arc::<AtomicI64>::default();
        let seconds = Arc::clone(&passed);
        let clock =
            Arc::new(move || now() + SignedDuration::from_secs(seconds.load(Ordering::Relaxed)));
        let emulator = Emulator::new(config, clock, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let endpoint = Endpoint::parse(&endpoint).unwrap();
        let served = Arc::clone(&emulator);
        tokio::spawn(certagent_emulator::serve(
            served,
            listener,
            std::future::pending(),
        ));
        let client = CasClient::new(&endpoint, Identity::Anonymous).unwrap();
        Self {
            emulator,
            endpoint,
            client,
            passed,
        }
    }

    /// For the CA, too, it is that time.
    pub(crate) fn set_time(&self, time: Timestamp) {
        let passed = time.duration_since(now()).as_secs();
        self.passed.store(passed, Ordering::Relaxed);
    }

    /// Every request of any kind meets this fault from now on.
    pub(crate) fn always(&self, fault: Fault) {
        self.emulator.set_faults(vec![FaultRule::always(fault)]);
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.emulator.set_faults(Vec::new());
    }

    /// The root certificate of the pool with this id.
    pub(crate) fn root(&self, id: &str) -> Certificate {
        let answer = self
            .emulator
            .fetch_ca_certs(&pool(id).resource_name())
            .unwrap();
        let pem = answer.ca_certs[0].certificates.last().unwrap();
        Certificate::parse_pem_list(pem.as_bytes())
            .unwrap()
            .remove(0)
    }
}

/// A client whose calls give up early.
pub(crate) fn impatient(endpoint: &Endpoint) -> CasClient {
    let attempt = Duration::from_millis(50);
    CasClient::trusting(
        endpoint,
        &Roots::none(),
        Identity::Anonymous,
        Timeouts {
            connect: Duration::from_secs(5),
            attempt,
        },
    )
    .unwrap()
}

/// A moment in time, the same for everybody.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

pub(crate) fn pool(id: &str) -> CaPoolName {
    format!("//privateca.googleapis.com/projects/{PROJECT}/locations/{LOCATION}/caPools/{id}")
        .parse()
        .unwrap()
}

pub(crate) fn issuing() -> CaPoolName {
    pool(ISSUING_POOL_ID)
}

pub(crate) fn enterprise() -> CaPoolName {
    pool(ROOT_POOL_ID)
}

pub(crate) fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

pub(crate) fn plan() -> IssuePlan {
    IssuePlan {
        spiffe_id: SpiffeId::new("spiffe://demo.svc.id.goog/ns/default/sa/web").unwrap(),
        algorithm: KeyAlgorithm::EcdsaP256,
        validity: Duration::from_secs(3600),
        rotation_window_percentage: 50,
        subject_mode: SubjectMode::Default,
        names: SubjectNames::default(),
    }
}

/// A request for a new key, and the key's `SubjectPublicKeyInfo`.
pub(crate) fn request(pool: CaPoolName, form: RequestForm) -> (PreparedRequest, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let spki = key.subject_public_key_info();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let csr = csr.pem().unwrap();
    (
        PreparedRequest::new(plan(), pool, form, &spki, &csr, now()),
        spki,
    )
}

pub(crate) fn refusal(code: Code, message: &str) -> Fault {
    Fault::error(ApiError::new(code, message))
}

/// A caller without `privateca.caPools.get`.
pub(crate) fn may_not_look() -> Fault {
    let resource = issuing().resource_name();
    Fault::error(ApiError::permission_denied(
        "privateca.caPools.get",
        &resource,
    ))
}
