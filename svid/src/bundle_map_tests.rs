use std::sync::LazyLock;

use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Ca, bundle, key};

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn root(algorithm: &'static rcgen::SignatureAlgorithm) -> Ca {
    Ca::root_with("Root", KeyPair::generate_for(algorithm).unwrap(), |_| {})
}

/// The map of one domain with this one root, as JSON.
fn rendered(root: &Ca) -> Value {
    let text = render(&[bundle(&[root])].into_iter().collect(), |_| 7).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn key_of(map: &Value) -> serde_json::Map<String, Value> {
    map["trust_domains"]["example.org"]["keys"][0]
        .as_object()
        .unwrap()
        .clone()
}

/// A map with one key of `example.org`.
fn map_with(key: &Value) -> Vec<u8> {
    json!({"trust_domains": {"example.org": {"keys": [key]}}})
        .to_string()
        .into_bytes()
}

fn x509_key(x5c: &Value) -> Value {
    json!({"kty": "EC", "use": "x509-svid", "x5c": x5c})
}

fn problem(key: &Value) -> KeyProblem {
    match parse(&map_with(key)) {
        Err(BundleMapError::Key {
            trust_domain,
            position: 1,
            problem,
        }) => {
            assert_eq!(trust_domain, domain("example.org"));
            problem
        }
        other => panic!("{other:?}"),
    }
}

fn decoded(key: &serde_json::Map<String, Value>, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap()
}

#[test]
fn the_map_has_exactly_the_members_of_the_standard() {
    let root = root(&rcgen::PKCS_ECDSA_P256_SHA256);
    let map = rendered(&root);
    let spki = root.certificate.public_key();
    let (x, y) = spki[spki.len() - 64..].split_at(32);
    assert_eq!(
        map,
        json!({
            "trust_domains": {
                "example.org": {
                    "spiffe_sequence": 7,
                    "keys": [{
                        "kty": "EC",
                        "use": "x509-svid",
                        "crv": "P-256",
                        "x": URL_SAFE_NO_PAD.encode(x),
                        "y": URL_SAFE_NO_PAD.encode(y),
                        "x5c": [STANDARD.encode(root.certificate.der())],
                    }],
                },
            },
        })
    );
}

#[test]
fn ec_keys_have_their_curve_and_a_point_of_full_length() {
    for (algorithm, curve, length) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "P-256", 32),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "P-384", 48),
    ] {
        let key = key_of(&rendered(&root(algorithm)));
        assert_eq!(key["kty"], "EC");
        assert_eq!(key["crv"], curve);
        assert_eq!(decoded(&key, "x").len(), length);
        assert_eq!(decoded(&key, "y").len(), length);
        let names: Vec<&str> = key.keys().map(String::as_str).collect();
        assert_eq!(names.len(), 6, "{names:?}");
    }
}

