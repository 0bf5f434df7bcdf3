//! Faults on demand: what a test wants to go wrong, and how often.
//!
//! [`Emulator::set_faults`](crate::Emulator::set_faults) takes a list of rules. Each request uses up
//! at most one rule about the transport and, if it gets as far as signing, at most one rule about
//! the certificate: the first of the list that fits and is not used up.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};

use crate::errors::ApiError;

/// One fault, and for which requests.
#[derive(Clone, Debug)]
pub struct FaultRule {
    fault: Fault,
    left: Times,
    on: Option<Method>,
}

impl FaultRule {
    /// `fault` for the next `times` requests.
    pub fn next(times: u32, fault: Fault) -> Self {
        Self {
            fault,
            left: Times::Next(times),
            on: None,
        }
    }

    /// `fault` for every request until the rules are set anew.
    pub fn always(fault: Fault) -> Self {
        Self {
            fault,
            left: Times::Always,
            on: None,
        }
    }

    /// The same rule, but only for requests of one method.
    #[must_use]
    pub fn on(mut self, method: Method) -> Self {
        self.on = Some(method);
        self
    }
}

#[derive(Clone, Copy, Debug)]
enum Times {
    Next(u32),
    Always,
}

/// The methods of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Method {
    /// `POST …/certificates`
    CreateCertificate,
    /// `GET …/certificates/ID`
    GetCertificate,
    /// `GET …/certificates`
    ListCertificates,
    /// `PATCH …/certificates/ID`
    UpdateCertificate,
    /// `POST …/certificates/ID:revoke`
    RevokeCertificate,
    /// `POST …/caPools`
    CreateCaPool,
    /// `GET …/caPools/ID`
    GetCaPool,
    /// `GET …/caPools`
    ListCaPools,
    /// `PATCH …/caPools/ID`
    UpdateCaPool,
    /// `DELETE …/caPools/ID`
    DeleteCaPool,
    /// `POST …/caPools/ID:fetchCaCerts`
    FetchCaCerts,
    /// `GET …/caPools/ID:getIamPolicy`
    GetIamPolicy,
    /// `POST …/caPools/ID:setIamPolicy`
    SetIamPolicy,
    /// `POST …/caPools/ID:testIamPermissions`
    TestIamPermissions,
    /// `POST …/certificateAuthorities`
    CreateCertificateAuthority,
    /// `GET …/certificateAuthorities/ID`
    GetCertificateAuthority,
    /// `GET …/certificateAuthorities`
    ListCertificateAuthorities,
    /// `PATCH …/certificateAuthorities/ID`
    UpdateCertificateAuthority,
    /// `DELETE …/certificateAuthorities/ID`
    DeleteCertificateAuthority,
    /// `POST …/certificateAuthorities/ID:undelete`
    UndeleteCertificateAuthority,
    /// `GET …/certificateAuthorities/ID:fetch`
    FetchCertificateAuthorityCsr,
    /// `POST …/certificateAuthorities/ID:activate`
    ActivateCertificateAuthority,
    /// `POST …/certificateAuthorities/ID:enable`
    EnableCertificateAuthority,
    /// `POST …/certificateAuthorities/ID:disable`
    DisableCertificateAuthority,
    /// `GET …/locations/L`
    GetLocation,
    /// `GET …/locations`
    ListLocations,
    /// `GET …/operations/ID`
    GetOperation,
    /// `GET …/operations`
    ListOperations,
    /// `DELETE …/operations/ID`
    DeleteOperation,
    /// `POST …/operations/ID:cancel`
    CancelOperation,
    /// `POST …/projects/P:getIamPolicy`, of Resource Manager
    GetProjectIamPolicy,
    /// `POST …/projects/P:setIamPolicy`, of Resource Manager
    SetProjectIamPolicy,
    /// `POST …/projects/P:testIamPermissions`, of Resource Manager
    TestProjectIamPermissions,
    /// `POST …/services/NAME:generateServiceIdentity`, of Service Usage
    GenerateServiceIdentity,
    /// `POST /v1/token` of the token service, its older form, and the one for key files.
    ExchangeToken,
    /// `POST …/serviceAccounts/EMAIL:generateAccessToken`
    GenerateAccessToken,
    /// `GET /computeMetadata/…`
    GetMetadata,
    /// Everything else, known to the service or not.
    Other,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The request is refused with an error in Google's form; nothing is done.
    Error {
        /// The answer's body; its code decides the HTTP status.
        error: ApiError,
        /// The header `Retry-After`, rounded up to whole seconds.
        retry_after: Option<Duration>,
    },
    /// A web page instead of JSON, as a proxy sends it; nothing is done.
    Html {
        /// The HTTP status.
        status: u16,
    },
    /// A body of JSON's type with `bytes` bytes that are none; nothing is done.
    HugeBody {
        /// Length of the body in bytes.
        bytes: usize,
    },
    /// No answer, ever; nothing is done. Ends when the client goes or the server stops.
    Hang,
    /// The connection is reset before anything is done.
    CloseBefore,
    /// The work is done, then the connection is reset without an answer: a lost reply.
    CloseAfter,
    /// The certificate or its chain is wrong.
    Certificate(CertificateFault),
}

