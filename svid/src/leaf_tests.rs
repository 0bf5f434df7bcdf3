use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::*;
use crate::testing::{Ca, ID, extension, named, uri};

/// `KeyUsage ::= digitalSignature`, as the extension's value.
const DIGITAL_SIGNATURE: &[u8] = &[0x03, 0x02, 0x07, 0x80];

fn check(twist: impl FnOnce(&mut CertificateParams)) -> Result<SpiffeId, LeafError> {
    svid(&Ca::root("Root").leaf_with(twist))
}

#[test]
fn a_correct_leaf_gives_its_id() {
    assert_eq!(check(|_| {}).unwrap().to_string(), ID);
}

#[test]
fn a_subject_and_other_names_are_no_fault_of_an_svid() {
    let id = check(|params| {
        params.distinguished_name = named("cart");
        let dns = rcgen::SanType::DnsName("cart.example.org".try_into().unwrap());
        params.subject_alt_names.push(dns);
    });
    assert_eq!(id.unwrap().to_string(), ID);
}

#[test]
fn a_leaf_without_purposes_may_serve_any() {
    assert!(check(|params| params.extended_key_usages.clear()).is_ok());
}

#[test]
fn a_ca_is_no_leaf() {
    let twist = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    assert_eq!(check(twist), Err(LeafError::IsCa));
}

#[test]
fn a_leaf_without_a_uri_is_refused() {
    assert_eq!(
        check(|params| params.subject_alt_names.clear()),
        Err(LeafError::NoUri)
    );
}

#[test]
fn a_leaf_with_two_uris_is_refused() {
    for second in [
        "spiffe://example.org/ns/shop/sa/till",
        "https://example.org/",
        ID,
    ] {
        assert_eq!(
            check(|params| params.subject_alt_names.push(uri(second))),
            Err(LeafError::SeveralUris { count: 2 })
        );
    }
}

#[test]
fn a_uri_that_is_no_spiffe_id_is_refused() {
    for text in [
        "https://example.org/ns/shop/sa/cart",
        "spiffe://",
        "spiffe:///ns/shop",
        "spiffe://example.org/ns//cart",
        "spiffe://example.org/ns/../cart",
        "spiffe://example.org/ns/shop/",
        "spiffe://example.org:8080/ns/shop",
        "spiffe://user@example.org/ns/shop",
        "spiffe://example.org/ns/shop?q=1",
        "spiffe://example.org/ns/shop#f",
        "spiffe://example.org/ns/%73hop",
    ] {
        let result = check(|params| params.subject_alt_names = vec![uri(text)]);
        assert!(
            matches!(result, Err(LeafError::NotSpiffe { .. })),
            "{text}: {result:?}"
        );
    }
}

#[test]
fn an_id_that_is_not_in_its_normal_spelling_is_refused() {
    for text in [
        "spiffe://Example.org/ns/shop/sa/cart",
        "SPIFFE://example.org/ns/shop/sa/cart",
    ] {
        let result = check(|params| params.subject_alt_names = vec![uri(text)]);
        let id = SpiffeId::new(ID).unwrap();
        assert_eq!(result, Err(LeafError::Spelling { id }), "{text}");
    }
}

#[test]
fn the_id_of_a_trust_domain_is_refused() {
    let result = check(|params| params.subject_alt_names = vec![uri("spiffe://example.org")]);
    let id = SpiffeId::new("spiffe://example.org").unwrap();
    assert_eq!(result, Err(LeafError::NoPath { id }));
}

#[test]
fn names_that_are_not_critical_need_a_subject() {
    let mut names = vec![0x30, u8::try_from(ID.len() + 2).unwrap()];
    names.extend([0x86, u8::try_from(ID.len()).unwrap()]);
    names.extend(ID.as_bytes());
    let not_critical = |params: &mut CertificateParams| {
        params.subject_alt_names.clear();
        params.custom_extensions = vec![extension(17, &names)];
    };
    assert_eq!(check(not_critical), Err(LeafError::NamesNotCritical));
    let with_subject = check(|params| {
        not_critical(params);
        params.distinguished_name = named("cart");
    });
    assert!(with_subject.is_ok());
}

#[test]
fn a_leaf_without_key_usage_is_refused() {
    assert_eq!(
        check(|params| params.key_usages.clear()),
        Err(LeafError::NoKeyUsage)
    );
}

#[test]
fn a_key_usage_that_is_not_critical_is_refused() {
    let result = check(|params| {
        params.key_usages.clear();
        params.custom_extensions = vec![extension(15, DIGITAL_SIGNATURE)];
    });
    assert_eq!(result, Err(LeafError::KeyUsageNotCritical));
}

#[test]
fn a_key_usage_without_digital_signature_is_refused() {
    let result = check(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    assert_eq!(result, Err(LeafError::NoDigitalSignature));
}

#[test]
fn a_leaf_that_may_sign_certificates_is_refused() {
    let result = check(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert_eq!(result, Err(LeafError::KeyCertSign));
}

#[test]
fn a_leaf_that_may_sign_revocation_lists_is_refused() {
    let result = check(|params| params.key_usages.push(KeyUsagePurpose::CrlSign));
    assert_eq!(result, Err(LeafError::CrlSign));
}

#[test]
fn purposes_without_server_or_client_are_refused() {
    for (purpose, missing) in [
        (ExtendedKeyUsagePurpose::ClientAuth, "serverAuth"),
        (ExtendedKeyUsagePurpose::ServerAuth, "clientAuth"),
        (ExtendedKeyUsagePurpose::EmailProtection, "serverAuth"),
    ] {
        let result = check(|params| params.extended_key_usages = vec![purpose]);
        assert_eq!(result, Err(LeafError::ExtendedKeyUsage { missing }));
    }
}