#[test]
fn rsa_keys_have_their_modulus_without_a_leading_zero_and_their_exponent() {
    let key = key_of(&rendered(&root(&rcgen::PKCS_RSA_SHA256)));
    assert_eq!(key["kty"], "RSA");
    let modulus = decoded(&key, "n");
    assert_eq!(modulus.len(), 256);
    assert!(modulus[0] & 0x80 != 0);
    assert_eq!(decoded(&key, "e"), [1, 0, 1]);
    let names: Vec<&str> = key.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn a_map_ends_with_a_newline_and_is_the_same_for_the_same_roots() {
    let (one, two) = (Ca::root("One"), Ca::root("Two"));
    let text = |roots: &[&Ca]| render(&[bundle(roots)].into_iter().collect(), |_| 1).unwrap();
    assert_eq!(text(&[&one, &two]), text(&[&two, &one, &two]));
    assert!(text(&[&one]).ends_with("}\n"));
}

#[test]
fn a_root_of_another_family_has_no_place_in_a_map() {
    let root = root(&rcgen::PKCS_ED25519);
    let result = render(&[bundle(&[&root])].into_iter().collect(), |_| 1);
    match result {
        Err(BundleMapError::Family {
            trust_domain,
            subject,
        }) => {
            assert_eq!(trust_domain, domain("example.org"));
            assert_eq!(subject, "CN=Root");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_map_and_a_domain_without_roots_are_maps() {
    assert!(parse(br#"{"trust_domains":{}}"#).unwrap().is_empty());
    let bundles = parse(br#"{"trust_domains":{"example.org":{"keys":[]}}}"#).unwrap();
    assert!(
        bundles
            .get(&domain("example.org"))
            .unwrap()
            .roots()
            .is_empty()
    );
}

#[test]
fn members_that_we_do_not_know_are_passed_over() {
    let root = Ca::root("Root");
    let mut map = rendered(&root);
    map["later"] = json!(1);
    map["trust_domains"]["example.org"]["spiffe_refresh_hint"] = json!(300);
    map["trust_domains"]["example.org"]["keys"][0]["alg"] = json!("ES256");
    let (bundles, sequences) = parse_with_sequences(map.to_string().as_bytes()).unwrap();
    assert_eq!(
        bundles.get(&domain("example.org")).unwrap().roots(),
        [root.certificate]
    );
    assert_eq!(sequences[&domain("example.org")], 7);
}

#[test]
fn jwt_keys_are_passed_over() {
    let root = Ca::root("Root");
    let jwt = json!({"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256", "x": "", "y": ""});
    let x509 = x509_key(&json!([STANDARD.encode(root.certificate.der())]));
    let map = json!({"trust_domains": {"example.org": {"keys": [jwt, x509]}}}).to_string();
    let (bundles, sequences) = parse_with_sequences(map.as_bytes()).unwrap();
    assert_eq!(
        bundles.get(&domain("example.org")).unwrap().roots(),
        [root.certificate]
    );
    assert!(sequences.is_empty());
}

#[test]
fn a_map_that_is_too_large_is_refused() {
    let text = vec![b' '; MAX_BYTES + 1];
    assert!(matches!(
        parse(&text),
        Err(BundleMapError::TooLarge { bytes }) if bytes == MAX_BYTES + 1
    ));
}

#[test]
fn what_is_not_json_of_the_right_shape_is_refused() {
    for text in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"trust_domains":[]}"#,
        r#"{"trust_domains":{"example.org":{}}}"#,
        r#"{"trust_domains":{"example.org":{"keys":[],"spiffe_sequence":-1}}}"#,
        r#"{"trust_domains":{}} x"#,
    ] {
        assert!(
            matches!(parse(text.as_bytes()), Err(BundleMapError::Json { .. })),
            "{text}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(
        parse(deep.as_bytes()),
        Err(BundleMapError::Json { .. })
    ));
}

#[test]
fn a_domain_that_is_named_twice_is_refused() {
    let text = r#"{"trust_domains":{"example.org":{"keys":[]},"example.org":{"keys":[]}}}"#;
    let error = parse(text.as_bytes()).unwrap_err();
    assert!(matches!(error, BundleMapError::Json { .. }));
    assert!(
        error.to_string().contains("example.org is named twice"),
        "{error}"
    );
}

#[test]
fn a_name_that_is_no_trust_domain_is_refused_in_printable_form() {
    for name in [
        "",
        "Example.org",
        "spiffe://example.org",
        "spiffe://example.org/a",
        "a b",
        "a/b",
    ] {
        let map = json!({"trust_domains": {name: {"keys": []}}}).to_string();
        match parse(map.as_bytes()) {
            Err(BundleMapError::TrustDomain { name: found }) => assert_eq!(found, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let map = json!({"trust_domains": {"a\u{1b}[2J": {"keys": []}}}).to_string();
    let error = parse(map.as_bytes()).unwrap_err().to_string();
    assert!(!error.contains(char::is_control), "{error:?}");
}

#[test]
fn a_key_of_unknown_use_or_kind_is_passed_over() {
    let one = STANDARD.encode(Ca::root("Root").certificate.der());
    for key in [
        json!({"kty": "EC", "use": "sig", "x5c": [one]}),
        json!({"kty": "EC", "x5c": [one]}),
        json!({"kty": "ML-DSA", "use": "x509-svid"}),
        json!({"use": "x509-svid"}),
    ] {
        let map =
            json!({"trust_domains": {"td.example": {"keys": [key, x509_key(&json!([one]))]}}});
        let bundles = parse(map.to_string().as_bytes()).unwrap();
        let domain = TrustDomain::new("td.example").unwrap();
        assert_eq!(bundles.get(&domain).unwrap().roots().len(), 1, "{key}");
    }
}

#[test]
fn a_key_in_a_wrong_place_is_not_told() {
    let pem = "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----";
    for map in [
        json!({"trust_domains": {pem: {"keys": []}}}),
        json!({"trust_domains": {"td.example": pem}}),
    ] {
        let error = parse(map.to_string().as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
    }
}

#[test]
fn a_key_has_exactly_one_certificate() {
    let one = STANDARD.encode(Ca::root("Root").certificate.der());
    assert_eq!(
        problem(&json!({"kty": "EC", "use": "x509-svid"})),
        KeyProblem::Count(0)
    );
    assert_eq!(problem(&x509_key(&json!([one, one]))), KeyProblem::Count(2));
}

#[test]
fn a_certificate_that_is_not_base64_is_refused() {
    assert_eq!(problem(&x509_key(&json!(["-_-_"]))), KeyProblem::Base64);
}

#[test]
fn base64_that_is_no_certificate_is_refused() {
    let result = problem(&x509_key(&json!([STANDARD.encode("hello")])));
    assert!(matches!(
        result,
        KeyProblem::Certificate(CertificateError::Der { .. })
    ));
}

#[test]
fn a_certificate_of_no_ca_is_refused() {
    let leaf = STANDARD.encode(Ca::root("Root").leaf().der());
    assert_eq!(problem(&x509_key(&json!([leaf]))), KeyProblem::NotCa);
}

/// Roots of every family.
static ROOTS: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
    let mut cas = vec![
        root(&rcgen::PKCS_ECDSA_P384_SHA384),
        root(&rcgen::PKCS_RSA_SHA256),
    ];
    cas.extend((0..4).map(|number| Ca::root_with(&format!("Root {number}"), key(), |_| {})));
    cas.into_iter().map(|ca| ca.certificate).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_reads_back_the_same(
        domains in btree_map(
            "[a-z0-9][a-z0-9._-]{0,20}",
            (any::<u64>(), prop::sample::subsequence(ROOTS.clone(), 0..=ROOTS.len())),
            0..5,
        ),
    ) {
        let bundles: TrustBundles = domains
            .iter()
            .map(|(name, (_, roots))| TrustBundle::new(domain(name), roots.clone()))
            .collect();
        let text = render(&bundles, |own| domains[own.as_ref()].0).unwrap();
        prop_assert!(!text.contains("kid"));
        let (read, sequences) = parse_with_sequences(text.as_bytes()).unwrap();
        prop_assert_eq!(&read, &bundles);
        prop_assert_eq!(sequences.len(), domains.len());
        for (own, sequence) in &sequences {
            prop_assert_eq!(*sequence, domains[own.as_ref()].0);
        }
        prop_assert_eq!(render(&read, |own| sequences[own]).unwrap(), text);
    }

    #[test]
    fn no_bytes_panic_the_parser(bytes in any::<Vec<u8>>()) {
        drop(parse(&bytes));
    }

    #[test]
    fn a_damaged_map_never_panics_the_parser(
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let bundles = [TrustBundle::new(domain("example.org"), ROOTS[..3].to_vec())];
        let mut text = render(&bundles.into_iter().collect(), |_| 1).unwrap().into_bytes();
        for (index, byte) in edits {
            *index.get_mut(&mut text) = byte;
        }
        drop(parse(&text));
    }
}
