//! A SPIFFE bundle endpoint on loopback, with a certificate under a CA of its own.
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use certagent::cas::Roots;
use certagent_svid::Certificate;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Serves until the test ends.
pub(crate) struct BundleServer {
    /// Its URL.
    pub(crate) url: String,
    /// Whom agents must trust to believe it.
    pub(crate) roots: Roots,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicU64>,
}

impl BundleServer {
    /// `directory` is for the file with its CA.
    pub(crate) async fn start(directory: &Path) -> Self {
        let (ca, config) = tls();
        let file = directory.join("bundle-server-ca.pem");
        std::fs::write(&file, ca).expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!(
            "https://{}/bundle.json",
            listener.local_addr().expect("an address")
        );
        let answer = Arc::new(Mutex::new((503, String::new())));
        let (acceptor, said) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&answer));
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, said) = (acceptor.clone(), Arc::clone(&said));
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let (status, body) = said.lock().expect("unpoisoned").clone();
                    let answer = format!(
                        "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    // Whoever went away does not want it.
                    drop(stream.write_all(answer.as_bytes()).await);
                    drop(stream.shutdown().await);
                });
            }
        });
        Self {
            url,
            roots: Roots::of_bundle(&file).expect("a CA"),
            answer,
            asked,
        }
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// From now on it serves these roots.
    pub(crate) fn serve(&self, roots: &[&Certificate], sequence: u64) {
        let key = |root: &&Certificate| json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(root.der())]});
        let bundle = json!({
            "keys": roots.iter().map(key).collect::<Vec<_>>(),
            "spiffe_sequence": sequence,
            "spiffe_refresh_hint": 60,
        });
        *self.answer.lock().expect("unpoisoned") = (200, bundle.to_string());
    }

    /// From now on it fails.
    pub(crate) fn fail(&self) {
        *self.answer.lock().expect("unpoisoned") = (503, "away".to_owned());
    }
}

/// A root that belongs to no pool.
pub(crate) fn root(name: &str) -> Certificate {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("signed");
    Certificate::from_der(root.der().clone()).expect("a certificate")
}

fn tls() -> (String, rustls::ServerConfig) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()])
        .expect("a name")
        .signed_by(&key, &Issuer::new(ca, ca_key))
        .expect("signed");
    let chain = vec![CertificateDer::from(leaf)];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    (root.pem(), config)
}
