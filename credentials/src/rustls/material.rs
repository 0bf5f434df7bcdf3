//! What a handshake takes from a generation, made once for each.
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use certagent_svid::TrustDomain;
use jiff::Timestamp;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor},
    sign::CertifiedKey,
};
use webpki::anchor_from_trusted_cert;

use crate::{Error, Snapshot, reload::Current};

/// What is the same for all generations.
#[derive(Default)]
pub(crate) struct Settings {
    provider: OnceLock<Arc<CryptoProvider>>,
    pub(crate) resumption: bool,
}

impl Settings {
    /// The provider is this one from now on.
    pub(crate) fn choose(&mut self, provider: Arc<CryptoProvider>) {
        self.provider = OnceLock::from(provider);
    }

    /// The provider, once there is one.
    pub(crate) fn chosen(&self) -> Option<&Arc<CryptoProvider>> {
        self.provider.get()
    }

    /// The provider: the builder's, or else the process', or else the feature's.
    pub(crate) fn provider(&self) -> Result<&Arc<CryptoProvider>, Error> {
        if let Some(provider) = self.chosen() {
            return Ok(provider);
        }
        let provider = CryptoProvider::get_default()
            .cloned()
            .or_else(of_feature)
            .ok_or(Error::NoProvider)?;
        Ok(self.provider.get_or_init(|| provider))
    }
}

#[cfg(feature = "aws-lc-rs")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "without the feature there is none"
)]
fn of_feature() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(not(feature = "aws-lc-rs"))]
fn of_feature() -> Option<Arc<CryptoProvider>> {
    None
}

/// Key and roots of one generation.
pub(crate) struct Material {
    pub(crate) key: Arc<CertifiedKey>,
    /// By trust domain, and never together.
    pub(crate) anchors: BTreeMap<TrustDomain, Anchors>,
}

/// The roots of one trust domain. webpki knows nothing of their dates.
#[derive(Default)]
pub(crate) struct Anchors {
    all: Vec<TrustAnchor<'static>>,
    /// In the same order: from when to when.
    dates: Vec<(Timestamp, Timestamp)>,
}

impl Anchors {
    /// Those that are valid at `now`.
    pub(crate) fn at(&self, now: Timestamp) -> Cow<'_, [TrustAnchor<'static>]> {
        let is_valid = |(from, until): &(Timestamp, Timestamp)| (*from..=*until).contains(&now);
        if self.dates.iter().all(is_valid) {
            return Cow::Borrowed(&self.all);
        }
        let valid = self.all.iter().zip(&self.dates);
        let valid = valid.filter(|(_, dates)| is_valid(dates));
        Cow::Owned(valid.map(|(anchor, _)| anchor.clone()).collect())
    }
}

impl Current {
    /// What handshakes take from this generation.
    pub(crate) fn material(
        &self,
        provider: &CryptoProvider,
        directory: &Path,
    ) -> Result<&Material, Error> {
        if let Some(there) = self.material.get() {
            return Ok(there);
        }
        let material =
            Material::new(&self.snapshot, provider).map_err(|source| Error::Provider {
                directory: directory.to_owned(),
                source,
            })?;
        Ok(self.material.get_or_init(|| material))
    }
}

impl Material {
    fn new(snapshot: &Snapshot, provider: &CryptoProvider) -> Result<Self, rustls::Error> {
        let chain = snapshot.chain();
        let certificates = std::iter::once(chain.leaf())
            .chain(chain.intermediates())
            .map(|certificate| certificate.der().clone())
            .collect();
        // The provider wants a copy of the key, and keeps another: neither is ours to wipe.
        let key = PrivatePkcs8KeyDer::from(snapshot.key().pkcs8_der().to_vec());
        let key = CertifiedKey::from_der(certificates, PrivateKeyDer::Pkcs8(key), provider)?;
        let anchors = snapshot.all_bundles().map(|bundle| {
            // A root that the verifier cannot read vouches for nobody. It must not stand in the way
            // of the others.
            let mut anchors = Anchors::default();
            for root in bundle.roots() {
                if let Ok(anchor) = anchor_from_trusted_cert(root.der()) {
                    anchors.all.push(anchor.to_owned());
                    anchors.dates.push((root.not_before(), root.not_after()));
                }
            }
            (bundle.trust_domain().clone(), anchors)
        });
        Ok(Self {
            key: Arc::new(key),
            anchors: anchors.collect(),
        })
    }
}
