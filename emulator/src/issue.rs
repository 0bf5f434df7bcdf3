//! The X.509 itself: making CAs and signing leaves.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, RsaKeySize, SerialNumber,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::encoding::{der, hex, pem, single_pem};
use crate::errors::{ApiError, Code, EmulatorError};
use crate::faults::CertificateFault;
use crate::pool::{CaKey, CaSpec, PoolName};
use crate::request::{Asked, extended_key_usages, key_usages, san_types, subject_attributes};
use crate::scalars::{Base64Bytes, ProtoDuration};
use crate::wire::{
    CaOptions, CertificateDescription, KeyFormat, KeyId, PublicKeyJson, SubjectDescription,
};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A CA that can sign.
pub(crate) struct Authority {
    pool: PoolName,
    id: String,
    issuer: Issuer<'static, KeyPair>,
    /// PEM: this CA first, its root last.
    chain: Vec<String>,
    /// Last second at which every certificate of the chain is valid.
    expires: Timestamp,
}

/// A certificate as it goes into an answer.
pub(crate) struct Issued {
    pub(crate) leaf: Option<String>,
    pub(crate) chain: Vec<String>,
    pub(crate) serial: String,
    pub(crate) description: CertificateDescription,
}

impl Authority {
    /// A new CA with a new key: self-signed without a parent, else a subordinate with pathlen 0.
    pub(crate) fn create(
        pool: &PoolName,
        spec: &CaSpec,
        parent: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, EmulatorError> {
        let failed = |source| EmulatorError::Ca {
            pool: pool.clone(),
            source,
        };
        let not_before = floor(now);
        let not_after = not_before
            .checked_add(spec.lifetime - SECOND)
            .ok()
            .filter(|end| *end >= not_before)
            .ok_or_else(|| EmulatorError::CaLifetime(pool.clone()))?;
        let not_after = parent.map_or(not_after, |parent| not_after.min(parent.expires));

        let mut params = CertificateParams::default();
        let lifetime_error = |_| EmulatorError::CaLifetime(pool.clone());
        params.not_before = offset(not_before).map_err(lifetime_error)?;
        params.not_after = offset(not_after).map_err(lifetime_error)?;
        params.serial_number = Some(SerialNumber::from_slice(
            &random_serial().map_err(EmulatorError::Random)?,
        ));
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, spec.common_name.as_str());
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = generate(spec.key).map_err(failed)?;
        let (certificate, above) = match parent {
            None => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                (params.self_signed(&key), [].as_slice())
            }
            Some(parent) => {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
                params.use_authority_key_identifier_extension = true;
                params.custom_extensions = vec![ca_issuers_extension(&parent.url())];
                (
                    params.signed_by(&key, &parent.issuer),
                    parent.chain.as_slice(),
                )
            }
        };
        let certificate = certificate.map_err(failed)?;
        let mut chain = vec![pem("CERTIFICATE", certificate.der())];
        chain.extend_from_slice(above);
        Ok(Self {
            pool: pool.clone(),
            id: hex(&random_serial().map_err(EmulatorError::Random)?),
            issuer: Issuer::from_ca_cert_der(certificate.der(), key).map_err(failed)?,
            chain,
            expires: not_after,
        })
    }

    /// A CA from its stored parts, or what is wrong with them.
    pub(crate) fn restore(
        pool: &PoolName,
        id: String,
        key: &str,
        chain: Vec<String>,
    ) -> Result<Self, &'static str> {
        let ders: Vec<Vec<u8>> = chain
            .iter()
            .map(|text| {
                single_pem(text.as_bytes())
                    .filter(|(label, _)| label == "CERTIFICATE")
                    .map(|(_, content)| content)
            })
            .collect::<Option<_>>()
            .ok_or("a certificate of the CA's chain is no PEM")?;
        let certificates: Vec<_> = ders
            .iter()
            .map(|der| x509_parser::parse_x509_certificate(der).map(|(_, parsed)| parsed))
            .collect::<Result<_, _>>()
            .map_err(|_error| "a certificate of the CA's chain cannot be parsed")?;
        let own = certificates.first().ok_or("the CA's chain is empty")?;
        let issuers = certificates.iter().skip(1).chain(certificates.last());
        for (certificate, issuer) in certificates.iter().zip(issuers) {
            certificate
                .verify_signature(Some(issuer.public_key()))
                .map_err(|_error| "a signature of the CA's chain does not verify")?;
        }
        let expires = certificates
            .iter()
            .filter_map(|certificate| {
                Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
            })
            .min()
            .ok_or("the CA's chain is empty")?;
        let key = KeyPair::from_pem(key).map_err(|_error| "the CA's key cannot be read")?;
        if key.subject_public_key_info() != own.public_key().raw {
            return Err("the CA's key is not that of its certificate");
        }
        let own_der = rustls_pki_types::CertificateDer::from(own.as_raw());
        let issuer = Issuer::from_ca_cert_der(&own_der, key)
            .map_err(|_error| "the CA's certificate cannot be used")?;
        Ok(Self {
            pool: pool.clone(),
            id,
            issuer,
            chain,
            expires,
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// `projects/P/locations/L/caPools/N/certificateAuthorities/ID`
    pub(crate) fn name(&self) -> String {
        format!("{}/certificateAuthorities/{}", self.pool, self.id)
    }

    pub(crate) fn chain(&self) -> &[String] {
        &self.chain
    }

    pub(crate) fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Where the service would publish this CA's certificate. Nothing answers there.
    fn url(&self) -> String {
        let id = &self.id;
        format!("http://privateca-content-{id}.storage.googleapis.com/{id}/ca.crt")
    }

    /// Signs what was asked, from `backdate` ago, cut to the life of the chain.
    pub(crate) fn issue(
        &self,
        asked: Asked,
        lifetime: SignedDuration,
        backdate: SignedDuration,
        now: Timestamp,
        fault: Option<&CertificateFault>,
    ) -> Result<Issued, ApiError> {
        let (not_before, mut lifetime) = self.life(lifetime, backdate, now)?;
        let mut start = not_before;
        if let Some(fault) = fault {
            (start, lifetime) = fault.shift(now, (start, lifetime));
        }
        let last = start
            .checked_add(lifetime - SECOND)
            .map_err(|_error| ApiError::invalid("The lifetime is too long for a certificate."))?;

        let serial = random_serial().map_err(|error| ApiError::internal("Randomness", error))?;
        let mut params = leaf_params(&asked)?;
        let date = |moment| offset(moment).map_err(|error| ApiError::internal("Dates", error));
        params.not_before = date(floor(start))?;
        params.not_after = date(floor(last))?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));

        let rogue = match fault {
            Some(CertificateFault::UnknownRoot) => Some(self.rogue(now)?),
            _ => None,
        };
        let signer = rogue.as_ref().unwrap_or(self);
        params
            .custom_extensions
            .push(ca_issuers_extension(&signer.url()));
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
        let mut leaf = Some(pem("CERTIFICATE", leaf.map_err(signing)?.der()));
        let mut chain = signer.chain.clone();
        if let Some(fault) = fault {
            fault.present(&mut leaf, &mut chain);
        }

        let key_id = |key: &dyn Fn() -> Vec<u8>| KeyId {
            key_id: hex(&key()),
        };
        let serial = hex(&serial);
        let description = CertificateDescription {
            subject_key_id: key_id(&|| params.key_identifier(asked.key.spki())),
            authority_key_id: key_id(&|| params.key_identifier(signer.issuer.key())),
            aia_issuing_certificate_urls: vec![signer.url()],
            public_key: PublicKeyJson {
                key: Base64Bytes(pem("PUBLIC KEY", &asked.key.spki_der()).into_bytes()),
                format: KeyFormat::Pem,
            },
            subject_description: SubjectDescription {
                subject: asked.subject,
                subject_alt_name: asked.names,
                hex_serial_number: serial.clone(),
                lifetime: ProtoDuration(lifetime),
                not_before_time: floor(start),
                not_after_time: floor(last),
            },
            x509_description: {
                let mut x509 = asked.x509;
                x509.ca_options = Some(CaOptions {
                    is_ca: Some(false),
                    max_issuer_path_length: None,
                });
                x509
            },
        };
        Ok(Issued {
            leaf,
            chain,
            serial,
            description,
        })
    }

    /// First moment and length of the life of a certificate that is signed now.
    fn life(
        &self,
        lifetime: SignedDuration,
        backdate: SignedDuration,
        now: Timestamp,
    ) -> Result<(Timestamp, SignedDuration), ApiError> {
        let now = floor(now);
        if now > self.expires {
            return Err(ApiError::new(
                Code::FailedPrecondition,
                format!(
                    "The CA {} or one above it expired at {}.",
                    self.name(),
                    self.expires
                ),
            ));
        }
        let not_before = now
            .checked_sub(backdate)
            .map_err(|error| ApiError::internal("Backdating", error))?;
        let left = self.expires.duration_since(not_before) + SECOND;
        // Certificates have no fractions of seconds.
        let whole = SignedDuration::from_secs(lifetime.as_secs().max(1));
        Ok((floor(not_before), whole.min(left)))
    }

    /// A CA like this one under a root that nobody knows.
    fn rogue(&self, now: Timestamp) -> Result<Self, ApiError> {
        let mut spec = CaSpec {
            common_name: "unknown root CA".to_owned(),
            key: CaKey::EcP256,
            lifetime: SignedDuration::from_hours(24 * 365),
            parent: None,
        };
        let failed = |error| ApiError::internal("The rogue CA", error);
        let root = Self::create(&self.pool, &spec, None, now).map_err(failed)?;
        if self.chain.len() == 1 {
            return Ok(root);
        }
        "unknown issuing CA".clone_into(&mut spec.common_name);
        Self::create(&self.pool, &spec, Some(&root), now).map_err(failed)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// Everything of a leaf but its serial, its dates and its issuer's address. Basic constraints and
/// key identifiers always stand in it, as in the service's real leaves.
fn leaf_params(asked: &Asked) -> Result<CertificateParams, ApiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject_attributes(&asked.subject) {
        if !value.is_empty() {
            params.distinguished_name.push(kind, value.as_str());
        }
    }
    params.subject_alt_names = san_types(&asked.names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    if let Some(usage) = &asked.x509.key_usage {
        params.key_usages = usage.base_key_usage.map(key_usages).unwrap_or_default();
        params.extended_key_usages = usage
            .extended_key_usage
            .map(extended_key_usages)
            .unwrap_or_default();
    }
    Ok(params)
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

fn generate(key: CaKey) -> Result<KeyPair, rcgen::Error> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    match key {
        CaKey::EcP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        CaKey::EcP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        CaKey::Rsa2048 => rsa(RsaKeySize::_2048),
        CaKey::Rsa3072 => rsa(RsaKeySize::_3072),
        CaKey::Rsa4096 => rsa(RsaKeySize::_4096),
    }
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

fn floor(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

fn offset(moment: Timestamp) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp(moment.as_second())
}

fn signing(error: rcgen::Error) -> ApiError {
    ApiError::internal("Signing", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(lifetime: i64) -> Authority {
        let pool = "projects/p/locations/l/caPools/n".parse().unwrap();
        let spec = CaSpec {
            common_name: "CA".to_owned(),
            key: CaKey::EcP256,
            lifetime: SignedDuration::from_secs(lifetime),
            parent: None,
        };
        Authority::create(&pool, &spec, None, at(0)).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_life_is_backdated_and_cut_to_the_cas() {
        // The CA lives from second 0 to second 1000, exclusively.
        let authority = authority(1000);
        for (asked, backdate, now, start, length) in [
            (60, 0, 0, 0, 60),
            (60, 0, 940, 940, 60),
            (60, 0, 941, 941, 59),
            (60, 0, 999, 999, 1),
            (60, 50, 500, 450, 60),
            (60, 50, 999, 949, 51),
            (5000, 0, 0, 0, 1000),
            (5000, 100, 0, -100, 1100),
        ] {
            let secs = SignedDuration::from_secs;
            let life = authority
                .life(secs(asked), secs(backdate), at(now))
                .unwrap();
            assert_eq!(life, (at(start), secs(length)), "{asked} {backdate} {now}");
        }
        let error = authority
            .life(SECOND, SignedDuration::ZERO, at(1000))
            .unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition);
    }

    #[test]
    fn a_subordinate_never_outlives_its_root() {
        let root = authority(1000);
        let spec = CaSpec {
            common_name: "sub".to_owned(),
            key: CaKey::EcP384,
            lifetime: SignedDuration::from_secs(5000),
            parent: None,
        };
        let sub = Authority::create(&root.pool, &spec, Some(&root), at(10)).unwrap();
        assert_eq!(sub.expires, at(999));
        assert_eq!(sub.chain.len(), 2);
        assert_eq!(sub.chain[1], root.chain[0]);
    }

    #[test]
    fn a_stored_ca_comes_back_and_a_mixed_up_one_does_not() {
        let (one, other) = (authority(1000), authority(1000));
        let restore = |key: &str, chain: &[String]| {
            Authority::restore(&one.pool, one.id.clone(), key, chain.to_vec())
        };
        let back = restore(&one.key_pem(), &one.chain).unwrap();
        assert_eq!(back.expires, one.expires);
        assert!(restore(&other.key_pem(), &one.chain).is_err());
        assert!(restore(&one.key_pem(), &[]).is_err());
        assert!(restore("", &one.chain).is_err());
        let mixed = [one.chain[0].clone(), other.chain[0].clone()];
        assert!(restore(&one.key_pem(), &mixed).is_err());
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}
