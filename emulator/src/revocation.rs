//! What is said of a revoked certificate.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::scalars::NameOrNumber;

/// When and why a certificate was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationDetails {
    /// Why.
    pub revocation_state: RevocationReason,
    /// When.
    pub revocation_time: Timestamp,
}

/// Why a certificate was revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", try_from = "NameOrNumber")]
#[expect(
    missing_docs,
    reason = "the reasons of RFC 5280, section 5.3.1, by the names of the wire format"
)]
pub enum RevocationReason {
    #[default]
    RevocationReasonUnspecified,
    KeyCompromise,
    CertificateAuthorityCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    CertificateHold,
    PrivilegeWithdrawn,
    AttributeAuthorityCompromise,
}

impl TryFrom<NameOrNumber> for RevocationReason {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        value.pick(&[
            (
                "REVOCATION_REASON_UNSPECIFIED",
                Self::RevocationReasonUnspecified,
            ),
            ("KEY_COMPROMISE", Self::KeyCompromise),
            (
                "CERTIFICATE_AUTHORITY_COMPROMISE",
                Self::CertificateAuthorityCompromise,
            ),
            ("AFFILIATION_CHANGED", Self::AffiliationChanged),
            ("SUPERSEDED", Self::Superseded),
            ("CESSATION_OF_OPERATION", Self::CessationOfOperation),
            ("CERTIFICATE_HOLD", Self::CertificateHold),
            ("PRIVILEGE_WITHDRAWN", Self::PrivilegeWithdrawn),
            (
                "ATTRIBUTE_AUTHORITY_COMPROMISE",
                Self::AttributeAuthorityCompromise,
            ),
        ])
    }
}
