//! New keys, and the CSR that each signs.
//!
//! EC keys are made by p256 and p384, which zeroise them; RSA keys by aws-lc-rs, the only one of
//! our libraries that makes them in good time, whose own copy lives until it is dropped. RSA-4096
//! takes half a second of a core at the median and more than one and a half now and then, so RSA
//! is made on blocking threads, and never on all cores at once.
use std::sync::Arc;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair as RsaKeyPair, KeySize},
};
use certagent_core::{algorithm::KeyAlgorithm, plan::IssuePlan, request::encipherment};
use certagent_svid::{KeyError, PrivateKey};
use p256::elliptic_curve::Generate as _;
use pkcs8::EncodePrivateKey as _;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType, SignatureAlgorithm,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::sync::Semaphore;
use zeroize::{Zeroize as _, Zeroizing};

/// Makes keys, one for each certificate.
#[derive(Clone, Debug)]
pub struct Keys {
    rsa: Arc<Semaphore>,
}

/// Why there is no key or no CSR.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewKeyError {
    /// The operating system gave no randomness, or the library refused.
    #[error("no {algorithm} key could be made: the system's random numbers are not available")]
    Generate {
        /// The kind of key.
        algorithm: KeyAlgorithm,
    },
    /// A key that was made does not read back.
    #[error("a new {algorithm} key does not read back: {reason}")]
    Own {
        /// The kind of key.
        algorithm: KeyAlgorithm,
        /// What its reader said.
        reason: KeyError,
    },
    /// The CSR could not be made.
    #[error("no certificate signing request could be made for {spiffe_id}: {reason}")]
    Csr {
        /// The identity.
        spiffe_id: String,
        /// What the library said.
        reason: rcgen::Error,
    },
    /// The thread that made the key was stopped.
    #[error("the process is ending")]
    Ending,
}

impl Default for Keys {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            rsa: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))),
        }
    }
}

impl Keys {
    /// A new key. EC keys take 0.1 ms; RSA keys wait for their turn on a blocking thread.
    pub async fn generate(&self, algorithm: KeyAlgorithm) -> Result<PrivateKey, NewKeyError> {
        let size = match algorithm {
            KeyAlgorithm::EcdsaP256 => return read_back(algorithm, p256_key()),
            KeyAlgorithm::EcdsaP384 => return read_back(algorithm, p384_key()),
            KeyAlgorithm::Rsa2048 => KeySize::Rsa2048,
            KeyAlgorithm::Rsa3072 => KeySize::Rsa3072,
            KeyAlgorithm::Rsa4096 => KeySize::Rsa4096,
        };
        let turn = Arc::clone(&self.rsa)
            .acquire_owned()
            .await
            .map_err(|_closed| NewKeyError::Ending)?;
        let made = tokio::task::spawn_blocking(move || {
            let der = rsa_key(size);
            drop(turn);
            der
        });
        read_back(
            algorithm,
            made.await.map_err(|_stopped| NewKeyError::Ending)?,
        )
    }
}

/// A PEM CSR for the plan, signed by the key: one URI name, and the plan's names beside it; an empty
/// subject where there is no common name.
pub fn csr_pem(plan: &IssuePlan, key: &PrivateKey) -> Result<String, NewKeyError> {
    let mut subject = DistinguishedName::new();
    if let Some(name) = &plan.names.common_name {
        subject.push(DnType::CommonName, name.as_str());
    }
    signed(plan, key, subject)
}

/// The same with the pod's UID as common name: for the cluster's controller, which looks by it whose
/// request it is. No certificate has it.
pub fn pod_csr_pem(
    plan: &IssuePlan,
    key: &PrivateKey,
    pod_uid: &str,
) -> Result<String, NewKeyError> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, pod_uid);
    signed(plan, key, subject)
}

fn signed(
    plan: &IssuePlan,
    key: &PrivateKey,
    subject: DistinguishedName,
) -> Result<String, NewKeyError> {
    let failed = |reason| NewKeyError::Csr {
        spiffe_id: plan.spiffe_id.to_string(),
        reason,
    };
    let mut signer = signer(plan.algorithm, key).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    let uri = plan.spiffe_id.to_string().try_into().map_err(failed)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    for name in &plan.names.dns_names {
        let name = name.as_str().try_into().map_err(failed)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if encipherment(plan.algorithm) {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let csr = params.serialize_request(&signer).and_then(|csr| csr.pem());
    // rcgen's own copy of the key; the one inside aws-lc goes when the signer is dropped.
    signer.zeroize();
    csr.map_err(failed)
}

fn signer(algorithm: KeyAlgorithm, key: &PrivateKey) -> Result<KeyPair, rcgen::Error> {
    let signature: &'static SignatureAlgorithm = match algorithm {
        KeyAlgorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyAlgorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            &rcgen::PKCS_RSA_SHA256
        }
    };
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key.pkcs8_der()), signature)
}

