use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{self, KeyPair as _, UnparsedPublicKey},
};
#[cfg(feature = "emulator")]
use axum::http::HeaderMap;
use axum::{Router, http::StatusCode, response::IntoResponse as _, routing::post};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use proptest::prelude::*;
use reqwest::Url;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{super::Identity, *};
#[cfg(feature = "emulator")]
use crate::cas::{CasClient, tls_front::TlsFront};
use crate::{cas::Roots, clock::ManualClock, google::Caller};

/// A directory for the files of one test.
pub(super) struct Place(pub(super) TempDir);

impl Place {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> CredentialFile {
        CredentialFile {
            path: self.0.path().join("credentials.json"),
            is_gclouds: false,
        }
    }

    pub(super) fn write(&self, text: impl AsRef<[u8]>) -> CredentialFile {
        let file = self.file();
        fs::write(&file.path, text).unwrap();
        file
    }

    pub(super) fn identity(&self) -> (Identity, ManualClock) {
        let clock = ManualClock::new("2026-11-21T00:00:00Z".parse().unwrap());
        let path = self.file().path.into_os_string();
        let variable =
            |name: &str| (name == "GOOGLE_APPLICATION_CREDENTIALS").then(|| path.clone());
        let clocks = Arc::new(clock.clone());
        let identity = Identity::ambient(variable, &Roots::none(), clocks).unwrap();
        (identity, clock)
    }
}

pub(super) fn rsa() -> (KeyPair, String) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let pem = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
        &der.as_ref().to_vec().into(),
        &rcgen::PKCS_RSA_SHA256,
    )
    .unwrap()
    .serialize_pem();
    (key, pem)
}

pub(super) fn service_account(key: &str) -> Value {
    json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "key-1",
        "private_key": key,
        "client_email": "agent@p.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
}

