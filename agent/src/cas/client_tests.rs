use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::RawQuery,
    http::{HeaderMap, Uri},
    response::Redirect,
    routing::get,
};
use certagent_core::{outcome::Class, request::RequestForm};
use certagent_emulator::{ApiError, Code, Fault};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    super::lab::{Lab, enterprise, impatient, issuing, pool, refusal, request},
    *,
};
use crate::clock::ManualClock;

async fn failure(lab: &Lab, fault: Fault) -> CallError {
    lab.always(fault);
    let (request, _) = request(issuing(), RequestForm::Config);
    let error = lab
        .client
        .create(&request, &Caller::Agent)
        .await
        .unwrap_err();
    lab.heal();
    assert_eq!(
        (error.call, &error.pool),
        (Call::CreateCertificate, &issuing())
    );
    assert!(
        error.to_string().contains(&issuing().to_string()),
        "{error}"
    );
    error
}

/// Serves an HTTP application of the test's own.
async fn serve(app: Router) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Endpoint::parse(&endpoint).unwrap()
}

#[tokio::test]
async fn the_calls_reach_a_pool_of_each_tier() {
    let lab = Lab::start().await;
    for (pool, tier, length) in [
        (issuing(), super::super::wire::Tier::Devops, 2),
        (enterprise(), super::super::wire::Tier::Enterprise, 1),
    ] {
        assert_eq!(
            lab.client.pool(&pool, &Caller::Agent).await.unwrap().tier,
            tier
        );
        let chains = lab
            .client
            .fetch_ca_certs(&pool, &Caller::Agent)
            .await
            .unwrap();
        assert_eq!(chains.iter().map(Vec::len).collect::<Vec<_>>(), [length]);
        for form in [RequestForm::Config, RequestForm::PemCsr] {
            let (request, spki) = request(pool.clone(), form);
            let raw = lab.client.create(&request, &Caller::Agent).await.unwrap();
            let leaf = Certificate::parse_pem_list(raw.certificate.as_bytes())
                .unwrap()
                .remove(0);
            assert_eq!(leaf.public_key(), spki);
            assert_eq!(raw.chain.len(), length);
        }
    }
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_certificate_and_buys_nothing() {
    let lab = Lab::start().await;
    let (request, _) = request(issuing(), RequestForm::Config);
    let first = lab.client.create(&request, &Caller::Agent).await.unwrap();
    assert_eq!(
        lab.client.create(&request, &Caller::Agent).await.unwrap(),
        first
    );
    assert_eq!(lab.emulator.stats().total_sold(), 1);
}

#[tokio::test]
async fn a_request_that_is_only_validated_is_refused_like_another_and_buys_nothing() {
    let lab = Lab::start().await;
    for pool in [issuing(), enterprise()] {
        let (request, _) = request(pool, RequestForm::Config);
        lab.client.validate(&request, &Caller::Agent).await.unwrap();
    }
    let (missing, _) = request(pool("no-such-pool"), RequestForm::Config);
    let error = lab
        .client
        .validate(&missing, &Caller::Agent)
        .await
        .unwrap_err();
    assert_eq!(
        (error.call, error.http()),
        (Call::ValidateCertificate, Some(404))
    );
    let sent = lab.emulator.create_requests();
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter()
            .all(|one| one.query.contains("validateOnly=true")
                && one.query.contains("certificateId=")
                && !one.query.contains("requestId"))
    );
    assert_eq!(lab.emulator.stats().total_sold(), 0);
}

/// A CA Service whose list of CAs has these pages, and the queries that it got.
async fn lister(page: impl Fn(usize) -> Value + Send + Sync + 'static) -> (CasClient, Queries) {
    let queries = Queries::default();
    let (page, seen) = (Arc::new(page), Arc::clone(&queries));
    let list = move |RawQuery(query): RawQuery| {
        let (page, seen) = (Arc::clone(&page), Arc::clone(&seen));
        async move {
            let mut seen = seen.lock().unwrap();
            seen.push(query.unwrap_or_default());
            Json(page(seen.len() - 1))
        }
    };
    let path = format!("/v1/{}/certificateAuthorities", issuing().resource_name());
    let endpoint = serve(Router::new().route(&path, get(list))).await;
    let client = CasClient::new(&endpoint, Identity::Anonymous).unwrap();
    (client, queries)
}

