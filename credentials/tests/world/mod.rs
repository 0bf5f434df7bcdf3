//! A trust domain with a server and a client, each with a directory that can rotate.
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use certagent_credentials::{Credentials, Event};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider};

use crate::fixture::{Authority, Credential, NOW};

pub(crate) const SERVER: &str = "spiffe://example.org/ns/shop/sa/cart";
pub(crate) const CLIENT: &str = "spiffe://example.org/ns/shop/sa/till";

/// How long a test waits for something that must happen. Not a measure of anything.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// A workload and its directory.
pub(crate) struct Workload {
    pub(crate) credentials: Credentials,
    id: &'static str,
    directory: tempfile::TempDir,
    events: mpsc::Receiver<Event>,
    rotations: AtomicU32,
}

impl Workload {
    pub(crate) fn new(home: &Authority, id: &'static str) -> Self {
        Self::with(&home.issue(id), id)
    }

    /// A workload with a credential that is not the usual one.
    pub(crate) fn with(credential: &Credential, id: &'static str) -> Self {
        Self::by(credential, id, default_provider())
    }

    /// A workload whose cryptography is done by another provider.
    pub(crate) fn by(credential: &Credential, id: &'static str, provider: CryptoProvider) -> Self {
        let directory = tempfile::tempdir().unwrap();
        credential.swap(directory.path(), 0);
        let (tell, events) = mpsc::channel();
        let tell = std::sync::Mutex::new(tell);
        Self {
            credentials: Credentials::builder(directory.path())
                .clock(|| NOW.parse().unwrap())
                .crypto_provider(Arc::new(provider))
                .on_event(move |event| drop(tell.lock().unwrap().send(event.clone())))
                .open()
                .unwrap(),
            id,
            directory,
            events,
            rotations: AtomicU32::new(0),
        }
    }

    /// Another certificate, in use when this returns; gives its serial number.
    pub(crate) fn rotate(&self, home: &Authority) -> String {
        let new = home.issue(self.id);
        let number = self.rotations.fetch_add(1, Ordering::SeqCst) + 1;
        new.swap(self.directory(), number);
        // The thread does it by itself; this is only sooner.
        self.credentials.reload().unwrap();
        assert_eq!(self.serial(), new.serial());
        new.serial()
    }

    pub(crate) fn serial(&self) -> String {
        self.credentials.current().chain().leaf().serial_hex()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The next handshake that failed, in words.
    pub(crate) fn refusal(&self) -> String {
        loop {
            let event = self.events.recv_timeout(GUARD).expect("an event");
            if let Event::HandshakeFailed { reason, .. } = event {
                return reason;
            }
        }
    }
}
