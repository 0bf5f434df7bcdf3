//! The JSON of CA Service: lowerCamelCase, durations as `"86400s"`, bytes in base64, 64-bit integers
//! as strings.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::revocation::RevocationDetails;
use crate::scalars::{Base64Bytes, NameOrNumber, ProtoDuration};

/// The answer to a create or get: one issued certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateJson {
    /// `projects/P/locations/L/caPools/N/certificates/ID`.
    pub name: String,
    /// The request's CSR, if it was one with `pemCsr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pem_csr: Option<String>,
    /// The request's `config`, if it was one with `config`, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// `projects/P/locations/L/caPools/N/certificateAuthorities/CA`.
    pub issuer_certificate_authority: String,
    /// The lifetime that was asked for; what became of it stands in the description.
    pub lifetime: ProtoDuration,
    /// The leaf in PEM. Absent in the answer to a request with `validateOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pem_certificate: Option<String>,
    /// The issuer's chain in PEM: issuer first, root last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pem_certificate_chain: Vec<String>,
    /// What stands in the certificate.
    pub certificate_description: CertificateDescription,
    /// When the certificate was created.
    pub create_time: Timestamp,
    /// When the resource last changed.
    pub update_time: Timestamp,
    /// When and why the certificate was revoked; absent when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_details: Option<RevocationDetails>,
    /// The request's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl CertificateJson {
    /// Its serial in lowercase hex.
    pub(crate) fn serial(&self) -> &str {
        &self
            .certificate_description
            .subject_description
            .hex_serial_number
    }
}

/// What stands in a certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateDescription {
    /// Subject, names, serial, validity.
    pub subject_description: SubjectDescription,
    /// Key usages and CA options.
    pub x509_description: X509Parameters,
    /// The certified key.
    pub public_key: PublicKeyJson,
    /// The subject key identifier.
    #[serde(default, skip_serializing_if = "KeyId::is_empty")]
    pub subject_key_id: KeyId,
    /// The authority key identifier. A root has none.
    #[serde(default, skip_serializing_if = "KeyId::is_empty")]
    pub authority_key_id: KeyId,
    /// Where the issuer's certificate can be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aia_issuing_certificate_urls: Vec<String>,
    /// The hash of the certificate.
    pub cert_fingerprint: Fingerprint,
}

/// The hash of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fingerprint {
    /// SHA-256 of the certificate's DER in lowercase hex.
    pub sha256_hash: String,
}

/// Subject, names, serial and validity of a certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectDescription {
    /// The subject; empty when the certificate has none.
    pub subject: Subject,
    /// The subject alternative names.
    pub subject_alt_name: SubjectAltNames,
    /// The serial in lowercase hex.
    pub hex_serial_number: String,
    /// From `not_before_time` to one second after `not_after_time`.
    pub lifetime: ProtoDuration,
    /// First moment of validity.
    pub not_before_time: Timestamp,
    /// Last second of validity.
    pub not_after_time: Timestamp,
}

/// A key identifier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyId {
    /// The identifier in lowercase hex.
    pub key_id: String,
}

impl KeyId {
    fn is_empty(&self) -> bool {
        self.key_id.is_empty()
    }
}

/// A distinguished name by its known attributes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the attributes of X.520 by their own names")]
pub struct Subject {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub common_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub country_code: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub organization: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub organizational_unit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub locality: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub province: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub street_address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub postal_code: String,
}

/// Subject alternative names by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SubjectAltNames {
    /// DNS names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// URIs, a SPIFFE ID among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    /// Mail addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email_addresses: Vec<String>,
    /// IP addresses in text form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
}

/// Key usages and CA options, of a request, of a certificate and of a pool's baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct X509Parameters {
    /// What the key may be used for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_usage: Option<KeyUsage>,
    /// Whether the certificate is a CA's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_options: Option<CaOptions>,
}

/// What a key may be used for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KeyUsage {
    /// The extension keyUsage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_key_usage: Option<BaseKeyUsage>,
    /// The extension extendedKeyUsage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_key_usage: Option<ExtendedKeyUsage>,
}