#[tokio::test]
async fn a_service_account_key_signs_a_token_for_itself() {
    let place = Place::new();
    let (key, pem) = rsa();
    let file = place.write(service_account(&pem).to_string());
    let (token, life) = file
        .token(&Roots::none(), Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    assert_eq!(life, None, "the library does not say");
    let parts: Vec<&str> = token.expose().split('.').collect();
    let part = |index: usize| BASE64_URL_SAFE_NO_PAD.decode(parts[index]).unwrap();
    let signed = format!("{}.{}", parts[0], parts[1]);
    UnparsedPublicKey::new(
        &signature::RSA_PKCS1_2048_8192_SHA256,
        key.public_key().as_ref(),
    )
    .verify(signed.as_bytes(), &part(2))
    .unwrap();
    let claims: Value = serde_json::from_slice(&part(1)).unwrap();
    assert_eq!(claims["iss"], "agent@p.iam.gserviceaccount.com");
    assert_eq!(claims["scope"], SCOPE);
}

#[tokio::test]
#[cfg(feature = "emulator")]
async fn a_call_by_https_carries_the_token_of_a_service_account_key() {
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&heard);
    let app = Router::new().fallback(move |headers: HeaderMap| async move {
        let sent = headers["authorization"].to_str().unwrap().to_owned();
        kept.lock().unwrap().push(sent);
        r#"{"tier":"DEVOPS"}"#
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let behind = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let front = TlsFront::start(behind, "127.0.0.1", &["h2"]).await;

    let place = Place::new();
    let (_, pem) = rsa();
    place.write(service_account(&pem).to_string());
    let (identity, _clock) = place.identity();
    let client = CasClient::with_roots(&front.endpoint, &front.roots(), identity.clone()).unwrap();
    let pool = "//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/c";
    let pool = pool.parse().unwrap();
    client.pool(&pool, &Caller::Agent).await.unwrap();
    let token = identity.token(&Caller::Agent).await.unwrap().unwrap();
    assert_eq!(
        *heard.lock().unwrap(),
        [format!("Bearer {}", token.expose())]
    );
}

#[tokio::test]
async fn a_key_that_is_replaced_is_used_with_the_next_token_and_a_broken_one_changes_nothing() {
    let place = Place::new();
    let (_, old) = rsa();
    place.write(service_account(&old).to_string());
    let (identity, clock) = place.identity();
    let token = async || identity.token(&Caller::Agent).await.unwrap().unwrap();
    let first = token().await;
    assert_eq!(token().await, first);

    place.write("half a fi");
    clock.step(SignedDuration::from_mins(6));
    assert_eq!(
        token().await,
        first,
        "it is good for longer than it is fresh"
    );

    let (_, new) = rsa();
    let mut replaced = service_account(&new);
    replaced["client_email"] = "new@p.iam.gserviceaccount.com".into();
    place.write(replaced.to_string());
    let second = token().await;
    assert_ne!(second, first);
    let claims = second.expose().split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    assert!(String::from_utf8(claims).unwrap().contains("new@p"));
}

#[test]
fn every_file_that_is_none_is_refused_by_its_name_without_its_content() {
    let place = Place::new();
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let secret = "hunter2";
    let cut = format!(r#"{{"type":"authorized_user","client_secret":"{secret}"#);
    let number = json!({"type": "authorized_user", "client_id": secret, "client_secret": 7});
    let external = json!({"type": "external_account", "audience": secret});
    let to = |url: &str| {
        let mut json = json!({"type": "external_account", "audience": secret,
            "credential_source": {"file": "/token"},
            "subject_token_type": "t", "token_url": "https://sts.googleapis.com/v1/token"});
        json[if url.ends_with("Token") {
            "service_account_impersonation_url"
        } else {
            "token_url"
        }] = json!(url);
        json.to_string()
    };
    let mut no_key = service_account(secret);
    no_key["private_key_id"] = Value::Null;
    for (text, expected) in [
        (String::new(), "not JSON (line 1, column 0)"),
        (secret.to_owned(), "not JSON (line 1, column 1)"),
        (cut, "not JSON (line 1,"),
        ("[]".to_owned(), "no member \"type\""),
        (
            json!({"type": 1, "x": secret}).to_string(),
            "no member \"type\"",
        ),
        (
            json!({"type": "gdch_service_account", "x": secret}).to_string(),
            "the type \"gdch_service_account\" is none that is known (service_account, ",
        ),
        (
            number.to_string(),
            "no text \"client_secret\", which authorized_user has",
        ),
        (
            external.to_string(),
            "no text \"subject_token_type\", which external_account has",
        ),
        (
            no_key.to_string(),
            "no text \"private_key_id\", which service_account has",
        ),
        (
            service_account(secret).to_string(),
            "not an RSA key as PKCS#8 PEM",
        ),
        (
            service_account(&ec).to_string(),
            "not an RSA key as PKCS#8 PEM",
        ),
        (
            to("http://10.0.0.1/v1/token"),
            "\"token_url\" is neither https nor on this machine",
        ),
        (
            to("http://sts.example/v1/sa:generateAccessToken"),
            "\"service_account_impersonation_url\" is neither https nor on this machine",
        ),
        (to("//nowhere"), "\"token_url\" is neither https nor"),
        (
            json!({"type": "impersonated_service_account", "source_credentials":
                serde_json::from_str::<Value>(&to("http://10.0.0.1/token")).unwrap(),
                "service_account_impersonation_url":
                    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a:generateAccessToken"})
            .to_string(),
            "\"token_url\" is neither https nor on this machine",
        ),
    ] {
        let error = place.write(text).check().unwrap_err();
        let said = error.to_string();
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(said.contains("credentials.json"), "{said}");
        assert!(
            said.contains("check GOOGLE_APPLICATION_CREDENTIALS"),
            "{said}"
        );
        assert!(!said.contains(secret) && error.is_permanent, "{said}");
    }
    let large = place.write(vec![b' '; MAX_BYTES + 1]).check().unwrap_err();
    assert!(large.to_string().contains("larger than"), "{large}");
    fs::remove_file(place.file().path).unwrap();
    let missing = place.file().check().unwrap_err();
    assert!(missing.to_string().contains("no such file"), "{missing}");
    let gclouds = CredentialFile {
        is_gclouds: true,
        ..place.file()
    };
    let said = gclouds.check().unwrap_err().to_string();
    assert!(
        said.contains("gcloud auth application-default login"),
        "{said}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_file_makes_the_reader_panic(
        kind in 0..4_usize, key in "[ -~\n]{0,60}", cut in 0..400_usize,
    ) {
        let place = Place::new();
        let mut json = service_account(&format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"));
        let kinds = ["service_account", "external_account", "impersonated_service_account", "authorized_user"];
        json["type"] = kinds[kind].into();
        let text = json.to_string();
        let end = cut.min(text.len());
        for text in [&text.as_bytes()[..end], text.as_bytes()] {
            drop(place.write(text).check());
        }
    }
}

pub(super) const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl";

/// A token service that answers as it is told, and keeps what it was asked.
pub(super) struct Sts {
    url: String,
    answer: Arc<Mutex<(StatusCode, String)>>,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl Sts {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/token", listener.local_addr().unwrap());
        let token = json!({
            "access_token": "secret-access",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
        });
        let answer = Arc::new(Mutex::new((StatusCode::OK, token.to_string())));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (told, heard) = (Arc::clone(&answer), Arc::clone(&asked));
        let app = Router::new().route(
            "/v1/token",
            post(move |form: String| async move {
                heard.lock().unwrap().push(form);
                told.lock().unwrap().clone().into_response()
            }),
        );
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, answer, asked }
    }

    fn says(&self, status: u16, body: impl Into<String>) -> (StatusCode, String) {
        let status = StatusCode::from_u16(status).unwrap();
        std::mem::replace(&mut *self.answer.lock().unwrap(), (status, body.into()))
    }

    /// Credentials that exchange the token in a file here.
    pub(super) fn external(&self, subject_token: &Path) -> String {
        json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": self.url,
            "credential_source": {"file": subject_token},
        })
        .to_string()
    }
}

#[tokio::test]
async fn a_federated_identity_survives_every_refusal_and_repeats_no_secret() {
    let (place, sts) = (Place::new(), Sts::start().await);
    let subject = place.0.path().join("token");
    place.write(sts.external(&subject));
    let (identity, clock) = place.identity();
    let asked = async || match identity.token(&Caller::Agent).await {
        Ok(token) => Ok(token.unwrap().expose().to_owned()),
        Err(error) => {
            let said = format!("{error} {error:?}");
            for secret in [JWT, "secret", "eyJ"] {
                assert!(!said.contains(secret), "{said}");
            }
            assert!(said.contains("credentials.json"), "{said}");
            Err((error.is_permanent, error.detail))
        }
    };
    if Roots::load(None).is_err() {
        // On such a machine the library would panic.
        let (_, said) = asked().await.unwrap_err();
        assert!(said.contains("set SSL_CERT_FILE"), "{said}");
        return;
    }

    let (is_permanent, said) = asked().await.unwrap_err();
    assert!(is_permanent, "the library gives up on it for ever");
    assert!(
        said.contains("a file that it names cannot be read"),
        "{said}"
    );
    fs::write(&subject, JWT).unwrap();
    asked().await.unwrap_err();
    assert!(
        sts.asked.lock().unwrap().is_empty(),
        "after 5 s, not before"
    );

    let good = sts.says(
        400,
        format!(r#"{{"error":"invalid_grant","error_description":"Bad audience in {JWT}."}}"#),
    );
    clock.step(SignedDuration::from_secs(5));
    let (is_permanent, said) = asked().await.unwrap_err();
    assert!(is_permanent, "{said}");
    assert!(
        said.contains("HTTP 400, \"invalid_grant: Bad audience in"),
        "{said}"
    );

    for (status, body, expected) in [
        (500, "<html>", "HTTP 500"),
        (503, "", "HTTP 503"),
        (
            429,
            r#"{"error":{"code":429,"message":"slowly","status":"RESOURCE_EXHAUSTED"}}"#,
            "HTTP 429, \"RESOURCE_EXHAUSTED: slowly\"",
        ),
    ] {
        sts.says(status, body);
        clock.step(SignedDuration::from_mins(5));
        let (is_permanent, said) = asked().await.unwrap_err();
        assert!(!is_permanent && said.contains(expected), "{said}");
    }
    for nonsense in ["secret", "{}", r#"{"access_token":"secret"}"#] {
        sts.says(200, nonsense);
        clock.step(SignedDuration::from_mins(5));
        asked().await.unwrap_err();
    }

    let before = sts.asked.lock().unwrap().len();
    sts.says(good.0.as_u16(), good.1);
    clock.step(SignedDuration::from_mins(5));
    assert_eq!(asked().await.unwrap(), "secret-access");
    assert_eq!(asked().await.unwrap(), "secret-access");
    let forms = sts.asked.lock().unwrap();
    assert_eq!(forms.len(), before + 1);
    let form = format!("http://localhost/?{}", forms.last().unwrap());
    let form: HashMap<_, _> = Url::parse(&form)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect();
    let sent = |name: &str| form.get(name).map(String::as_str);
    assert_eq!(sent("subject_token"), Some(JWT));
    assert_eq!(sent("scope"), Some(SCOPE));
}

#[tokio::test]
async fn a_token_service_that_is_not_there_is_asked_again() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/token", listener.local_addr().unwrap());
    drop(listener);
    let mut subject = tempfile::NamedTempFile::new().unwrap();
    subject.write_all(JWT.as_bytes()).unwrap();
    let gone = Sts {
        url,
        answer: Arc::default(),
        asked: Arc::default(),
    };
    let file = place.write(gone.external(subject.path()));
    if Roots::load(None).is_ok() {
        let error = file
            .token(&Roots::none(), Timestamp::UNIX_EPOCH)
            .await
            .unwrap_err();
        assert!(!error.is_permanent);
        let said = error.to_string();
        assert!(said.contains("Connection refused"), "{said}");
        assert!(said.contains("asked for again by itself"), "{said}");
    }
}
