//! Credential directories for tests, made by code, bent by tests.
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use certagent_svid::{Certificate, TrustBundle, TrustDomain, bundle_map, layout};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use tempfile::TempDir;

use crate::trust::Distrust;

use super::{
    RenewalHint, Report, judge,
    surroundings::{self, Filesystem},
};

pub(crate) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";
pub(crate) const GENERATION: &str = "..2026_11_20_12_00_00.123456789";
/// Five days after the leaf began, fifteen before it ends.
pub(crate) const NOON: &str = "2026-11-20T14:30:00Z";

pub(crate) fn at(moment: &str) -> Timestamp {
    moment.parse().unwrap()
}

/// What the leaf says, to be bent by a test.
pub(crate) struct Leaf {
    pub(crate) uri: &'static str,
    pub(crate) common_name: Option<&'static str>,
    pub(crate) dns_names: &'static [&'static str],
    pub(crate) usages: Vec<KeyUsagePurpose>,
    pub(crate) begin: (i32, u8, u8),
    pub(crate) end: (i32, u8, u8),
}

impl Default for Leaf {
    fn default() -> Self {
        Self {
            uri: ID,
            common_name: None,
            dns_names: &[],
            usages: vec![KeyUsagePurpose::DigitalSignature],
            begin: (2026, 11, 15),
            end: (2026, 12, 5),
        }
    }
}

/// The contents of the five files.
#[derive(Clone)]
pub(crate) struct Contents {
    pub(crate) certificates: String,
    /// The same, one by one: leaf, issuing CA, the CA above that.
    pub(crate) parts: [String; 3],
    pub(crate) key: String,
    pub(crate) roots: String,
    pub(crate) bundles: String,
    pub(crate) bundle: String,
}

fn ca(name: &str, end: (i32, u8, u8)) -> CertificateParams {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.remove(DnType::CommonName);
    ca.distinguished_name.push(DnType::CommonName, name);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.serial_number = Some(SerialNumber::from(7_u64));
    ca.not_before = rcgen::date_time_ymd(2026, 1, 1);
    ca.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
    ca
}

/// A root, two CAs below it, and a leaf with a key of its own.
pub(crate) fn contents() -> Contents {
    contents_with(&Leaf::default(), "Test Root", (2036, 1, 1))
}

pub(crate) fn contents_with(leaf: &Leaf, root: &str, root_end: (i32, u8, u8)) -> Contents {
    let root_key = KeyPair::generate().unwrap();
    let root = ca(root, root_end);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let middle_key = KeyPair::generate().unwrap();
    let middle = ca("Test Middle", (2036, 1, 1));
    let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
    let middle = Issuer::new(middle, middle_key);
    let issuing_key = KeyPair::generate().unwrap();
    let issuing = ca("Test Issuing", (2036, 1, 1));
    let issuing_pem = issuing.signed_by(&issuing_key, &middle).unwrap().pem();
    let issuing = Issuer::new(issuing, issuing_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from(0x00c0_ffee_u64));
    params.subject_alt_names = vec![SanType::URI(leaf.uri.try_into().unwrap())];
    for name in leaf.dns_names {
        let name = (*name).try_into().unwrap();
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    if let Some(name) = leaf.common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.key_usages.clone_from(&leaf.usages);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.not_before = rcgen::date_time_ymd(leaf.begin.0, leaf.begin.1, leaf.begin.2);
    params.not_after = rcgen::date_time_ymd(leaf.end.0, leaf.end.1, leaf.end.2);
    let leaf = params.signed_by(&key, &issuing).unwrap().pem();
    let certificates = format!("{leaf}{issuing_pem}{middle_pem}");
    let key = key.serialize_pem();
    Contents {
        bundle: format!("{key}{certificates}"),
        bundles: bundles("example.org", &root_pem),
        certificates,
        parts: [leaf, issuing_pem, middle_pem],
        key,
        roots: root_pem,
    }
}

pub(crate) fn bundles(trust_domain: &str, roots: &str) -> String {
    let domain = TrustDomain::new(trust_domain).unwrap();
    let roots = Certificate::parse_pem_list(roots.as_bytes()).unwrap();
    let bundles = [TrustBundle::new(domain, roots)].into_iter().collect();
    bundle_map::render(&bundles, |_| 1).unwrap()
}

/// A directory of credentials that goes away with the test.
pub(crate) struct Volume {
    dir: TempDir,
}

impl Volume {
    /// All five files behind `..data`, as certagent and kubelet write them.
    pub(crate) fn swapped(contents: &Contents) -> Self {
        Self::swapped_with(contents, &layout::FILES)
    }

    pub(crate) fn swapped_with(contents: &Contents, names: &[&str]) -> Self {
        let volume = Self::empty();
        let generation = volume.path().join(GENERATION);
        fs::create_dir(&generation).unwrap();
        contents.write(&generation, names);
        symlink(GENERATION, volume.path().join(layout::DATA)).unwrap();
        for name in names {
            symlink(Path::new(layout::DATA).join(name), volume.path().join(name)).unwrap();
        }
        volume
    }

    /// GKE's three files and nothing else.
    pub(crate) fn plain(contents: &Contents) -> Self {
        let volume = Self::empty();
        contents.write(volume.path(), &layout::FILES[..3]);
        volume
    }

    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a file, behind `..data` if there is one.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        let data = self.path().join(layout::DATA);
        if data.exists() {
            data.join(name)
        } else {
            self.path().join(name)
        }
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.file(name), content).unwrap();
    }

    /// Inspects as [`super::inspect`] does, but as if the volume were on a tmpfs: where the
    /// tests' own directory lies is not their subject.
    pub(crate) fn inspect(&self, now: &str, renewal: Option<&RenewalHint>) -> Report {
        let files = certagent_credentials::read_files(self.path());
        let mut around = surroundings::look(self.path(), files.as_ref().ok());
        around.filesystem = Filesystem::Memory;
        let contents = files.as_ref().map(super::checks::Contents::of);
        judge(
            self.path(),
            contents,
            &around,
            at(now),
            renewal,
            &Distrust::default(),
        )
    }

    /// `text` without what differs from run to run.
    pub(crate) fn normalise(&self, text: &str) -> String {
        let mut text = text.replace(&self.path().display().to_string(), "DIR");
        let roots = fs::read(self.file(layout::CA_CERTIFICATES)).unwrap_or_default();
        for root in Certificate::parse_pem_list(&roots).unwrap_or_default() {
            let sha256 = certagent_svid::certificate::hex(&root.fingerprint());
            text = text.replace(&sha256, "FINGERPRINT");
        }
        text
    }
}

impl Contents {
    fn write(&self, directory: &Path, names: &[&str]) {
        for name in names {
            let content = match *name {
                layout::CERTIFICATES => &self.certificates,
                layout::PRIVATE_KEY => &self.key,
                layout::CA_CERTIFICATES => &self.roots,
                layout::TRUST_BUNDLES => &self.bundles,
                _ => &self.bundle,
            };
            let path = directory.join(name);
            fs::write(&path, content).unwrap();
            let mode = if layout::holds_key(name) {
                0o640
            } else {
                0o644
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}
