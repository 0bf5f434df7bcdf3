use std::path::PathBuf;

use tokio::net::TcpListener;

use super::*;

async fn served(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 64];
        let _read = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    address
}

#[tokio::test]
async fn the_driver_s_own_word_is_taken_from_its_admin_server() {
    let ready = served("HTTP/1.0 200 OK\r\n\r\nready\n").await;
    assert_eq!(readyz(ready).await, Ok(Ok(())));
    let not = served("HTTP/1.0 503 Service Unavailable\r\ndate: x\r\n\r\nnot yet\n").await;
    assert_eq!(readyz(not).await, Ok(Err("not yet".to_owned())));
    let other = served("HTTP/1.0 404 Not Found\r\n\r\n").await;
    assert!(readyz(other).await.unwrap_err().contains("another server"));
    let nobody = "127.0.0.1:1".parse().unwrap();
    assert!(readyz(nobody).await.unwrap_err().contains("/readyz"));
}

fn wanted(root: PathBuf) -> Wanted {
    let driver = "driver.example.com";
    Wanted {
        places: Places::new(root, driver.parse().unwrap()),
        driver: driver.to_owned(),
        tokens: Tokens::NotNeeded,
        node: Some("node-1".to_owned()),
        admin: None,
        adopt_foreign: false,
        settings: Settings::default(),
        files: None,
    }
}

#[tokio::test]
async fn a_machine_without_a_driver_and_without_an_api_server_is_told_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let wanted = wanted(root.path().join("kubelet"));
    let facts = gather(&wanted, Err("nobody said where it is".to_owned())).await;
    for (fault, told) in [
        (facts.plain.unwrap_err(), "kubelet/pods is missing"),
        (facts.socket.map(drop).unwrap_err(), "No such file"),
        (facts.announced.map(drop).unwrap_err(), "No such file"),
        (facts.volumes.map(drop).unwrap_err(), "No such file"),
    ] {
        assert!(fault.text.contains(told), "{fault:?}");
        assert!(!fault.is_unseen, "{fault:?}");
    }
    assert_eq!(facts.cluster.unwrap_err(), "nobody said where it is");
    assert!(facts.ready.is_none() && facts.objects.is_none());
}

#[tokio::test]
async fn files_are_read_though_the_api_server_is_away() {
    let root = tempfile::tempdir().unwrap();
    let mut wanted = wanted(root.path().to_owned());
    wanted.files = Some(ConfigFiles::new(
        vec![root.path().join("nothing.yaml")],
        Settings::default(),
    ));
    let facts = gather(&wanted, Err("away".to_owned())).await;
    let found = facts.objects.unwrap().unwrap();
    assert!(found.problems[0].to_string().contains("nothing.yaml"));
}
