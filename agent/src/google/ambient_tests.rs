use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use parking::Parked;
use tokio::net::TcpListener;

use super::*;
use crate::clock::ManualClock;

/// An answer that can be changed while it is served.
mod parking {
    use std::sync::{Arc, Mutex};

    use super::Response;

    type Answer = Box<dyn Fn(usize) -> Response + Send>;

    #[derive(Clone)]
    pub(super) struct Parked(Arc<Mutex<Answer>>);

    impl Parked {
        pub(super) fn new(answer: impl Fn(usize) -> Response + Send + 'static) -> Self {
            Self(Arc::new(Mutex::new(Box::new(answer))))
        }

        pub(super) fn set(&self, answer: impl Fn(usize) -> Response + Send + 'static) {
            *self.0.lock().unwrap() = Box::new(answer);
        }

        pub(super) fn get(&self, number: usize) -> Response {
            (self.0.lock().unwrap())(number)
        }
    }
}

/// A metadata server that answers as it is told, and counts.
struct Server {
    address: SocketAddr,
    answer: Parked,
    asked: Arc<AtomicUsize>,
}

const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

fn token(text: &str, seconds: u64) -> Response {
    let body =
        format!(r#"{{"access_token":"{text}","expires_in":{seconds},"token_type":"Bearer"}}"#);
    ([FLAVOR], body).into_response()
}

/// `secret-1`, `secret-2` and so on, each good for an hour.
fn counted(number: usize) -> Response {
    token(&format!("secret-{number}"), 3600)
}

impl Server {
    async fn start(answer: impl Fn(usize) -> Response + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Parked::new(answer), Arc::<AtomicUsize>::default());
        let (parked, counter) = (answer.clone(), Arc::clone(&asked));
        let app = Router::new().fallback(move |request: axum::extract::Request| async move {
            assert_eq!(
                request.uri().path(),
                "/computeMetadata/v1/instance/service-accounts/default/token"
            );
            assert_eq!(request.headers()["Metadata-Flavor"], "Google");
            parked.get(counter.fetch_add(1, Ordering::SeqCst) + 1)
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            answer,
            asked,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn identity(&self) -> (Ambient, ManualClock) {
        identity(&[("GCE_METADATA_HOST", self.address.to_string())]).unwrap()
    }
}

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

fn identity(environment: &[(&str, String)]) -> Result<(Ambient, ManualClock), IdentityError> {
    let environment: HashMap<&str, String> = environment.iter().cloned().collect();
    let clock = ManualClock::new(now());
    let variable = |name: &str| environment.get(name).map(OsString::from);
    Ok((
        Ambient::find(variable, &Roots::none(), Arc::new(clock.clone()))?,
        clock,
    ))
}

async fn text(identity: &Ambient) -> Result<String, String> {
    let token = identity.token().await;
    token
        .map(|token| token.expose().to_owned())
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_four_minutes_before_it_ends() {
    let server = Server::start(counted).await;
    let (identity, clock) = server.identity();
    let together = (0..20).map(|_| text(&identity));
    for token in futures::future::join_all(together).await {
        assert_eq!(token.as_deref(), Ok("secret-1"));
    }
    clock.step(SignedDuration::from_secs(3600 - 240 - 1));
    assert_eq!(text(&identity).await.unwrap(), "secret-1");
    assert_eq!(server.asked(), 1);
    clock.step(SignedDuration::from_secs(1));
    assert_eq!(text(&identity).await.unwrap(), "secret-2");
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_token_with_a_short_life_is_replaced_in_its_last_eighth() {
    let server = Server::start(|number| token(&format!("secret-{number}"), 80)).await;
    let (identity, clock) = server.identity();
    for (seconds, expected) in [(0, "secret-1"), (69, "secret-1"), (1, "secret-2")] {
        clock.step(SignedDuration::from_secs(seconds));
        assert_eq!(text(&identity).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn an_hour_without_the_metadata_server_is_survived_as_long_as_the_token_lives() {
    let server = Server::start(counted).await;
    let (identity, clock) = server.identity();
    assert_eq!(text(&identity).await.unwrap(), "secret-1");
    server
        .answer
        .set(|_| (StatusCode::SERVICE_UNAVAILABLE, [FLAVOR], "away").into_response());
    clock.step(SignedDuration::from_secs(3600 - 300));
    let mut kept = 0;
    for second in (-300..3600).step_by(5) {
        match text(&identity).await {
            Ok(token) => {
                assert_eq!(token, "secret-1");
                assert!(second < 0, "used {second} s after its end");
                kept += 1;
            }
            Err(error) => {
                assert!(second >= 0, "{error}");
                assert!(error.contains("HTTP 503, \"away\""), "{error}");
            }
        }
        clock.step(SignedDuration::from_secs(5));
    }
    assert_eq!(kept, 60);
    // 8 within the first 4 minutes, then one in 5 minutes.
    let asked = server.asked() - 1;
    assert!((15..=22).contains(&asked), "{asked}");

    server.answer.set(counted);
    clock.step(LONGEST_WAIT);
    assert!(text(&identity).await.unwrap().starts_with("secret-"));
    assert_eq!(server.asked(), 1 + asked + 1);
}

#[tokio::test]
async fn whoever_asks_for_patience_gets_it_up_to_five_minutes() {
    for (header, wait) in [("7", 7), ("3600", 300), ("0", 1)] {
        let server = Server::start(move |_| {
            let headers = [FLAVOR, ("Retry-After", header)];
            (StatusCode::TOO_MANY_REQUESTS, headers, "").into_response()
        })
        .await;
        let (identity, clock) = server.identity();
        text(&identity).await.unwrap_err();
        clock.step(SignedDuration::from_secs(wait - 1));
        text(&identity).await.unwrap_err();
        assert_eq!(server.asked(), 1);
        clock.step(SignedDuration::from_secs(1));
        text(&identity).await.unwrap_err();
        assert_eq!(server.asked(), 2);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_keep_anybody_waiting() {
    let server = Server::start(|_| (StatusCode::BAD_GATEWAY, [FLAVOR]).into_response()).await;
    let (identity, clock) = server.identity();
    text(&identity).await.unwrap_err();
    clock.step(SignedDuration::from_hours(-1));
    server.answer.set(counted);
    assert_eq!(text(&identity).await.unwrap(), "secret-2");
}

#[tokio::test]
async fn what_is_no_token_is_told_with_the_next_step() {
    let huge = "x".repeat(100_000);
    let flavored = |status: StatusCode, body: &str| (status, [FLAVOR], body.to_owned());
    let ok = StatusCode::OK;
    for (answer, expected, is_permanent) in [
        (
            (ok, [("a", "b")], "<html>welcome</html>".to_owned()),
            "HTTP 200, \"<html>welcome</html>\", without the header Metadata-Flavor",
            false,
        ),
        (
            (StatusCode::NOT_FOUND, [("a", "b")], "no account".to_owned()),
            "says HTTP 404, \"no account\", without the header Metadata-Flavor: Google; check that \
             nothing else answers there (see GCE_METADATA_HOST), and if not: attach a service account",
            false,
        ),
        (
            (StatusCode::BAD_GATEWAY, [("a", "b")], "<p>busy".to_owned()),
            "says HTTP 502, \"<p>busy\", without the header Metadata-Flavor: Google; check that \
             nothing else answers there (see GCE_METADATA_HOST), and if not: it is asked again",
            false,
        ),
        (
            flavored(ok, "<html>welcome</html>"),
            "something else than a token",
            false,
        ),
        (
            flavored(ok, r#"{"access_token":"secret","expires_in":-1}"#),
            "something else than a token",
            false,
        ),
        (
            flavored(ok, r#"{"access_token":"secret","expires_in":0}"#),
            "a token that is empty or has expired",
            false,
        ),
        (
            flavored(ok, r#"{"access_token":"","expires_in":3600}"#),
            "a token that is empty or has expired",
            false,
        ),
        (flavored(ok, &huge), "more than 65536 bytes", false),
        (
            flavored(StatusCode::NOT_FOUND, "no account"),
            "HTTP 404, \"no account\"; attach a service account to this machine",
            true,
        ),
        (
            flavored(StatusCode::FORBIDDEN, ""),
            "Workload Identity binding",
            true,
        ),
        (
            flavored(StatusCode::INTERNAL_SERVER_ERROR, ""),
            "HTTP 500; it is asked again by itself",
            false,
        ),
    ] {
        let server = Server::start(move |_| answer.clone().into_response()).await;
        let (identity, _clock) = server.identity();
        let error = identity.token().await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!said.contains("secret"), "{said}");
        assert!(said.contains(&server.address.to_string()), "{said}");
        assert_eq!(error.is_permanent, is_permanent, "{said}");
    }
}

#[tokio::test]
async fn without_a_metadata_server_the_ways_to_do_without_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (identity, _clock) = identity(&[("GCE_METADATA_HOST", address.clone())]).unwrap();
    let said = text(&identity).await.unwrap_err();
    for part in [
        address.as_str(),
        "Connection refused",
        "not Google Cloud",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "--identity none",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_metadata_host_is_a_host() {
    for host in ["a/b", "user@host", "host?x", "host#x", "a b", "http://host"] {
        let said = identity(&[("GCE_METADATA_HOST", host.to_owned())]).unwrap_err();
        assert!(
            said.to_string().contains("write HOST or HOST:PORT"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let server = Server::start(counted).await;
    let (identity, clock) = server.identity();
    let first = identity.token().await.unwrap();
    assert!(identity.refused(&first).await);
    let second = identity.token().await.unwrap();
    assert_eq!(second.expose(), "secret-2");
    // Others had the first one, too.
    assert!(identity.refused(&first).await);
    assert_eq!(text(&identity).await.unwrap(), "secret-2");
    // Not again so soon, whoever comes.
    assert!(!identity.refused(&second).await);
    assert_eq!(text(&identity).await.unwrap(), "secret-2");
    assert_eq!(server.asked(), 2);
    clock.step(BETWEEN_REPLACEMENTS);
    assert!(identity.refused(&second).await);
    assert_eq!(text(&identity).await.unwrap(), "secret-3");
}

#[tokio::test]
async fn the_same_token_again_is_not_asked_for_again_before_five_minutes() {
    let server = Server::start(|_| token("secret", 3600)).await;
    let (identity, clock) = server.identity();
    let same = identity.token().await.unwrap();
    assert!(identity.refused(&same).await);
    for _ in 0..10 {
        assert_eq!(identity.token().await.unwrap(), same);
        assert!(!identity.refused(&same).await);
        clock.step(SignedDuration::from_secs(29));
    }
    assert_eq!(server.asked(), 2);
    clock.step(SignedDuration::from_secs(10));
    assert_eq!(identity.token().await.unwrap(), same);
    assert_eq!(server.asked(), 3);
}

#[test]
fn a_named_file_comes_before_gclouds_and_that_before_the_metadata_server() {
    let home = tempfile::tempdir().unwrap();
    let named = home.path().join("named.json");
    let gclouds = home
        .path()
        .join(".config/gcloud/application_default_credentials.json");
    std::fs::create_dir_all(gclouds.parent().unwrap()).unwrap();
    let user =
        r#"{"type":"authorized_user","client_id":"i","client_secret":"s","refresh_token":"r"}"#;
    std::fs::write(&named, user).unwrap();
    let home_variable = ("HOME", home.path().display().to_string());
    let shown = |environment: &[(&str, String)]| identity(environment).unwrap().0.shown();

    let none = [
        ("GOOGLE_APPLICATION_CREDENTIALS", String::new()),
        home_variable.clone(),
    ];
    assert_eq!(
        shown(&none).to_string(),
        "the identity of the metadata server metadata.google.internal"
    );
    std::fs::write(&gclouds, user).unwrap();
    let Shown::File(file) = shown(std::slice::from_ref(&home_variable)) else {
        panic!()
    };
    assert!(file.contains(".config/gcloud"), "{file}");
    let elsewhere = ("CLOUDSDK_CONFIG", home.path().display().to_string());
    assert!(matches!(
        shown(&[home_variable.clone(), elsewhere]),
        Shown::Metadata(_)
    ));
    let file = (
        "GOOGLE_APPLICATION_CREDENTIALS",
        named.display().to_string(),
    );
    assert_eq!(
        shown(&[home_variable, file]),
        Shown::File(format!("the credentials file {}", named.display()))
    );
}
