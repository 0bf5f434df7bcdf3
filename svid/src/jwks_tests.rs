use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use rcgen::KeyPair;
use serde_json::json;

use super::*;
use crate::{
    bundle_map,
    testing::{Ca, bundle, leaf_params},
};

fn x5c(certificate: &Certificate) -> String {
    STANDARD.encode(certificate.der())
}

fn key(root: &Certificate) -> Value {
    json!({"kty": "EC", "use": "x509-svid", "crv": "P-256", "x": "", "y": "", "x5c": [x5c(root)]})
}

fn read(document: &Value) -> Result<ServedBundle, JwksError> {
    parse(document.to_string().as_bytes())
}

fn refused(document: &Value) -> String {
    read(document).unwrap_err().to_string()
}

#[test]
fn roots_sequence_and_hint_are_read_and_keys_for_other_things_are_passed_over() {
    let (one, two) = (Ca::root("One").certificate, Ca::root("Two").certificate);
    let served = read(&json!({
        "spiffe_sequence": u64::MAX,
        "spiffe_refresh_hint": 600,
        "something_new": {"a": [1]},
        "keys": [
            key(&two),
            {"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256", "x": "", "y": ""},
            {"kty": "EC", "use": "wit-svid", "x5c": 5},
            {"kty": "OKP", "use": "x509-svid", "x5c": ["not base64"]},
            {"use": "x509-svid"},
            "a text",
            key(&one),
        ],
    }))
    .unwrap();
    assert_eq!(served.roots, [two, one]);
    assert_eq!(served.sequence, Some(u64::MAX));
    assert_eq!(served.refresh_hint, Some(Duration::from_secs(600)));
    assert_eq!(served.passed_over, 5);
}

#[test]
fn sequence_and_hint_may_be_missing() {
    let served = read(&json!({"keys": [key(&Ca::root("One").certificate)]})).unwrap();
    assert_eq!((served.sequence, served.refresh_hint), (None, None));
}

#[test]
fn what_our_own_bundle_map_says_of_a_domain_is_a_bundle() {
    let root = Ca::root("One");
    let map = bundle_map::render(&[bundle(&[&root])].into_iter().collect(), |_| 7).unwrap();
    let map: Value = serde_json::from_str(&map).unwrap();
    let served = read(&map["trust_domains"]["example.org"]).unwrap();
    assert_eq!(served.roots, [root.certificate]);
    assert_eq!(served.sequence, Some(7));
}

#[test]
fn a_root_of_a_curve_that_the_map_cannot_name_is_passed_over() {
    let odd = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let odd = Ca::root_with("Odd", odd, |_| {}).certificate;
    assert!(refused(&json!({"keys": [key(&odd)]})).contains("no root for X.509-SVIDs (1 keys"));
}

#[test]
fn one_bad_root_makes_the_bundle_unusable_and_is_named() {
    let ca = Ca::root("One");
    let good = key(&ca.certificate);
    let leaf = ca.sign(&leaf_params(), &KeyPair::generate().unwrap());
    let with = |x5c: &Value| json!({"kty": "EC", "use": "x509-svid", "x5c": x5c});
    for (x5c, expected) in [
        (
            json!([]),
            "key 2 must have exactly one certificate in \"x5c\", and has 0",
        ),
        (json!([x5c(&leaf), x5c(&leaf)]), "and has 2"),
        (json!(["%%"]), "key 2 has an \"x5c\" that is not base64"),
        (
            json!(["AAAA"]),
            "key 2 has an \"x5c\" that is not a certificate",
        ),
        (json!([x5c(&leaf)]), "key 2 is a certificate that is no CA"),
        (json!("text"), "not the JSON"),
        (json!([5]), "not the JSON"),
    ] {
        let message = refused(&json!({"keys": [good, with(&x5c)]}));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_is_no_bundle_is_refused() {
    for (text, expected) in [
        (&b""[..], "not the JSON"),
        (b"<html></html>", "not the JSON"),
        (b"[]", "not the JSON"),
        (b"{}", "missing field `keys`"),
        (b"{\"keys\": []}", "no root for X.509-SVIDs (0 keys"),
        (b"{\"keys\": [], \"keys\": []}", "duplicate field"),
        (b"{\"keys\": [], \"spiffe_sequence\": -1}", "not the JSON"),
        (
            b"{\"keys\": [], \"spiffe_refresh_hint\": 1.5}",
            "not the JSON",
        ),
        (
            b"{\"keys\": [], \"spiffe_sequence\": 18446744073709551616}",
            "not the JSON",
        ),
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let deep = format!("{{\"keys\": [{}", "[".repeat(100_000));
    assert!(matches!(parse(deep.as_bytes()), Err(JwksError::Json(_))));
    let large = vec![b' '; MAX_BYTES + 1];
    assert!(matches!(parse(&large), Err(JwksError::TooLarge { .. })));
}

#[test]
fn the_number_of_roots_is_bounded() {
    let root = key(&Ca::root("One").certificate);
    let with = |count| json!({"keys": vec![root.clone(); count]});
    assert_eq!(read(&with(MAX_ROOTS)).unwrap().roots.len(), MAX_ROOTS);
    assert!(matches!(
        read(&with(MAX_ROOTS + 1)),
        Err(JwksError::TooMany)
    ));
}

fn any_json() -> impl Strategy<Value = Value> {
    let name = || {
        prop_oneof![
            "keys",
            "use",
            "kty",
            "x5c",
            "spiffe_sequence",
            "spiffe_refresh_hint",
            "[a-z]{0,3}"
        ]
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof!["x509-svid", "EC", "RSA", "[A-Za-z0-9+/=]{0,40}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _anything = parse(&bytes);
    }

    #[test]
    fn any_json_is_read_without_a_panic_and_never_gives_an_empty_bundle(keys in any_json(), sequence in any_json()) {
        for document in [
            json!({"keys": keys, "spiffe_sequence": sequence}),
            json!({"keys": [keys]}),
            keys,
        ] {
            if let Ok(served) = read(&document) {
                prop_assert!(!served.roots.is_empty());
            }
        }
    }
}
