//! The JSON of CA Service's answers, as far as certagent reads it.
//!
//! Lenient on purpose: unknown fields and unknown names are passed over, so that the service may
//! grow. The size of an answer is bounded where it is read, its depth by the JSON reader.
use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;

/// The longest wait that a server is believed to mean.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Protobuf's own bound for a span: about 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;

/// A `Certificate` resource: the answer to create and get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateAnswer {
    /// `projects/P/locations/L/caPools/N/certificates/ID`.
    pub name: String,
    /// The leaf as PEM; empty if the answer brought none.
    pub pem_certificate: String,
    /// The issuer's chain as PEM texts, issuer first.
    pub pem_certificate_chain: Vec<String>,
}

/// A `CaPool` resource: what can be known about a pool before it is asked for a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaPoolAnswer {
    /// The pool's tier.
    pub tier: Tier,
    /// What the pool issues.
    pub issuance_policy: IssuancePolicy,
}

/// The tier of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Tier {
    /// Keeps certificates under their ids.
    #[serde(rename = "ENTERPRISE")]
    Enterprise,
    /// Keeps nothing: no get, list or revoke, and the `certificateId` is ignored.
    #[serde(rename = "DEVOPS")]
    Devops,
    /// Not said, or new.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A pool's issuance policy. Empty, it allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IssuancePolicy {
    /// The kinds of key that are signed; empty for all.
    pub allowed_key_types: Vec<AllowedKeyType>,
    /// The longest lifetime that may be asked for.
    #[serde(deserialize_with = "optional_duration")]
    pub maximum_lifetime: Option<Duration>,
    /// How far `notBefore` is moved into the past.
    #[serde(deserialize_with = "optional_duration")]
    pub backdate_duration: Option<Duration>,
    /// The forms of request that are taken; both if not said.
    pub allowed_issuance_modes: Option<IssuanceModes>,
    /// Values that every certificate gets, whatever was asked.
    pub baseline_values: X509Parameters,
    /// Whether the asked names are taken over; all are if not said.
    pub identity_constraints: Option<IdentityConstraints>,
    /// The asked extensions that are taken over; all are if not said.
    pub passthrough_extensions: Option<PassthroughExtensions>,
}

/// What a pool does with the names that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentityConstraints {
    /// The rule that names must fulfil.
    pub cel_expression: Option<CelExpression>,
    /// The subject is taken over; else it is dropped.
    pub allow_subject_passthrough: bool,
    /// The subject alternative names are taken over; else they are dropped.
    pub allow_subject_alt_names_passthrough: bool,
}

/// A rule in Common Expression Language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CelExpression {
    /// Its text.
    pub expression: String,
}

/// The asked extensions that a pool takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PassthroughExtensions {
    /// By name: `BASE_KEY_USAGE`, `EXTENDED_KEY_USAGE` and others.
    pub known_extensions: Vec<String>,
}

/// Key usages and CA options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct X509Parameters {
    /// What keys may be used for.
    pub key_usage: KeyUsages,
    /// Whether certificates are CAs'.
    pub ca_options: CaOptions,
}

/// What keys may be used for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeyUsages {
    /// The extension keyUsage.
    pub base_key_usage: Usages,
    /// The extension extendedKeyUsage.
    pub extended_key_usage: Usages,
}

/// Usages by their names in the API, such as `digitalSignature` and `serverAuth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Usages(BTreeMap<String, Value>);

impl Usages {
    /// The usage is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Value::Bool(true))
    }

    /// There is at least one, known or not.
    pub fn is_set(&self) -> bool {
        self.0.values().any(|value| *value == Value::Bool(true))
    }
}

/// Basic constraints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaOptions {
    /// Every certificate is a CA's.
    pub is_ca: bool,
}

/// The forms of request that a pool takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IssuanceModes {
    /// `pemCsr`.
    pub allow_csr_based_issuance: bool,
    /// `config`.
    pub allow_config_based_issuance: bool,
}

/// One kind of key that a pool signs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedKeyType {
    /// RSA, within bounds.
    pub rsa: Option<RsaKeyType>,
    /// An elliptic curve.
    pub elliptic_curve: Option<EcKeyType>,
}

/// The bounds of an RSA modulus in bits; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RsaKeyType {
    /// The smallest modulus.
    #[serde(deserialize_with = "int64")]
    pub min_modulus_size: i64,
    /// The largest modulus.
    #[serde(deserialize_with = "int64")]
    pub max_modulus_size: i64,
}

