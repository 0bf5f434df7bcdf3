//! What a request asks for, whichever of the two forms it came in.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::encoding::{der, single_pem};
use crate::errors::ApiError;
use crate::wire::{
    BaseKeyUsage, CaOptions, CertificateConfig, ExtendedKeyUsage, KeyFormat, KeyUsage, Subject,
    SubjectAltNames, X509Parameters,
};

/// The certificate that a request asks for, before the pool's policy had its say.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) subject: Subject,
    pub(crate) names: SubjectAltNames,
    pub(crate) x509: X509Parameters,
    pub(crate) key: SubjectKey,
}

impl Asked {
    /// From `config`: nothing but the key is taken from a CSR in `publicKey`.
    pub(crate) fn from_config(config: CertificateConfig) -> Result<Self, ApiError> {
        let key = config
            .public_key
            .ok_or_else(|| ApiError::invalid("certificate.config.public_key is required."))?;
        if key.format != KeyFormat::Pem {
            return Err(ApiError::invalid(
                "certificate.config.public_key.format must be PEM.",
            ));
        }
        Ok(Self {
            subject: config.subject_config.subject,
            names: config.subject_config.subject_alt_name,
            x509: config.x509_config,
            key: SubjectKey::from_pem(&key.key.0)?,
        })
    }

    /// From `pemCsr`: key, subject, names and extensions of the CSR.
    pub(crate) fn from_csr(csr: &str) -> Result<Self, ApiError> {
        let (_, content) = single_pem(csr.as_bytes())
            .filter(|(label, _)| is_csr_label(label))
            .ok_or_else(|| ApiError::invalid("certificate.pem_csr is not one CSR in PEM."))?;
        let key = SubjectKey::from_csr_der(&content)?;
        let parsed = CertificateSigningRequestParams::from_der(&content.into())
            .map_err(|error| ApiError::invalid(format!("certificate.pem_csr: {error}.")))?
            .params;
        let mut x509 = X509Parameters {
            key_usage: Some(KeyUsage {
                base_key_usage: base_key_usage(&parsed.key_usages),
                extended_key_usage: extended_key_usage(&parsed.extended_key_usages),
            }),
            ca_options: None,
        };
        x509.ca_options = match parsed.is_ca {
            IsCa::NoCa => None,
            IsCa::ExplicitNoCa => Some((false, None)),
            IsCa::Ca(BasicConstraints::Unconstrained) => Some((true, None)),
            IsCa::Ca(BasicConstraints::Constrained(length)) => Some((true, Some(length.into()))),
        }
        .map(|(is_ca, max_issuer_path_length)| CaOptions {
            is_ca: Some(is_ca),
            max_issuer_path_length,
        });
        let subject = subject_of(&parsed.distinguished_name)?;
        Ok(Self {
            subject,
            names: names_of(&parsed.subject_alt_names)?,
            x509,
            key,
        })
    }
}

impl Asked {
    /// Takes `id` as the only name, whatever was asked for. The service sets it itself, so a policy
    /// that passes no names through does not drop it. An identity is a leaf's: no CA is made by it.
    pub(crate) fn reflect(&mut self, id: &str) -> Result<(), ApiError> {
        if self
            .x509
            .ca_options
            .is_some_and(|options| options.is_ca == Some(true))
        {
            return Err(ApiError::invalid(
                "subject_mode REFLECTED_SPIFFE: ca_options ask for a CA certificate.",
            ));
        }
        self.subject = Subject::default();
        self.names = SubjectAltNames {
            uris: vec![id.to_owned()],
            ..SubjectAltNames::default()
        };
        Ok(())
    }
}

/// The public key to certify, proven to be well formed.
#[derive(Debug)]
pub(crate) struct SubjectKey {
    spki: SubjectPublicKeyInfo,
    kind: KeyKind,
}

/// What a policy may say something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Rsa { bits: u64 },
    EcdsaP256,
    EcdsaP384,
}

impl SubjectKey {
    pub(crate) fn kind(&self) -> KeyKind {
        self.kind
    }

