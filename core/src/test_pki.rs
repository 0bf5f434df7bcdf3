//! A CA for this crate's tests: a root, an issuing CA below it, and what it sends back.
use std::time::Duration;

use certagent_svid::{Certificate, SpiffeId, TrustBundle, TrustDomain};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};

use crate::{
    algorithm::KeyAlgorithm, issued::RawChain, names::SubjectNames, plan::IssuePlan,
    request::SubjectMode,
};

/// The identity that the tests ask for.
pub(crate) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

/// The moment at which the tests take place.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// The plan of the tests: one hour for [`ID`].
pub(crate) fn plan(algorithm: KeyAlgorithm) -> IssuePlan {
    IssuePlan {
        spiffe_id: SpiffeId::new(ID).unwrap(),
        algorithm,
        validity: Duration::from_secs(3600),
        rotation_window_percentage: 50,
        subject_mode: SubjectMode::Default,
        names: SubjectNames::default(),
    }
}

/// A root, an issuing CA, and the key that they certify.
pub(crate) struct Pki {
    pub(crate) root: Certificate,
    pub(crate) issuing: Certificate,
    pub(crate) key: KeyPair,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// CAs that outlive every test.
    pub(crate) fn new() -> Self {
        let day = SignedDuration::from_hours(24);
        Self::lasting(now() + day * 3650, now() + day * 365)
    }

    /// CAs that end at these moments.
    pub(crate) fn lasting(root_until: Timestamp, issuing_until: Timestamp) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let root_params = ca_params("Root", root_until);
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);
        let issuing_key = KeyPair::generate().unwrap();
        let issuing_params = ca_params("Issuing", issuing_until);
        let issuing = issuing_params
            .signed_by(&issuing_key, &root_issuer)
            .unwrap();
        Self {
            root: parsed(&root),
            issuing: parsed(&issuing),
            key: KeyPair::generate().unwrap(),
            issuer: Issuer::new(issuing_params, issuing_key),
        }
    }

    /// The public key that was sent, as `SubjectPublicKeyInfo`.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// The bundle with the root in it.
    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(
            TrustDomain::new("example.org").unwrap(),
            [self.root.clone()],
        )
    }

    /// A leaf for [`Pki::key`], correct but for the twist.
    pub(crate) fn leaf(&self, twist: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(ID)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now(), now() + SignedDuration::from_secs(3599));
        twist(&mut params);
        parsed(&params.signed_by(&self.key, &self.issuer).unwrap())
    }

    /// The answer that holds this leaf, with its chain in order.
    pub(crate) fn answer(&self, leaf: &Certificate) -> RawChain {
        RawChain {
            certificate: leaf.to_pem(),
            chain: vec![self.issuing.to_pem(), self.root.to_pem()],
        }
    }
}

/// A URI name.
pub(crate) fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// Sets both dates, whole seconds.
pub(crate) fn validity(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let at = |time: Timestamp| Duration::from_secs(u64::try_from(time.as_second()).unwrap());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + at(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + at(to);
}

fn ca_params(name: &str, until: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now() - SignedDuration::from_hours(24), until);
    params
}

fn parsed(certificate: &rcgen::Certificate) -> Certificate {
    Certificate::from_der(certificate.der().clone()).unwrap()
}
