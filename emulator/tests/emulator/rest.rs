use certagent_emulator::{EmulatorError, Method, ServeOptions, serve, serve_with};
use reqwest::{StatusCode, Version};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::*;

fn create_url(server: &Server, n: u32) -> String {
    server.url(&format!("{ISSUING}/certificates?requestId={}", uuid(n)))
}

#[tokio::test]
async fn http_1_1_and_http_2_are_served_on_one_port() {
    let server = Server::start().await;
    for (n, client, version) in [
        (1, http1(), Version::HTTP_11),
        (2, http2(), Version::HTTP_2),
    ] {
        let answer = client
            .post(create_url(&server, n))
            .json(&body())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.version(), version);
        let answer = answer.json().await.unwrap();
        verify(&server.emulator, &answer, server.clock.now()).unwrap();
    }
    assert_eq!(server.emulator.stats().total_sold(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_create_answers_in_the_services_json_and_again_in_the_same_bytes() {
    let server = Server::start().await;
    let client = http2();
    let send = async || {
        let answer = client
            .post(create_url(&server, 1))
            .json(&body())
            .send()
            .await
            .unwrap();
        answer.text().await.unwrap()
    };
    let text = send().await;
    assert_eq!(send().await, text);
    let json: Value = serde_json::from_str(&text).unwrap();
    let description = &json["certificateDescription"];
    assert_eq!(json["lifetime"], "3600s");
    assert_eq!(json["config"], body()["config"]);
    assert_eq!(json["pemCertificateChain"].as_array().unwrap().len(), 2);
    assert_eq!(json["createTime"], json["updateTime"]);
    assert_eq!(description["subjectDescription"]["lifetime"], "3600s");
    assert_eq!(description["subjectDescription"]["subject"], json!({}));
    assert_eq!(
        description["subjectDescription"]["subjectAltName"],
        json!({ "uris": [ID] })
    );
    assert_eq!(
        description["subjectDescription"]["notBeforeTime"],
        "2027-01-15T08:00:00Z"
    );
    assert_eq!(
        description["subjectDescription"]["notAfterTime"],
        "2027-01-15T08:59:59Z"
    );
    assert_eq!(
        description["x509Description"],
        json!({
            "keyUsage": body()["config"]["x509Config"]["keyUsage"],
            "caOptions": { "isCa": false },
        })
    );
    assert_eq!(description["publicKey"]["format"], "PEM");
    assert_eq!(server.emulator.create_requests().len(), 2);
    let seen = &server.emulator.create_requests()[0];
    assert_eq!(seen.parent, ISSUING);
    assert_eq!(seen.query, format!("requestId={}", uuid(1)));
    assert_eq!(seen.body, body().to_string().as_bytes());
    server.stop().await;
}

#[tokio::test]
async fn pools_chains_and_certificates_can_be_read() {
    let server = Server::start().await;
    let client = http2();
    let get = async |path: &str| -> Value {
        client
            .get(server.url(path))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    };
    assert_eq!(
        get(ISSUING).await,
        json!({
            "name": ISSUING,
            "tier": "DEVOPS",
            "issuancePolicy": {},
            "publishingOptions": { "publishCaCert": true, "encodingFormat": "PEM" },
        })
    );
    assert_eq!(get(ROOT).await["tier"], "ENTERPRISE");
    for sent in ["", "{}", r#"{"requestId":"x"}"#] {
        let url = server.url(&format!("{ISSUING}:fetchCaCerts"));
        let answer = client.post(url).body(sent).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let expected = &server.emulator.fetch_ca_certs(ISSUING).unwrap().ca_certs[0].certificates;
        assert_eq!(answer, json!({ "caCerts": [{ "certificates": expected }] }));
    }
    let url = server.url(&format!("{ROOT}/certificates?certificateId=cart"));
    let made: Value = client
        .post(url)
        .json(&body())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(get(&format!("{ROOT}/certificates/cart")).await, made);
    let stats = server.emulator.stats();
    assert_eq!(stats.requests(Method::GetCaPool), 2);
    assert_eq!(stats.requests(Method::FetchCaCerts), 3);
    assert_eq!(stats.requests(Method::CreateCertificate), 1);
    assert_eq!(stats.requests(Method::GetCertificate), 1);
    server.stop().await;
}

#[tokio::test]
async fn errors_have_googles_shape() {
    let server = Server::start().await;
    let client = http1();
    let certificates = format!("{ISSUING}/certificates");
    let huge = " ".repeat((1 << 20) + 1);
    for (verb, path, sent, code, status) in [
        (
            "GET",
            "projects/p/locations/l/caPools/none",
            "",
            404,
            "NOT_FOUND",
        ),
        ("GET", "nothing", "", 404, "NOT_FOUND"),
        ("POST", ISSUING, "", 404, "NOT_FOUND"),
        (
            "POST",
            &certificates,
            r#"{"oops":1}"#,
            400,
            "INVALID_ARGUMENT",
        ),
        ("POST", &certificates, &huge, 400, "INVALID_ARGUMENT"),
        (
            "POST",
            &format!("{certificates}?requestid=1"),
            "{}",
            400,
            "INVALID_ARGUMENT",
        ),
        ("GET", &certificates, "", 400, "FAILED_PRECONDITION"),
        (
            "GET",
            &format!("{certificates}/a"),
            "",
            400,
            "FAILED_PRECONDITION",
        ),
        (
            "POST",
            &format!("{certificates}/a:revoke"),
            "{}",
            400,
            "FAILED_PRECONDITION",
        ),
        (
            "PATCH",
            &format!("{certificates}/a?updateMask=labels"),
            "{}",
            400,
            "FAILED_PRECONDITION",
        ),
        (
            "PATCH",
            &format!("{ROOT}/certificates/a?updateMask=labels"),
            r#"{"lables":{}}"#,
            400,
            "INVALID_ARGUMENT",
        ),
        (
            "POST",
            &format!("{ROOT}/certificates/a:revoke"),
            "{}",
            404,
            "NOT_FOUND",
        ),
        (
            "POST",
            &format!("{ISSUING}:fetchCaCerts"),
            r#"{"a":1}"#,
            400,
            "INVALID_ARGUMENT",
        ),
    ] {
        let request = client.request(verb.parse().unwrap(), server.url(path));
        let answer = request.body(sent.to_owned()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), code, "{verb} {path}");
        let json: Value = answer.json().await.unwrap();
        assert_eq!(json["error"]["code"], code);
        assert_eq!(json["error"]["status"], status, "{verb} {path}");
        assert!(!json["error"]["message"].as_str().unwrap().is_empty());
    }
    server.stop().await;
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_not_served() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = serve(emulator, listener, std::future::pending())
        .await
        .unwrap_err();
    assert!(matches!(error, EmulatorError::NotLoopback(_)));
    assert!(error.to_string().contains("127.0.0.1"));
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_served_when_that_is_said() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = ServeOptions { allow_remote: true };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve_with(emulator, listener, options, async {
        drop(stopped.await);
    }));
    let url = format!("http://127.0.0.1:{port}/v1/{ISSUING}");
    assert_eq!(http2().get(url).send().await.unwrap().status(), 200);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
