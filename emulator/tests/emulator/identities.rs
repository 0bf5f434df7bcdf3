//! Callers over HTTP: tokens in, permissions and SPIFFE IDs out.

use std::sync::OnceLock;

use certagent_emulator::{
    ApiError, Code, EmulatorConfig, Fault, FaultRule, IdentityConfig, Method,
};
use jiff::SignedDuration;
use rcgen::CertificateParams;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::issuer::{Issuer, merged};
use crate::support::*;

const AUDIENCE: &str = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/mesh/providers/cluster";
const POOL: &str =
    "principal://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/mesh";
const SET: &str =
    "principalSet://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/mesh/*";
const AGENT: &str = "agent@p.iam.gserviceaccount.com";
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The token of an administrator.
pub(crate) const ADMIN: &str = "a-made-up-admin-token";

fn cluster() -> &'static Issuer {
    static CLUSTER: OnceLock<Issuer> = OnceLock::new();
    CLUSTER.get_or_init(|| Issuer::rsa("cluster-1"))
}

fn identities() -> IdentityConfig {
    let config = json!({
        "users": [{ "email": "admin@example.com", "accessToken": ADMIN }],
        "administrators": ["user:admin@example.com"],
        "serviceAccounts": [{ "email": AGENT, "impersonators": [SET] }],
        "providers": [{
            "audience": AUDIENCE, "issuer": "https://cluster.example", "jwks": cluster().jwks(),
            "trustDomain": "example.org",
        }],
        "metadataServer": { "serviceAccount": AGENT, "projectId": "p", "numericProjectId": 123 },
        "tokenLifetimeSeconds": 600,
        "bindings": [
            {
                "role": "roles/privateca.certificateRequester",
                "members": [format!("serviceAccount:{AGENT}")],
            },
            { "role": "roles/privateca.workloadCertificateRequester", "members": [SET] },
        ],
    });
    serde_json::from_value(config).unwrap()
}

pub(crate) fn closed() -> EmulatorConfig {
    guide().with_identities(identities())
}

/// A Kubernetes service account's token, as its API server makes one at the clock's time.
fn workload_token(server: &Server) -> String {
    let now = server.clock.now().as_second();
    cluster().sign(&json!({
        "iss": "https://cluster.example", "sub": "system:serviceaccount:shop:cart",
        "aud": [AUDIENCE], "iat": now, "exp": now + 3600,
    }))
}

async fn exchange(server: &Server, token: &str) -> Response {
    http1()
        .post(server.root("/v1/token"))
        .json(&json!({
            "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": AUDIENCE,
            "scope": CLOUD_PLATFORM,
            "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
            "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
            "subjectToken": token,
        }))
        .send()
        .await
        .unwrap()
}