/// The bits of the extension keyUsage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(
    missing_docs,
    reason = "the bits of RFC 5280, section 4.2.1.3, by their own names"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the shape of the wire format"
)]
pub struct BaseKeyUsage {
    #[serde(skip_serializing_if = "is_false")]
    pub digital_signature: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub content_commitment: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub key_encipherment: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub data_encipherment: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub key_agreement: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub cert_sign: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub crl_sign: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub encipher_only: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub decipher_only: bool,
}

/// The purposes of the extension extendedKeyUsage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(
    missing_docs,
    reason = "the purposes of RFC 5280, section 4.2.1.12, by their own names"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the shape of the wire format"
)]
pub struct ExtendedKeyUsage {
    #[serde(skip_serializing_if = "is_false")]
    pub server_auth: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub client_auth: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub code_signing: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub email_protection: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub time_stamping: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub ocsp_signing: bool,
}

/// Basic constraints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CaOptions {
    /// Whether the certificate is a CA's. Unlike the plain bits, `false` is written out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_ca: Option<bool>,
    /// How many CAs may follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_issuer_path_length: Option<i32>,
}

/// A public key on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicKeyJson {
    /// The PEM text's bytes.
    pub key: Base64Bytes,
    /// How `key` is to be read.
    #[serde(default)]
    pub format: KeyFormat,
}

/// How a public key is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", try_from = "NameOrNumber")]
pub enum KeyFormat {
    /// Not said.
    #[default]
    KeyFormatUnspecified,
    /// PEM: SPKI, PKCS#1 or a CSR.
    Pem,
}

/// The chains of a pool's CAs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchCaCertsJson {
    /// One entry for each CA.
    pub ca_certs: Vec<CertChain>,
}

/// The chain of one CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertChain {
    /// PEM texts: the CA first, its root last.
    pub certificates: Vec<String>,
}

/// The body of a create request. What the service fills in itself (`name`, [`OUTPUT_ONLY`]) is
/// accepted and ignored.
///
/// [`OUTPUT_ONLY`]: crate::json::OUTPUT_ONLY
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CreateBody {
    #[serde(default, rename = "name")]
    _name: Option<IgnoredAny>,
    pub(crate) pem_csr: Option<String>,
    pub(crate) config: Option<CertificateConfig>,
    pub(crate) lifetime: Option<ProtoDuration>,
    pub(crate) certificate_template: Option<String>,
    #[serde(default)]
    pub(crate) subject_mode: SubjectMode,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) requested_not_before_time: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CertificateConfig {
    #[serde(default)]
    pub(crate) subject_config: SubjectConfig,
    #[serde(default)]
    pub(crate) x509_config: X509Parameters,
    pub(crate) public_key: Option<PublicKeyJson>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct SubjectConfig {
    pub(crate) subject: Subject,
    pub(crate) subject_alt_name: SubjectAltNames,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NameOrNumber")]
pub(crate) enum SubjectMode {
    #[default]
    Default,
    ReflectedSpiffe,
    RdnSequence,
}

impl TryFrom<NameOrNumber> for KeyFormat {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        value.pick(&[
            ("KEY_FORMAT_UNSPECIFIED", Self::KeyFormatUnspecified),
            ("PEM", Self::Pem),
        ])
    }
}

impl TryFrom<NameOrNumber> for SubjectMode {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        value.pick(&[
            ("SUBJECT_REQUEST_MODE_UNSPECIFIED", Self::Default),
            ("DEFAULT", Self::Default),
            ("REFLECTED_SPIFFE", Self::ReflectedSpiffe),
            ("RDN_SEQUENCE", Self::RdnSequence),
        ])
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn enums_come_by_name_or_by_number() {
        let read = |value| serde_json::from_value::<KeyFormat>(value).ok();
        assert_eq!(read(json!("PEM")), Some(KeyFormat::Pem));
        assert_eq!(read(json!(1)), Some(KeyFormat::Pem));
        for bad in [json!("DER"), json!(2), json!(-1), json!(null), json!(true)] {
            assert_eq!(read(bad), None);
        }
    }
}
