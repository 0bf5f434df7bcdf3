//! Faults of an issued certificate, and what each does to it.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};

use crate::wire::CertificateJson;

/// What is wrong with an issued certificate or the chain beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It certifies a key that nobody asked for.
    OtherKey,
    /// It has no subject alternative name, as when the pool's policy drops what was asked for.
    DropSan,
    /// Its only URI is this one.
    OtherSpiffeId(String),
    /// It has this URI in addition.
    SecondUri(String),
    /// It is a CA's.
    IsCa,
    /// Its key may sign certificates.
    KeyCertSign,
    /// Its key may not sign at all.
    NoDigitalSignature,
    /// It has a subject with this common name.
    Subject(String),
    /// Its extended key usage is serverAuth alone.
    NoClientAuth,
    /// It expired a while ago.
    Expired,
    /// It becomes valid only after this time.
    NotYetValid(SignedDuration),
    /// It lives for this long only.
    Truncated(SignedDuration),
    /// It comes, with its chain, from another root.
    UnknownRoot,
    /// The chain beside it stands root first.
    ChainReversed,
    /// It and its chain have `\r\n` line ends.
    Crlf,
    /// There is no chain beside it.
    EmptyChain,
    /// The answer has a chain but no certificate. What is kept has both.
    NoCertificate,
}

impl CertificateFault {
    /// The fault's name in the catalogue, for example `unknown-root`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OtherKey => "other-key",
            Self::DropSan => "drop-san",
            Self::OtherSpiffeId(_) => "other-spiffe-id",
            Self::SecondUri(_) => "second-uri",
            Self::IsCa => "is-ca",
            Self::KeyCertSign => "key-cert-sign",
            Self::NoDigitalSignature => "no-digital-signature",
            Self::Subject(_) => "subject",
            Self::NoClientAuth => "no-client-auth",
            Self::Expired => "expired",
            Self::NotYetValid(_) => "not-yet-valid",
            Self::Truncated(_) => "truncated-lifetime",
            Self::UnknownRoot => "unknown-root",
            Self::ChainReversed => "chain-reversed",
            Self::Crlf => "crlf",
            Self::EmptyChain => "empty-chain",
            Self::NoCertificate => "no-certificate",
        }
    }

    /// Changes the content of the certificate that is about to be signed.
    pub(crate) fn alter(&self, params: &mut CertificateParams) -> Result<(), rcgen::Error> {
        let uri = |uri: &String| uri.as_str().try_into().map(SanType::URI);
        match self {
            Self::OtherSpiffeId(id) => params.subject_alt_names = vec![uri(id)?],
            Self::SecondUri(id) => params.subject_alt_names.push(uri(id)?),
            Self::DropSan => params.subject_alt_names.clear(),
            Self::IsCa => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            Self::KeyCertSign => params.key_usages.push(KeyUsagePurpose::KeyCertSign),
            Self::NoDigitalSignature => {
                params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
            }
            Self::Subject(name) => params.distinguished_name.push(DnType::CommonName, name),
            Self::NoClientAuth => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
            Self::OtherKey
            | Self::Expired
            | Self::NotYetValid(_)
            | Self::Truncated(_)
            | Self::UnknownRoot
            | Self::ChainReversed
            | Self::Crlf
            | Self::EmptyChain
            | Self::NoCertificate => {}
        }
        Ok(())
    }

    /// Changes first moment and length of the certificate's life.
    pub(crate) fn shift(
        &self,
        now: Timestamp,
        (start, lifetime): (Timestamp, SignedDuration),
    ) -> (Timestamp, SignedDuration) {
        match self {
            Self::Expired => {
                let age = lifetime.saturating_add(SignedDuration::from_hours(1));
                (now.checked_sub(age).unwrap_or(start), lifetime)
            }
            Self::NotYetValid(by) => (now.checked_add(*by).unwrap_or(start), lifetime),
            Self::Truncated(to) => (start, lifetime.min(*to)),
            _ => (start, lifetime),
        }
    }

    /// Changes how certificate and chain are written down.
    pub(crate) fn present(&self, leaf: &mut String, chain: &mut Vec<String>) {
        match self {
            Self::ChainReversed => chain.reverse(),
            Self::Crlf => {
                for pem in std::iter::once(leaf).chain(chain) {
                    *pem = pem.replace('\n', "\r\n");
                }
            }
            Self::EmptyChain => chain.clear(),
            _ => {}
        }
    }

    /// The answer to the request that bought `kept`, if it is another than what is kept.
    pub(crate) fn answer(&self, kept: &CertificateJson) -> Option<CertificateJson> {
        matches!(self, Self::NoCertificate).then(|| CertificateJson {
            pem_certificate: None,
            ..kept.clone()
        })
    }
}
