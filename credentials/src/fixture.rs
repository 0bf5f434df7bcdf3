//! A credential for tests, made by code.
use std::path::Path;

use certagent_svid::{Certificate, TrustBundle, TrustDomain, bundle_map, layout};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

pub(crate) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";
/// A moment at which every fixture is valid.
pub(crate) const NOW: &str = "2026-11-21T00:00:00Z";

/// The five contents, to be bent by a test.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) certificates: String,
    pub(crate) key: String,
    pub(crate) roots: String,
    pub(crate) bundles: String,
    pub(crate) bundle: String,
}

/// A root of its own, and a leaf that it issued.
pub(crate) fn credential() -> Credential {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Test Root");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.not_before = rcgen::date_time_ymd(2026, 1, 1);
    ca.not_after = rcgen::date_time_ymd(2036, 1, 1);
    let root = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    leaf.not_before = rcgen::date_time_ymd(2026, 11, 1);
    leaf.not_after = rcgen::date_time_ymd(2026, 12, 1);
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let roots = root.pem().replace("\r\n", "\n");
    let domain = TrustDomain::new("example.org").unwrap();
    let parsed = Certificate::parse_pem_list(roots.as_bytes()).unwrap();
    let bundles = [TrustBundle::new(domain, parsed)].into_iter().collect();
    let (key, certificates) = (key.serialize_pem(), leaf.pem());
    Credential {
        bundle: format!("{key}{certificates}"),
        certificates,
        key,
        roots,
        bundles: bundle_map::render(&bundles, |_| 1).unwrap(),
    }
}

impl Credential {
    /// Writes all five into `directory`.
    pub(crate) fn write(&self, directory: &Path) {
        for (name, content) in [
            (layout::CERTIFICATES, &self.certificates),
            (layout::PRIVATE_KEY, &self.key),
            (layout::CA_CERTIFICATES, &self.roots),
            (layout::TRUST_BUNDLES, &self.bundles),
            (layout::CREDENTIAL_BUNDLE, &self.bundle),
        ] {
            std::fs::write(directory.join(name), content).unwrap();
        }
    }
}
