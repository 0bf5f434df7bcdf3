//! The examples, run: each is a module here, and its functions serve while certificates rotate.
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
#[expect(dead_code, reason = "the other tests ask for more")]
mod world;

#[path = "../examples/axum_server.rs"]
#[expect(dead_code, reason = "main is for the command line")]
mod axum_server;
#[path = "../examples/reqwest_client.rs"]
#[expect(dead_code, reason = "main is for the command line")]
mod reqwest_client;
#[path = "../examples/tokio_rustls.rs"]
#[expect(dead_code, reason = "main is for the command line")]
mod tokio_example;

use certagent_credentials::authorize;
use fixture::Authority;
use tokio::net::TcpListener;
use world::{CLIENT, SERVER, Workload};

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn tokio_rustls_greets_while_both_sides_rotate() {
    let home = Authority::new("example.org");
    let (server, client) = (Workload::new(&home, SERVER), Workload::new(&home, CLIENT));
    let (listener, address) = listener().await;
    let rule = authorize::same_trust_domain();
    tokio::spawn(tokio_example::serve(
        server.credentials.clone(),
        listener,
        rule,
    ));
    let connector = tokio_example::connector(&client.credentials, SERVER).unwrap();
    for _ in 0..3 {
        let asked = tokio_example::ask(&connector, &address).await;
        let (said, certificate) = asked.unwrap();
        assert_eq!(said, format!("hello, {CLIENT} with {}", client.serial()));
        assert_eq!(certificate.serial_hex(), server.serial());
        server.rotate(&home);
        client.rotate(&home);
    }
    let wrong = tokio_example::connector(&client.credentials, CLIENT).unwrap();
    let refused = tokio_example::ask(&wrong, &address).await;
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains(&format!("{SERVER} is not authorised")),
        "{error}"
    );
}

#[tokio::test]
async fn reqwest_asks_axum_while_both_sides_rotate() {
    let home = Authority::new("example.org");
    let (server, client) = (Workload::new(&home, SERVER), Workload::new(&home, CLIENT));
    let (listener, address) = listener().await;
    tokio::spawn(axum_server::serve(server.credentials.clone(), listener));
    let url = format!("https://{address}/");
    let get = async |client: &reqwest::Client| {
        let response = client.get(&url).send().await?;
        response.error_for_status()?.text().await
    };
    let one = reqwest_client::client(&client.credentials, SERVER).unwrap();
    for _ in 0..3 {
        assert_eq!(get(&one).await.unwrap(), format!("hello, {CLIENT}"));
        server.rotate(&home);
        client.rotate(&home);
        // The one client goes on with its connection; another has to make a new one.
        let another = reqwest_client::client(&client.credentials, SERVER).unwrap();
        assert_eq!(get(&another).await.unwrap(), format!("hello, {CLIENT}"));
    }
    let wrong = reqwest_client::client(&client.credentials, CLIENT).unwrap();
    assert!(get(&wrong).await.is_err());
    let stranger = Workload::new(&Authority::new("example.org"), CLIENT);
    let stranger = reqwest_client::client(&stranger.credentials, SERVER).unwrap();
    assert!(get(&stranger).await.is_err());
}