impl Fault {
    /// A refusal without `Retry-After`.
    pub fn error(error: ApiError) -> Self {
        Self::Error {
            error,
            retry_after: None,
        }
    }

    fn is_about_certificates(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }
}

/// What is wrong with an issued certificate or the chain beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It certifies a key that nobody asked for.
    OtherKey,
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
    /// The answer has a chain but no certificate.
    NoCertificate,
}

impl CertificateFault {
    /// Changes the content of the certificate that is about to be signed.
    pub(crate) fn alter(&self, params: &mut CertificateParams) -> Result<(), rcgen::Error> {
        let uri = |uri: &String| uri.as_str().try_into().map(SanType::URI);
        match self {
            Self::OtherSpiffeId(id) => params.subject_alt_names = vec![uri(id)?],
            Self::SecondUri(id) => params.subject_alt_names.push(uri(id)?),
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

    /// Changes what the answer carries.
    pub(crate) fn present(&self, leaf: &mut Option<String>, chain: &mut Vec<String>) {
        match self {
            Self::ChainReversed => chain.reverse(),
            Self::Crlf => {
                for pem in leaf.iter_mut().chain(chain) {
                    *pem = pem.replace('\n', "\r\n");
                }
            }
            Self::EmptyChain => chain.clear(),
            Self::NoCertificate => *leaf = None,
            _ => {}
        }
    }
}

/// The rules that are in force.
#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    rules: Vec<FaultRule>,
}

impl FaultBook {
    pub(crate) fn new(rules: Vec<FaultRule>) -> Self {
        Self { rules }
    }

    /// What befalls a request of `method` on its way.
    pub(crate) fn take_transport(&mut self, method: Method) -> Option<Fault> {
        self.take(method, |fault| !fault.is_about_certificates())
    }

    /// What befalls the next certificate.
    pub(crate) fn take_certificate(&mut self) -> Option<CertificateFault> {
        match self.take(Method::CreateCertificate, Fault::is_about_certificates)? {
            Fault::Certificate(fault) => Some(fault),
            _ => None,
        }
    }

    fn take(&mut self, method: Method, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| {
            fits(&rule.fault)
                && rule.on.is_none_or(|on| on == method)
                && !matches!(rule.left, Times::Next(0))
        })?;
        if let Times::Next(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_used_up_and_the_next_takes_over() {
        let mut book = FaultBook::new(vec![
            FaultRule::next(2, Fault::Hang).on(Method::GetCaPool),
            FaultRule::next(1, Fault::Certificate(CertificateFault::IsCa)),
            FaultRule::always(Fault::CloseBefore),
        ]);
        assert!(matches!(
            book.take_transport(Method::GetCaPool),
            Some(Fault::Hang)
        ));
        assert!(matches!(
            book.take_transport(Method::FetchCaCerts),
            Some(Fault::CloseBefore)
        ));
        assert!(matches!(
            book.take_transport(Method::GetCaPool),
            Some(Fault::Hang)
        ));
        assert!(matches!(
            book.take_transport(Method::GetCaPool),
            Some(Fault::CloseBefore)
        ));
        assert_eq!(book.take_certificate(), Some(CertificateFault::IsCa));
        assert_eq!(book.take_certificate(), None);
    }
}