    pub(crate) fn spki(&self) -> &SubjectPublicKeyInfo {
        &self.spki
    }

    /// From PEM: SPKI, PKCS#1 (RSA), or a CSR, of which nothing but the key is used.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, ApiError> {
        let (label, content) = single_pem(text).ok_or_else(|| {
            ApiError::invalid("certificate.config.public_key.key is not one block of PEM.")
        })?;
        match label.as_str() {
            "PUBLIC KEY" => Self::from_spki(&content),
            "RSA PUBLIC KEY" => Self::from_spki(&pkcs1_to_spki(&content)),
            label if is_csr_label(label) => Self::from_csr_der(&content),
            _ => Err(ApiError::invalid(format!(
                "certificate.config.public_key.key holds a {label:?}; \
                 expected PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE REQUEST."
            ))),
        }
    }

    fn from_csr_der(content: &[u8]) -> Result<Self, ApiError> {
        let (rest, csr) = X509CertificationRequest::from_der(content)
            .map_err(|_error| ApiError::invalid("The CSR cannot be parsed."))?;
        // An empty RDN is no valid DER, and rcgen's reader panics on one.
        let empty_rdn = csr
            .certification_request_info
            .subject
            .iter_rdn()
            .any(|rdn| rdn.iter().count() == 0);
        if !rest.is_empty() || empty_rdn {
            return Err(ApiError::invalid("The CSR cannot be parsed."));
        }
        csr.verify_signature()
            .map_err(|_error| ApiError::invalid("The CSR's signature does not verify."))?;
        Self::from_spki(csr.certification_request_info.subject_pki.raw)
    }

    fn from_spki(content: &[u8]) -> Result<Self, ApiError> {
        let bad = || ApiError::invalid("The public key cannot be parsed.");
        let unsupported = || {
            ApiError::invalid("The public key is none of RSA, ECDSA on P-256 and ECDSA on P-384.")
        };
        let (_, parsed) =
            x509_parser::x509::SubjectPublicKeyInfo::from_der(content).map_err(|_error| bad())?;
        let point_length = parsed.subject_public_key.data.len();
        let kind = match parsed.parsed().map_err(|_error| bad())? {
            PublicKey::RSA(rsa) => KeyKind::Rsa {
                bits: bit_length(rsa.modulus),
            },
            // Uncompressed points: one byte of form, then two coordinates.
            PublicKey::EC(_) if point_length == 65 => KeyKind::EcdsaP256,
            PublicKey::EC(_) if point_length == 97 => KeyKind::EcdsaP384,
            _ => return Err(unsupported()),
        };
        let spki = SubjectPublicKeyInfo::from_der(content).map_err(|_error| unsupported())?;
        let fits = match kind {
            KeyKind::Rsa { .. } => spki.algorithm() == &rcgen::PKCS_RSA_SHA256,
            KeyKind::EcdsaP256 => spki.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::EcdsaP384 => spki.algorithm() == &rcgen::PKCS_ECDSA_P384_SHA384,
        };
        if fits {
            Ok(Self { spki, kind })
        } else {
            Err(unsupported())
        }
    }
}

