use certagent_core::outcome::Class;

use super::{
    super::{CallError, CasClient, Reason, lab::Lab, lab::issuing, tls_front::TlsFront},
    *,
};
use crate::google::{Caller, Identity};

fn address(endpoint: &Endpoint) -> SocketAddr {
    let text = endpoint.to_string();
    text.split_once("://").unwrap().1.parse().unwrap()
}

fn trusting(endpoint: &Endpoint, roots: &Roots) -> CasClient {
    CasClient::with_roots(endpoint, roots, Identity::Anonymous).unwrap()
}

async fn failure(client: &CasClient) -> CallError {
    client.pool(&issuing(), &Caller::Agent).await.unwrap_err()
}

#[tokio::test]
async fn by_https_http_2_is_agreed_on_where_the_server_knows_it() {
    let lab = Lab::start().await;
    for (offered, spoken) in [
        (&["h2", "http/1.1"][..], "h2"),
        (&["http/1.1"], "http/1.1"),
        (&[], ""),
    ] {
        let front = TlsFront::start(address(&lab.endpoint), "127.0.0.1", offered).await;
        let client = trusting(&front.endpoint, &front.roots());
        client.pool(&issuing(), &Caller::Agent).await.unwrap();
        client
            .fetch_ca_certs(&issuing(), &Caller::Agent)
            .await
            .unwrap();
        assert_eq!(front.spoken(), [spoken], "one connection is enough");
    }
}

#[tokio::test]
async fn whoever_cannot_prove_to_be_the_service_gets_no_request() {
    let lab = Lab::start().await;
    let behind = address(&lab.endpoint);
    let front = TlsFront::start(behind, "127.0.0.1", &["h2"]).await;
    let other = TlsFront::start(behind, "127.0.0.1", &["h2"]).await;
    let renamed = TlsFront::start(behind, "privateca.googleapis.com", &["h2"]).await;
    // It answers to a TLS greeting as it would to any nonsense.
    let plain: Endpoint = format!("https://{behind}").parse().unwrap();
    for (client, expected) in [
        (
            trusting(&front.endpoint, &other.roots()),
            "invalid peer certificate",
        ),
        (
            trusting(&renamed.endpoint, &renamed.roots()),
            "not valid for name",
        ),
        (
            trusting(&plain, &front.roots()),
            "no TLS with https://127.0.0.1",
        ),
    ] {
        let error = failure(&client).await;
        assert_eq!(error.class, Class::Unreachable, "{error}");
        assert!(matches!(*error.reason, Reason::NoTls { .. }), "{error:?}");
        for part in [expected, "--ca-bundle", "nothing was sent"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    assert_eq!(front.spoken(), [] as [&str; 0]);
}

#[tokio::test]
async fn without_ca_certificates_there_is_no_https_client() {
    let endpoint = Endpoint::parse("https://privateca.googleapis.com").unwrap();
    let error = CasClient::new(&endpoint, Identity::Anonymous).unwrap_err();
    assert!(matches!(error, ClientError::NoRoots { .. }), "{error}");
    assert!(error.to_string().contains("no CA certificates"), "{error}");
}
