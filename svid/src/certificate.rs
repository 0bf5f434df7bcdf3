//! One X.509 certificate: parsed once, owned, with the few facts that the rest asks for.
use std::{collections::HashSet, fmt};

use jiff::Timestamp;
use pkcs8::der::Decode as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{
        OID_EC_P256, OID_NIST_EC_P384, OID_X509_COMMON_NAME, OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
        OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
    },
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey,
    time::ASN1Time,
    x509::X509Name,
};

/// The largest PEM text that is read as certificates, in bytes.
pub const MAX_PEM_BYTES: usize = 1024 * 1024;

/// The most certificates that one PEM text may hold.
pub const MAX_CERTIFICATES: usize = 256;

/// One certificate with the facts that certagent asks for, taken from its DER once.
///
/// Parsing is not trust: nothing here says that a signature was checked, see [`crate::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    facts: Facts,
}

#[derive(Clone, PartialEq, Eq)]
struct Facts {
    serial: Vec<u8>,
    subject: Vec<u8>,
    common_name: Option<String>,
    issuer: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: Vec<u8>,
    public_key_kind: PublicKeyKind,
    is_ca: bool,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<ExtendedKeyUsage>,
    names: Names,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
}

/// The bits of the key usage extension that the SPIFFE standard speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the extension's own bits"
)]
pub struct KeyUsage {
    /// The extension was marked critical.
    pub critical: bool,
    /// `digitalSignature`.
    pub digital_signature: bool,
    /// `keyCertSign`.
    pub key_cert_sign: bool,
    /// `cRLSign`.
    pub crl_sign: bool,
}

/// The purposes of the extended key usage extension that TLS asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// `id-kp-serverAuth`.
    pub server_auth: bool,
    /// `id-kp-clientAuth`.
    pub client_auth: bool,
}

/// The subject alternative names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The extension was marked critical.
    pub critical: bool,
    /// URI names, in order.
    pub uris: Vec<String>,
    /// DNS names, in order.
    pub dns: Vec<String>,
    /// How many names of any other kind there are.
    pub others: usize,
}

/// The family and size of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PublicKeyKind {
    /// ECDSA on NIST P-256.
    EcP256,
    /// ECDSA on NIST P-384.
    EcP384,
    /// RSA with a modulus of so many bits.
    Rsa(usize),
    /// Anything else: certagent neither makes nor accepts it.
    Other,
}

impl fmt::Display for PublicKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcP256 => f.write_str("ECDSA P-256"),
            Self::EcP384 => f.write_str("ECDSA P-384"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Other => f.write_str("another algorithm"),
        }
    }
}

/// Why bytes are not a certificate, or not a list of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The PEM armour is broken.
    #[error("the PEM text is broken: {reason}")]
    Pem {
        /// What is wrong with it. Nothing of the text itself: it may be a misplaced key.
        reason: &'static str,
    },
    /// The text is larger than [`MAX_PEM_BYTES`].
    #[error("the PEM text has {bytes} bytes; at most {MAX_PEM_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// There are more than [`MAX_CERTIFICATES`] certificates.
    #[error("there are more than {MAX_CERTIFICATES} certificates in one text")]
    TooMany,
    /// The DER is not an X.509 v3 certificate.
    #[error("certificate {position} is not a valid X.509 certificate: {reason}")]
    Der {
        /// Which certificate of the text, counted from 1.
        position: usize,
        /// What the parser said.
        reason: String,
    },
}

impl Certificate {
    /// Parses one DER certificate; trailing bytes are an error.
    pub fn from_der(der: impl Into<CertificateDer<'static>>) -> Result<Self, CertificateError> {
        let der = der.into();
        let facts = Facts::read(&der).map_err(|reason| CertificateError::Der {
            position: 1,
            reason,
        })?;
        Ok(Self { der, facts })
    }

