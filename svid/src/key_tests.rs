use aws_lc_rs::signature as lc;
use pkcs8::EncodePrivateKey as _;
use proptest::{collection::vec, prelude::*};
use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};

use pkcs8::DecodePrivateKey as _;

use super::*;
use crate::testing::{Ca, key, leaf_params, pem};

fn parse(key: &KeyPair) -> PrivateKey {
    PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap()
}

fn of_every_family() -> [(KeyPair, PublicKeyKind); 5] {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    [
        (key(), PublicKeyKind::EcP256),
        (
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
            PublicKeyKind::EcP384,
        ),
        (rsa(RsaKeySize::_2048), PublicKeyKind::Rsa(2048)),
        (rsa(RsaKeySize::_3072), PublicKeyKind::Rsa(3072)),
        (rsa(RsaKeySize::_4096), PublicKeyKind::Rsa(4096)),
    ]
}

#[test]
fn a_key_of_every_family_is_read_written_and_fits_its_certificate() {
    let ca = Ca::root("Root");
    let strange = ca.leaf();
    for (pair, kind) in of_every_family() {
        let key = parse(&pair);
        assert_eq!(key.kind(), kind);
        assert_eq!(key.public_key(), pair.subject_public_key_info(), "{kind}");
        assert_eq!(key.pkcs8_der(), pair.serialized_der());
        assert!(key.fits(&ca.sign(&leaf_params(), &pair)), "{kind}");
        assert!(!key.fits(&strange), "{kind}");

        let text = key.to_pem();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{kind}");
        assert!(text.ends_with("\n-----END PRIVATE KEY-----\n"), "{kind}");
        assert!(!text.contains('\r'));
        assert_eq!(
            PrivateKey::from_pem(text.as_bytes()).unwrap().pkcs8_der(),
            key.pkcs8_der()
        );
        let der = Zeroizing::new(key.pkcs8_der().to_vec());
        assert_eq!(
            PrivateKey::from_pkcs8_der(&der).unwrap().public_key(),
            key.public_key()
        );
    }
}

#[test]
fn an_ec_key_without_its_public_half_has_it_computed() {
    let pair = key();
    let scalar = p256::SecretKey::from_pkcs8_der(pair.serialized_der())
        .unwrap()
        .to_bytes();
    // ECPrivateKey ::= SEQUENCE { version 1, privateKey OCTET STRING }, and nothing else.
    let ec = [
        &[0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20],
        scalar.as_slice(),
    ]
    .concat();
    let key = PrivateKey::from_pkcs8_der(&Zeroizing::new(pkcs8_p256(&ec))).unwrap();
    assert_eq!(key.public_key(), pair.subject_public_key_info());
}

#[test]
fn a_wrong_public_half_inside_a_key_is_not_believed() {
    let (one, two) = (key(), key());
    let der = one.serialized_der();
    let (own, other) = (one.public_key_raw(), two.public_key_raw());
    let at = der.windows(own.len()).position(|part| part == own).unwrap();
    let mut forged = der.to_vec();
    forged[at..at + own.len()].copy_from_slice(other);
    match PrivateKey::from_pkcs8_der(&Zeroizing::new(forged)) {
        Ok(key) => assert_eq!(key.public_key(), one.subject_public_key_info()),
        Err(error) => assert_eq!(error, KeyError::Broken),
    }
}