fn is_csr_label(label: &str) -> bool {
    matches!(label, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST")
}

pub(crate) fn bit_length(modulus: &[u8]) -> u64 {
    let mut bytes = modulus.iter().skip_while(|byte| **byte == 0);
    match bytes.next() {
        None => 0,
        Some(first) => u64::from(8 - first.leading_zeros()) + 8 * bytes.count() as u64,
    }
}

fn pkcs1_to_spki(content: &[u8]) -> Vec<u8> {
    // AlgorithmIdentifier of rsaEncryption (1.2.840.113549.1.1.1) with a NULL parameter.
    const RSA_ENCRYPTION: [u8; 15] = [
        0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0,
    ];
    der(0x30, &[&RSA_ENCRYPTION, &der(0x03, &[&[0], content])])
}

/// The known attributes of a subject and their types in a certificate.
pub(crate) fn subject_attributes(subject: &Subject) -> [(DnType, &String); 8] {
    [
        (DnType::CountryName, &subject.country_code),
        (DnType::StateOrProvinceName, &subject.province),
        (DnType::LocalityName, &subject.locality),
        (
            DnType::CustomDnType(STREET_ADDRESS.to_vec()),
            &subject.street_address,
        ),
        (
            DnType::CustomDnType(POSTAL_CODE.to_vec()),
            &subject.postal_code,
        ),
        (DnType::OrganizationName, &subject.organization),
        (DnType::OrganizationalUnitName, &subject.organizational_unit),
        (DnType::CommonName, &subject.common_name),
    ]
}

const STREET_ADDRESS: [u64; 4] = [2, 5, 4, 9];
const POSTAL_CODE: [u64; 4] = [2, 5, 4, 17];

fn subject_of(dn: &DistinguishedName) -> Result<Subject, ApiError> {
    let mut subject = Subject::default();
    for (kind, value) in dn.iter() {
        let field = match kind {
            DnType::CommonName => &mut subject.common_name,
            DnType::CountryName => &mut subject.country_code,
            DnType::OrganizationName => &mut subject.organization,
            DnType::OrganizationalUnitName => &mut subject.organizational_unit,
            DnType::LocalityName => &mut subject.locality,
            DnType::StateOrProvinceName => &mut subject.province,
            DnType::CustomDnType(oid) if *oid == STREET_ADDRESS => &mut subject.street_address,
            DnType::CustomDnType(oid) if *oid == POSTAL_CODE => &mut subject.postal_code,
            _ => {
                return Err(ApiError::invalid(
                    "The CSR's subject has an unknown attribute.",
                ));
            }
        };
        match value {
            DnValue::Utf8String(text) => field.clone_from(text),
            DnValue::PrintableString(text) => text.as_str().clone_into(field),
            DnValue::Ia5String(text) => text.as_str().clone_into(field),
            _ => {
                return Err(ApiError::invalid(
                    "The CSR's subject is in a legacy encoding.",
                ));
            }
        }
    }
    Ok(subject)
}

fn names_of(sans: &[SanType]) -> Result<SubjectAltNames, ApiError> {
    let mut names = SubjectAltNames::default();
    for san in sans {
        match san {
            SanType::DnsName(name) => names.dns_names.push(name.as_str().to_owned()),
            SanType::URI(uri) => names.uris.push(uri.as_str().to_owned()),
            SanType::Rfc822Name(mail) => names.email_addresses.push(mail.as_str().to_owned()),
            SanType::IpAddress(address) => names.ip_addresses.push(address.to_string()),
            _ => {
                return Err(ApiError::invalid(
                    "The CSR asks for a kind of name unknown here.",
                ));
            }
        }
    }
    Ok(names)
}

/// The names as a certificate holds them.
pub(crate) fn san_types(names: &SubjectAltNames) -> Result<Vec<SanType>, ApiError> {
    let bad = |name: &String| {
        ApiError::invalid(format!("{name:?} cannot be a subject alternative name."))
    };
    let mut sans = Vec::new();
    for name in &names.dns_names {
        sans.push(SanType::DnsName(
            name.as_str().try_into().map_err(|_error| bad(name))?,
        ));
    }
    for name in &names.uris {
        sans.push(SanType::URI(
            name.as_str().try_into().map_err(|_error| bad(name))?,
        ));
    }
    for name in &names.email_addresses {
        sans.push(SanType::Rfc822Name(
            name.as_str().try_into().map_err(|_error| bad(name))?,
        ));
    }
    for name in &names.ip_addresses {
        sans.push(SanType::IpAddress(
            name.parse::<IpAddr>().map_err(|_error| bad(name))?,
        ));
    }
    Ok(sans)
}

/// The usages as a certificate holds them.
pub(crate) fn key_usages(usage: BaseKeyUsage) -> Vec<KeyUsagePurpose> {
    [
        (usage.digital_signature, KeyUsagePurpose::DigitalSignature),
        (usage.content_commitment, KeyUsagePurpose::ContentCommitment),
        (usage.key_encipherment, KeyUsagePurpose::KeyEncipherment),
        (usage.data_encipherment, KeyUsagePurpose::DataEncipherment),
        (usage.key_agreement, KeyUsagePurpose::KeyAgreement),
        (usage.cert_sign, KeyUsagePurpose::KeyCertSign),
        (usage.crl_sign, KeyUsagePurpose::CrlSign),
        (usage.encipher_only, KeyUsagePurpose::EncipherOnly),
        (usage.decipher_only, KeyUsagePurpose::DecipherOnly),
    ]
    .into_iter()
    .filter_map(|(asked, purpose)| asked.then_some(purpose))
    .collect()
}

/// The purposes as a certificate holds them.
pub(crate) fn extended_key_usages(usage: ExtendedKeyUsage) -> Vec<ExtendedKeyUsagePurpose> {
    [
        (usage.server_auth, ExtendedKeyUsagePurpose::ServerAuth),
        (usage.client_auth, ExtendedKeyUsagePurpose::ClientAuth),
        (usage.code_signing, ExtendedKeyUsagePurpose::CodeSigning),
        (
            usage.email_protection,
            ExtendedKeyUsagePurpose::EmailProtection,
        ),
        (usage.time_stamping, ExtendedKeyUsagePurpose::TimeStamping),
        (usage.ocsp_signing, ExtendedKeyUsagePurpose::OcspSigning),
    ]
    .into_iter()
    .filter_map(|(asked, purpose)| asked.then_some(purpose))
    .collect()
}

fn base_key_usage(usages: &[KeyUsagePurpose]) -> Option<BaseKeyUsage> {
    let has = |purpose| usages.contains(&purpose);
    (!usages.is_empty()).then(|| BaseKeyUsage {
        digital_signature: has(KeyUsagePurpose::DigitalSignature),
        content_commitment: has(KeyUsagePurpose::ContentCommitment),
        key_encipherment: has(KeyUsagePurpose::KeyEncipherment),
        data_encipherment: has(KeyUsagePurpose::DataEncipherment),
        key_agreement: has(KeyUsagePurpose::KeyAgreement),
        cert_sign: has(KeyUsagePurpose::KeyCertSign),
        crl_sign: has(KeyUsagePurpose::CrlSign),
        encipher_only: has(KeyUsagePurpose::EncipherOnly),
        decipher_only: has(KeyUsagePurpose::DecipherOnly),
    })
}

fn extended_key_usage(usages: &[ExtendedKeyUsagePurpose]) -> Option<ExtendedKeyUsage> {
    let has = |purpose| usages.contains(&purpose);
    (!usages.is_empty()).then(|| ExtendedKeyUsage {
        server_auth: has(ExtendedKeyUsagePurpose::ServerAuth),
        client_auth: has(ExtendedKeyUsagePurpose::ClientAuth),
        code_signing: has(ExtendedKeyUsagePurpose::CodeSigning),
        email_protection: has(ExtendedKeyUsagePurpose::EmailProtection),
        time_stamping: has(ExtendedKeyUsagePurpose::TimeStamping),
        ocsp_signing: has(ExtendedKeyUsagePurpose::OcspSigning),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_modulus_is_counted_in_bits() {
        assert_eq!(bit_length(&[]), 0);
        assert_eq!(bit_length(&[0, 0]), 0);
        assert_eq!(bit_length(&[1]), 1);
        assert_eq!(bit_length(&[0, 0x80, 0]), 16);
        assert_eq!(bit_length(&[0x7f, 0xff]), 15);
    }

    #[test]
    fn bytes_that_are_no_key_are_refused_not_signed() {
        for text in [
            "",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n",
            "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n",
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        ] {
            assert!(SubjectKey::from_pem(text.as_bytes()).is_err(), "{text}");
        }
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let error = SubjectKey::from_pem(ed25519.public_key_pem().as_bytes()).unwrap_err();
        assert!(error.message.contains("none of RSA"), "{error}");
    }
}
