//! The service's quotas over HTTP, by a clock that the tests step.

use certagent_emulator::{Method, PoolName, Quotas, ReplayForm};
use jiff::SignedDuration;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::*;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

async fn post(server: &Server, client: &Client, query: &str, body: &Value) -> Response {
    let url = server.url(&format!("{ISSUING}/certificates?{query}"));
    client.post(url).json(body).send().await.unwrap()
}

#[tokio::test]
async fn a_devops_ca_signs_twenty_five_in_a_second_and_a_thousand_in_forty() {
    let server = Server::start().await;
    let client = http2();
    server
        .emulator
        .set_quotas(Quotas::Service { retry_info: false });
    let mut left: Vec<u32> = (1..=1_000).collect();
    let mut seconds = 0;
    while !left.is_empty() {
        // A client that paces itself badly: a little more than passes, each second.
        let asks = left.drain(..left.len().min(30)).map(async |n| {
            let query = format!("requestId={}", uuid(n));
            (n, post(&server, &client, &query, &body()).await.status())
        });
        let answers: Vec<(u32, StatusCode)> = futures::future::join_all(asks).await;
        for (n, status) in answers {
            match status {
                StatusCode::OK => {}
                StatusCode::TOO_MANY_REQUESTS => left.push(n),
                other => panic!("{other}"),
            }
        }
        server.clock.step(SECOND);
        seconds += 1;
    }
    assert_eq!(seconds, 40);
    let stats = server.emulator.stats();
    assert_eq!(stats.total_sold(), 1_000);
    // Five too many in every second but the last, which has only what is left.
    assert_eq!(stats.quota_refused, 39 * 5);
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_says_how_long_to_wait_if_told_to() {
    let server = Server::start().await;
    let client = http1();
    for retry_info in [false, true] {
        server.emulator.set_quotas(Quotas::Service { retry_info });
        for _ in 0..25 {
            assert_eq!(post(&server, &client, "", &body()).await.status(), 200);
        }
        let answer = post(&server, &client, "", &body()).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let header = answer.headers().get("retry-after").cloned();
        let error: Value = answer.json().await.unwrap();
        let details = error["error"]["details"].as_array().unwrap();
        assert_eq!(error["error"]["status"], "RESOURCE_EXHAUSTED");
        assert_eq!(details[0]["reason"], "RATE_LIMIT_EXCEEDED");
        if retry_info {
            assert_eq!(header.unwrap(), "1");
            assert_eq!(details[1]["retryDelay"], "0.04s");
        } else {
            assert_eq!((header, details.len()), (None, 1));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn replays_checks_and_refused_requests_count_as_well() {
    let server = Server::start().await;
    let client = http2();
    server
        .emulator
        .set_quotas(Quotas::Service { retry_info: false });
    let replayed = format!("requestId={}", uuid(1));
    for _ in 0..10 {
        assert_eq!(
            post(&server, &client, &replayed, &body()).await.status(),
            200
        );
    }
    for _ in 0..10 {
        let answer = post(&server, &client, "validateOnly=true", &body()).await;
        assert_eq!(answer.status(), 200);
    }
    for _ in 0..5 {
        assert_eq!(post(&server, &client, "", &json!({})).await.status(), 400);
    }
    assert_eq!(
        post(&server, &client, &replayed, &body()).await.status(),
        429
    );
    assert_eq!(server.emulator.stats().total_sold(), 1);
    assert_eq!(server.emulator.stats().quota_refused, 1);
    // Other methods have quotas of their own.
    let answer = client.get(server.url(ISSUING)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(server.emulator.stats().requests(Method::GetCaPool), 1);
    server.stop().await;
}

#[tokio::test]
async fn tiers_differ_and_the_pools_of_a_location_share_its_hundred() {
    let mut config = guide();
    config.quotas = Quotas::Service { retry_info: false };
    let first = config.pools[1].clone();
    for n in 2..=5 {
        let mut pool = first.clone();
        pool.name = PoolName::new("p", "l", &format!("issuing-{n}")).unwrap();
        config.pools.push(pool);
    }
    let mut far = first.clone();
    far.name = PoolName::new("p", "far", "issuing").unwrap();
    config.pools.push(far.clone());
    let server = Server::with(config).await;
    let client = http2();
    // How many of thirty creates pass in this second.
    let passing = async |pool: &str| {
        let mut passed = 0;
        for n in 0..30 {
            let url = server.url(&format!("{pool}/certificates?certificateId=c{n}"));
            let answer = client.post(url).json(&body()).send().await.unwrap();
            passed += usize::from(answer.status() != StatusCode::TOO_MANY_REQUESTS);
        }
        passed
    };
    assert_eq!(passing(ROOT).await, 7, "ENTERPRISE");
    for (pool, passes) in [(2, 25), (3, 25), (4, 25), (5, 18)] {
        let pool = format!("projects/p/locations/l/caPools/issuing-{pool}");
        assert_eq!(passing(&pool).await, passes, "{pool}");
    }
    assert_eq!(
        passing(ISSUING).await,
        0,
        "its CA is idle, its location is not"
    );
    assert_eq!(passing(&far.name.to_string()).await, 25);
    server.clock.step(SECOND);
    assert_eq!(passing(ISSUING).await, 25);
    server.stop().await;
}

#[tokio::test]
async fn a_pool_has_the_sum_of_its_enabled_cas_and_a_named_one_its_own() {
    let server = Server::start().await;
    let client = http2();
    let cas = format!("{ISSUING}/certificateAuthorities");
    let change = async |path: &str, body: &Value| {
        let request = client.post(server.url(path)).json(body);
        assert_eq!(request.send().await.unwrap().status(), 200, "{path}");
    };
    let ca = json!({
        "type": "SELF_SIGNED",
        "lifetime": "315360000s",
        "keySpec": { "algorithm": "EC_P256_SHA256" },
        "config": {
            "subjectConfig": { "subject": { "commonName": "second", "organization": "o" } },
            "x509Config": {
                "caOptions": { "isCa": true },
                "keyUsage": { "baseKeyUsage": { "certSign": true, "crlSign": true } },
            },
        },
    });
    change(&format!("{cas}?certificateAuthorityId=second"), &ca).await;
    server
        .emulator
        .set_quotas(Quotas::Service { retry_info: false });
    // How many of sixty creates pass in a second of their own.
    let passing = async |query: &str| {
        server.clock.step(SECOND);
        let mut passed = 0;
        for _ in 0..60 {
            let status = post(&server, &client, query, &body()).await.status();
            passed += usize::from(status == StatusCode::OK);
        }
        passed
    };
    let named = "issuingCertificateAuthorityId=second";
    assert_eq!(passing("").await, 25, "a staged CA adds nothing");
    assert_eq!(passing(named).await, 25);
    change(&format!("{cas}/second:enable"), &json!({})).await;
    assert_eq!(passing("").await, 50);
    assert_eq!(passing(named).await, 25);
    change(&format!("{cas}/second:disable"), &json!({})).await;
    assert_eq!(passing("").await, 25);
    assert_eq!(passing(named).await, 0, "and not for the quota's sake");
    assert_eq!(post(&server, &client, named, &body()).await.status(), 400);
    server.stop().await;
}

#[test]
fn a_repeated_request_is_answered_in_three_forms_and_never_sold_again() {
    let (emulator, _) = emulator();
    let ask = || create(&emulator, ISSUING, &request(1), &body());
    let first = ask().unwrap();
    assert_eq!(emulator.replay_form(), ReplayForm::SameCertificate);
    assert_eq!(ask().unwrap(), first);

    emulator.set_replay_form(ReplayForm::AlreadyExists);
    let error = ask().unwrap_err();
    assert_eq!(error.code.http(), 409);
    assert_eq!(
        error.message,
        format!("Resource '{}' already exists.", first.name)
    );

    emulator.set_replay_form(ReplayForm::WithoutCertificate);
    let bare = ask().unwrap();
    assert_eq!(bare.name, first.name);
    assert_eq!(bare.pem_certificate, None);
    assert!(bare.pem_certificate_chain.is_empty());

    let other = create(&emulator, ISSUING, &request(2), &body()).unwrap();
    assert!(
        other.pem_certificate.is_some(),
        "a first request is not a replay"
    );
    emulator.set_replay_form(ReplayForm::SameCertificate);
    assert_eq!(ask().unwrap(), first, "what was kept is whole");
    assert_eq!(emulator.stats().total_sold(), 2);
    assert_eq!(emulator.stats().replayed, 4);
}