fn read_back(
    algorithm: KeyAlgorithm,
    der: Option<Zeroizing<Vec<u8>>>,
) -> Result<PrivateKey, NewKeyError> {
    let der = der.ok_or(NewKeyError::Generate { algorithm })?;
    PrivateKey::from_pkcs8_der(&der).map_err(|reason| NewKeyError::Own { algorithm, reason })
}

fn p256_key() -> Option<Zeroizing<Vec<u8>>> {
    p256::SecretKey::try_generate()
        .ok()?
        .to_pkcs8_der()
        .ok()
        .map(|document| document.to_bytes())
}

fn p384_key() -> Option<Zeroizing<Vec<u8>>> {
    p384::SecretKey::try_generate()
        .ok()?
        .to_pkcs8_der()
        .ok()
        .map(|document| document.to_bytes())
}

fn rsa_key(size: KeySize) -> Option<Zeroizing<Vec<u8>>> {
    let key = RsaKeyPair::generate(size).ok()?;
    let der: Pkcs8V1Der<'_> = key.as_der().ok()?;
    Some(Zeroizing::new(der.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use certagent_core::{names::SubjectNames, request::SubjectMode};
    use certagent_svid::{PublicKeyKind, SpiffeId};

    use super::*;

    fn plan(algorithm: KeyAlgorithm, names: SubjectNames) -> IssuePlan {
        IssuePlan {
            spiffe_id: SpiffeId::new("spiffe://example.org/ns/a/sa/b").unwrap(),
            algorithm,
            validity: std::time::Duration::from_secs(60),
            rotation_window_percentage: 50,
            subject_mode: SubjectMode::Default,
            names,
        }
    }

    #[tokio::test]
    async fn every_algorithm_gives_the_key_that_was_asked_for_and_a_csr_signed_by_it() {
        let keys = Keys::default();
        for (algorithm, kind) in [
            (KeyAlgorithm::EcdsaP256, PublicKeyKind::EcP256),
            (KeyAlgorithm::EcdsaP384, PublicKeyKind::EcP384),
            (KeyAlgorithm::Rsa2048, PublicKeyKind::Rsa(2048)),
            (KeyAlgorithm::Rsa3072, PublicKeyKind::Rsa(3072)),
            (KeyAlgorithm::Rsa4096, PublicKeyKind::Rsa(4096)),
        ] {
            let key = keys.generate(algorithm).await.unwrap();
            assert_eq!(key.kind(), kind);
            assert!(key.to_pem().starts_with("-----BEGIN PRIVATE KEY-----\n"));
            let plan = plan(algorithm, SubjectNames::default());
            let pem = csr_pem(&plan, &key).unwrap();
            // rcgen verifies the signature of a request that it reads.
            let read = rcgen::CertificateSigningRequestParams::from_pem(&pem).unwrap();
            assert_eq!(
                read.params.subject_alt_names,
                [SanType::URI(
                    "spiffe://example.org/ns/a/sa/b".try_into().unwrap()
                )]
            );
        }
    }

    #[tokio::test]
    async fn names_that_are_asked_for_stand_in_the_csr() {
        let algorithm = KeyAlgorithm::EcdsaP256;
        let key = Keys::default().generate(algorithm).await.unwrap();
        let names = SubjectNames {
            common_name: Some("app user".to_owned()),
            dns_names: vec!["db.example.org".to_owned()],
        };
        let plan = plan(algorithm, names);
        let read = |pem: &str| rcgen::CertificateSigningRequestParams::from_pem(pem).unwrap();
        let csr = read(&csr_pem(&plan, &key).unwrap());
        let common_name = csr.params.distinguished_name.get(&DnType::CommonName);
        assert_eq!(
            common_name,
            Some(&rcgen::DnValue::Utf8String("app user".to_owned()))
        );
        assert_eq!(csr.params.distinguished_name.iter().count(), 1);
        assert_eq!(
            csr.params.subject_alt_names,
            [
                SanType::URI("spiffe://example.org/ns/a/sa/b".try_into().unwrap()),
                SanType::DnsName("db.example.org".try_into().unwrap()),
            ]
        );
    }
}
