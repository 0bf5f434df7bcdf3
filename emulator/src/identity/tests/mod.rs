use std::sync::OnceLock;

use serde_json::{Value, json};

use super::exchange::TokenRequest;
use super::*;
use issuer::Issuer;

#[path = "../../../tests/emulator/issuer.rs"]
mod issuer;

mod callers;
mod exchange;
mod hostile;
mod setup;

const NOW: i64 = 1_800_000_000;
const GENERIC: &str = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/plants/providers/oidc";
const GKE: &str = "identitynamespace:my-project.svc.id.goog:https://container.googleapis.com/v1/projects/my-project/locations/us-central1/clusters/c1";
const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const ACCOUNT: &str = "agent@my-project.iam.gserviceaccount.com";
const SUBJECT: &str = "system:serviceaccount:shop:cart";

fn at(offset: i64) -> Timestamp {
    Timestamp::from_second(NOW + offset).unwrap()
}

struct Keys {
    generic: Issuer,
    cluster: Issuer,
    account: Issuer,
    stranger: Issuer,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        generic: Issuer::p256("generic-1"),
        cluster: Issuer::rsa("cluster-1"),
        account: Issuer::rsa("account-1"),
        stranger: Issuer::p256("generic-1"),
    })
}

fn config_json() -> Value {
    json!({
        "users": [{ "email": "Admin@example.com", "accessToken": "a-made-up-admin-token" }],
        "administrators": ["user:admin@example.com"],
        "serviceAccounts": [
            { "email": ACCOUNT, "jwks": keys().account.jwks(), "impersonators": [
                "principal://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/plants/subject/tree",
                "serviceAccount:middle@my-project.iam.gserviceaccount.com",
            ] },
            { "email": "middle@my-project.iam.gserviceaccount.com", "impersonators": [
                "principalSet://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/plants/*",
            ] },
        ],
        "providers": [
            { "audience": GENERIC, "issuer": "https://issuer.example", "jwks": keys().generic.jwks() },
            { "audience": GKE, "issuer": CLUSTER, "jwks": keys().cluster.jwks(), "projectNumber": 77 },
        ],
        "metadataServer": {
            "serviceAccount": ACCOUNT, "projectId": "my-project", "numericProjectId": 77,
            "clusterName": "c1",
        },
    })
}

fn identities_of(config: Value) -> Result<Identities, IdentityConfigError> {
    Identities::new(&serde_json::from_value(config).unwrap())
}

fn identities() -> Identities {
    identities_of(config_json()).unwrap()
}

fn generic_claims() -> Value {
    json!({
        "iss": "https://issuer.example", "sub": "tree", "aud": [GENERIC],
        "iat": NOW, "exp": NOW + 600,
    })
}

fn cluster_claims() -> Value {
    json!({
        "iss": CLUSTER, "sub": SUBJECT, "aud": ["my-project.svc.id.goog"],
        "iat": NOW, "nbf": NOW, "exp": NOW + 3600,
        "kubernetes.io": { "namespace": "shop" },
    })
}

fn exchange_json(audience: &str, token: &str) -> Value {
    json!({
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
        "audience": audience,
        "scope": CLOUD_PLATFORM,
        "subjectToken": token,
    })
}

/// The answer to an exchange, or error and description.
fn exchange(
    identities: &Identities,
    request: &Value,
    now: Timestamp,
) -> Result<Value, (String, String)> {
    let answer = TokenRequest::parse(Some("application/json"), request.to_string().as_bytes())
        .and_then(|request| identities.exchange(&request, now));
    match answer {
        Ok(answer) => Ok(serde_json::to_value(answer).unwrap()),
        Err(error) => Err((error.error.to_owned(), error.description)),
    }
}

fn bearer(answer: &Value) -> String {
    format!("Bearer {}", answer["access_token"].as_str().unwrap())
}

fn refusal(identities: &Identities, token: &str) -> String {
    let (error, description) =
        exchange(identities, &exchange_json(GENERIC, token), at(0)).unwrap_err();
    assert_eq!(error, "invalid_grant", "{description}");
    let signature = token.rsplit('.').next().unwrap();
    assert!(signature.len() < 20 || !description.contains(signature));
    description
}
