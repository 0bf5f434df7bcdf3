//! Credential files that impersonate a service account.
use std::{
    fs,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    http::{HeaderMap, Uri},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    SCOPE,
    tests::{JWT, Place, Sts, rsa, service_account},
};
use crate::{cas::Roots, google::Caller};

/// A service that makes tokens of service accounts: `expireTime` is the test's.
struct Accounts {
    endpoint: String,
    expire_time: Arc<Mutex<String>>,
    /// Path, who asked, who is charged, body.
    asked: Arc<Mutex<Vec<[String; 4]>>>,
}

impl Accounts {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let expire_time = Arc::new(Mutex::new("2026-11-21T00:40:00Z".to_owned()));
        let asked = Arc::<Mutex<Vec<[String; 4]>>>::default();
        let (told, heard) = (Arc::clone(&expire_time), Arc::clone(&asked));
        let app =
            Router::new().fallback(async move |uri: Uri, headers: HeaderMap, body: String| {
                let header = |name| headers.get(name).map_or("", |text| text.to_str().unwrap());
                let (from, charged) = (header("authorization"), header("x-goog-user-project"));
                let mut heard = heard.lock().unwrap();
                heard.push([uri.path(), from, charged, &body].map(str::to_owned));
                let expire_time = told.lock().unwrap().clone();
                json!({ "accessToken": format!("secret-{}", heard.len()), "expireTime": expire_time })
                    .to_string()
            });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            endpoint,
            expire_time,
            asked,
        }
    }

    fn url(&self, account: &str) -> String {
        let endpoint = &self.endpoint;
        format!("{endpoint}/v1/projects/-/serviceAccounts/{account}:generateAccessToken")
    }

    fn ends(&self, at: &str) {
        at.clone_into(&mut self.expire_time.lock().unwrap());
    }
}

const ACCOUNT: &str = "target@p.iam.gserviceaccount.com";

#[tokio::test]
async fn an_impersonated_account_gives_the_token_until_the_end_that_it_names() {
    let (place, accounts) = (Place::new(), Accounts::start().await);
    let (_, pem) = rsa();
    let mut source = service_account(&pem);
    source["quota_project_id"] = "charged".into();
    let file = json!({ "type": "impersonated_service_account", "source_credentials": source,
        "service_account_impersonation_url": accounts.url(ACCOUNT),
        "delegates": ["projects/-/serviceAccounts/between@p.iam.gserviceaccount.com"] });
    place.write(file.to_string());
    let (identity, clock) = place.identity();
    let token = async || identity.token(&Caller::Agent).await.unwrap().unwrap();
    assert_eq!(token().await.expose(), "secret-1");
    let asked = accounts.asked.lock().unwrap().clone();
    let [path, from, charged, body] = &asked[0];
    assert!(
        path.ends_with("/target@p.iam.gserviceaccount.com:generateAccessToken"),
        "{path}"
    );
    assert!(
        from.starts_with("Bearer eyJ") && charged == "charged",
        "{charged}"
    );
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!({ "scope": [SCOPE], "lifetime": "3600s",
            "delegates": ["projects/-/serviceAccounts/between@p.iam.gserviceaccount.com"] })
    );
    // While nothing better is to be had it serves until its own end, and not longer.
    place.write("half a fi");
    clock.step(SignedDuration::from_mins(39));
    assert_eq!(token().await.expose(), "secret-1");
    clock.step(SignedDuration::from_mins(2));
    identity.token(&Caller::Agent).await.unwrap_err();
}

#[tokio::test]
async fn a_token_that_ended_before_it_came_names_the_clock_and_ends_no_process() {
    let (place, accounts) = (Place::new(), Accounts::start().await);
    let (_, pem) = rsa();
    let file = json!({ "type": "impersonated_service_account",
        "source_credentials": service_account(&pem),
        "service_account_impersonation_url": accounts.url(ACCOUNT) });
    place.write(file.to_string());
    let (identity, clock) = place.identity();
    for (ends, expected) in [
        (
            "2001-01-01T00:00:00Z",
            "it gives a token that ended 816912300 s ago by this machine's clock, at \
             2001-01-01T00:00:00Z; check this machine's clock",
        ),
        ("2026-11-21T00:10:00Z", "ended 0 s ago"),
        ("tomorrow", "no usable access token"),
    ] {
        accounts.ends(ends);
        clock.step(SignedDuration::from_mins(5));
        let error = identity.token(&Caller::Agent).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(expected), "{said}");
        assert!(
            said.contains("credentials.json: no token of target@p.iam"),
            "{said}"
        );
        assert!(!said.contains("secret") && !error.is_permanent, "{said}");
    }
    accounts.ends("2026-11-21T01:15:00Z");
    clock.step(SignedDuration::from_mins(5));
    identity.token(&Caller::Agent).await.unwrap();
}

#[tokio::test]
async fn a_federated_identity_impersonates_by_our_own_call_too() {
    if Roots::load(None).is_err() {
        return;
    }
    let (place, sts, accounts) = (Place::new(), Sts::start().await, Accounts::start().await);
    let subject = place.0.path().join("token");
    fs::write(&subject, JWT).unwrap();
    let mut file: Value = serde_json::from_str(&sts.external(&subject)).unwrap();
    file["service_account_impersonation_url"] = accounts.url(ACCOUNT).into();
    place.write(file.to_string());
    let (identity, clock) = place.identity();
    accounts.ends("2001-01-01T00:00:00Z");
    let said = identity
        .token(&Caller::Agent)
        .await
        .unwrap_err()
        .to_string();
    assert!(said.contains("check this machine's clock"), "{said}");
    // The order of its fields is the library's own, and another in each run.
    let exchange = sts.asked.lock().unwrap()[0].clone();
    let scope = form_urlencoded::parse(exchange.as_bytes()).find(|(name, _)| name == "scope");
    let (_, scope) = scope.expect("a scope");
    assert_eq!(scope, "https://www.googleapis.com/auth/iam", "no wider one");

    // Credentials that impersonate, of an account that impersonates.
    accounts.ends("2026-11-21T01:00:00Z");
    let outer = json!({ "type": "impersonated_service_account", "source_credentials": file,
        "service_account_impersonation_url": accounts.url("outer@p.iam.gserviceaccount.com") });
    place.write(outer.to_string());
    clock.step(SignedDuration::from_mins(5));
    let token = identity.token(&Caller::Agent).await.unwrap().unwrap();
    assert_eq!(token.expose(), "secret-3");
    let asked = accounts.asked.lock().unwrap().clone();
    let [_, [inner, from, ..], [last, by, ..]] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert!(
        inner.contains(ACCOUNT) && from == "Bearer secret-access",
        "{inner} {from}"
    );
    assert!(
        last.contains("outer@p") && by == "Bearer secret-2",
        "{last} {by}"
    );
}

#[tokio::test]
async fn without_ca_certificates_to_check_the_service_by_the_flag_for_them_is_named() {
    let place = Place::new();
    let (_, pem) = rsa();
    let file = json!({ "type": "impersonated_service_account",
        "source_credentials": service_account(&pem),
        "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a:generateAccessToken" });
    place.write(file.to_string());
    let (identity, _clock) = place.identity();
    let error = identity.token(&Caller::Agent).await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("no CA certificates to check it by; pass --ca-bundle FILE"),
        "{said}"
    );
}
