//! The issuance policy of a pool: what it says, and what follows from it.
//!
//! A key type, an issuance mode or a lifetime that the policy forbids refuses the request with
//! `INVALID_ARGUMENT`. A subject, name or extension that it does not pass through is dropped
//! silently, as the service does: a client must look at what it got.

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::errors::ApiError;
use crate::request::{Asked, KeyKind};
use crate::scalars::{NameOrNumber, ProtoDuration};
use crate::wire::{Subject, SubjectAltNames, X509Parameters};

/// No pool moves `notBefore` further into the past than this.
pub(crate) const MAX_BACKDATE: SignedDuration = SignedDuration::from_hours(48);

/// No pool signs a smaller RSA key than this.
const MIN_RSA_BITS: u64 = 2048;

/// What a pool signs. An empty policy signs everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IssuancePolicy {
    /// The kinds of keys that the pool signs; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_key_types: Vec<AllowedKeyType>,
    /// The longest lifetime that may be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_lifetime: Option<ProtoDuration>,
    /// How far `notBefore` is moved into the past, at most 48 hours. `notAfter` moves with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backdate_duration: Option<ProtoDuration>,
    /// Whether requests may be `config` or `pemCsr`; both when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_issuance_modes: Option<IssuanceModes>,
    /// Values that every certificate gets, whatever was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_values: Option<X509Parameters>,
    /// Whether the asked subject and names are taken over; both when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_constraints: Option<IdentityConstraints>,
    /// Which asked extensions are taken over; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passthrough_extensions: Option<PassthroughExtensions>,
}

/// One kind of key that a pool signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AllowedKeyType {
    /// RSA within bounds.
    Rsa(RsaKeyType),
    /// One curve.
    EllipticCurve(EcKeyType),
}

/// Bounds of an RSA modulus, in bits. Absent or zero: no bound but the service's own 2048.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RsaKeyType {
    /// The smallest modulus.
    #[serde(with = "int64", skip_serializing_if = "is_zero")]
    pub min_modulus_size: u64,
    /// The largest modulus.
    #[serde(with = "int64", skip_serializing_if = "is_zero")]
    pub max_modulus_size: u64,
}

/// A curve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EcKeyType {
    /// The curve's signature algorithm; any when unspecified.
    pub signature_algorithm: EcSignatureAlgorithm,
}

/// Signature algorithms of elliptic curves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NameOrNumber")]
pub enum EcSignatureAlgorithm {
    /// Any curve that the service supports.
    #[default]
    #[serde(rename = "EC_SIGNATURE_ALGORITHM_UNSPECIFIED")]
    Unspecified,
    /// ECDSA on P-256.
    #[serde(rename = "ECDSA_P256")]
    EcdsaP256,
    /// ECDSA on P-384.
    #[serde(rename = "ECDSA_P384")]
    EcdsaP384,
    /// Ed25519, which this emulator lists but does not sign.
    #[serde(rename = "EDDSA_25519")]
    Eddsa25519,
}

/// The forms of request that a pool takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IssuanceModes {
    /// Whether `pemCsr` is taken.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_csr_based_issuance: bool,
    /// Whether `config` is taken.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_config_based_issuance: bool,
}

/// Which parts of the asked identity a pool takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IdentityConstraints {
    /// Whether the subject is taken over.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_subject_passthrough: bool,
    /// Whether the subject alternative names are taken over.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_subject_alt_names_passthrough: bool,
}

/// Which asked extensions a pool takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PassthroughExtensions {
    /// The known ones.
    pub known_extensions: Vec<KnownExtension>,
}

/// Extensions with a name of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", try_from = "NameOrNumber")]
#[expect(
    missing_docs,
    reason = "the extensions of RFC 5280 by the names of the wire format"
)]
pub enum KnownExtension {
    BaseKeyUsage,
    ExtendedKeyUsage,
    CaOptions,
    PolicyIds,
    AiaOcspServers,
    NameConstraints,
}

/// The two forms of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Csr,
    Config,
}

impl IssuancePolicy {
    /// Refuses what the policy forbids and drops what it does not pass through.
    pub(crate) fn apply(
        &self,
        mode: Mode,
        lifetime: SignedDuration,
        mut asked: Asked,
    ) -> Result<Asked, ApiError> {
        self.check_mode(mode)?;
        self.check_lifetime(lifetime)?;
        self.check_key(asked.key.kind())?;
        if let Some(constraints) = self.identity_constraints {
            if !constraints.allow_subject_passthrough {
                asked.subject = Subject::default();
            }
            if !constraints.allow_subject_alt_names_passthrough {
                asked.names = SubjectAltNames::default();
            }
        }
        self.drop_extensions(&mut asked.x509);
        self.overwrite_with_baseline(&mut asked.x509);
        Ok(asked)
    }