type Queries = Arc<Mutex<Vec<String>>>;

#[tokio::test]
async fn a_list_of_cas_is_read_page_by_page() {
    let (client, queries) = lister(|page| {
        let ca = |id: usize| json!({ "name": format!("x/{id}"), "state": "ENABLED" });
        match page {
            0 => json!({ "certificateAuthorities": [ca(0), ca(1)], "nextPageToken": "a/b&c=" }),
            // A page may be empty and not the last.
            1 => json!({ "nextPageToken": "d" }),
            _ => json!({ "certificateAuthorities": [ca(2)] }),
        }
    })
    .await;
    let list = client.list_authorities(&issuing(), &Caller::Agent).await;
    let ids: Vec<String> = list.unwrap().iter().map(|ca| ca.id().to_owned()).collect();
    assert_eq!(ids, ["0", "1", "2"]);
    assert_eq!(
        *queries.lock().unwrap(),
        [
            "pageSize=25",
            "pageSize=25&pageToken=a%2Fb%26c%3D",
            "pageSize=25&pageToken=d"
        ]
    );
}

#[tokio::test]
async fn a_list_of_cas_without_an_end_is_not_read_for_ever() {
    for (token, pages) in [("more".to_owned(), MAX_PAGES), ("x".repeat(10_000), 1)] {
        let (client, queries) = lister(move |_| json!({ "nextPageToken": token })).await;
        let error = client
            .list_authorities(&issuing(), &Caller::Agent)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("does not end"), "{error}");
        assert!(error.to_string().len() < 400, "{error}");
        assert_eq!(queries.lock().unwrap().len(), pages);
    }
}

#[tokio::test]
async fn the_clock_of_the_service_comes_with_every_answer() {
    for (sent, expected) in [
        (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            Some("1994-11-06T08:49:37Z"),
        ),
        ("yesterday", None),
        ("", None),
    ] {
        for status in [StatusCode::OK, StatusCode::FORBIDDEN] {
            let answer = move || async move { (status, [(reqwest::header::DATE, sent)], "{}") };
            let endpoint = serve(Router::new().fallback(answer)).await;
            let client = CasClient::new(&endpoint, Identity::Anonymous).unwrap();
            let reply = client.dated_pool(&issuing(), &Caller::Agent).await;
            assert_eq!(reply.value.is_ok(), status == StatusCode::OK);
            assert_eq!(reply.date, expected.map(|date| date.parse().unwrap()));
        }
    }
    let nobody = Endpoint::parse("http://127.0.0.1:1").unwrap();
    let client = CasClient::new(&nobody, Identity::Anonymous).unwrap();
    let reply = client.dated_pool(&issuing(), &Caller::Agent).await;
    assert_eq!((reply.value.is_ok(), reply.date), (false, None));
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_the_same_request_again_finds_the_certificate() {
    let lab = Lab::start().await;
    let (request, spki) = request(issuing(), RequestForm::Config);
    lab.always(Fault::CloseAfter);
    let error = lab
        .client
        .create(&request, &Caller::Agent)
        .await
        .unwrap_err();
    assert_eq!(error.class, Class::Unknown);
    assert!(matches!(*error.reason, Reason::Broken { .. }), "{error:?}");
    lab.heal();
    let raw = lab.client.create(&request, &Caller::Agent).await.unwrap();
    let leaf = Certificate::parse_pem_list(raw.certificate.as_bytes())
        .unwrap()
        .remove(0);
    assert_eq!(leaf.public_key(), spki);
    assert_eq!(lab.emulator.stats().total_sold(), 1);
}

#[tokio::test]
async fn a_certificate_is_found_by_its_id_in_an_enterprise_pool_only() {
    let lab = Lab::start().await;
    let (kept, _) = request(enterprise(), RequestForm::Config);
    let created = lab.client.create(&kept, &Caller::Agent).await.unwrap();
    assert_eq!(
        lab.client
            .get(&kept.pool, &kept.certificate_id, &Caller::Agent)
            .await
            .unwrap(),
        created
    );

    let (not_kept, _) = request(issuing(), RequestForm::Config);
    lab.client.create(&not_kept, &Caller::Agent).await.unwrap();
    let error = lab
        .client
        .get(&issuing(), &not_kept.certificate_id, &Caller::Agent)
        .await
        .unwrap_err();
    assert_eq!(error.class, Class::Refused);
}

#[tokio::test]
async fn nothing_that_listens_means_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = CasClient::new(&Endpoint::parse(&endpoint).unwrap(), Identity::Anonymous).unwrap();
    let (request, _) = request(issuing(), RequestForm::Config);
    let error = client.create(&request, &Caller::Agent).await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable);
    assert_eq!(
        error.to_string(),
        format!(
            "CreateCertificate at the CA pool {}: no connection to {endpoint} (Connection refused \
             (os error 111)), so nothing was sent; check that the endpoint is right and that the \
             CA runs there",
            issuing()
        )
    );
}

