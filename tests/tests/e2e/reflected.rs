//! `--identity reflected`: each workload's certificate is asked for with its own token, and CA
//! Service takes the name from it.
use std::{fs, path::PathBuf};

use certagent::{
    config::ConfigFiles,
    google::{ExchangeOptions, IdentityChoice, Impersonate},
    run::agent::{AgentOptions, RunningAgent},
};
use certagent_core::{config::Settings, request::SubjectMode};
use certagent_emulator::{IdentityConfig, Method};
use certagent_tests::{Lab, Policy, TRUST_DOMAIN, all_ready, until, workload};
use serde_json::{Value, json};

use crate::{
    issuer::{ISSUER, Issuer},
    support::{abandoned, balanced, configured, failed, guide_and, heal, renew, sold},
};

const AUDIENCE: &str = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/mesh/providers/cluster";
const WORKLOADS: &str =
    "principalSet://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/mesh/*";
const READER: &str = "reader@demo-project.iam.gserviceaccount.com";
const REQUESTER_ROLE: &str = "roles/privateca.workloadCertificateRequester";
const READER_ROLE: &str = "roles/privateca.poolReader";

/// A laboratory whose CA knows its callers.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    issuer: Issuer,
}

impl Cluster {
    /// One in which workloads may do all that they need.
    pub(crate) async fn new() -> Self {
        Self::with(&[(REQUESTER_ROLE, WORKLOADS), (READER_ROLE, WORKLOADS)]).await
    }

    async fn with(bindings: &[(&str, &str)]) -> Self {
        let issuer = Issuer::new();
        let bindings: Vec<_> = bindings
            .iter()
            .map(|(role, member)| json!({ "role": role, "members": [member] }))
            .collect();
        let identities: IdentityConfig = serde_json::from_value(json!({
            "serviceAccounts": [{ "email": READER, "impersonators": [WORKLOADS] }],
            "providers": [{
                "audience": AUDIENCE, "issuer": ISSUER, "jwks": issuer.jwks(),
                "trustDomain": TRUST_DOMAIN,
            }],
            "bindings": bindings,
            "tokenLifetimeSeconds": 600,
        }))
        .unwrap();
        let lab = Lab::with(guide_and([]).with_identities(identities)).await;
        lab.write_policy(&Policy {
            validity: 6 * 3600,
            ..Policy::default()
        });
        Self { lab, issuer }
    }

    fn token_file(&self, name: &str) -> PathBuf {
        self.lab.path().join(format!("token-{name}"))
    }

    /// Writes a fresh token of a service account.
    fn write_token(&self, name: &str, account: &str) {
        let now = self.lab.now().as_second();
        let token = self.issuer.sign(&json!({
            "iss": ISSUER, "sub": format!("system:serviceaccount:default:{account}"),
            "aud": [AUDIENCE], "iat": now, "exp": now + 20 * 3600,
        }));
        fs::write(self.token_file(name), token).unwrap();
    }

    /// Writes a `Workload` with the token in this file, and makes its volume.
    fn write_workload(&self, name: &str, token: &str) {
        let volume = self.lab.volume(name);
        fs::create_dir_all(&volume).unwrap();
        let token = format!(
            "  tokenFile: {}\n  volume:",
            self.token_file(token).display()
        );
        let document = workload(name, &volume).replace("  volume:", &token);
        let file = format!("workload-{name}.yaml");
        self.lab.write_config(&file, &document);
    }

    pub(crate) fn workload(&self, name: &str) {
        self.write_token(name, name);
        self.write_workload(name, name);
    }

    pub(crate) async fn start(&self, impersonate: Option<&str>) -> RunningAgent {
        let options = self.lab.options();
        let settings = Settings {
            subject_mode: Some(SubjectMode::ReflectedSpiffe),
            ..self.lab.settings()
        };
        let exchange = ExchangeOptions {
            sts: options.endpoint.clone(),
            audience: AUDIENCE.parse().unwrap(),
            impersonate: impersonate.map(|account| Impersonate {
                account: account.parse().unwrap(),
                iamcredentials: options.endpoint.clone(),
            }),
        };
        let options = AgentOptions {
            config: ConfigFiles::new(vec![self.lab.config_dir()], settings),
            identity: IdentityChoice::Reflected(exchange.into()),
            ..options
        };
        self.lab.agent_with(options).await
    }

