use proptest::{collection::vec, prelude::*};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SanType};

use super::*;
use rcgen::DnType;

use crate::testing::{Ca, ID, ca_params, extension, key, leaf_params, named, now, pem, uri};

#[test]
fn a_common_name_is_told_where_the_subject_is_nothing_else() {
    let ca = Ca::root("Root");
    let named = |attributes: &[(DnType, &str)]| {
        let mut params = leaf_params();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let leaf = ca.sign(&params, &key());
        leaf.common_name().map(str::to_owned)
    };
    assert_eq!(named(&[]), None);
    assert_eq!(
        named(&[(DnType::CommonName, "app user")]).unwrap(),
        "app user"
    );
    assert_eq!(named(&[(DnType::OrganizationName, "app")]), None);
    assert_eq!(
        named(&[
            (DnType::CommonName, "app"),
            (DnType::OrganizationName, "Example")
        ]),
        None
    );
}

#[test]
fn a_leaf_shows_the_facts_that_it_was_made_with() {
    let ca = Ca::root("Root");
    let mut params = leaf_params();
    params.serial_number = Some(vec![0x00, 0x0a, 0xff].into());
    params.subject_alt_names = vec![
        uri(ID),
        SanType::DnsName("cart.example.org".try_into().unwrap()),
        SanType::Rfc822Name("cart@example.org".try_into().unwrap()),
    ];
    let key = key();
    let leaf = ca.sign(&params, &key);

    assert_eq!(leaf.serial_hex(), "0aff");
    assert!(leaf.subject_is_empty());
    assert_eq!(leaf.subject_text(), "");
    assert_eq!(leaf.issuer_text(), "CN=Root");
    assert_eq!(leaf.issuer(), ca.certificate.subject());
    assert_eq!(leaf.not_before(), now());
    assert_eq!(leaf.not_after().to_string(), "2026-11-22T11:59:59Z");
    assert_eq!(leaf.public_key_kind(), PublicKeyKind::EcP256);
    assert_eq!(
        leaf.public_key(),
        rcgen::PublicKeyData::subject_public_key_info(&key)
    );
    assert!(!leaf.is_ca());
    assert!(!leaf.is_self_issued());
    assert!(leaf.names_issuer(&ca.certificate));
    assert_eq!(
        leaf.names(),
        &Names {
            critical: true,
            uris: vec![ID.to_owned()],
            dns: vec!["cart.example.org".to_owned()],
            others: 1,
        }
    );
    assert_eq!(
        leaf.key_usage(),
        Some(KeyUsage {
            critical: true,
            digital_signature: true,
            key_cert_sign: false,
            crl_sign: false,
        })
    );
    assert_eq!(
        leaf.extended_key_usage(),
        Some(ExtendedKeyUsage {
            server_auth: true,
            client_auth: true
        })
    );
}

#[test]
fn a_root_is_a_self_issued_ca() {
    let root = Ca::root("Root").certificate;
    assert!(root.is_ca());
    assert!(root.is_self_issued());
    assert!(!root.subject_is_empty());
    assert_eq!(root.names(), &Names::default());
    assert_eq!(root.extended_key_usage(), None);
}

#[test]
fn an_issuer_with_the_right_name_and_another_key_id_is_not_the_issuer() {
    let (ca, look_alike) = (Ca::root("Root"), Ca::root("Root"));
    let leaf = ca.leaf();
    assert!(leaf.names_issuer(&ca.certificate));
    assert!(!leaf.names_issuer(&look_alike.certificate));
    let without_key_id =
        ca.leaf_with(|params| params.use_authority_key_identifier_extension = false);
    assert!(without_key_id.names_issuer(&look_alike.certificate));
}

#[test]
fn every_family_of_keys_is_told_apart_in_a_certificate_and_in_a_bare_key() {
    for (algorithm, kind) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, PublicKeyKind::EcP256),
        (&PKCS_ECDSA_P384_SHA384, PublicKeyKind::EcP384),
        (&PKCS_RSA_SHA256, PublicKeyKind::Rsa(2048)),
        (&PKCS_ED25519, PublicKeyKind::Other),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let root = Ca::root_with("Root", key, |_| {}).certificate;
        assert_eq!(root.public_key_kind(), kind);
        assert_eq!(spki_kind(root.public_key()), kind);
    }
    assert_eq!(spki_kind(b"no key"), PublicKeyKind::Other);
}

#[test]
fn pem_that_is_written_reads_back_as_the_same_certificates() {
    let ca = Ca::root("Root");
    let (one, two) = (ca.leaf(), ca.leaf());
    let text = pem(&[&one, &two]);
    assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(text.ends_with("-----END CERTIFICATE-----\n"));
    assert!(text.lines().all(|line| line.len() <= 64));
    assert_eq!(
        Certificate::parse_pem_list(text.as_bytes()).unwrap(),
        [one, two]
    );
}

#[test]
fn crlf_text_between_blocks_and_blocks_of_other_kinds_do_not_matter() {
    let ca = Ca::root("Root");
    let (one, two) = (ca.leaf(), ca.leaf());
    let text = format!(
        "subject=CN = one\n{}\n# a remark\n{}{}",
        one.to_pem(),
        key().serialize_pem(),
        two.to_pem(),
    );
    for text in [text.replace('\n', "\r\n"), text] {
        assert_eq!(
            Certificate::parse_pem_list(text.as_bytes()).unwrap(),
            [one.clone(), two.clone()]
        );
    }
}

