//! The JSON of a pool's CAs, as far as certagent reads it. Lenient as [`wire`](super::wire).
use std::time::Duration;

use certagent_svid::{Certificate, CertificateError};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::wire::{Tier, optional_duration};

/// One page of the answer to `GET …/certificateAuthorities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaListAnswer {
    /// The CAs of this page.
    pub certificate_authorities: Vec<CaAnswer>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

/// A `CertificateAuthority` resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaAnswer {
    /// `projects/P/locations/L/caPools/N/certificateAuthorities/ID`.
    pub name: String,
    /// Whose signature it carries.
    #[serde(rename = "type")]
    pub kind: CaKind,
    /// Whether it issues.
    pub state: CaState,
    /// What it signs with.
    pub key_spec: KeySpec,
    /// The tier of its pool.
    pub tier: Tier,
    /// How long its certificate was asked to live.
    #[serde(deserialize_with = "optional_duration")]
    pub lifetime: Option<Duration>,
    /// Its certificate, then the chain to its root, as PEM texts. Empty before activation.
    pub pem_ca_certificates: Vec<String>,
    /// When it was created.
    #[serde(deserialize_with = "optional_timestamp")]
    pub create_time: Option<Timestamp>,
}

/// Who signed a CA's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum CaKind {
    /// It did itself: a root.
    #[serde(rename = "SELF_SIGNED")]
    SelfSigned,
    /// Another CA.
    #[serde(rename = "SUBORDINATE")]
    Subordinate,
    /// Not said, or new.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The state of a CA
/// (cloud.google.com/certificate-authority-service/docs/certificate-authority-states).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum CaState {
    /// It issues for its pool.
    #[serde(rename = "ENABLED")]
    Enabled,
    /// It issues nothing. Its root is still among the pool's.
    #[serde(rename = "DISABLED")]
    Disabled,
    /// It issues only when it is named in the request. Its root is already among the pool's.
    #[serde(rename = "STAGED")]
    Staged,
    /// A subordinate without a certificate yet.
    #[serde(rename = "AWAITING_USER_ACTIVATION")]
    AwaitingUserActivation,
    /// It was deleted, and can be restored for a while.
    #[serde(rename = "DELETED")]
    Deleted,
    /// Not said, or new.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a CA signs with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeySpec {
    /// For example `EC_P256_SHA256` or `RSA_PKCS1_4096_SHA256`; empty for a key of one's own in
    /// Cloud KMS.
    pub algorithm: String,
}

impl CaAnswer {
    /// The last part of the name.
    pub fn id(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// Its certificate and the chain to its root; empty before activation.
    pub fn chain(&self) -> Result<Vec<Certificate>, CertificateError> {
        let mut chain = Vec::new();
        for pem in &self.pem_ca_certificates {
            chain.extend(Certificate::parse_pem_list(pem.as_bytes())?);
        }
        Ok(chain)
    }
}

impl CaState {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::Staged => "STAGED",
            Self::AwaitingUserActivation => "AWAITING_USER_ACTIVATION",
            Self::Deleted => "DELETED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

fn optional_timestamp<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOr {
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Option::<TextOr>::deserialize(d)? {
        Some(TextOr::Text(text)) => text.parse().ok(),
        Some(TextOr::Other(_)) | None => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_read_with_all_that_tells_whether_a_pool_issues() {
        let list: CaListAnswer = serde_json::from_value(json!({
            "certificateAuthorities": [{
                "name": "projects/p/locations/l/caPools/n/certificateAuthorities/td-ca",
                "type": "SUBORDINATE", "state": "STAGED", "tier": "DEVOPS",
                "keySpec": { "algorithm": "RSA_PKCS1_2048_SHA256" },
                "lifetime": "94670778s", "createTime": "2021-05-04T05:37:58.329293525Z",
                "subordinateConfig": {}, "pemCaCertificates": ["not PEM"],
            }],
            "nextPageToken": "more",
        }))
        .unwrap();
        let ca = &list.certificate_authorities[0];
        assert_eq!(
            (ca.id(), ca.kind, ca.state, ca.tier),
            ("td-ca", CaKind::Subordinate, CaState::Staged, Tier::Devops)
        );
        assert_eq!(ca.key_spec.algorithm, "RSA_PKCS1_2048_SHA256");
        assert_eq!(ca.lifetime, Some(Duration::from_secs(94_670_778)));
        assert_eq!(
            ca.create_time,
            "2021-05-04T05:37:58.329293525Z".parse().ok()
        );
        assert_eq!(ca.chain(), Ok(Vec::new()));
        assert_eq!(list.next_page_token, "more");
    }

    #[test]
    fn what_is_missing_odd_or_new_is_passed_over() {
        for (value, state) in [
            (json!({}), CaState::Unknown),
            (
                json!({ "state": "RETIRED", "type": "NEW", "keySpec": {} }),
                CaState::Unknown,
            ),
            (
                json!({ "createTime": 7, "lifetime": [], "state": "DISABLED" }),
                CaState::Disabled,
            ),
            (json!({ "createTime": "soon" }), CaState::Unknown),
        ] {
            let ca: CaAnswer = serde_json::from_value(value).unwrap();
            assert_eq!((ca.state, ca.create_time, ca.lifetime), (state, None, None));
            assert_eq!(ca.id(), "");
        }
    }

    #[test]
    fn every_state_is_read_by_the_name_that_it_is_shown_by() {
        for name in [
            "ENABLED",
            "DISABLED",
            "STAGED",
            "AWAITING_USER_ACTIVATION",
            "DELETED",
            "UNKNOWN",
        ] {
            let state: CaState = serde_json::from_value(json!(name)).unwrap();
            assert_eq!(state.as_str(), name);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            drop(serde_json::from_slice::<CaListAnswer>(&bytes));
        }

        #[test]
        fn no_texts_in_the_right_places_make_the_reader_panic(text in "\\PC{0,60}") {
            let value = json!({ "certificateAuthorities": [{
                "name": text, "type": text, "state": text, "lifetime": format!("{text}s"),
                "createTime": text, "pemCaCertificates": [
                    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
                ],
            }]});
            let list: CaListAnswer = serde_json::from_value(value).unwrap();
            let ca = &list.certificate_authorities[0];
            drop(ca.chain());
            prop_assert!(!ca.id().contains('/'));
        }
    }
}
