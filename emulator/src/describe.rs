//! What stands in a certificate, in the service's words.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::X509Name;

use crate::encoding::{hex, pem};
use crate::scalars::{Base64Bytes, ProtoDuration};
use crate::wire::{
    BaseKeyUsage, CaOptions, CertificateDescription, ExtendedKeyUsage, Fingerprint, KeyFormat,
    KeyId, PublicKeyJson, Subject, SubjectAltNames, SubjectDescription, X509Parameters,
};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Describes a certificate. Attributes, names and extensions that the service's JSON has no field
/// for are left out. Fails when a date is outside of what a timestamp can hold.
pub(crate) fn describe(
    certificate: &X509Certificate<'_>,
) -> Result<CertificateDescription, jiff::Error> {
    let not_before = Timestamp::from_second(certificate.validity().not_before.timestamp())?;
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp())?;
    let mut names = SubjectAltNames::default();
    let mut x509 = X509Parameters::default();
    let (mut subject_key_id, mut authority_key_id) = (KeyId::default(), KeyId::default());
    let mut issuer_urls = Vec::new();
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(sans) => {
                for name in &sans.general_names {
                    add_name(&mut names, name);
                }
            }
            ParsedExtension::KeyUsage(usage) => {
                x509.key_usage.get_or_insert_default().base_key_usage = Some(BaseKeyUsage {
                    digital_signature: usage.digital_signature(),
                    content_commitment: usage.non_repudiation(),
                    key_encipherment: usage.key_encipherment(),
                    data_encipherment: usage.data_encipherment(),
                    key_agreement: usage.key_agreement(),
                    cert_sign: usage.key_cert_sign(),
                    crl_sign: usage.crl_sign(),
                    encipher_only: usage.encipher_only(),
                    decipher_only: usage.decipher_only(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                x509.key_usage.get_or_insert_default().extended_key_usage =
                    Some(ExtendedKeyUsage {
                        server_auth: usage.server_auth,
                        client_auth: usage.client_auth,
                        code_signing: usage.code_signing,
                        email_protection: usage.email_protection,
                        time_stamping: usage.time_stamping,
                        ocsp_signing: usage.ocsp_signing,
                    });
            }
            ParsedExtension::BasicConstraints(constraints) => {
                x509.ca_options = Some(CaOptions {
                    is_ca: Some(constraints.ca),
                    max_issuer_path_length: constraints
                        .path_len_constraint
                        .map(|length| i32::try_from(length).unwrap_or(i32::MAX)),
                });
            }
            ParsedExtension::SubjectKeyIdentifier(id) => subject_key_id.key_id = hex(id.0),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority_key_id.key_id = id
                    .key_identifier
                    .as_ref()
                    .map(|id| hex(id.0))
                    .unwrap_or_default();
            }
            ParsedExtension::AuthorityInfoAccess(access) => {
                let urls = access
                    .iter()
                    .filter_map(|access| match access.access_location {
                        GeneralName::URI(url) => Some(url.to_owned()),
                        _ => None,
                    });
                issuer_urls.extend(urls);
            }
            _ => {}
        }
    }
    let serial = certificate.raw_serial();
    // DER puts a zero before a first byte of 128 and more.
    let serial = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        whole => whole,
    };
    Ok(CertificateDescription {
        subject_description: SubjectDescription {
            subject: subject_of(certificate.subject()),
            subject_alt_name: names,
            hex_serial_number: hex(serial),
            lifetime: ProtoDuration(not_after.duration_since(not_before) + SECOND),
            not_before_time: not_before,
            not_after_time: not_after,
        },
        x509_description: x509,
        public_key: PublicKeyJson {
            key: Base64Bytes(pem("PUBLIC KEY", certificate.public_key().raw).into_bytes()),
            format: KeyFormat::Pem,
        },
        subject_key_id,
        authority_key_id,
        aia_issuing_certificate_urls: issuer_urls,
        cert_fingerprint: Fingerprint {
            sha256_hash: hex(&Sha256::digest(certificate.as_raw())),
        },
    })
}

fn add_name(names: &mut SubjectAltNames, name: &GeneralName<'_>) {
    match name {
        GeneralName::DNSName(name) => names.dns_names.push((*name).to_owned()),
        GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
        GeneralName::RFC822Name(mail) => names.email_addresses.push((*mail).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            names
                .ip_addresses
                .extend(address.ok().map(|address| address.to_string()));
        }
        _ => {}
    }
}

fn subject_of(name: &X509Name<'_>) -> Subject {
    let mut subject = Subject::default();
    for attribute in name.iter_attributes() {
        // All of them are under 2.5.4, joint-iso-itu-t(2) ds(5) attributeType(4).
        let field = match attribute.attr_type().as_bytes() {
            [0x55, 4, 3] => &mut subject.common_name,
            [0x55, 4, 6] => &mut subject.country_code,
            [0x55, 4, 7] => &mut subject.locality,
            [0x55, 4, 8] => &mut subject.province,
            [0x55, 4, 9] => &mut subject.street_address,
            [0x55, 4, 10] => &mut subject.organization,
            [0x55, 4, 11] => &mut subject.organizational_unit,
            [0x55, 4, 17] => &mut subject.postal_code,
            _ => continue,
        };
        attribute.as_str().unwrap_or_default().clone_into(field);
    }
    subject
}
