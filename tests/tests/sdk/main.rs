//! Google's Rust SDK of CA Service, unpatched, against the emulator: it sends enums as integers.
#![expect(
    clippy::large_futures,
    clippy::unwrap_used,
    reason = "all of it is a test, where a panic is how one fails, and the SDK's futures are as large as they are"
)]
use std::sync::Arc;

use certagent_emulator::{Emulator, EmulatorConfig, system_clock};
use certagent_tests::serve;
use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::{error::rpc::Code, paginator::ItemPaginator as _};
use google_cloud_lro::Poller as _;
use google_cloud_security_privateca_v1::{
    client::CertificateAuthorityService as Client,
    model::{
        CaPool, Certificate, CertificateAuthority, CertificateConfig, KeyUsage, PublicKey, Subject,
        SubjectAltNames, SubordinateConfig, X509Parameters,
        ca_pool::Tier,
        certificate_authority::{KeyVersionSpec, SignHashAlgorithm, State, Type},
        certificate_config::SubjectConfig,
        key_usage::{ExtendedKeyUsageOptions, KeyUsageOptions},
        public_key::KeyFormat,
        subordinate_config::SubordinateConfigChain,
        x_509_parameters::CaOptions,
    },
};
use google_cloud_wkt::Duration;
use tokio_util::sync::CancellationToken;

const PARENT: &str = "projects/sdk-project/locations/us-central1";
const SPIFFE_ID: &str = "spiffe://sdk-project.svc.id.goog/ns/default/sa/server";

struct Bench {
    client: Client,
    _stop: tokio_util::sync::DropGuard,
}

impl Bench {
    async fn new() -> Self {
        // The SDK takes the process's TLS provider, also where no TLS is spoken.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let nothing = EmulatorConfig::default();
        let emulator = Emulator::new(nothing, system_clock(), None).unwrap();
        let stop = CancellationToken::new();
        let endpoint = serve(&Arc::clone(&emulator), "127.0.0.1:0", &stop).await;
        let client = Client::builder()
            .with_endpoint(endpoint)
            .with_credentials(anonymous::Builder::new().build())
            .build()
            .await
            .unwrap();
        Self {
            client,
            _stop: stop.drop_guard(),
        }
    }

    async fn pool(&self, id: &str, tier: Tier) -> CaPool {
        let create = self
            .client
            .create_ca_pool()
            .set_parent(PARENT)
            .set_ca_pool_id(id);
        let create = create.set_ca_pool(CaPool::new().set_tier(tier));
        create.poller().until_done().await.unwrap()
    }

    async fn authority(
        &self,
        pool: &CaPool,
        id: &str,
        kind: Type,
        depth: i32,
    ) -> CertificateAuthority {
        let usage = KeyUsageOptions::new()
            .set_cert_sign(true)
            .set_crl_sign(true);
        let x509 = X509Parameters::new()
            .set_key_usage(KeyUsage::new().set_base_key_usage(usage))
            .set_ca_options(
                CaOptions::new()
                    .set_is_ca(true)
                    .set_max_issuer_path_length(depth),
            );
        let subject = SubjectConfig::new().set_subject(Subject::new().set_common_name(id));
        let config = CertificateConfig::new()
            .set_subject_config(subject)
            .set_x509_config(x509);
        let spec = KeyVersionSpec::new().set_algorithm(SignHashAlgorithm::EcP256Sha256);
        let authority = CertificateAuthority::new()
            .set_type(kind)
            .set_config(config)
            .set_lifetime(Duration::clamp(86_400 * 365, 0))
            .set_key_spec(spec);
        let create = self
            .client
            .create_certificate_authority()
            .set_parent(&pool.name);
        let create = create
            .set_certificate_authority_id(id)
            .set_certificate_authority(authority);
        create.poller().until_done().await.unwrap()
    }

    async fn enable(&self, authority: &CertificateAuthority) -> CertificateAuthority {
        let enable = self
            .client
            .enable_certificate_authority()
            .set_name(&authority.name);
        enable.poller().until_done().await.unwrap()
    }
}

fn leaf() -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let names = SubjectAltNames::new().set_uris([SPIFFE_ID]);
    let subject = SubjectConfig::new()
        .set_subject(Subject::new())
        .set_subject_alt_name(names);
    let both = ExtendedKeyUsageOptions::new()
        .set_server_auth(true)
        .set_client_auth(true);
    let usage = KeyUsage::new()
        .set_base_key_usage(KeyUsageOptions::new().set_digital_signature(true))
        .set_extended_key_usage(both);
    let public = PublicKey::new()
        .set_key(key.public_key_pem().into_bytes())
        .set_format(KeyFormat::Pem);
    let config = CertificateConfig::new()
        .set_subject_config(subject)
        .set_x509_config(X509Parameters::new().set_key_usage(usage))
        .set_public_key(public);
    Certificate::new()
        .set_lifetime(Duration::clamp(86_400, 0))
        .set_config(config)
}

