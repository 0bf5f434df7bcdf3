//! The X.509 itself: the certificates of CAs, and what CAs sign.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, IsCa, Issuer, KeyPair,
    PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::chain::CaChain;
use crate::describe::describe;
use crate::encoding::{der, hex, pem};
use crate::errors::{ApiError, Code};
use crate::faults::CertificateFault;
use crate::keys::{CaKey, CaKeyPair};
use crate::request::{Asked, extended_key_usages, key_usages, san_types, subject_attributes};
use crate::wire::{CertificateDescription, Subject, SubjectAltNames, X509Parameters};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A CA that has a certificate and can sign.
pub(crate) struct Authority {
    name: String,
    url: String,
    issuer: Issuer<'static, CaKeyPair>,
    chain: CaChain,
}

/// What is to be signed, beside the certificate's content: when, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// The life that was asked for.
    pub(crate) lifetime: SignedDuration,
    /// How far the beginning is moved into the past.
    pub(crate) backdate: SignedDuration,
    /// The time of the request.
    pub(crate) now: Timestamp,
    /// Whether the certificate says where its issuer's can be had.
    pub(crate) with_issuer_url: bool,
}

/// A certificate as it is kept.
pub(crate) struct Issued {
    pub(crate) leaf: String,
    pub(crate) chain: Vec<String>,
    pub(crate) serial: String,
    pub(crate) description: CertificateDescription,
}