async fn federated(server: &Server) -> String {
    let answer = exchange(server, &workload_token(server)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let answer: Value = answer.json().await.unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn metadata(server: &Server, path: &str) -> Response {
    let request = http1()
        .get(server.root(path))
        .header("Metadata-Flavor", "Google");
    request.send().await.unwrap()
}

async fn machine(server: &Server) -> String {
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let answer: Value = metadata(server, path).await.json().await.unwrap();
    assert_eq!(answer["token_type"], "Bearer");
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Status and body of a call with `token`.
pub(crate) async fn call(request: RequestBuilder, token: &str) -> (StatusCode, Value) {
    let answer = request.bearer_auth(token).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

fn create(server: &Server, n: u32, body: &Value) -> RequestBuilder {
    let path = format!("{ISSUING}/certificates?requestId={}", uuid(n));
    http1().post(server.url(&path)).json(body)
}

#[tokio::test]
async fn a_machines_token_buys_certificates_and_nothing_else_until_it_expires() {
    let server = Server::with(closed()).await;
    let token = machine(&server).await;
    let (status, answer) = call(create(&server, 1, &body()), &token).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let names = &answer["certificateDescription"]["subjectDescription"]["subjectAltName"];
    assert_eq!(*names, json!({ "uris": [ID] }));

    let fetch = http1()
        .post(server.url(&format!("{ISSUING}:fetchCaCerts")))
        .json(&json!({}));
    for request in [http1().get(server.url(ISSUING)), fetch] {
        let (status, answer) = call(request, &token).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let error = &answer["error"];
        assert_eq!(error["status"], "PERMISSION_DENIED");
        let expected = json!({ "permission": "privateca.caPools.get", "resource": ISSUING });
        assert_eq!(error["details"][0]["metadata"], expected);
    }
    let (status, _) = call(http1().get(server.url(ISSUING)), ADMIN).await;
    assert_eq!(status, StatusCode::OK);

    server.clock.step(SignedDuration::from_secs(600));
    let (status, answer) = call(create(&server, 2, &body()), &token).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer["error"]["details"][0]["reason"],
        "ACCESS_TOKEN_EXPIRED"
    );
    let fresh = machine(&server).await;
    let (status, _) = call(create(&server, 2, &body()), &fresh).await;
    assert_eq!(status, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn without_a_token_a_call_is_unauthenticated_and_a_path_that_is_none_not_found() {
    let server = Server::with(closed()).await;
    let answer = create(&server, 1, &body()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert_eq!(challenge, "Bearer realm=\"https://accounts.google.com/\"");
    let bad = create(&server, 1, &body()).bearer_auth("fake-token");
    let bad = bad.send().await.unwrap();
    let challenge = bad.headers()["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.ends_with("error=\"invalid_token\""),
        "{challenge}"
    );
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["status"], "UNAUTHENTICATED");
    assert_eq!(server.emulator.stats().total_sold(), 0);
    let answer = http1().get(server.url("nothing")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn a_reflected_certificate_has_the_callers_identity_and_no_name_that_was_asked_for() {
    // The pool passes no names through: the service's own is no name that was asked for.
    let mut config = with_policy(json!({ "identityConstraints": {} }));
    config.identities = identities();
    let server = Server::with(config).await;
    let token = federated(&server).await;
    let reflected = json!({ "subjectMode": "REFLECTED_SPIFFE" });

    let mut asked = merged(body(), reflected.clone());
    let subject = &mut asked["config"]["subjectConfig"];
    subject["subject"] = json!({ "commonName": "root" });
    subject["subjectAltName"] =
        json!({ "uris": ["spiffe://example.org/ns/shop/sa/admin"], "dnsNames": ["x.example"] });
    let mut params = CertificateParams::new(["x.example".to_owned()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "root");
    let csr = params.serialize_request(key()).unwrap().pem().unwrap();
    let by_csr = merged(
        json!({ "lifetime": "60s", "pemCsr": csr }),
        json!({ "subjectMode": 2 }),
    );
    for (n, body) in [(1, &asked), (2, &by_csr)] {
        let (status, answer) = call(create(&server, n, body), &token).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let description = &answer["certificateDescription"]["subjectDescription"];
        assert_eq!(description["subject"], json!({}));
        assert_eq!(description["subjectAltName"], json!({ "uris": [ID] }));
        let text = answer["pemCertificate"].as_str().unwrap();
        let leaf = der(text);
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical);
        assert_eq!(
            format!("{:?}", names.value.general_names),
            format!("[URI({ID:?})]")
        );
    }

    // The one permission does not stand for the other, in neither direction.
    let (status, answer) = call(create(&server, 3, &body()), &token).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let denied = &answer["error"]["details"][0]["metadata"]["permission"];
    assert_eq!(denied, "privateca.certificates.create");
    let machine = machine(&server).await;
    let (status, answer) = call(
        create(&server, 4, &merged(body(), reflected.clone())),
        &machine,
    )
    .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let denied = &answer["error"]["details"][0]["metadata"]["permission"];
    assert_eq!(denied, "privateca.certificates.createForSelf");
    // An administrator may, but has no identity to reflect.
    let (status, answer) = call(create(&server, 5, &merged(body(), reflected)), ADMIN).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("user:admin@example.com has no SPIFFE identity"),
        "{message}"
    );
    assert_eq!(server.emulator.stats().total_sold(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_workload_takes_a_service_accounts_token() {
    let server = Server::with(closed()).await;
    let federated = federated(&server).await;
    for email in [AGENT.to_owned(), AGENT.replace('@', "%40")] {
        let path = format!("projects/-/serviceAccounts/{email}:generateAccessToken");
        let request = http1()
            .post(server.url(&path))
            .json(&json!({ "scope": [CLOUD_PLATFORM] }));
        let (status, answer) = call(request, &federated).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["expireTime"], "2027-01-15T08:10:00Z");
        let token = answer["accessToken"].as_str().unwrap();
        let (status, _) = call(create(&server, 1, &body()), token).await;
        assert_eq!(status, StatusCode::OK);
    }
    let path = "projects/-/serviceAccounts/other@x.example:generateAccessToken";
    let request = http1()
        .post(server.url(path))
        .json(&json!({ "scope": [CLOUD_PLATFORM] }));
    let (status, answer) = call(request, &federated).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("getAccessToken")
    );
    server.stop().await;
}

#[tokio::test]
async fn the_metadata_server_wants_its_header_and_tells_what_is_configured() {
    let server = Server::with(closed()).await;
    let accounts = "/computeMetadata/v1/instance/service-accounts";
    for (path, expected) in [
        ("/".to_owned(), "computeMetadata/\n".to_owned()),
        (
            "/computeMetadata/v1/project/project-id".to_owned(),
            "p".to_owned(),
        ),
        (
            "/computeMetadata/v1/project/numeric-project-id".to_owned(),
            "123".to_owned(),
        ),
        (
            "/computeMetadata/v1/universe/universe-domain".to_owned(),
            "googleapis.com".to_owned(),
        ),
        (format!("{accounts}/"), format!("default/\n{AGENT}/\n")),
        (format!("{accounts}/default/email"), AGENT.to_owned()),
        (format!("{accounts}/{AGENT}/email"), AGENT.to_owned()),
        (
            format!("{accounts}/default/scopes"),
            format!("{CLOUD_PLATFORM}\n"),
        ),
    ] {
        let answer = metadata(&server, &path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()["metadata-flavor"], "Google");
        assert_eq!(answer.text().await.unwrap(), expected, "{path}");
        let answer = http1().get(server.root(&path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.headers()["metadata-flavor"], "Google");
    }
    let answer = metadata(&server, &format!("{accounts}/default/?recursive=true")).await;
    let expected = json!({ "aliases": ["default"], "email": AGENT, "scopes": [CLOUD_PLATFORM] });
    assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    for path in [
        "/computeMetadata/v1/instance/attributes/cluster-name".to_owned(),
        format!("{accounts}/default/identity?audience=x"),
        format!("{accounts}/other@x.example/token"),
        "/computeMetadata/v2/".to_owned(),
    ] {
        assert_eq!(
            metadata(&server, &path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let path = format!("{accounts}/default/token");
    let forwarded = http1()
        .get(server.root(&path))
        .header("Metadata-Flavor", "Google")
        .header("X-Forwarded-For", "10.0.0.1");
    assert_eq!(
        forwarded.send().await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
    let posted = http1()
        .post(server.root(&path))
        .header("Metadata-Flavor", "Google");
    assert_eq!(
        posted.send().await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );

    // A token of a narrower scope is no good for CA Service.
    let storage = "https://www.googleapis.com/auth/devstorage.read_only";
    let answer = metadata(&server, &format!("{path}?scopes={storage}")).await;
    let answer: Value = answer.json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let (status, answer) = call(create(&server, 1, &body()), token).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let reason = &answer["error"]["details"][0]["reason"];
    assert_eq!(reason, "ACCESS_TOKEN_SCOPE_INSUFFICIENT");
    server.stop().await;
}

#[tokio::test]
async fn a_bad_exchange_is_answered_in_oauths_form() {
    let server = Server::with(closed()).await;
    let answer = exchange(&server, "a.b.c").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"], "invalid_grant");
    assert!(answer["error_description"].is_string());
    let large = exchange(&server, &"x".repeat(64 * 1024)).await;
    assert_eq!(large.status(), StatusCode::BAD_REQUEST);
    assert!(large.text().await.unwrap().contains("64 KiB"));
    let got = http1().get(server.root("/v1/token")).send().await.unwrap();
    assert_eq!(got.status(), StatusCode::NOT_FOUND);
    // The older form of the service is the same exchange.
    let request = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": AUDIENCE,
        "scope": CLOUD_PLATFORM,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": workload_token(&server),
    });
    let legacy = http1()
        .post(server.root("/v1/identitybindingtoken"))
        .json(&request);
    assert_eq!(legacy.send().await.unwrap().status(), StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn without_identities_any_token_and_none_will_do_and_nothing_is_exchanged() {
    let server = Server::start().await;
    for (n, request) in [
        (1, create(&server, 1, &body())),
        (2, create(&server, 2, &body()).bearer_auth("fake-token")),
        (
            3,
            create(&server, 3, &body()).header("Authorization", "nonsense"),
        ),
    ] {
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::OK,
            "{n}"
        );
    }
    let answer: Value = exchange(&server, "a.b.c").await.json().await.unwrap();
    assert_eq!(answer["error"], "invalid_target");
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    assert_eq!(
        metadata(&server, path).await.status(),
        StatusCode::NOT_FOUND
    );
    server.stop().await;
}

#[tokio::test]
async fn the_token_services_have_faults_of_their_own() {
    let server = Server::with(closed()).await;
    let away = Fault::error(ApiError::new(Code::Unavailable, "away"));
    server.emulator.set_faults(vec![
        FaultRule::next(1, away.clone()).on(Method::ExchangeToken),
        FaultRule::next(1, away).on(Method::GetMetadata),
        FaultRule::next(1, Fault::HugeBody { bytes: 9 }).on(Method::GetMetadata),
        FaultRule::next(1, Fault::Html { status: 503 }).on(Method::GetMetadata),
    ]);
    let token = workload_token(&server);
    assert_eq!(
        exchange(&server, &token).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(exchange(&server, &token).await.status(), StatusCode::OK);
    // Clients know the metadata server by this header, also when it refuses. A proxy lacks it.
    for (status, flavor) in [
        (StatusCode::SERVICE_UNAVAILABLE, Some("Google")),
        (StatusCode::OK, Some("Google")),
        (StatusCode::SERVICE_UNAVAILABLE, None),
        (StatusCode::OK, Some("Google")),
    ] {
        let answer = metadata(&server, "/").await;
        assert_eq!(answer.status(), status);
        let said = answer.headers().get("metadata-flavor");
        assert_eq!(said.map(|value| value.to_str().unwrap()), flavor);
    }
    assert_eq!(server.emulator.stats().requests[&Method::ExchangeToken], 2);
    server.stop().await;
}

#[tokio::test]
async fn a_test_in_process_can_mint_tokens() {
    let server = Server::with(closed()).await;
    let subject = format!("{POOL}/subject/system:serviceaccount:shop:cart");
    let token = server.emulator.mint_access_token(&subject).unwrap();
    let reflected = merged(body(), json!({ "subjectMode": "REFLECTED_SPIFFE" }));
    let (status, answer) = call(create(&server, 1, &reflected), &token).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(server.emulator.mint_access_token("allUsers").is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_cluster_may_sign_with_any_of_the_algorithms() {
    for issuer in [Issuer::rsa("k"), Issuer::p256("k"), Issuer::p384("k")] {
        let mut identities = identities();
        identities.providers[0].jwks = serde_json::from_value(issuer.jwks()).unwrap();
        let server = Server::with(guide().with_identities(identities)).await;
        let now = server.clock.now().as_second();
        let good = issuer.sign(&json!({
            "iss": "https://cluster.example", "sub": "x", "aud": AUDIENCE,
            "iat": now, "exp": now + 3600,
        }));
        assert_eq!(exchange(&server, &good).await.status(), StatusCode::OK);
        let foreign = workload_token(&server);
        assert_eq!(
            exchange(&server, &foreign).await.status(),
            StatusCode::BAD_REQUEST
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn an_identity_is_reflected_into_no_ca() {
    let server = Server::with(closed()).await;
    let token = federated(&server).await;
    let mut asked = merged(body(), json!({ "subject_mode": "REFLECTED_SPIFFE" }));
    asked["config"]["x509Config"]["caOptions"] = json!({ "isCa": true });
    let (status, answer) = call(create(&server, 1, &asked), &token).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("CA certificate"),
        "{answer}"
    );
    assert_eq!(server.emulator.stats().total_sold(), 0);
    server.stop().await;
}