/// A curve, by the name of its signature algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EcKeyType {
    /// `ECDSA_P256`, `ECDSA_P384`, `EDDSA_25519`; anything else, or nothing, is any curve.
    pub signature_algorithm: Option<String>,
}

/// The answer to `:fetchCaCerts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaCertsAnswer {
    /// One chain for each CA of the pool.
    pub ca_certs: Vec<CertChain>,
}

/// The chain of one CA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CertChain {
    /// PEM texts: the CA first, its root last.
    pub certificates: Vec<String>,
}

/// Google's error body.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ErrorAnswer {
    /// The error; none if the body is another JSON.
    pub error: Option<ErrorBody>,
}

/// What stands in an error body.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// The canonical status, for example `PERMISSION_DENIED`.
    pub status: Option<String>,
    /// `google.rpc` messages, each with `@type`.
    pub details: Vec<Value>,
}

impl ErrorBody {
    /// The wait of a `google.rpc.RetryInfo`.
    pub fn retry_delay(&self) -> Option<Duration> {
        let delay = self
            .detail("google.rpc.RetryInfo")?
            .get("retryDelay")?
            .as_str()?;
        parse_duration(delay).map(|delay| delay.min(LONGEST_WAIT))
    }

    /// The permission that a `google.rpc.ErrorInfo` says is missing.
    pub fn permission(&self) -> Option<&str> {
        let metadata = self.detail("google.rpc.ErrorInfo")?.get("metadata")?;
        let permission = metadata.get("permission")?.as_str()?;
        let is_plain = permission
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.');
        (is_plain && (1..=100).contains(&permission.len())).then_some(permission)
    }

    fn detail(&self, kind: &str) -> Option<&Value> {
        self.details.iter().find(|detail| {
            let name = detail.get("@type").and_then(Value::as_str);
            name.and_then(|name| name.rsplit('/').next()) == Some(kind)
        })
    }
}

/// Protobuf's JSON form of a span: seconds, at most nine decimals, then `s`. Negative spans make
/// no sense here and are refused.
fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    let seconds = whole
        .parse()
        .ok()
        .filter(|seconds| *seconds <= MAX_SECONDS)?;
    Some(Duration::new(
        seconds,
        format!("{decimals:0<9}").parse().ok()?,
    ))
}

pub(super) fn optional_duration<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Duration>, D::Error> {
    Ok(match Option::<TextOr>::deserialize(d)? {
        Some(TextOr::Text(text)) => parse_duration(&text),
        _ => None,
    })
}

