//! For tests: TLS in front of a server that speaks plain HTTP.
use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Endpoint, Roots};

/// A TLS server with a root of its own, that passes on what it hears.
pub(crate) struct TlsFront {
    /// Where it listens: `https://127.0.0.1:PORT`.
    pub(crate) endpoint: Endpoint,
    /// Its root certificate, as a file for `--ca-bundle`.
    pub(crate) bundle: NamedTempFile,
    spoken: Arc<Mutex<Vec<String>>>,
}

impl TlsFront {
    /// Proves to be `name` and passes on to `behind`; `protocols` are those of ALPN.
    pub(crate) async fn start(behind: SocketAddr, name: &str, protocols: &[&str]) -> Self {
        let (root, config) = config(name, protocols);
        let mut bundle = NamedTempFile::new().unwrap();
        bundle.write_all(root.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let spoken = Arc::<Mutex<Vec<String>>>::default();
        let (acceptor, heard) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&spoken));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, heard) = (acceptor.clone(), Arc::clone(&heard));
                tokio::spawn(async move {
                    let Ok(mut outside) = acceptor.accept(stream).await else {
                        return;
                    };
                    let protocol = outside.get_ref().1.alpn_protocol().unwrap_or_default();
                    let protocol = String::from_utf8_lossy(protocol).into_owned();
                    heard.lock().unwrap().push(protocol);
                    let mut inside = TcpStream::connect(behind).await.unwrap();
                    // It ends when either side does.
                    drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
                });
            }
        });
        Self {
            endpoint: Endpoint::parse(&endpoint).unwrap(),
            bundle,
            spoken,
        }
    }

    /// What its clients have to trust.
    pub(crate) fn roots(&self) -> Roots {
        Roots::load(Some(self.bundle.path())).unwrap()
    }

    /// The protocol of each connection that got through TLS.
    pub(crate) fn spoken(&self) -> Vec<String> {
        self.spoken.lock().unwrap().clone()
    }
}

/// A root as PEM, and a server that has a certificate of it.
fn config(name: &str, protocols: &[&str]) -> (String, rustls::ServerConfig) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([name.to_owned()])
        .unwrap()
        .signed_by(&key, &Issuer::new(ca, ca_key))
        .unwrap();
    let chain = vec![CertificateDer::from(leaf)];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|one| one.as_bytes().to_vec())
        .collect();
    (root.pem(), config)
}
