//! Credentials and volumes for the tests of this module, made by code.
use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use certagent_svid::{Certificate, TrustBundle, TrustDomain, bundle_map, layout};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::{Access, Content, VolumeDir, VolumeError, Written};

/// A check that has nothing against anything.
#[expect(clippy::unnecessary_wraps, reason = "it has the shape of a check")]
pub(super) fn accept(
    _snapshot: &certagent_credentials::Snapshot,
) -> Result<(), std::convert::Infallible> {
    Ok(())
}

/// The moment at which the tests begin, and seconds after it.
pub(super) fn at(seconds: i64) -> Timestamp {
    let begin: Timestamp = "2026-11-21T01:23:45Z".parse().unwrap();
    begin + SignedDuration::from_secs(seconds)
}

/// A credential with a root and a key of its own.
pub(super) fn content() -> Content {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Test Root");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::default();
    let id = "spiffe://example.org/ns/shop/sa/cart".try_into().unwrap();
    leaf.subject_alt_names = vec![SanType::URI(id)];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let parsed = Certificate::parse_pem_list(root.pem().as_bytes()).unwrap();
    let bundle = TrustBundle::new(TrustDomain::new("example.org").unwrap(), parsed);
    Content {
        certificates: leaf.pem(),
        private_key: key.serialize_pem().into(),
        ca_certificates: bundle.to_pem(),
        trust_bundles: bundle_map::render(&[bundle].into_iter().collect(), |_| 1).unwrap(),
    }
}

/// A new key, for tests that need nothing else.
pub(super) fn key() -> certagent_svid::PrivateKey {
    certagent_svid::PrivateKey::from_pem(KeyPair::generate().unwrap().serialize_pem().as_bytes())
        .unwrap()
}

/// Tests run wherever the temporary directory is.
pub(super) fn access() -> Access {
    Access {
        allow_disk: true,
        ..Access::default()
    }
}

/// A directory that goes away with the value, and what a test asks of it.
pub(super) struct Volume {
    pub(super) root: tempfile::TempDir,
}

impl Volume {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("volume")).unwrap();
        Self { root }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.path().join("volume")
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(super) fn open(&self) -> Result<VolumeDir, VolumeError> {
        VolumeDir::open(&self.path(), &access())
    }

    /// Every generation's name, sorted.
    pub(super) fn generations(&self) -> Vec<String> {
        names(&self.path())
            .into_iter()
            .filter(|name| layout::is_generation(name))
            .collect()
    }

    /// Everything that must not be left behind.
    pub(super) fn strays(&self) -> Vec<String> {
        let known = |name: &String| {
            layout::is_generation(name)
                || name == layout::DATA
                || layout::FILES.contains(&name.as_str())
        };
        names(&self.path())
            .into_iter()
            .filter(|name| !known(name))
            .collect()
    }

    /// The mtime of a file as its readers see it, in whole seconds.
    pub(super) fn modified(&self, name: &str) -> i64 {
        std::fs::metadata(self.join(name)).unwrap().mtime()
    }
}

pub(super) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(super) fn write(
    volume: &VolumeDir,
    content: &Content,
    now: Timestamp,
) -> Result<Written, VolumeError> {
    volume.write(content, now, &accept)
}