/// A 64-bit integer is a text in protobuf's JSON; a number is taken too.
fn int64<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    Ok(match Option::<TextOr>::deserialize(d)? {
        Some(TextOr::Text(text)) => text.parse().unwrap_or_default(),
        Some(TextOr::Number(number)) => number,
        Some(TextOr::Other(_)) | None => 0,
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOr {
    Text(String),
    Number(i64),
    Other(IgnoredAny),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn policy(value: Value) -> IssuancePolicy {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pool_is_read_with_all_that_matters_before_a_request() {
        let pool: CaPoolAnswer = serde_json::from_value(json!({
            "name": "projects/p/locations/l/caPools/n",
            "tier": "DEVOPS",
            "publishingOptions": { "publishCaCert": true },
            "issuancePolicy": {
                "allowedKeyTypes": [
                    { "rsa": { "minModulusSize": "3072", "maxModulusSize": 4096 } },
                    { "ellipticCurve": { "signatureAlgorithm": "ECDSA_P256" } },
                ],
                "maximumLifetime": "86400s",
                "backdateDuration": "1.5s",
                "allowedIssuanceModes": { "allowConfigBasedIssuance": true },
                "identityConstraints": {
                    "celExpression": { "expression": "true" },
                    "allowSubjectAltNamesPassthrough": true,
                },
                "passthroughExtensions": { "knownExtensions": ["BASE_KEY_USAGE"] },
                "baselineValues": {
                    "keyUsage": { "extendedKeyUsage": { "serverAuth": true, "clientAuth": false } },
                    "caOptions": { "isCa": false },
                },
            },
        }))
        .unwrap();
        assert_eq!(pool.tier, Tier::Devops);
        let policy = pool.issuance_policy;
        assert_eq!(policy.maximum_lifetime, Some(Duration::from_secs(86400)));
        assert_eq!(policy.backdate_duration, Some(Duration::from_millis(1500)));
        let rsa = policy.allowed_key_types[0].rsa.unwrap();
        assert_eq!((rsa.min_modulus_size, rsa.max_modulus_size), (3072, 4096));
        let modes = policy.allowed_issuance_modes.unwrap();
        assert!(modes.allow_config_based_issuance && !modes.allow_csr_based_issuance);
        let names = policy.identity_constraints.unwrap();
        assert!(names.allow_subject_alt_names_passthrough && !names.allow_subject_passthrough);
        assert_eq!(names.cel_expression.unwrap().expression, "true");
        let passed = policy.passthrough_extensions.unwrap();
        assert_eq!(passed.known_extensions, ["BASE_KEY_USAGE"]);
        let baseline = policy.baseline_values;
        assert!(!baseline.ca_options.is_ca && !baseline.key_usage.base_key_usage.is_set());
        let purposes = baseline.key_usage.extended_key_usage;
        assert!(purposes.has("serverAuth") && !purposes.has("clientAuth") && purposes.is_set());
    }

    #[test]
    fn what_is_missing_null_or_new_is_passed_over() {
        assert_eq!(
            serde_json::from_str::<CaPoolAnswer>("{}").unwrap(),
            CaPoolAnswer::default()
        );
        let pool: CaPoolAnswer =
            serde_json::from_value(json!({ "tier": "PLATINUM", "new": [1] })).unwrap();
        assert_eq!(pool.tier, Tier::Unknown);
        for odd in [
            json!(null),
            json!("soon"),
            json!("-1s"),
            json!(7),
            json!({}),
        ] {
            assert_eq!(
                policy(json!({ "maximumLifetime": odd })).maximum_lifetime,
                None
            );
        }
    }

    #[test]
    fn an_error_body_gives_its_wait_and_the_missing_permission() {
        let body: ErrorBody = serde_json::from_value(json!({
            "code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED",
            "details": [
                "odd",
                { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s" },
                { "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                  "metadata": { "permission": "privateca.caPools.get" } },
            ],
        }))
        .unwrap();
        assert_eq!(body.retry_delay(), Some(Duration::from_millis(3500)));
        assert_eq!(body.permission(), Some("privateca.caPools.get"));
    }

    #[test]
    fn an_absurd_wait_is_cut_and_an_absurd_permission_is_not_believed() {
        let body = |delay: &str, permission: &str| ErrorBody {
            details: vec![
                json!({ "@type": "x/google.rpc.RetryInfo", "retryDelay": delay }),
                json!({ "@type": "x/google.rpc.ErrorInfo", "metadata": { "permission": permission } }),
            ],
            ..ErrorBody::default()
        };
        assert_eq!(body("99999999999s", "").retry_delay(), Some(LONGEST_WAIT));
        assert_eq!(body("99999999999999999999999s", "").retry_delay(), None);
        assert_eq!(body("1s", "a\u{1b}[2J").permission(), None);
        assert_eq!(body("1s", &"a".repeat(101)).permission(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            drop(serde_json::from_slice::<CertificateAnswer>(&bytes));
            drop(serde_json::from_slice::<CaPoolAnswer>(&bytes));
            drop(serde_json::from_slice::<CaCertsAnswer>(&bytes));
            drop(serde_json::from_slice::<ErrorAnswer>(&bytes));
        }

        #[test]
        fn no_values_in_the_right_places_make_a_reader_panic(
            text in "\\PC{0,40}", number in any::<i64>(), which in 0..3,
        ) {
            let value = match which { 0 => json!(text), 1 => json!(number), _ => json!([text]) };
            let policy = json!({ "issuancePolicy": {
                "maximumLifetime": value, "backdateDuration": format!("{text}s"),
                "allowedKeyTypes": [{ "rsa": { "minModulusSize": value } }],
            }});
            drop(serde_json::from_value::<CaPoolAnswer>(policy));
            let error = json!({ "message": text, "details": [value,
                { "@type": "t/google.rpc.RetryInfo", "retryDelay": value },
                { "@type": "t/google.rpc.ErrorInfo", "metadata": value }] });
            if let Ok(body) = serde_json::from_value::<ErrorBody>(error) {
                prop_assert!(body.retry_delay().is_none_or(|wait| wait <= LONGEST_WAIT));
                prop_assert!(body.permission().is_none_or(|name| name.len() <= 100));
            }
        }

        #[test]
        fn every_span_of_whole_milliseconds_reads_back(millis in 0..10_000_000_000_u64) {
            let text = format!("{}.{:03}s", millis / 1000, millis % 1000);
            prop_assert_eq!(parse_duration(&text), Some(Duration::from_millis(millis)));
        }
    }
}