#[test]
fn broken_armour_is_refused() {
    let text = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        Certificate::parse_pem_list(text.as_bytes()),
        Err(CertificateError::Pem { .. })
    ));
}

#[test]
fn a_block_that_is_no_certificate_is_named_by_its_position() {
    let text = Ca::root("Root").certificate.to_pem()
        + "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        Certificate::parse_pem_list(text.as_bytes()),
        Err(CertificateError::Der { position: 2, .. })
    ));
}

#[test]
fn bytes_behind_a_certificate_are_refused() {
    let mut der = Ca::root("Root").certificate.der().to_vec();
    der.extend([1, 2, 3]);
    let error = Certificate::from_der(der).unwrap_err();
    assert!(error.to_string().contains("3 bytes follow"), "{error}");
}

#[test]
fn a_text_that_is_too_large_or_holds_too_many_is_refused() {
    let large = vec![b' '; MAX_PEM_BYTES + 1];
    assert_eq!(
        Certificate::parse_pem_list(&large),
        Err(CertificateError::TooLarge {
            bytes: MAX_PEM_BYTES + 1
        })
    );
    assert_eq!(Certificate::parse_pem_list(&large[1..]), Ok(Vec::new()));

    let block = Ca::root("Root").certificate.to_pem();
    let most = block.repeat(MAX_CERTIFICATES);
    assert_eq!(
        Certificate::parse_pem_list(most.as_bytes()).unwrap().len(),
        MAX_CERTIFICATES
    );
    assert_eq!(
        Certificate::parse_pem_list((most + &block).as_bytes()),
        Err(CertificateError::TooMany)
    );
}

#[test]
fn an_extension_that_appears_twice_is_refused() {
    let mut params = leaf_params();
    // An empty list of names, beside the real one.
    params.custom_extensions = vec![extension(17, &[0x30, 0x00])];
    let error = Certificate::from_der(signed(&params)).unwrap_err();
    assert!(error.to_string().contains("appears twice"), "{error}");
}

#[test]
fn an_extension_that_does_not_parse_is_refused() {
    for number in [14, 15, 17, 19, 35, 37] {
        let mut params = ca_params("Root");
        params.is_ca = rcgen::IsCa::NoCa;
        params.key_usages = Vec::new();
        params.use_authority_key_identifier_extension = false;
        // A boolean, where each of these has something else.
        params.custom_extensions = vec![extension(number, &[0x01, 0x01, 0xff])];
        let result = Certificate::from_der(signed(&params));
        assert!(
            matches!(result, Err(CertificateError::Der { .. })),
            "2.5.29.{number}: {result:?}"
        );
    }
}

#[test]
fn control_characters_of_a_name_do_not_reach_a_terminal() {
    let ca = Ca::root("evil\u{1b}[2Jroot\n");
    let text = ca.certificate.subject_text();
    assert!(text.contains("root"));
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[test]
fn debug_names_the_certificate_and_is_short() {
    let leaf = Ca::root("Root").leaf_with(|params| params.distinguished_name = named("cart"));
    let text = format!("{leaf:?}");
    assert!(
        text.contains("CN=cart") && text.contains(&leaf.serial_hex()),
        "{text}"
    );
    assert!(text.len() < 200, "{text}");
}

#[test]
fn the_fingerprint_is_the_sha_256_of_the_der() {
    let root = Ca::root("Root").certificate;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, root.der());
    assert_eq!(root.fingerprint(), digest.as_ref());
    assert_eq!(hex(&[0x00, 0x0f, 0xf0]), "000ff0");
}

proptest! {
    #[test]
    fn no_bytes_panic_the_der_parser(bytes in vec(any::<u8>(), 0..600)) {
        drop(Certificate::from_der(bytes));
    }

    #[test]
    fn no_text_panics_the_pem_parser(
        parts in vec(prop_oneof![
            Just("-----BEGIN CERTIFICATE-----\n".to_owned()),
            Just("-----END CERTIFICATE-----\n".to_owned()),
            Just("-----BEGIN PRIVATE KEY-----\n".to_owned()),
            "[A-Za-z0-9+/=]{0,64}\n",
            any::<String>(),
        ], 0..12),
    ) {
        drop(Certificate::parse_pem_list(parts.concat().as_bytes()));
    }

    #[test]
    fn a_damaged_certificate_never_panics_the_parser(
        edits in vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let mut der = whole().der().to_vec();
        for (index, mask) in edits {
            *index.get_mut(&mut der) ^= mask;
        }
        drop(Certificate::from_der(der));
    }

    #[test]
    fn a_certificate_that_was_cut_off_is_refused(length in any::<prop::sample::Index>()) {
        let whole = whole();
        let cut = whole.der()[..length.index(whole.der().len())].to_vec();
        prop_assert!(Certificate::from_der(cut).is_err());
    }
}

fn whole() -> &'static Certificate {
    static WHOLE: std::sync::LazyLock<Certificate> =
        std::sync::LazyLock::new(|| Ca::root("Root").leaf());
    &WHOLE
}

fn signed(params: &rcgen::CertificateParams) -> CertificateDer<'static> {
    params.self_signed(&key()).unwrap().der().clone()
}
