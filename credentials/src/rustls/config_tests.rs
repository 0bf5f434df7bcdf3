use std::path::Path;

use rustls::{
    ClientConnection, HandshakeKind, ServerConnection, crypto::aws_lc_rs::default_provider,
    pki_types::ServerName,
};

use super::*;
use crate::{
    Event, PeerError, SpiffeId, authorize,
    fixture::{Authority, Credential, ID, NOW},
    peer_id,
};

const PEER: &str = "spiffe://example.org/ns/shop/sa/till";

fn open(directory: &Path, resumption: bool) -> Credentials {
    let builder = Credentials::builder(directory)
        .clock(|| NOW.parse().unwrap())
        .crypto_provider(Arc::new(default_provider()));
    let builder = if resumption {
        builder.allow_resumption()
    } else {
        builder
    };
    builder.open().unwrap()
}

/// The two sides of a trust domain, each with a directory of its own.
struct Pair {
    home: Authority,
    server_dir: tempfile::TempDir,
    client_dir: tempfile::TempDir,
    server: Credentials,
    client: Credentials,
}

impl Pair {
    fn new(resumption: bool) -> Self {
        let home = Authority::new("example.org");
        let [server_dir, client_dir] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        home.issue(ID).write(server_dir.path());
        home.issue(PEER).write(client_dir.path());
        Self {
            server: open(server_dir.path(), resumption),
            client: open(client_dir.path(), resumption),
            home,
            server_dir,
            client_dir,
        }
    }

    fn configs(&self) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let server = self.server.server_config(authorize::id(PEER).unwrap());
        let client = self.client.client_config(authorize::id(ID).unwrap());
        (Arc::new(server.unwrap()), Arc::new(client.unwrap()))
    }
}

/// A handshake in memory, to its end.
fn handshake(
    (server, client): &(Arc<ServerConfig>, Arc<ClientConfig>),
) -> Result<(ServerConnection, ClientConnection), rustls::Error> {
    let name = ServerName::try_from("any.name.at.all").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        feed(&wire, |bytes| server.read_tls(bytes).unwrap());
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        feed(&wire, |bytes| client.read_tls(bytes).unwrap());
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((server, client))
}

fn feed(mut wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> usize) {
    while !wire.is_empty() {
        read(&mut wire);
    }
}

fn presented(connection: &rustls::CommonState) -> String {
    let leaf = connection.peer_certificates().unwrap()[0].clone();
    let leaf = certagent_svid::Certificate::from_der(leaf).unwrap();
    leaf.serial_hex()
}

fn refusal(error: &rustls::Error) -> &PeerError {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
            other.0.downcast_ref().unwrap()
        }
        error => panic!("{error}"),
    }
}

#[test]
fn both_sides_know_each_other_in_both_versions_of_tls() {
    let pair = Pair::new(false);
    let configs = pair.configs();
    let (server, client) = handshake(&configs).unwrap();
    assert_eq!(peer_id(&server).unwrap().to_string(), PEER);
    assert_eq!(peer_id(&client).unwrap().to_string(), ID);
    assert_eq!(
        server.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );

    let mut old =
        ClientConfig::builder_with_details(Arc::new(default_provider()), pair.client.time())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(
                pair.client.verifier(authorize::id(ID).unwrap()).unwrap(),
            )
            .with_client_cert_resolver(pair.client.resolver().unwrap());
    old.resumption = Resumption::disabled();
    let (server, _) = handshake(&(configs.0, Arc::new(old))).unwrap();
    assert_eq!(
        server.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_2)
    );
    assert_eq!(peer_id(&server).unwrap().to_string(), PEER);
}

#[test]
fn a_new_generation_is_on_the_wire_at_the_next_handshake_of_the_same_configurations() {
    let pair = Pair::new(false);
    let configs = pair.configs();
    let (standing, _) = handshake(&configs).unwrap();
    let new = pair.home.issue(PEER);
    new.write(pair.client_dir.path());
    pair.client.reload().unwrap();
    let (server, _) = handshake(&configs).unwrap();
    assert_eq!(presented(&server), new.serial());
    assert_ne!(
        presented(&standing),
        new.serial(),
        "one that stands keeps the old"
    );
}

#[test]
fn a_root_that_is_removed_is_not_trusted_at_the_next_handshake() {
    let pair = Pair::new(false);
    let configs = pair.configs();
    handshake(&configs).unwrap();
    // The server has moved to another root, and still presents what the client trusts.
    let moved = Authority::new("example.org");
    let server = pair.home.issue(ID).trusting(&[&moved]);
    server.write(pair.server_dir.path());
    pair.server.reload().unwrap();
    let error = handshake(&configs).unwrap_err();
    assert!(
        matches!(refusal(&error), PeerError::Chain { .. }),
        "{error}"
    );
}