    /// Parses every `CERTIFICATE` block of a PEM text, in order. Other blocks and text between
    /// them are passed over; a text without a certificate gives an empty list.
    pub fn parse_pem_list(pem: &[u8]) -> Result<Vec<Self>, CertificateError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(CertificateError::TooLarge { bytes: pem.len() });
        }
        let mut list = Vec::new();
        for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            if index == MAX_CERTIFICATES {
                return Err(CertificateError::TooMany);
            }
            let der = der.map_err(|error| CertificateError::Pem {
                reason: pem_fault(&error),
            })?;
            let facts = Facts::read(&der).map_err(|reason| CertificateError::Der {
                position: index + 1,
                reason,
            })?;
            list.push(Self { der, facts });
        }
        Ok(list)
    }

    /// The certificate as DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate as PEM with LF line ends, 64 columns, a newline at the end.
    pub fn to_pem(&self) -> String {
        // The label is a constant that the encoder accepts, and the length is bounded.
        pkcs8::der::pem::encode_string("CERTIFICATE", pkcs8::LineEnding::LF, &self.der)
            .unwrap_or_default()
    }

    /// SHA-256 of the DER: what tools call the fingerprint.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The serial number as lowercase hex without a leading zero byte, as CA Service prints it.
    pub fn serial_hex(&self) -> String {
        hex(&self.facts.serial)
    }

    /// The subject, DER of the name.
    pub fn subject(&self) -> &[u8] {
        &self.facts.subject
    }

    /// The subject as people read it; empty for an empty name.
    pub fn subject_text(&self) -> String {
        text(&self.facts.subject)
    }

    /// The subject name has no attribute at all.
    pub fn subject_is_empty(&self) -> bool {
        self.facts.subject == [0x30, 0x00]
    }

    /// The common name, where the subject is one common name and nothing else.
    pub fn common_name(&self) -> Option<&str> {
        self.facts.common_name.as_deref()
    }

    /// The issuer, DER of the name.
    pub fn issuer(&self) -> &[u8] {
        &self.facts.issuer
    }

    /// The issuer as people read it.
    pub fn issuer_text(&self) -> String {
        text(&self.facts.issuer)
    }

    /// Start of the validity, inclusive.
    pub fn not_before(&self) -> Timestamp {
        self.facts.not_before
    }

    /// End of the validity, inclusive.
    pub fn not_after(&self) -> Timestamp {
        self.facts.not_after
    }

    /// The public key: DER of the `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.facts.public_key
    }

    /// The family and size of the public key.
    pub fn public_key_kind(&self) -> PublicKeyKind {
        self.facts.public_key_kind
    }

    /// Basic constraints say that this certificate may sign others.
    pub fn is_ca(&self) -> bool {
        self.facts.is_ca
    }

    /// Subject and issuer are the same name: a root, if its signature says so too.
    pub fn is_self_issued(&self) -> bool {
        self.facts.subject == self.facts.issuer
    }

    /// The key usage extension, if there is one.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.facts.key_usage
    }

    /// The extended key usage extension, if there is one.
    pub fn extended_key_usage(&self) -> Option<ExtendedKeyUsage> {
        self.facts.extended_key_usage
    }

    /// The subject alternative names; empty if the extension is missing.
    pub fn names(&self) -> &Names {
        &self.facts.names
    }

    /// `issuer` may have signed this certificate, by name and, where both say so, by key id.
    /// No signature is checked.
    pub fn names_issuer(&self, issuer: &Self) -> bool {
        self.facts.issuer == issuer.facts.subject
            && match (&self.facts.authority_key_id, &issuer.facts.subject_key_id) {
                (Some(authority), Some(subject)) => authority == subject,
                _ => true,
            }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject_text())
            .field("issuer", &self.issuer_text())
            .field("serial", &self.serial_hex())
            .finish_non_exhaustive()
    }
}