    pub(crate) async fn supplied(&self, names: &[&str]) -> RunningAgent {
        for name in names {
            self.workload(name);
        }
        let agent = self.start(None).await;
        until(&agent, all_ready).await;
        agent
    }

    fn exchanges(&self) -> u64 {
        self.lab.emulator.stats().requests(Method::ExchangeToken)
    }

    #[track_caller]
    fn has_its_own(&self, name: &str) {
        let id = format!("spiffe://{TRUST_DOMAIN}/ns/default/sa/{name}");
        assert_eq!(self.lab.read(name).spiffe_id().to_string(), id);
    }
}

#[tokio::test]
async fn each_workload_gets_its_certificate_by_its_own_token_and_names_nothing_itself() {
    let cluster = Cluster::new().await;
    let agent = cluster.supplied(&["a", "b"]).await;
    cluster.has_its_own("a");
    cluster.has_its_own("b");
    // One exchange for each workload serves all the calls.
    assert_eq!(cluster.exchanges(), 2);
    renew(&cluster.lab, &agent).await;
    cluster.has_its_own("a");

    let requests = cluster.lab.emulator.create_requests();
    assert!(requests.len() >= 3, "two first ones and a renewal");
    for request in requests {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["subjectMode"], "REFLECTED_SPIFFE");
        let names = json!({ "subject": {}, "subjectAltName": {} });
        assert_eq!(body["config"]["subjectConfig"], names);
    }
    agent.stop().await;
}

#[tokio::test]
async fn the_token_of_another_service_account_is_told_with_both_names_and_corrected_while_running()
{
    let cluster = Cluster::new().await;
    cluster.workload("a");
    cluster.write_token("a", "till");
    let agent = cluster.start(None).await;
    failed(
        &agent,
        "the token is of namespace \"default\" and service account \"till\", not of \
         spiffe://demo-project.svc.id.goog/ns/default/sa/a: let tokenFile name",
    )
    .await;
    // Nothing was bought to find that out.
    assert_eq!((sold(&cluster.lab), abandoned(&agent).await), (0, 0));

    cluster.write_token("a", "a");
    heal(&cluster.lab, &agent).await;
    cluster.has_its_own("a");
    balanced(&cluster.lab, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_workload_that_may_not_ask_for_itself_is_told_the_permission_and_the_role() {
    let cluster = Cluster::with(&[(READER_ROLE, WORKLOADS)]).await;
    cluster.workload("a");
    let agent = cluster.start(None).await;
    failed(
        &agent,
        "lacks privateca.certificates.createForSelf: grant it \
         roles/privateca.workloadCertificateRequester on the pool",
    )
    .await;
    assert_eq!(sold(&cluster.lab), 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_token_file_that_is_corrected_in_the_configuration_counts_without_a_restart() {
    let cluster = Cluster::new().await;
    // Whose token serves to look at the pools.
    cluster.workload("b");
    cluster.write_workload("a", "none");
    let agent = cluster.start(None).await;
    let missing = cluster.token_file("none");
    failed(
        &agent,
        &format!("the token file {}: no such file", missing.display()),
    )
    .await;

    cluster.workload("a");
    let file = cluster.token_file("a").display().to_string();
    configured(&agent, |active| {
        active.config.workloads[0].token_file.as_ref() == Some(&file)
    })
    .await;
    until(&agent, all_ready).await;
    cluster.has_its_own("a");
    agent.stop().await;
}

#[tokio::test]
async fn a_service_account_may_look_at_the_pools_while_workloads_only_ask_for_themselves() {
    let reader = format!("serviceAccount:{READER}");
    let cluster = Cluster::with(&[(REQUESTER_ROLE, WORKLOADS), (READER_ROLE, &reader)]).await;
    cluster.workload("a");
    let agent = cluster.start(Some(READER)).await;
    until(&agent, all_ready).await;
    cluster.has_its_own("a");
    agent.stop().await;
}

#[tokio::test]
async fn without_anybody_who_may_look_at_the_pools_nothing_is_asked_for_and_the_role_is_named() {
    let cluster = Cluster::with(&[(REQUESTER_ROLE, WORKLOADS)]).await;
    cluster.workload("a");
    let agent = cluster.start(None).await;
    failed(&agent, "grant it roles/privateca.poolReader on the pool").await;
    assert_eq!(sold(&cluster.lab), 0);
    agent.stop().await;
}
