//! tonic: the example, run while certificates rotate, and what it does to those it does not serve.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by a panic, as tests do"
)]
#[path = "../src/fixture.rs"]
#[expect(
    dead_code,
    reason = "what the library's own tests bend is not bent here"
)]
mod fixture;
mod world;

#[path = "../examples/tonic_pair.rs"]
#[expect(dead_code, reason = "main is for the command line")]
mod tonic_pair;

use certagent_credentials::authorize;
use fixture::Authority;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::Code;
use world::{CLIENT, GUARD, SERVER, Workload};

/// A server on a port of its own.
async fn serve(server: &Workload) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(tonic_pair::serve(server.credentials.clone(), listener));
    address
}

#[tokio::test]
async fn a_pair_talks_while_both_sides_rotate() {
    let home = Authority::new("example.org");
    let (server, client) = (Workload::new(&home, SERVER), Workload::new(&home, CLIENT));
    let address = serve(&server).await;
    for _ in 0..3 {
        let channel = tonic_pair::channel(&client.credentials, &address, SERVER).await;
        assert_eq!(
            tonic_pair::check(channel.unwrap()).await.unwrap(),
            "Serving"
        );
        server.rotate(&home);
        client.rotate(&home);
    }
}

#[tokio::test]
async fn a_method_can_refuse_whom_the_connection_let_in() {
    let home = Authority::new("example.org");
    let banned = "spiffe://example.org/ns/shop/sa/banned";
    let (server, client) = (Workload::new(&home, SERVER), Workload::new(&home, banned));
    let address = serve(&server).await;
    let channel = tonic_pair::channel(&client.credentials, &address, SERVER).await;
    let status = tonic_pair::check(channel.unwrap()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains(banned), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_is_told_to_the_application_with_both_ids() {
    let (home, abroad) = (
        Authority::new("example.org"),
        Authority::new("partner.example"),
    );
    let (server, client) = (Workload::new(&home, SERVER), Workload::new(&home, CLIENT));
    let address = serve(&server).await;

    // The client refuses the server, which hears that it hung up.
    let wrong = tonic_pair::channel(&client.credentials, &address, CLIENT).await;
    assert!(wrong.is_err());
    let said = client.refusal();
    assert!(
        said.contains(&format!("{SERVER} is not authorised to talk with {CLIENT}")),
        "{said}"
    );
    assert!(!server.refusal().is_empty());

    // The server refuses a guest, who trusts it and is done with its own part of the handshake.
    let stranger = "spiffe://partner.example/ns/shop/sa/till";
    let guest = abroad.issue(stranger).trusting(&[&abroad, &home]);
    let guest = Workload::with(&guest, stranger);
    if let Ok(channel) = tonic_pair::channel(&guest.credentials, &address, SERVER).await {
        assert!(tonic_pair::check(channel).await.is_err());
    }
    let said = server.refusal();
    assert!(
        said.contains(stranger) && said.contains("without roots here"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_connection_tells_which_certificate_its_peer_has_presented() {
    use tonic::codegen::tokio_stream::StreamExt as _;
    let home = Authority::new("example.org");
    let (server, client) = (Workload::new(&home, SERVER), Workload::new(&home, CLIENT));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rule = authorize::same_trust_domain();
    let mut incoming = server.credentials.tonic_incoming(listener, rule).unwrap();
    let address = incoming.local_addr().unwrap().to_string();
    for _ in 0..2 {
        let (credentials, to) = (client.credentials.clone(), address.clone());
        let asks =
            tokio::spawn(async move { tonic_pair::channel(&credentials, &to, SERVER).await });
        let connection = timeout(GUARD, incoming.next()).await.unwrap();
        let connection = connection.unwrap().unwrap();
        let peer = connection.peer();
        assert_eq!(peer.spiffe_id().to_string(), CLIENT);
        assert_eq!(peer.certificate().serial_hex(), client.serial());
        asks.abort();
        client.rotate(&home);
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_holds_up_nobody() {
    let home = Authority::new("example.org");
    let (server, client) = (Workload::new(&home, SERVER), Workload::new(&home, CLIENT));
    let address = serve(&server).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let channel = timeout(
        GUARD,
        tonic_pair::channel(&client.credentials, &address, SERVER),
    );
    let channel = channel.await.unwrap().unwrap();
    assert_eq!(tonic_pair::check(channel).await.unwrap(), "Serving");
}

#[tokio::test]
async fn an_address_without_a_host_and_one_where_nobody_listens_are_told() {
    use tower::ServiceExt as _;
    let home = Authority::new("example.org");
    let client = Workload::new(&home, CLIENT);
    let connector = client
        .credentials
        .tonic_connector(authorize::same_trust_domain());
    let connector = connector.unwrap();
    let error = connector.clone().oneshot("/path".parse().unwrap()).await;
    assert!(error.unwrap_err().to_string().contains("has no host"));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = connector
        .oneshot(format!("http://{address}").parse().unwrap())
        .await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}