impl Facts {
    fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the certificate", rest.len()));
        }
        let mut facts = Self {
            serial: significant(parsed.raw_serial()).to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
            common_name: common_name(parsed.subject()),
            issuer: parsed.issuer().as_raw().to_vec(),
            not_before: timestamp(parsed.validity().not_before)?,
            not_after: timestamp(parsed.validity().not_after)?,
            public_key: parsed.public_key().raw.to_vec(),
            public_key_kind: kind(&parsed),
            is_ca: false,
            key_usage: None,
            extended_key_usage: None,
            names: Names::default(),
            subject_key_id: None,
            authority_key_id: None,
        };
        let mut seen = HashSet::new();
        for extension in parsed.extensions() {
            if !seen.insert(&extension.oid) {
                return Err(format!("the extension {} appears twice", extension.oid));
            }
            facts.read_extension(
                extension.critical,
                &extension.oid,
                extension.parsed_extension(),
            )?;
        }
        Ok(facts)
    }

    fn read_extension(
        &mut self,
        critical: bool,
        oid: &x509_parser::oid_registry::Oid<'_>,
        extension: &ParsedExtension<'_>,
    ) -> Result<(), String> {
        match extension {
            ParsedExtension::BasicConstraints(basic) => self.is_ca = basic.ca,
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some(KeyUsage {
                    critical,
                    digital_signature: usage.digital_signature(),
                    key_cert_sign: usage.key_cert_sign(),
                    crl_sign: usage.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended_key_usage = Some(ExtendedKeyUsage {
                    server_auth: usage.server_auth,
                    client_auth: usage.client_auth,
                });
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                self.names.critical = critical;
                for name in &names.general_names {
                    match name {
                        GeneralName::URI(uri) => self.names.uris.push((*uri).to_owned()),
                        GeneralName::DNSName(dns) => self.names.dns.push((*dns).to_owned()),
                        _ => self.names.others += 1,
                    }
                }
            }
            ParsedExtension::SubjectKeyIdentifier(id) => {
                self.subject_key_id = Some(id.0.to_vec());
            }
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::ParseError { error } => {
                return Err(format!("the extension {oid} is broken: {error}"));
            }
            // A key id that did not parse must not pass as "no key id".
            _ if *oid == OID_X509_EXT_SUBJECT_KEY_IDENTIFIER
                || *oid == OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER =>
            {
                return Err(format!("the extension {oid} is broken"));
            }
            _ => {}
        }
        Ok(())
    }
}

fn pem_fault(error: &rustls_pki_types::pem::Error) -> &'static str {
    use rustls_pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "a block has no END line",
        Error::IllegalSectionStart { .. } => "a BEGIN line is broken",
        Error::Base64Decode(_) => "a block is not base64",
        _ => "it cannot be read",
    }
}

fn common_name(subject: &X509Name<'_>) -> Option<String> {
    let mut attributes = subject.iter_attributes();
    let (Some(only), None) = (attributes.next(), attributes.next()) else {
        return None;
    };
    let is_common_name = *only.attr_type() == OID_X509_COMMON_NAME;
    let value = only.as_str().ok().filter(|_| is_common_name)?;
    Some(value.to_owned())
}

fn kind(parsed: &X509Certificate<'_>) -> PublicKeyKind {
    let info = parsed.public_key();
    match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => PublicKeyKind::Rsa(significant(rsa.modulus).len() * 8),
        Ok(PublicKey::EC(_)) => {
            match info
                .algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.as_oid().ok())
            {
                Some(curve) if curve == OID_EC_P256 => PublicKeyKind::EcP256,
                Some(curve) if curve == OID_NIST_EC_P384 => PublicKeyKind::EcP384,
                _ => PublicKeyKind::Other,
            }
        }
        _ => PublicKeyKind::Other,
    }
}

/// The family and size of a bare `SubjectPublicKeyInfo`.
pub(crate) fn spki_kind(der: &[u8]) -> PublicKeyKind {
    let Ok(info) = pkcs8::spki::SubjectPublicKeyInfoRef::from_der(der) else {
        return PublicKeyKind::Other;
    };
    if info.algorithm.oid == pkcs1::ALGORITHM_OID {
        return match pkcs1::RsaPublicKeyRef::from_der(info.subject_public_key.raw_bytes()) {
            Ok(key) => PublicKeyKind::Rsa(significant(key.modulus.as_bytes()).len() * 8),
            Err(_) => PublicKeyKind::Other,
        };
    }
    match info
        .algorithm
        .parameters_oid()
        .map(|oid| oid.to_string())
        .as_deref()
    {
        Ok("1.2.840.10045.3.1.7") => PublicKeyKind::EcP256,
        Ok("1.3.132.0.34") => PublicKeyKind::EcP384,
        _ => PublicKeyKind::Other,
    }
}

fn timestamp(time: ASN1Time) -> Result<Timestamp, String> {
    Timestamp::from_second(time.timestamp())
        .map_err(|_far_away| "a date of its validity is out of range".to_owned())
}

fn significant(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// A name as people read it. Made when somebody reads it: each handshake parses a certificate, and few
/// are told of.
fn text(name: &[u8]) -> String {
    // It was parsed before, with its certificate.
    X509Name::from_der(name)
        .map_or_else(|_| String::new(), |(_, name)| printable(&name.to_string()))
}

/// Names come from outside and end on terminals and in logs: control characters do not.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