#[tokio::test]
async fn a_reset_connection_is_unknown() {
    let lab = Lab::start().await;
    let error = failure(&lab, Fault::CloseBefore).await;
    assert_eq!(error.class, Class::Unknown);
    assert!(matches!(*error.reason, Reason::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn no_answer_is_a_timeout_and_unknown() {
    let lab = Lab::start().await;
    lab.always(Fault::Hang);
    let client = impatient(&lab.endpoint);
    let (request, _) = request(issuing(), RequestForm::Config);
    let error = client.create(&request, &Caller::Agent).await.unwrap_err();
    assert_eq!(error.class, Class::Unknown);
    let expected = format!("no answer from {} within 50ms", lab.endpoint);
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn a_web_page_is_shown_by_its_beginning() {
    let lab = Lab::start().await;
    let error = failure(&lab, Fault::Html { status: 200 }).await;
    assert_eq!(error.class, Class::Unknown);
    assert!(
        matches!(*error.reason, Reason::NotUnderstood { http: 200, .. }),
        "{error:?}"
    );
    let error = failure(&lab, Fault::Html { status: 503 }).await;
    assert_eq!((error.class, error.http()), (Class::Unknown, Some(503)));
    assert!(error.to_string().contains('<'), "{error}");
}

#[tokio::test]
async fn an_answer_of_10_mb_is_not_read() {
    let lab = Lab::start().await;
    let error = failure(&lab, Fault::HugeBody { bytes: 10_000_000 }).await;
    assert_eq!(error.class, Class::Unknown);
    assert!(error.to_string().contains("more than 1 MiB"), "{error}");
}

#[tokio::test]
async fn a_missing_pool_is_refused_by_name() {
    let lab = Lab::start().await;
    let (request, _) = request(pool("no-such-pool"), RequestForm::Config);
    let error = lab
        .client
        .create(&request, &Caller::Agent)
        .await
        .unwrap_err();
    assert_eq!((error.class, error.http()), (Class::Refused, Some(404)));
    assert!(
        error.to_string().contains("caPools/no-such-pool"),
        "{error}"
    );
}

#[tokio::test]
async fn a_quota_tells_how_long_to_wait_by_the_longer_of_both_ways() {
    let lab = Lab::start().await;
    let seconds = Duration::from_secs;
    for (header, info, expected, class) in [
        (None, None, None, Class::Busy),
        (Some(3), None, Some(3), Class::Busy),
        (None, Some(4), Some(4), Class::Busy),
        (Some(3), Some(20), Some(20), Class::Busy),
        (Some(90), Some(20), Some(90), Class::Refused),
    ] {
        let mut error = ApiError::new(Code::ResourceExhausted, "Quota exceeded");
        if let Some(info) = info {
            error = error.with_retry_info(seconds(info));
        }
        let fault = Fault::Error {
            error,
            retry_after: header.map(seconds),
        };
        let error = failure(&lab, fault).await;
        assert_eq!(
            (error.class, error.retry_after),
            (class, expected.map(seconds))
        );
    }
}

#[tokio::test]
async fn a_text_from_the_service_is_cut_and_cannot_steer_a_terminal() {
    let lab = Lab::start().await;
    let text = format!("a\u{1b}[2J\u{202e}\r\n\0b{}", "x".repeat(5000));
    let message = failure(&lab, refusal(Code::Internal, &text))
        .await
        .to_string();
    assert!(
        message.chars().all(|c| !c.is_control() && c != '\u{202e}'),
        "{message:?}"
    );
    assert!(message.chars().count() < 600, "{message}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let away = || async { Redirect::temporary("http://203.0.113.1/") };
    let client = CasClient::new(
        &serve(Router::new().fallback(away)).await,
        Identity::Anonymous,
    )
    .unwrap();
    let error = client.pool(&issuing(), &Caller::Agent).await.unwrap_err();
    assert_eq!((error.class, error.http()), (Class::Refused, Some(307)));
    assert!(
        error.to_string().contains("redirects are not followed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_goes_with_its_call_and_nowhere_else() {
    let echo = |headers: HeaderMap| async move {
        let sent = headers
            .get("authorization")
            .map_or("none", |sent| sent.to_str().unwrap());
        (StatusCode::IM_A_TEAPOT, sent.to_owned())
    };
    let endpoint = serve(Router::new().fallback(echo)).await;
    let error = async |identity| {
        let client = CasClient::new(&endpoint, identity).unwrap();
        client.pool(&issuing(), &Caller::Agent).await.unwrap_err()
    };
    let token = |text: &str| Identity::Given(Token::new(text.to_owned()));
    assert_eq!(format!("{:?}", token("secret-token")), "Given(Token(..))");
    let sent = error(token("secret-token")).await.to_string();
    assert!(sent.contains("Bearer secret-token"), "{sent}");
    let sent = error(Identity::Anonymous).await.to_string();
    assert!(sent.contains("\"none\""), "{sent}");

    let broken = error(token("secret\ntoken")).await;
    assert!(
        !format!("{broken} {broken:?}").contains("secret"),
        "{broken:?}"
    );
}

/// The identity of a metadata server that gives `token-1`, `token-2` and so on.
async fn metadata_identity() -> Identity {
    let given = AtomicUsize::new(0);
    let answer = move || {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        let token = format!(r#"{{"access_token":"token-{number}","expires_in":3600}}"#);
        async move { ([("Metadata-Flavor", "Google")], token) }
    };
    let answer = Arc::new(answer);
    let app = Router::new().fallback(move || answer());
    let host = serve(app).await.to_string().replace("http://", "");
    let variable = move |name: &str| (name == "GCE_METADATA_HOST").then(|| host.clone().into());
    let clock = ManualClock::new(super::super::lab::now());
    Identity::ambient(variable, &Roots::none(), Arc::new(clock)).unwrap()
}

/// A CA Service that knows these tokens, and the calls that it had: token, query and body.
async fn picky(known: &'static [&'static str]) -> (Endpoint, Arc<Mutex<Vec<[String; 3]>>>) {
    let calls = Arc::<Mutex<Vec<[String; 3]>>>::default();
    let heard = Arc::clone(&calls);
    let app = Router::new().fallback(
        move |uri: Uri, headers: HeaderMap, body: String| async move {
            let sent = headers["authorization"].to_str().unwrap().to_owned();
            let is_known = known.iter().any(|token| sent == format!("Bearer {token}"));
            heard.lock().unwrap().push([sent, uri.to_string(), body]);
            if is_known {
                (StatusCode::OK, r#"{"pemCertificate":"a certificate"}"#)
            } else {
                let error = r#"{"error":{"code":401,"message":"Who?","status":"UNAUTHENTICATED"}}"#;
                (StatusCode::UNAUTHORIZED, error)
            }
        },
    );
    (serve(app).await, calls)
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_very_same_request_sent_once_more() {
    let (endpoint, calls) = picky(&["token-2"]).await;
    let client = CasClient::new(&endpoint, metadata_identity().await).unwrap();
    let (request, _) = request(issuing(), RequestForm::Config);
    let raw = client.create(&request, &Caller::Agent).await.unwrap();
    assert_eq!(raw.certificate, "a certificate");
    let calls = calls.lock().unwrap();
    let [first, second] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (&*first[0], &*second[0]),
        ("Bearer token-1", "Bearer token-2")
    );
    assert_eq!(first[1..], second[1..]);
    assert!(first[1].contains(&request.request_id));
}

#[tokio::test]
async fn a_second_refusal_is_the_error_and_names_whose_token_it_was() {
    let (endpoint, calls) = picky(&[]).await;
    let client = CasClient::new(&endpoint, metadata_identity().await).unwrap();
    let (request, _) = request(issuing(), RequestForm::Config);
    let error = client.create(&request, &Caller::Agent).await.unwrap_err();
    assert_eq!((error.class, error.http()), (Class::Denied, Some(401)));
    let said = error.to_string();
    for part in [
        "HTTP 401 for the identity of the metadata server 127.0.0.1:",
        "\"Who?\"",
        "check that the service account",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("token-"), "{said}");
    assert_eq!(calls.lock().unwrap().len(), 2);
    client.create(&request, &Caller::Agent).await.unwrap_err();
    assert_eq!(calls.lock().unwrap().len(), 3, "no third token so soon");
}

/// What was logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_of_any_level_has_a_token_in_it() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (endpoint, calls) = picky(&[]).await;
    let client = CasClient::new(&endpoint, metadata_identity().await).unwrap();
    client.pool(&issuing(), &Caller::Agent).await.unwrap_err();
    assert_eq!(calls.lock().unwrap().len(), 2);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("refused the token of the identity"), "{log}");
    assert!(
        !log.contains("token-1") && !log.contains("token-2"),
        "{log}"
    );
}

#[tokio::test]
async fn whoever_shows_no_identity_is_told_how_to_show_one() {
    let app = Router::new().fallback(|| async { (StatusCode::UNAUTHORIZED, "<html>") });
    let client = CasClient::new(&serve(app).await, Identity::Anonymous).unwrap();
    let error = client.pool(&issuing(), &Caller::Agent).await.unwrap_err();
    assert!(error.to_string().contains("--identity direct"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_http_2_is_an_error_like_any_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 1024];
            if stream.read(&mut some).await.is_ok() {
                let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                drop(stream.write_all(answer).await);
            }
        }
    });
    let client = CasClient::new(&Endpoint::parse(&endpoint).unwrap(), Identity::Anonymous).unwrap();
    let error = client.pool(&issuing(), &Caller::Agent).await.unwrap_err();
    assert!(
        matches!(error.class, Class::Unknown | Class::Unreachable),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(
        message.contains(&endpoint) && message.contains("HTTP/2"),
        "{error}"
    );
}

#[tokio::test]
async fn localhost_is_this_machine_without_a_resolver() {
    let lab = Lab::start().await;
    let local = lab.endpoint.to_string().replace("127.0.0.1", "localhost");
    let client = CasClient::new(&Endpoint::parse(&local).unwrap(), Identity::Anonymous).unwrap();
    client.pool(&issuing(), &Caller::Agent).await.unwrap();
}

#[test]
fn a_chain_with_a_broken_certificate_fails_as_a_whole_and_empty_chains_are_left_out() {
    use super::super::wire::CertChain;
    let answer = |texts: &[&[&str]]| CaCertsAnswer {
        ca_certs: texts
            .iter()
            .map(|texts| CertChain {
                certificates: texts.iter().map(ToString::to_string).collect(),
            })
            .collect(),
    };
    assert!(chains(&answer(&[&[], &[]])).unwrap().is_empty());
    assert!(
        chains(&answer(&[&["not PEM"]]))
            .unwrap_err()
            .contains("without a certificate")
    );
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(
        chains(&answer(&[&[], &[broken]]))
            .unwrap_err()
            .contains("chain 2")
    );
}
