//! Pools and CAs in the service's JSON: what requests say of them, and what answers show.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::errors::ApiError;
use crate::keys::CaKey;
use crate::policy::IssuancePolicy;
use crate::pool::Tier;
use crate::revocation::RevocationReason;
use crate::scalars::{NameOrNumber, ProtoDuration};
use crate::wire::CertificateDescription;

/// Labels: the user's own keys and values.
pub(crate) type Labels = BTreeMap<String, String>;

/// A pool as `GET` answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaPoolJson {
    /// `projects/P/locations/L/caPools/N`.
    pub name: String,
    /// The pool's tier.
    pub tier: Tier,
    /// What the pool signs.
    #[serde(default)]
    pub issuance_policy: IssuancePolicy,
    /// What the service would publish, and what certificates say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publishing_options: Option<PublishingOptions>,
    /// The pool's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What the service would publish. This emulator publishes nothing, but certificates say where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PublishingOptions {
    /// Whether certificates say where their issuer's can be had.
    #[serde(skip_serializing_if = "is_false")]
    pub publish_ca_cert: bool,
    /// Kept, and without effect: this emulator has no revocation lists.
    #[serde(skip_serializing_if = "is_false")]
    pub publish_crl: bool,
    /// Kept, and without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<EncodingFormat>,
}

/// How the service would publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", try_from = "NameOrNumber")]
pub enum EncodingFormat {
    /// Not said: PEM.
    #[default]
    EncodingFormatUnspecified,
    /// PEM.
    Pem,
    /// DER.
    Der,
}

/// What can be changed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct PoolSettings {
    pub(crate) issuance_policy: IssuancePolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publishing_options: Option<PublishingOptions>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: Labels,
}

/// The body of a pool's create request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PoolBody {
    #[serde(default, rename = "name")]
    _name: Option<IgnoredAny>,
    pub(crate) tier: Option<Tier>,
    #[serde(default)]
    pub(crate) issuance_policy: IssuancePolicy,
    pub(crate) publishing_options: Option<PublishingOptions>,
    #[serde(default)]
    pub(crate) labels: Labels,
}

/// Who signs a CA's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", try_from = "NameOrNumber")]
pub(crate) enum CaType {
    /// Itself.
    SelfSigned,
    /// Another CA, here or elsewhere.
    Subordinate,
}

/// What a CA may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum CaState {
    /// It issues.
    Enabled,
    /// It does not issue.
    Disabled,
    /// It issues when a request names it.
    Staged,
    /// It has no certificate yet.
    AwaitingUserActivation,
    /// It does not issue and is no trust anchor; it can be brought back for a while.
    Deleted,
}

/// The body of a CA's create request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CaBody {
    #[serde(default, rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(default, rename = "tier")]
    _tier: Option<IgnoredAny>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<CaType>,
    pub(crate) config: Option<Value>,
    pub(crate) lifetime: Option<ProtoDuration>,
    pub(crate) key_spec: Option<KeySpec>,
    pub(crate) subordinate_config: Option<SubordinateConfig>,
    #[serde(default)]
    pub(crate) labels: Labels,
}

/// The kind of a CA's key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeySpec {
    pub(crate) algorithm: CaKey,
}

/// Who signed a subordinate CA.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SubordinateConfig {
    /// A CA of this emulator.
    CertificateAuthority(String),
    /// The chain above the subordinate: its issuer first, the root last.
    PemIssuerChain(IssuerChain),
}

/// A chain of issuers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IssuerChain {
    pub(crate) pem_certificates: Vec<String>,
}

/// The body of an activation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ActivateBody {
    #[serde(default, rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) pem_ca_certificate: String,
    pub(crate) subordinate_config: Option<SubordinateConfig>,
    pub(crate) request_id: Option<String>,
}

/// The body of the actions that need little: enable, disable, undelete, fetchCaCerts, cancel.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ActionBody {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "caPool")]
    _ca_pool: Option<IgnoredAny>,
    #[serde(rename = "ignoreDependentResources")]
    _ignore_dependent_resources: bool,
    pub(crate) request_id: Option<String>,
}

/// The body of a revocation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RevokeBody {
    #[serde(default, rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) reason: RevocationReason,
    pub(crate) request_id: Option<String>,
}

/// A CA as `GET` answers it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CaJson<'a> {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: CaType,
    pub(crate) config: &'a Value,
    pub(crate) lifetime: ProtoDuration,
    pub(crate) key_spec: KeySpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subordinate_config: Option<&'a SubordinateConfig>,
    pub(crate) tier: Tier,
    pub(crate) state: CaState,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) pem_ca_certificates: &'a [String],
    #[serde(skip_serializing_if = "<[CertificateDescription]>::is_empty")]
    pub(crate) ca_certificate_descriptions: &'a [CertificateDescription],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access_urls: Option<AccessUrls<'a>>,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delete_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expire_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: &'a Labels,
}

/// Where the service would publish what a CA publishes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessUrls<'a> {
    pub(crate) ca_certificate_access_url: &'a str,
}

/// Refuses labels that the service would not take.
pub(crate) fn check_labels(labels: &Labels) -> Result<(), ApiError> {
    let allowed = |text: &str| {
        text.chars().count() <= 63
            && text
                .chars()
                .all(|c| c == '-' || c == '_' || c.is_numeric() || c.is_lowercase())
    };
    if labels.len() > 64 {
        return Err(ApiError::invalid("labels: there are more than 64."));
    }
    for (key, value) in labels {
        if key.is_empty() || !allowed(key) || !allowed(value) {
            return Err(ApiError::invalid(format!(
                "labels: {key:?} or its value is not up to 63 lowercase letters, digits, \
                 underscores and dashes."
            )));
        }
    }
    Ok(())
}

impl TryFrom<NameOrNumber> for EncodingFormat {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        value.pick(&[
            (
                "ENCODING_FORMAT_UNSPECIFIED",
                Self::EncodingFormatUnspecified,
            ),
            ("PEM", Self::Pem),
            ("DER", Self::Der),
        ])
    }
}

impl TryFrom<NameOrNumber> for CaType {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        value.pick_specified(&[
            ("TYPE_UNSPECIFIED", None),
            ("SELF_SIGNED", Some(Self::SelfSigned)),
            ("SUBORDINATE", Some(Self::Subordinate)),
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
