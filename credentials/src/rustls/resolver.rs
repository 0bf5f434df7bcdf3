//! The certificate that is presented.
use std::sync::Arc;

use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::Credentials;

/// Presents the newest certificate, as a server and as a client. Made by
/// [`Credentials::resolver`].
#[derive(Clone, Debug)]
pub struct Resolver {
    credentials: Credentials,
}

impl Resolver {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials }
    }

    /// The newest certificate and its key. Both are of one generation.
    fn newest(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.credentials.shared().current();
        let material = self.credentials.material(&current).ok()?;
        Some(Arc::clone(&material.key))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.newest()
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.newest()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