#[tokio::test]
async fn googles_rust_sdk_sets_up_pools_and_issues_from_them() {
    let bench = Bench::new().await;
    let root_pool = bench.pool("root-pool", Tier::Enterprise).await;
    let issuing_pool = bench.pool("issuing-pool", Tier::Devops).await;
    assert_eq!(root_pool.tier, Tier::Enterprise);
    assert_eq!(issuing_pool.tier, Tier::Devops);

    let root = bench
        .authority(&root_pool, "root-ca", Type::SelfSigned, 1)
        .await;
    assert_eq!(root.state, State::Staged);
    let root = bench.enable(&root).await;
    assert_eq!(root.state, State::Enabled);

    let client = &bench.client;
    let issuing = bench
        .authority(&issuing_pool, "sub-ca", Type::Subordinate, 0)
        .await;
    assert_eq!(issuing.state, State::AwaitingUserActivation);
    let csr = client
        .fetch_certificate_authority_csr()
        .set_name(&issuing.name)
        .send()
        .await
        .unwrap();
    let order = Certificate::new()
        .set_lifetime(Duration::clamp(86_400 * 300, 0))
        .set_pem_csr(csr.pem_csr);
    let create = client.create_certificate().set_parent(&root_pool.name);
    let signed = create
        .set_certificate_id("sub-ca")
        .set_certificate(order)
        .send()
        .await
        .unwrap();
    let chain = SubordinateConfigChain::new().set_pem_certificates(signed.pem_certificate_chain);
    let activate = client
        .activate_certificate_authority()
        .set_name(&issuing.name)
        .set_pem_ca_certificate(signed.pem_certificate)
        .set_subordinate_config(SubordinateConfig::new().set_pem_issuer_chain(chain));
    assert_eq!(
        activate.poller().until_done().await.unwrap().state,
        State::Staged
    );
    bench.enable(&issuing).await;

    let mut listed = Vec::new();
    let list = client
        .list_certificate_authorities()
        .set_parent(format!("{PARENT}/caPools/-"));
    let mut list = list.set_page_size(1).by_item();
    while let Some(found) = list.next().await {
        listed.push(found.unwrap().state);
    }
    assert_eq!(listed, [State::Enabled, State::Enabled]);

    let create = client.create_certificate().set_parent(&issuing_pool.name);
    let leaf = create
        .set_certificate_id("leaf")
        .set_certificate(leaf())
        .send()
        .await
        .unwrap();
    assert_eq!(leaf.pem_certificate_chain.len(), 2);
    let described = leaf
        .certificate_description
        .unwrap()
        .subject_description
        .unwrap();
    assert_eq!(described.subject_alt_name.unwrap().uris, [SPIFFE_ID]);

    let chains = client
        .fetch_ca_certs()
        .set_ca_pool(&issuing_pool.name)
        .send()
        .await
        .unwrap();
    assert_eq!(chains.ca_certs.len(), 1);
    assert_eq!(
        chains.ca_certs[0].certificates.last(),
        root.pem_ca_certificates.first()
    );
}

#[tokio::test]
async fn googles_rust_sdk_keeps_finds_and_is_refused_certificates() {
    let bench = Bench::new().await;
    let pool = bench.pool("root-pool", Tier::Enterprise).await;
    let root = bench.authority(&pool, "root-ca", Type::SelfSigned, 0).await;
    let client = &bench.client;
    let issue = |id: &str| {
        let create = client.create_certificate().set_parent(&pool.name);
        create.set_certificate_id(id).set_certificate(leaf())
    };

    let early = issue("early").send().await.unwrap_err();
    assert_eq!(
        early.status().unwrap().code,
        Code::FailedPrecondition,
        "{early}"
    );
    bench.enable(&root).await;
    let first = issue("kept").send().await.unwrap();
    let again = issue("kept").send().await.unwrap_err();
    assert_eq!(again.status().unwrap().code, Code::AlreadyExists, "{again}");
    let got = client
        .get_certificate()
        .set_name(&first.name)
        .send()
        .await
        .unwrap();
    assert_eq!(got.pem_certificate, first.pem_certificate);
    let list = client
        .list_certificates()
        .set_parent(&pool.name)
        .send()
        .await
        .unwrap();
    assert_eq!(list.certificates.len(), 1);

    let nowhere = client
        .get_ca_pool()
        .set_name(format!("{PARENT}/caPools/nowhere"));
    let nowhere = nowhere.send().await.unwrap_err();
    assert_eq!(nowhere.status().unwrap().code, Code::NotFound, "{nowhere}");
    let without_lifetime = leaf().set_or_clear_lifetime(None::<Duration>);
    let create = client
        .create_certificate()
        .set_parent(&pool.name)
        .set_certificate_id("x");
    let refused = create
        .set_certificate(without_lifetime)
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        refused.status().unwrap().code,
        Code::InvalidArgument,
        "{refused}"
    );
}
