//! Credentials for tests, made by code.
use std::path::Path;

use certagent_svid::{
    Certificate, SpiffeId, TrustBundle, TrustBundles, TrustDomain, bundle_map, layout,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SignatureAlgorithm,
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
    /// Whose roots are its own.
    pub(crate) domain: TrustDomain,
}

/// A root of its own, and a leaf that it issued.
pub(crate) fn credential() -> Credential {
    Authority::new("example.org").issue(ID)
}

/// The root of a trust domain.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    bundle: TrustBundle,
    algorithm: &'static SignatureAlgorithm,
}

impl Authority {
    pub(crate) fn new(domain: &str) -> Self {
        Self::with(domain, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// One whose key, and those of its leaves, are for this algorithm.
    pub(crate) fn with(domain: &str, algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut ca = CertificateParams::default();
        let name = format!("Root of {domain}");
        ca.distinguished_name.push(DnType::CommonName, name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        ca.not_before = rcgen::date_time_ymd(2026, 1, 1);
        ca.not_after = rcgen::date_time_ymd(2036, 1, 1);
        let root = ca.self_signed(&key).unwrap();
        let root = Certificate::from_der(root.der().clone()).unwrap();
        Self {
            issuer: Issuer::new(ca, key),
            bundle: TrustBundle::new(TrustDomain::new(domain).unwrap(), [root]),
            algorithm,
        }
    }

    /// A workload's credential.
    pub(crate) fn issue(&self, id: &str) -> Credential {
        self.issue_bent(id, |_| {})
    }

    /// A credential in whose leaf something is different.
    pub(crate) fn issue_bent(
        &self,
        id: &str,
        bend: impl FnOnce(&mut CertificateParams),
    ) -> Credential {
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        leaf.not_before = rcgen::date_time_ymd(2026, 11, 1);
        leaf.not_after = rcgen::date_time_ymd(2026, 12, 1);
        bend(&mut leaf);
        let leaf = leaf.signed_by(&key, &self.issuer).unwrap();
        let (key, certificates) = (key.serialize_pem(), leaf.pem());
        let bundle = format!("{key}{certificates}");
        Credential {
            certificates,
            key,
            roots: String::new(),
            bundles: String::new(),
            bundle,
            domain: SpiffeId::new(id).unwrap().trust_domain().clone(),
        }
        .trusting(&[self])
    }
}

impl Credential {
    /// The same, with the roots of these authorities. Several of one domain are put together.
    pub(crate) fn trusting(mut self, authorities: &[&Authority]) -> Self {
        let mut bundles = TrustBundles::default();
        for authority in authorities {
            let domain = authority.bundle.trust_domain();
            let before = bundles.get(domain).map(TrustBundle::roots);
            let roots = before.unwrap_or_default().iter();
            let roots: Vec<_> = roots.chain(authority.bundle.roots()).cloned().collect();
            bundles.insert(TrustBundle::new(domain.clone(), roots));
        }
        let own = bundles.get(&self.domain);
        self.roots = own.map(TrustBundle::to_pem).unwrap_or_default();
        self.bundles = bundle_map::render(&bundles, |_| 1).unwrap();
        self
    }

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

    /// Writes a generation and swaps `..data` to it, as `certagent` and kubelet do.
    #[cfg(unix)]
    pub(crate) fn swap(&self, directory: &Path, number: u32) {
        let name = format!("..2026_11_21_01_23_45.{number}");
        std::fs::create_dir(directory.join(&name)).unwrap();
        self.write(&directory.join(&name));
        let tmp = directory.join(layout::DATA_TMP);
        std::os::unix::fs::symlink(&name, &tmp).unwrap();
        std::fs::rename(tmp, directory.join(layout::DATA)).unwrap();
    }

    /// Its leaf's serial number.
    pub(crate) fn serial(&self) -> String {
        let chain = Certificate::parse_pem_list(self.certificates.as_bytes()).unwrap();
        chain[0].serial_hex()
    }
}
