//! A full mutual TLS 1.3 handshake in memory: our resolver and verifier on both sides, against a
//! static configuration of rustls with the same certificates, one after the other.
//!
//! ```sh
//! cargo bench -p certagent-credentials --bench handshake
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: it prints figures, and a panic is how it fails"
)]
#[path = "../src/fixture.rs"]
#[expect(dead_code, reason = "what tests bend is not bent here")]
mod fixture;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use certagent_credentials::{Credentials, Timestamp, authorize};
use fixture::{Authority, Credential, ID, NOW};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    time_provider::TimeProvider,
};

const PEER: &str = "spiffe://example.org/ns/shop/sa/till";
/// A name for the static configuration, which looks at names.
const HOST: &str = "cart.example.org";
/// Handshakes of each kind, and how many of them make one figure.
const ROUNDS: usize = 400;
const BATCH: u32 = 10;

struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn main() {
    let provider = Arc::new(default_provider());
    let home = Authority::new("example.org");
    let named = |id| {
        home.issue_bent(id, |leaf| {
            let host = rcgen::SanType::DnsName(HOST.try_into().unwrap());
            leaf.subject_alt_names.push(host);
        })
    };
    let (server, client) = (named(ID), named(PEER));
    let dirs = [&server, &client].map(|credential| {
        let dir = tempfile::tempdir().unwrap();
        credential.write(dir.path());
        dir
    });
    let [ours_server, ours_client] = dirs.each_ref().map(|dir| {
        let now: Timestamp = NOW.parse().unwrap();
        Credentials::builder(dir.path())
            .clock(move || now)
            .crypto_provider(Arc::clone(&provider))
            .open()
            .unwrap()
    });
    let ours = Configs {
        server: Arc::new(
            ours_server
                .server_config(authorize::id(PEER).unwrap())
                .unwrap(),
        ),
        client: Arc::new(
            ours_client
                .client_config(authorize::id(ID).unwrap())
                .unwrap(),
        ),
    };
    let fixed = Configs {
        server: Arc::new(static_server(&provider, &server)),
        client: Arc::new(static_client(&provider, &client)),
    };
    for _ in 0..ROUNDS / 4 {
        handshake(&ours);
        handshake(&fixed);
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Neither is always the first.
        if round % 2 == 0 {
            a.push(batch(&ours));
            b.push(batch(&fixed));
        } else {
            b.push(batch(&fixed));
            a.push(batch(&ours));
        }
    }
    let mut ratios: Vec<f64> = a
        .iter()
        .zip(&b)
        .map(|(ours, fixed)| ours.as_secs_f64() / fixed.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let quantile = |part: usize| ratios[ratios.len() * part / 100];
    println!("mutual TLS 1.3, P-256, {ROUNDS} pairs of {BATCH} handshakes, medians:");
    println!("  static configuration  {:8.1} us", median(&mut b));
    println!("  certagent-credentials {:8.1} us", median(&mut a));
    println!(
        "  ratio of a pair       {:8.3} (quartiles {:.3} and {:.3}; goal: at most 1.03)",
        quantile(50),
        quantile(25),
        quantile(75)
    );
}

/// One handshake's share of a batch.
fn batch(configs: &Configs) -> Duration {
    let began = Instant::now();
    for _ in 0..BATCH {
        black_box(handshake(configs));
    }
    began.elapsed() / BATCH
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn handshake(configs: &Configs) -> (ServerConnection, ClientConnection) {
    let name = ServerName::try_from(HOST).unwrap();
    let mut client = ClientConnection::new(Arc::clone(&configs.client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&configs.server)).unwrap();
    let mut wire = Vec::with_capacity(4096);
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
        }
        server.process_new_packets().unwrap();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
        }
        client.process_new_packets().unwrap();
    }
    (server, client)
}

fn roots(credential: &Credential) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(credential.roots.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn pair(credential: &Credential) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(credential.certificates.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes());
    (chain.map(Result::unwrap).collect(), key.unwrap())
}

fn static_server(provider: &Arc<CryptoProvider>, credential: &Credential) -> ServerConfig {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(credential), Arc::clone(provider));
    let (chain, key) = pair(credential);
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(Fixed))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

fn static_client(provider: &Arc<CryptoProvider>, credential: &Credential) -> ClientConfig {
    let (chain, key) = pair(credential);
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider), Arc::new(Fixed))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(credential))
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.resumption = Resumption::disabled();
    config
}

/// The moment of the fixtures, 2026-11-21T00:00:00Z.
#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            1_795_219_200,
        )))
    }
}