    /// Refuses a policy that this emulator, or the service itself, could not keep to.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let backdate = self.backdate();
        if backdate.is_negative() || backdate > MAX_BACKDATE {
            return Err(ApiError::invalid(
                "issuance_policy.backdate_duration is not between 0s and 172800s (48 hours).",
            ));
        }
        if self
            .maximum_lifetime
            .is_some_and(|maximum| !maximum.0.is_positive())
        {
            return Err(ApiError::invalid(
                "issuance_policy.maximum_lifetime must be positive.",
            ));
        }
        let eddsa = AllowedKeyType::EllipticCurve(EcKeyType {
            signature_algorithm: EcSignatureAlgorithm::Eddsa25519,
        });
        if self.allowed_key_types.contains(&eddsa) {
            return Err(ApiError::invalid(
                "issuance_policy.allowed_key_types.elliptic_curve.signature_algorithm EDDSA_25519 \
                 is not supported by this emulator.",
            ));
        }
        Ok(())
    }

    pub(crate) fn backdate(&self) -> SignedDuration {
        self.backdate_duration
            .map_or(SignedDuration::ZERO, |duration| duration.0)
    }

    fn check_mode(&self, mode: Mode) -> Result<(), ApiError> {
        let Some(modes) = self.allowed_issuance_modes else {
            return Ok(());
        };
        let (allowed, name) = match mode {
            Mode::Csr => (modes.allow_csr_based_issuance, "CSR-based"),
            Mode::Config => (modes.allow_config_based_issuance, "Config-based"),
        };
        if allowed {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "{name} issuance is not allowed by the issuance policy of the CA pool."
        )))
    }

    fn check_lifetime(&self, lifetime: SignedDuration) -> Result<(), ApiError> {
        match self.maximum_lifetime {
            Some(maximum) if lifetime > maximum.0 => Err(ApiError::invalid(format!(
                "The lifetime of {} s is over the {} s that the issuance policy of the CA pool \
                 allows.",
                lifetime.as_secs(),
                maximum.0.as_secs(),
            ))),
            _ => Ok(()),
        }
    }

    fn check_key(&self, key: KeyKind) -> Result<(), ApiError> {
        if let KeyKind::Rsa { bits } = key
            && bits < MIN_RSA_BITS
        {
            return Err(ApiError::invalid(format!(
                "The RSA key has {bits} bits; {MIN_RSA_BITS} are the least."
            )));
        }
        let allowed = &self.allowed_key_types;
        if allowed.is_empty() || allowed.iter().any(|kind| kind.matches(key)) {
            return Ok(());
        }
        let name = match key {
            KeyKind::Rsa { bits } => format!("RSA with {bits} bits"),
            KeyKind::EcdsaP256 => "ECDSA_P256".to_owned(),
            KeyKind::EcdsaP384 => "ECDSA_P384".to_owned(),
        };
        Err(ApiError::invalid(format!(
            "The public key ({name}) is none of the key types that the issuance policy of the CA \
             pool allows."
        )))
    }

    fn drop_extensions(&self, x509: &mut X509Parameters) {
        let Some(passthrough) = &self.passthrough_extensions else {
            return;
        };
        let passes = |extension| passthrough.known_extensions.contains(&extension);
        if let Some(usage) = &mut x509.key_usage {
            if !passes(KnownExtension::BaseKeyUsage) {
                usage.base_key_usage = None;
            }
            if !passes(KnownExtension::ExtendedKeyUsage) {
                usage.extended_key_usage = None;
            }
        }
        if !passes(KnownExtension::CaOptions) {
            x509.ca_options = None;
        }
    }

    fn overwrite_with_baseline(&self, x509: &mut X509Parameters) {
        let Some(baseline) = &self.baseline_values else {
            return;
        };
        if let Some(usage) = &baseline.key_usage {
            let target = x509.key_usage.get_or_insert_default();
            target.base_key_usage = usage.base_key_usage.or(target.base_key_usage);
            target.extended_key_usage = usage.extended_key_usage.or(target.extended_key_usage);
        }
        x509.ca_options = baseline.ca_options.or(x509.ca_options);
    }
}

impl TryFrom<NameOrNumber> for EcSignatureAlgorithm {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        value.pick(&[
            ("EC_SIGNATURE_ALGORITHM_UNSPECIFIED", Self::Unspecified),
            ("ECDSA_P256", Self::EcdsaP256),
            ("ECDSA_P384", Self::EcdsaP384),
            ("EDDSA_25519", Self::Eddsa25519),
        ])
    }
}

impl TryFrom<NameOrNumber> for KnownExtension {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        value.pick_specified(&[
            ("KNOWN_CERTIFICATE_EXTENSION_UNSPECIFIED", None),
            ("BASE_KEY_USAGE", Some(Self::BaseKeyUsage)),
            ("EXTENDED_KEY_USAGE", Some(Self::ExtendedKeyUsage)),
            ("CA_OPTIONS", Some(Self::CaOptions)),
            ("POLICY_IDS", Some(Self::PolicyIds)),
            ("AIA_OCSP_SERVERS", Some(Self::AiaOcspServers)),
            ("NAME_CONSTRAINTS", Some(Self::NameConstraints)),
        ])
    }
}

impl AllowedKeyType {
    fn matches(&self, key: KeyKind) -> bool {
        match (self, key) {
            (Self::Rsa(rsa), KeyKind::Rsa { bits }) => {
                bits >= rsa.min_modulus_size
                    && (rsa.max_modulus_size == 0 || bits <= rsa.max_modulus_size)
            }
            (Self::EllipticCurve(ec), KeyKind::EcdsaP256) => matches!(
                ec.signature_algorithm,
                EcSignatureAlgorithm::Unspecified | EcSignatureAlgorithm::EcdsaP256
            ),
            (Self::EllipticCurve(ec), KeyKind::EcdsaP384) => matches!(
                ec.signature_algorithm,
                EcSignatureAlgorithm::Unspecified | EcSignatureAlgorithm::EcdsaP384
            ),
            _ => false,
        }
    }
}

/// 64-bit integers are strings in protobuf's JSON; plain numbers are accepted, too.
mod int64 {
    use super::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u64),
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde calls"
    )]
    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        match Either::deserialize(deserializer)? {
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
            Either::Number(number) => Ok(number),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
