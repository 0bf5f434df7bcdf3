//! Makers of certificates for this crate's tests: small CAs that sign whatever they are told to.
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use spiffe::TrustDomain;

use crate::{Certificate, TrustBundle};

/// The one SPIFFE ID of the tests.
pub(crate) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

/// The moment at which the tests take place.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// A CA that signs without asking.
pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A root with a fresh P-256 key, valid from a day ago for ten years.
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, key(), |_| {})
    }

    /// A root with this key and a twist.
    pub(crate) fn root_with(
        name: &str,
        key: KeyPair,
        twist: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(name);
        twist(&mut params);
        let certificate = parsed(&params.self_signed(&key).unwrap());
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A CA below this one.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        self.subordinate_with(name, |_| {})
    }

    /// A CA below this one, with a twist.
    pub(crate) fn subordinate_with(
        &self,
        name: &str,
        twist: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let (mut params, key) = (ca_params(name), key());
        twist(&mut params);
        Self {
            certificate: self.sign(&params, &key),
            issuer: Issuer::new(params, key),
        }
    }

    /// A correct leaf with a fresh key.
    pub(crate) fn leaf(&self) -> Certificate {
        self.leaf_with(|_| {})
    }

    /// A leaf with a fresh key and a twist.
    pub(crate) fn leaf_with(&self, twist: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = leaf_params();
        twist(&mut params);
        self.sign(&params, &key())
    }

    /// Whatever these parameters say, for this key.
    pub(crate) fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Certificate {
        parsed(&params.signed_by(key, &self.issuer).unwrap())
    }
}

/// A fresh P-256 key.
pub(crate) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A CA's parameters: valid from a day before [`now`] for ten years.
pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let day = SignedDuration::from_hours(24);
    validity(&mut params, now() - day, now() + day * 3650);
    params
}

/// A correct leaf's parameters: [`ID`], no subject, one day from [`now`].
pub(crate) fn leaf_params() -> CertificateParams {
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
    validity(
        &mut params,
        now(),
        now() + SignedDuration::from_secs(86_399),
    );
    params
}

/// A name with one attribute, the common name.
pub(crate) fn named(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
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

/// An extension that is not critical, of the arc `2.5.29`, with this DER.
pub(crate) fn extension(number: u64, der: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, number], der.to_vec())
}

/// The bundle of `example.org`.
pub(crate) fn bundle(roots: &[&Ca]) -> TrustBundle {
    TrustBundle::new(
        TrustDomain::new("example.org").unwrap(),
        roots.iter().map(|root| root.certificate.clone()),
    )
}

/// The certificates as one PEM text.
pub(crate) fn pem(certificates: &[&Certificate]) -> String {
    certificates
        .iter()
        .map(|certificate| certificate.to_pem())
        .collect()
}

fn parsed(certificate: &rcgen::Certificate) -> Certificate {
    Certificate::from_der(certificate.der().clone()).unwrap()
}
