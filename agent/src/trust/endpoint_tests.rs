use tokio::net::TcpListener;

use super::*;
use crate::{
    cas::tls_front::TlsFront,
    trust::lab::{BundleServer, bundle, nobody, numbered, root},
};

async fn fails(client: &EndpointClient, endpoint: &BundleEndpoint, expected: &str) {
    let error = client.fetch(endpoint).await.unwrap_err().to_string();
    assert!(error.contains(expected), "{expected}: {error}");
    let start = format!("the bundle endpoint {endpoint}: ");
    assert!(error.starts_with(&start), "{error}");
    assert!(error.contains("; "), "no next step: {error}");
    assert!(
        error.len() < 600 && !error.contains(char::is_control),
        "{error}"
    );
}

#[tokio::test]
async fn a_bundle_comes_with_its_sequence_and_its_hint() {
    let server = BundleServer::start().await;
    let roots = [root("one"), root("two")];
    server.serve(&numbered(&roots, 7, 600));
    let answer = server.client().fetch(&server.endpoint()).await.unwrap();
    assert_eq!(answer.roots, roots);
    assert_eq!(answer.sequence, Some(7));
    assert_eq!(answer.refresh_hint, Some(Duration::from_secs(600)));
    assert_eq!(server.front.spoken(), ["h2"]);
    assert_eq!(server.paths(), ["/bundle.json"]);
}

#[tokio::test]
async fn what_is_no_bundle_is_named_and_cut() {
    let server = BundleServer::start().await;
    let (client, endpoint) = (server.client(), server.endpoint());
    fails(&client, &endpoint, "no root for X.509-SVIDs (0 keys").await;
    let evil = format!("<html>\u{1b}[31m{}</html>", "secret ".repeat(10_000));
    for (status, body, expected) in [
        (200, evil.as_str(), "not the JSON"),
        (200, "", "not the JSON"),
        (
            200,
            &format!("{{\"keys\": {:?}}}", "x".repeat(10_000)),
            "invalid type",
        ),
        (204, "", "HTTP 204"),
        (304, "", "HTTP 304"),
        (404, "nothing here", "HTTP 404, \"nothing here\""),
        (503, &evil, "HTTP 503, \"<html>"),
    ] {
        server.answer(status, body);
        fails(&client, &endpoint, expected).await;
    }
    server.answer(200, &" ".repeat(jwks::MAX_BYTES + 1));
    fails(&client, &endpoint, "more than 1 MiB").await;
}

#[tokio::test]
async fn three_redirects_are_followed_and_forgotten() {
    let server = BundleServer::start().await;
    let (client, endpoint) = (server.client(), server.endpoint());
    server.serve(&bundle(&[root("one")]));
    for (status, place) in [(301, "/a"), (302, "b"), (307, "//127.0.0.1:PORT/c?token=x")] {
        let place = match endpoint.as_str().split(['/', ':']).nth(4) {
            Some(port) => place.replace("PORT", port),
            None => panic!("{endpoint}"),
        };
        server.answer_once(status, &place);
    }
    client.fetch(&endpoint).await.unwrap();
    client.fetch(&endpoint).await.unwrap();
    assert_eq!(
        server.paths(),
        ["/bundle.json", "/a", "/b", "/c", "/bundle.json"]
    );
    // One more than that is one too many, though there is a bundle at the end.
    for place in ["/1", "/2", "/3", "/4"] {
        server.answer_once(308, place);
    }
    fails(&client, &endpoint, "redirects more than 3 times").await;
    assert_eq!(server.paths().last().unwrap(), "/3");
}

#[tokio::test]
async fn a_redirect_to_anything_but_https_is_refused() {
    let server = BundleServer::start().await;
    let (client, endpoint) = (server.client(), server.endpoint());
    for (place, expected) in [
        ("http://127.0.0.1:1/hunter2", "not an https:// URL"),
        ("https://hunter2@127.0.0.1:1/", "a user name or a password"),
        ("file:///hunter2", "not an https:// URL"),
        ("", "does not say where to"),
    ] {
        server.answer(302, place);
        fails(&client, &endpoint, expected).await;
        let error = client.fetch(&endpoint).await.unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_prove_itself_is_not_believed() {
    let server = BundleServer::start().await;
    server.serve(&bundle(&[root("one")]));
    // A CA that nobody asked us to trust.
    let other = BundleServer::start().await;
    fails(&other.client(), &server.endpoint(), "could not prove").await;
    fails(&other.client(), &server.endpoint(), "--ca-bundle").await;
    // The right CA, and another name.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = TlsFront::start(listener.local_addr().unwrap(), "example.org", &[]).await;
    let endpoint = format!("{}/", front.endpoint).parse().unwrap();
    let client = EndpointClient::new(&front.roots()).unwrap();
    fails(&client, &endpoint, "could not prove").await;
    // Nobody to believe at all.
    let client = EndpointClient::new(&Roots::none()).unwrap();
    fails(&client, &server.endpoint(), "there are no CA certificates").await;
    assert!(server.paths().is_empty());
}

#[tokio::test]
async fn a_server_that_is_away_or_hangs_is_given_up() {
    let server = BundleServer::start().await;
    let away = format!("https://{}/b?token=hunter2", nobody().await);
    let away: BundleEndpoint = away.parse().unwrap();
    fails(&server.client(), &away, "no connection").await;
    let error = server.client().fetch(&away).await.unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");

    // It accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}/", silent.local_addr().unwrap());
    let timeouts = Timeouts {
        attempt: Duration::from_millis(50),
        ..Timeouts::default()
    };
    let hasty = EndpointClient::with_timeouts(&server.front.roots(), timeouts).unwrap();
    fails(&hasty, &endpoint.parse().unwrap(), "no answer within 50ms").await;
}