impl Authority {
    /// The CA with this key and this chain (itself first, its root last), or what is wrong with
    /// them. `content_id` tells its published files from those of others.
    pub(crate) fn new(
        name: String,
        content_id: &str,
        key: CaKeyPair,
        chain: Vec<String>,
    ) -> Result<Self, &'static str> {
        let chain = CaChain::check(chain)?;
        if key.subject_public_key_info() != chain.own_key {
            return Err("the certificate is for another key than the CA's");
        }
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(&*chain.own_der), key)
            .map_err(|_error| "the CA's certificate cannot be used to sign")?;
        Ok(Self {
            name,
            url: certificate_url(content_id),
            issuer,
            chain,
        })
    }

    /// Its resource name: `projects/P/locations/L/caPools/N/certificateAuthorities/ID`
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// PEM: this CA first, its root last.
    pub(crate) fn chain(&self) -> &[String] {
        &self.chain.pems
    }

    /// What stands in the certificates of the chain.
    pub(crate) fn descriptions(&self) -> &[CertificateDescription] {
        &self.chain.descriptions
    }

    /// First and last second at which every certificate of the chain is valid.
    pub(crate) fn validity(&self) -> (Timestamp, Timestamp) {
        self.chain.validity
    }

    /// How many CAs may follow this one; none for any number.
    pub(crate) fn path_length(&self) -> Option<u32> {
        self.chain.path_length
    }

    /// Where the service would publish this CA's certificate. Nothing answers there.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Signs what was asked, cut to the life of the chain.
    pub(crate) fn issue(
        &self,
        asked: &Asked,
        terms: Terms,
        fault: Option<&CertificateFault>,
    ) -> Result<Issued, ApiError> {
        self.check_path(&asked.x509)?;
        let (mut start, mut lifetime) = self.life(terms)?;
        if let Some(fault) = fault {
            (start, lifetime) = fault.shift(terms.now, (start, lifetime));
        }
        let mut params = certificate_params(&asked.subject, &asked.names, &asked.x509)?;
        params.use_authority_key_identifier_extension = true;
        let serial = set_serial_and_dates(&mut params, start, lifetime)?;

        let rogue = match fault {
            Some(CertificateFault::UnknownRoot) => Some(self.rogue(terms.now)?),
            _ => None,
        };
        let signer = rogue.as_ref().unwrap_or(self);
        if terms.with_issuer_url {
            params
                .custom_extensions
                .push(ca_issuers_extension(&signer.url));
        }
        if let Some(fault) = fault {
            fault.alter(&mut params).map_err(signing)?;
        }
        let leaf = if fault == Some(&CertificateFault::OtherKey) {
            let stranger =
                KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(signing)?;
            params.signed_by(&stranger, &signer.issuer)
        } else {
            params.signed_by(asked.key.spki(), &signer.issuer)
        };
        let leaf = leaf.map_err(signing)?;
        let description = described(leaf.der())?;
        let mut leaf = pem("CERTIFICATE", leaf.der());
        let mut chain = signer.chain.pems.clone();
        if let Some(fault) = fault {
            fault.present(&mut leaf, &mut chain);
        }
        Ok(Issued {
            leaf,
            chain,
            serial,
            description,
        })
    }

    /// The chain of a subordinate CA with this content and key: its new certificate, then this
    /// CA's chain.
    pub(crate) fn sign_ca(
        &self,
        mut params: CertificateParams,
        key: &CaKeyPair,
        terms: Terms,
    ) -> Result<Vec<String>, ApiError> {
        let (start, lifetime) = self.life(terms)?;
        params.use_authority_key_identifier_extension = true;
        params
            .custom_extensions
            .push(ca_issuers_extension(&self.url));
        set_serial_and_dates(&mut params, start, lifetime)?;
        let certificate = params.signed_by(key, &self.issuer).map_err(signing)?;
        let mut chain = vec![pem("CERTIFICATE", certificate.der())];
        chain.extend_from_slice(&self.chain.pems);
        Ok(chain)
    }

    /// Refuses a CA certificate that this CA's path length does not allow.
    fn check_path(&self, x509: &X509Parameters) -> Result<(), ApiError> {
        let options = x509.ca_options.unwrap_or_default();
        let (Some(true), Some(left)) = (options.is_ca, self.path_length()) else {
            return Ok(());
        };
        let asked = options.max_issuer_path_length;
        // Without a length of its own the new CA is bound by what is left.
        if left > 0 && asked.is_none_or(|asked| i64::from(asked) < i64::from(left)) {
            return Ok(());
        }
        let asked = asked.map_or_else(
            || "any path length".to_owned(),
            |length| format!("path length {length}"),
        );
        Err(ApiError::invalid(format!(
            "A CA certificate with {asked} cannot be issued by {}: its own path length is {left}.",
            self.name
        )))
    }

    /// First moment and length of the life of a certificate that is signed now.
    fn life(&self, terms: Terms) -> Result<(Timestamp, SignedDuration), ApiError> {
        let now = floor(terms.now);
        let (_, expires) = self.validity();
        if now > expires {
            return Err(ApiError::new(
                Code::FailedPrecondition,
                format!(
                    "The CA {} or one above it expired at {expires}.",
                    self.name()
                ),
            ));
        }
        let not_before = now
            .checked_sub(terms.backdate)
            .map_err(|error| ApiError::internal("Backdating", error))?;
        let left = expires.duration_since(not_before) + SECOND;
        // Certificates have no fractions of seconds.
        let whole = SignedDuration::from_secs(terms.lifetime.as_secs().max(1));
        Ok((floor(not_before), whole.min(left)))
    }

    /// A CA like this one under a root that nobody knows.
    fn rogue(&self, now: Timestamp) -> Result<Self, ApiError> {
        let content_id = random_id()?;
        let make = |name: &str, above: Option<&Self>| {
            let key = CaKeyPair::generate(CaKey::EcP256).map_err(signing)?;
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let lifetime = SignedDuration::from_hours(24 * 365);
            let chain = match above {
                None => self_sign(params, &key, lifetime, now)?,
                Some(above) => above.sign_ca(params, &key, ca_terms(lifetime, now))?,
            };
            Self::new(self.name.clone(), &content_id, key, chain)
                .map_err(|reason| ApiError::internal("The rogue CA", reason))
        };
        let root = make("unknown root CA", None)?;
        if self.chain.pems.len() == 1 {
            return Ok(root);
        }
        make("unknown issuing CA", Some(&root))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The terms on which a CA's own certificate is signed.
pub(crate) fn ca_terms(lifetime: SignedDuration, now: Timestamp) -> Terms {
    Terms {
        lifetime,
        backdate: SignedDuration::ZERO,
        now,
        with_issuer_url: true,
    }
}

/// The chain, one certificate, of a new self-signed CA.
pub(crate) fn self_sign(
    mut params: CertificateParams,
    key: &CaKeyPair,
    lifetime: SignedDuration,
    now: Timestamp,
) -> Result<Vec<String>, ApiError> {
    set_serial_and_dates(&mut params, now, lifetime)?;
    let certificate = params.self_signed(key).map_err(signing)?;
    Ok(vec![pem("CERTIFICATE", certificate.der())])
}

/// Everything of a certificate but its serial, its dates and what names its issuer. Basic
/// constraints and key identifiers always stand in it, as in the service's real certificates.
pub(crate) fn certificate_params(
    subject: &Subject,
    names: &SubjectAltNames,
    x509: &X509Parameters,
) -> Result<CertificateParams, ApiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject_attributes(subject) {
        if !value.is_empty() {
            params.distinguished_name.push(kind, value.as_str());
        }
    }
    params.subject_alt_names = san_types(names)?;
    params.is_ca = basic_constraints(x509)?;
    if let Some(usage) = &x509.key_usage {
        params.key_usages = usage.base_key_usage.map(key_usages).unwrap_or_default();
        params.extended_key_usages = usage
            .extended_key_usage
            .map(extended_key_usages)
            .unwrap_or_default();
    }
    Ok(params)
}