#[test]
fn keys_of_versions_1_and_2_are_read() {
    let pair = lc::EcdsaKeyPair::generate(&lc::ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let version_1 = pair.to_pkcs8v1().unwrap().as_ref().to_vec();
    let secret = p384::SecretKey::from_pkcs8_der(&version_1).unwrap();
    let again = secret.to_pkcs8_der().unwrap();
    for der in [version_1.as_slice(), again.as_bytes()] {
        let key = PrivateKey::from_pkcs8_der(&Zeroizing::new(der.to_vec())).unwrap();
        assert_eq!(key.kind(), PublicKeyKind::EcP384);
    }
}

#[test]
fn the_key_of_a_credential_bundle_is_found_before_and_behind_its_chain() {
    let ca = Ca::root("Root");
    let pair = key();
    let leaf = ca.sign(&leaf_params(), &pair);
    let chain = pem(&[&leaf, &ca.certificate]);
    for text in [pair.serialize_pem() + &chain, chain + &pair.serialize_pem()] {
        assert!(PrivateKey::from_pem(text.as_bytes()).unwrap().fits(&leaf));
        let crlf = text.replace('\n', "\r\n");
        assert!(PrivateKey::from_pem(crlf.as_bytes()).unwrap().fits(&leaf));
    }
}

#[test]
fn a_text_without_a_key_is_refused() {
    let certificate = Ca::root("Root").certificate.to_pem();
    for text in ["", "hello", &certificate, "-----BEGIN PUBLIC KEY-----"] {
        assert_eq!(
            PrivateKey::from_pem(text.as_bytes()).unwrap_err(),
            KeyError::Missing
        );
    }
}

#[test]
fn another_pem_form_is_refused_by_its_name() {
    for label in [
        "EC PRIVATE KEY",
        "RSA PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
    ] {
        let text = format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
        let error = PrivateKey::from_pem(text.as_bytes()).unwrap_err();
        assert_eq!(error, KeyError::NotPkcs8 { label });
        let said = error.to_string();
        assert!(said.contains(label));
        assert_eq!(said.contains("password"), label.contains("ENCRYPTED"));
    }
}

#[test]
fn a_text_that_is_too_large_is_refused() {
    let text = vec![b'\n'; MAX_PEM_BYTES + 1];
    assert_eq!(
        PrivateKey::from_pem(&text).unwrap_err(),
        KeyError::TooLarge {
            bytes: MAX_PEM_BYTES + 1
        }
    );
    assert_eq!(
        PrivateKey::from_pem(&text[1..]).unwrap_err(),
        KeyError::Missing
    );
}

#[test]
fn broken_pem_and_broken_der_are_refused() {
    let whole = key().serialize_pem();
    let (body, _) = whole.split_once(END).unwrap();
    for text in [
        body.to_owned(),
        format!("{BEGIN}\n!!!!\n{END}\n"),
        format!("{BEGIN}\nMAA=\n{END}\n"),
        format!("{BEGIN}\n{END}\n"),
        format!("{BEGIN}{END}"),
    ] {
        assert_eq!(
            PrivateKey::from_pem(text.as_bytes()).unwrap_err(),
            KeyError::Broken,
            "{text}"
        );
    }
    let not_text = [whole.as_bytes(), &[0xff]].concat();
    assert_eq!(
        PrivateKey::from_pem(&not_text).unwrap_err(),
        KeyError::Broken
    );
    let zero = pkcs8_p256(
        &[
            &[0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20],
            [0; 32].as_slice(),
        ]
        .concat(),
    );
    let error = PrivateKey::from_pkcs8_der(&Zeroizing::new(zero)).unwrap_err();
    assert_eq!(error, KeyError::Broken);
}

#[test]
fn a_key_of_another_family_is_refused() {
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P521_SHA512] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let error = PrivateKey::from_pem(pair.serialize_pem().as_bytes()).unwrap_err();
        assert_eq!(error, KeyError::Family);
    }
}

#[test]
fn debug_shows_the_family_and_nothing_of_the_key() {
    let key = parse(&key());
    assert_eq!(format!("{key:?}"), "PrivateKey { kind: EcP256, .. }");
}

#[test]
fn no_error_shows_a_byte_of_the_text() {
    let text = format!("{BEGIN}\nc2VjcmV0c2VjcmV0\n{END}\n");
    let error = PrivateKey::from_pem(text.as_bytes()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("c2Vj"));
}

proptest! {
    #[test]
    fn no_bytes_panic_the_parsers(bytes in vec(any::<u8>(), 0..300)) {
        drop(PrivateKey::from_pem(&bytes));
        drop(PrivateKey::from_pkcs8_der(&Zeroizing::new(bytes)));
    }

    #[test]
    fn no_text_panics_the_parser(
        parts in vec(prop_oneof![
            Just(BEGIN.to_owned()),
            Just(END.to_owned()),
            Just("\n".to_owned()),
            Just("\r\n".to_owned()),
            "[A-Za-z0-9+/=]{0,64}",
            any::<String>(),
        ], 0..12),
    ) {
        drop(PrivateKey::from_pem(parts.concat().as_bytes()));
    }

    #[test]
    fn a_damaged_key_never_panics_the_parser(
        edits in vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        rsa in any::<bool>(),
    ) {
        let mut der = Zeroizing::new(sample(rsa).to_vec());
        for (index, mask) in edits {
            *index.get_mut(&mut der) ^= mask;
        }
        drop(PrivateKey::from_pkcs8_der(&der));
    }

    #[test]
    fn a_key_that_was_cut_off_is_refused(length in any::<prop::sample::Index>(), rsa in any::<bool>()) {
        let whole = sample(rsa);
        let cut = Zeroizing::new(whole[..length.index(whole.len())].to_vec());
        prop_assert_eq!(PrivateKey::from_pkcs8_der(&cut).unwrap_err(), KeyError::Broken);
    }
}

fn sample(rsa: bool) -> &'static [u8] {
    static SAMPLES: std::sync::LazyLock<[Vec<u8>; 2]> = std::sync::LazyLock::new(|| {
        [
            key().serialize_der(),
            KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)
                .unwrap()
                .serialize_der(),
        ]
    });
    &SAMPLES[usize::from(rsa)]
}

/// `PrivateKeyInfo` version 1 for P-256 around an `ECPrivateKey`.
fn pkcs8_p256(ec: &[u8]) -> Vec<u8> {
    let algorithm = [
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    let tagged =
        |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    tagged(
        0x30,
        &[&[0x02, 0x01, 0x00], &algorithm[..], &tagged(0x04, ec)].concat(),
    )
}
