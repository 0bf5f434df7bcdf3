//! Faults of the transport, as a client sees them over HTTP/1.1 and over HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use certagent_emulator::{ApiError, CertificateJson, Code, Fault, FaultRule, Method};
use jiff::SignedDuration;
use reqwest::{Client, StatusCode, Version};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::*;

/// Longer than any test runs.
const FOR_EVER: Duration = Duration::from_secs(3600);

async fn post(server: &Server, client: &Client, n: u32) -> reqwest::Result<reqwest::Response> {
    let url = server.url(&format!("{ISSUING}/certificates?requestId={}", uuid(n)));
    client.post(url).json(&body()).send().await
}

async fn post_ok(server: &Server, client: &Client, n: u32) -> CertificateJson {
    let answer = post(server, client, n).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

/// A request for the pool that the emulator has seen and does not answer.
async fn unanswered(server: &Server, client: &Client) -> JoinHandle<reqwest::Result<StatusCode>> {
    let asked = server.emulator.stats().requests(Method::GetCaPool);
    let request = client.get(server.url(ISSUING)).send();
    let task = tokio::spawn(async { Ok(request.await?.status()) });
    while server.emulator.stats().requests(Method::GetCaPool) == asked {
        tokio::task::yield_now().await;
    }
    task
}

#[tokio::test]
async fn errors_come_for_a_while_by_the_emulators_clock() {
    for client in [http1(), http2()] {
        let server = Server::start().await;
        let away = Fault::error(ApiError::new(Code::Unavailable, "away"));
        let minute = SignedDuration::from_mins(1);
        server
            .emulator
            .set_faults(vec![FaultRule::during(minute, away)]);
        for step in [0, 30, 29] {
            server.clock.step(SignedDuration::from_secs(step));
            let answer = post(&server, &client, 1).await.unwrap();
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(server.emulator.faults().len(), 1);
        server.clock.step(SignedDuration::from_secs(1));
        post_ok(&server, &client, 1).await;
        assert_eq!(server.emulator.faults(), []);
        server.stop().await;
    }
}

#[tokio::test]
async fn latency_holds_the_work_back() {
    for client in [http1(), http2()] {
        let server = Server::start().await;
        server.emulator.set_faults(vec![
            FaultRule::next(1, Fault::Latency(FOR_EVER)).on(Method::GetCaPool),
            FaultRule::next(1, Fault::Latency(Duration::from_millis(1))),
        ]);
        let late = unanswered(&server, &client).await;
        post_ok(&server, &client, 1).await;
        assert_eq!(server.emulator.faults(), []);
        assert!(!late.is_finished());
        late.abort();
        server.stop().await;
    }
}

#[tokio::test]
async fn a_slow_body_is_whole_in_the_end_and_may_be_too_slow() {
    for client in [http1(), http2()] {
        let server = Server::start().await;
        let slow = |chunk_delay| FaultRule::next(1, Fault::SlowBody { chunk_delay });
        server
            .emulator
            .set_faults(vec![slow(Duration::from_millis(1)), slow(FOR_EVER)]);
        let mut answer = post(&server, &client, 1).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let (mut pieces, mut whole) = (0, Vec::new());
        while let Some(piece) = answer.chunk().await.unwrap() {
            pieces += 1;
            whole.extend_from_slice(&piece);
        }
        assert!(pieces > 1, "{pieces}");
        let slowly: CertificateJson = serde_json::from_slice(&whole).unwrap();

        let mut stuck = post(&server, &client, 1).await.unwrap();
        assert_eq!(stuck.status(), StatusCode::OK, "the head does not wait");
        let again = post_ok(&server, &client, 1).await;
        assert_eq!(again.pem_certificate, slowly.pem_certificate);
        let nothing = tokio::select! {
            biased;
            _ = stuck.chunk() => false,
            () = tokio::task::yield_now() => true,
        };
        assert!(nothing);
        drop(stuck);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_lost_reply_ends_its_own_request_and_a_reset_ends_all_of_the_connection() {
    for (fault, others_live) in [(Fault::LostReply, true), (Fault::CloseAfter, false)] {
        let server = Server::start().await;
        let client = http2();
        post_ok(&server, &client, 1).await;
        server.emulator.set_faults(vec![
            FaultRule::next(1, Fault::Latency(FOR_EVER)).on(Method::GetCaPool),
            FaultRule::next(1, fault).on(Method::CreateCertificate),
        ]);
        let other = unanswered(&server, &client).await;
        post(&server, &client, 2).await.unwrap_err();
        assert_eq!(server.emulator.stats().total_sold(), 2, "the work was done");
        // Only when the next request is answered has the client seen what befell the last.
        let replay = post_ok(&server, &client, 2).await;
        assert_eq!(server.emulator.stats().replayed, 1);
        assert!(replay.pem_certificate.is_some());
        if others_live {
            assert!(!other.is_finished());
            other.abort();
        } else {
            other.await.unwrap().unwrap_err();
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_lost_reply_over_http_1_ends_the_connection() {
    let server = Server::start().await;
    let client = http1();
    server
        .emulator
        .set_faults(vec![FaultRule::next(3, Fault::LostReply)]);
    for n in 1..=3 {
        post(&server, &client, n).await.unwrap_err();
    }
    assert_eq!(server.emulator.stats().total_sold(), 3);
    for n in 1..=3 {
        post_ok(&server, &client, n).await;
    }
    assert_eq!(server.emulator.stats().replayed, 3);
    server.stop().await;
}

#[tokio::test]
async fn a_third_of_the_replies_is_lost_and_every_request_gets_its_one_certificate() {
    for client in [http1(), http2()] {
        let server = Server::start().await;
        let rule = FaultRule::always(Fault::LostReply)
            .on(Method::CreateCertificate)
            .share(30, 11);
        server.emulator.set_faults(vec![rule]);
        let asks = (1..=40).map(async |n| {
            let mut attempts = 1;
            while post(&server, &client, n).await.is_err() {
                attempts += 1;
                assert!(attempts < 40);
            }
            attempts
        });
        let attempts: Vec<u64> = futures::future::join_all(asks).await;
        let stats = server.emulator.stats();
        assert_eq!(stats.total_sold(), 40);
        let attempts: u64 = attempts.iter().sum();
        assert!(attempts > 40, "none was lost");
        assert_eq!(stats.replayed, attempts - 40);
        server.stop().await;
    }
}

/// Passes connections on and counts them.
async fn counting_proxy(to: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let to = to.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                // Either side may end as it likes.
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn after_go_away_the_next_request_takes_a_new_connection() {
    for (client, version) in [(http1(), Version::HTTP_11), (http2(), Version::HTTP_2)] {
        let server = Server::start().await;
        let (proxy, connections) = counting_proxy(server.address.to_string()).await;
        let url = format!("http://{proxy}/v1/{ISSUING}");
        let ask = async || {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.version(), version);
            let closing = answer.headers().get("connection").cloned();
            answer.bytes().await.unwrap();
            closing
        };
        assert_eq!(ask().await, None);
        assert_eq!(ask().await, None);
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        server
            .emulator
            .set_faults(vec![FaultRule::next(1, Fault::GoAway)]);
        let closing = ask().await;
        if version == Version::HTTP_11 {
            assert_eq!(closing.unwrap(), "close");
        }
        // Until GOAWAY has come to the client, the old connection still answers.
        let mut asked = 0;
        while connections.load(Ordering::SeqCst) == 1 {
            assert_eq!(ask().await, None);
            asked += 1;
            assert!(asked < 10_000, "the connection stays");
        }
        for _ in 0..5 {
            ask().await;
        }
        assert_eq!(connections.load(Ordering::SeqCst), 2);
        server.stop().await;
    }
}

#[tokio::test]
async fn go_away_loses_no_request() {
    for client in [http1(), http2()] {
        let server = Server::start().await;
        let rule = FaultRule::always(Fault::GoAway).share(20, 5);
        server.emulator.set_faults(vec![rule]);
        for round in 0..5 {
            let asks = (1..=20).map(|n| post_ok(&server, &client, round * 20 + n));
            assert_eq!(futures::future::join_all(asks).await.len(), 20);
        }
        assert_eq!(server.emulator.stats().total_sold(), 100);
        server.stop().await;
    }
}