fn basic_constraints(x509: &X509Parameters) -> Result<IsCa, ApiError> {
    let options = x509.ca_options.unwrap_or_default();
    match (options.is_ca, options.max_issuer_path_length) {
        (Some(true), None) => Ok(IsCa::Ca(BasicConstraints::Unconstrained)),
        (Some(true), Some(length)) => u8::try_from(length)
            .map(|length| IsCa::Ca(BasicConstraints::Constrained(length)))
            .map_err(|_error| {
                ApiError::invalid(format!(
                    "ca_options.max_issuer_path_length {length} is not between 0 and 255."
                ))
            }),
        (_, Some(_)) => Err(ApiError::invalid(
            "ca_options.max_issuer_path_length makes sense only with is_ca.",
        )),
        (_, None) => Ok(IsCa::ExplicitNoCa),
    }
}

/// Gives the certificate a serial, which is returned in lowercase hex, and its dates.
fn set_serial_and_dates(
    params: &mut CertificateParams,
    start: Timestamp,
    lifetime: SignedDuration,
) -> Result<String, ApiError> {
    let too_long = || ApiError::invalid("The lifetime is too long for a certificate.");
    let start = floor(start);
    let last = start
        .checked_add(lifetime - SECOND)
        .ok()
        .filter(|last| *last >= start)
        .ok_or_else(too_long)?;
    let date = |moment: Timestamp| {
        OffsetDateTime::from_unix_timestamp(moment.as_second()).map_err(|_error| too_long())
    };
    params.not_before = date(start)?;
    params.not_after = date(floor(last))?;
    let serial = random_serial().map_err(|error| ApiError::internal("Randomness", error))?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(hex(&serial))
}

fn described(der: &[u8]) -> Result<CertificateDescription, ApiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der)
        .map_err(|error| ApiError::internal("The new certificate", error))?;
    describe(&parsed).map_err(|error| ApiError::internal("The new certificate", error))
}

/// Authority information access: where the issuer's certificate can be had.
fn ca_issuers_extension(url: &str) -> CustomExtension {
    const AUTHORITY_INFO_ACCESS: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    // OBJECT IDENTIFIER 1.3.6.1.5.5.7.48.2, id-ad-caIssuers
    const CA_ISSUERS: [u8; 10] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2];
    let location = der(0x86, &[url.as_bytes()]);
    let access = der(0x30, &[&CA_ISSUERS, &location]);
    CustomExtension::from_oid_content(&AUTHORITY_INFO_ACCESS, der(0x30, &[&access]))
}

fn certificate_url(content_id: &str) -> String {
    format!("http://privateca-content-{content_id}.storage.googleapis.com/{content_id}/ca.crt")
}

/// 128 random bits. A leading zero byte is drawn again, so that the hex form and the integer in the
/// certificate have the same digits.
fn random_serial() -> Result<[u8; 16], getrandom::Error> {
    let mut serial = [0; 16];
    while serial[0] == 0 {
        getrandom::fill(&mut serial)?;
    }
    Ok(serial)
}

/// 128 random bits in lowercase hex.
pub(crate) fn random_id() -> Result<String, ApiError> {
    random_serial()
        .map(|bits| hex(&bits))
        .map_err(|error| ApiError::internal("Randomness", error))
}

fn floor(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

pub(crate) fn signing(error: rcgen::Error) -> ApiError {
    ApiError::internal("Signing", error)
}

#[cfg(test)]
#[path = "issue_tests.rs"]
mod tests;