#[test]
fn each_side_refuses_whom_its_rule_does_not_name() {
    let pair = Pair::new(false);
    let nobody = |_: &SpiffeId| false;
    let (server, client) = pair.configs();
    let strict = Arc::new(pair.server.server_config(nobody).unwrap());
    let error = handshake(&(strict, client)).unwrap_err();
    assert!(
        matches!(refusal(&error), PeerError::NotAuthorized { .. }),
        "{error}"
    );
    // As who uses an HTTP client meets it.
    let wrapped = std::io::Error::other(error);
    assert!(matches!(
        PeerError::of(&wrapped),
        Some(PeerError::NotAuthorized { .. })
    ));
    assert!(PeerError::of(&std::io::Error::other("something else")).is_none());
    let strict = Arc::new(pair.client.client_config(nobody).unwrap());
    let error = handshake(&(server, strict)).unwrap_err();
    assert!(
        matches!(refusal(&error), PeerError::NotAuthorized { .. }),
        "{error}"
    );
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let pair = Pair::new(false);
    let (server, _) = pair.configs();
    let client =
        ClientConfig::builder_with_details(Arc::new(default_provider()), pair.client.time())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(
                pair.client.verifier(authorize::id(ID).unwrap()).unwrap(),
            )
            .with_no_client_auth();
    let error = handshake(&(server, Arc::new(client))).unwrap_err();
    assert_eq!(error, rustls::Error::NoCertificatesPresented);
}

#[test]
fn sessions_are_resumed_only_if_that_was_allowed() {
    for (allowed, second) in [(false, HandshakeKind::Full), (true, HandshakeKind::Resumed)] {
        let pair = Pair::new(allowed);
        let configs = pair.configs();
        handshake(&configs).unwrap();
        let (server, client) = handshake(&configs).unwrap();
        assert_eq!(server.handshake_kind(), Some(second), "allowed: {allowed}");
        assert_eq!(peer_id(&client).unwrap().to_string(), ID);
    }
}

#[test]
fn neither_side_alone_can_have_a_session_resumed() {
    let (strict, lax) = (Pair::new(false), Pair::new(true));
    // The same trust on both: one authority, four directories.
    for dir in [&lax.server_dir, &lax.client_dir] {
        let id = if dir.path() == lax.server_dir.path() {
            ID
        } else {
            PEER
        };
        strict.home.issue(id).write(dir.path());
    }
    lax.server.reload().unwrap();
    lax.client.reload().unwrap();
    let (strict, lax) = (strict.configs(), lax.configs());
    for configs in [(strict.0, lax.1), (lax.0, strict.1)] {
        handshake(&configs).unwrap();
        let (server, _) = handshake(&configs).unwrap();
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn a_key_that_the_provider_does_not_take_leaves_the_last_good_one_in_use() {
    /// Takes the first key and no other.
    #[derive(Debug)]
    struct Once(std::sync::atomic::AtomicBool);
    impl rustls::crypto::KeyProvider for Once {
        fn load_private_key(
            &self,
            key: rustls::pki_types::PrivateKeyDer<'static>,
        ) -> Result<Arc<dyn rustls::sign::SigningKey>, rustls::Error> {
            if self.0.swap(true, std::sync::atomic::Ordering::SeqCst) {
                return Err(rustls::Error::General("no more keys".to_owned()));
            }
            default_provider().key_provider.load_private_key(key)
        }
    }
    let once: &'static Once = Box::leak(Box::new(Once(false.into())));
    let provider = CryptoProvider {
        key_provider: once,
        ..default_provider()
    };
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::new("example.org").issue(ID);
    first.write(dir.path());
    let credentials = Credentials::builder(dir.path())
        .clock(|| NOW.parse().unwrap())
        .crypto_provider(Arc::new(provider))
        .open()
        .unwrap();
    let second: Credential = Authority::new("example.org").issue(ID);
    second.write(dir.path());
    let error = credentials.reload().unwrap_err();
    assert!(matches!(*error, Error::Provider { .. }), "{error}");
    let there = credentials.current().chain().leaf().serial_hex();
    assert_eq!(there, first.serial());
}

#[test]
fn roots_of_other_domains_that_are_gone_are_told() {
    let (home, abroad) = (
        Authority::new("example.org"),
        Authority::new("partner.example"),
    );
    let dir = tempfile::tempdir().unwrap();
    let both = home.issue(ID).trusting(&[&home, &abroad]);
    both.write(dir.path());
    let removed = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&removed);
    let credentials = Credentials::builder(dir.path())
        .clock(|| NOW.parse().unwrap())
        .on_event(move |event| {
            if let Event::Reloaded(reload) = event {
                let what = (reload.certificate_changed(), reload.roots_removed());
                seen.lock().unwrap().push(what);
            }
        })
        .open()
        .unwrap();
    let mut fewer = both.clone();
    fewer.bundles = both.trusting(&[&home]).bundles;
    fewer.write(dir.path());
    // The thread may have been quicker; then nothing is left to do, and it tells in a moment.
    drop(credentials.reload());
    while removed.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(*removed.lock().unwrap(), [(false, true)]);
}
