use serde_json::json;

use super::*;

fn policy(value: serde_json::Value) -> IssuancePolicy {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_policy_is_read_and_written_in_the_services_json() {
    let value = json!({
        "allowedKeyTypes": [
            { "rsa": { "minModulusSize": "3072", "maxModulusSize": "4096" } },
            { "ellipticCurve": { "signatureAlgorithm": "ECDSA_P256" } },
        ],
        "maximumLifetime": "86400s",
        "backdateDuration": "300s",
        "allowedIssuanceModes": { "allowConfigBasedIssuance": true },
        "baselineValues": {
            "keyUsage": { "extendedKeyUsage": { "serverAuth": true } },
            "caOptions": { "isCa": false },
        },
        "identityConstraints": { "allowSubjectAltNamesPassthrough": true },
        "passthroughExtensions": { "knownExtensions": ["BASE_KEY_USAGE"] },
    });
    let read = policy(value.clone());
    assert_eq!(serde_json::to_value(&read).unwrap(), value);
    assert_eq!(
        serde_json::to_value(IssuancePolicy::default()).unwrap(),
        json!({})
    );
    let typo = json!({ "maximumLifetme": "1s" });
    assert!(serde_json::from_value::<IssuancePolicy>(typo).is_err());
}

#[test]
fn only_the_allowed_key_types_are_signed() {
    const RSA: fn(u64) -> KeyKind = |bits| KeyKind::Rsa { bits };
    let (p256, p384) = (KeyKind::EcdsaP256, KeyKind::EcdsaP384);
    let rsa = json!([{ "rsa": { "minModulusSize": "3072" } }]);
    let bounded = json!([{ "rsa": { "minModulusSize": 2048, "maxModulusSize": 3072 } }]);
    let ec = json!([{ "ellipticCurve": { "signatureAlgorithm": "ECDSA_P384" } }]);
    let both = json!([{ "rsa": {} }, { "ellipticCurve": {} }]);
    let eddsa = json!([{ "ellipticCurve": { "signatureAlgorithm": "EDDSA_25519" } }]);
    for (types, key, allowed) in [
        (json!([]), p256, true),
        (json!([]), RSA(2048), true),
        (json!([]), RSA(2047), false),
        (rsa.clone(), RSA(3072), true),
        (rsa.clone(), RSA(4096), true),
        (rsa.clone(), RSA(2048), false),
        (rsa, p256, false),
        (bounded.clone(), RSA(3072), true),
        (bounded, RSA(4096), false),
        (ec.clone(), p384, true),
        (ec.clone(), p256, false),
        (ec, RSA(4096), false),
        (both.clone(), p256, true),
        (both.clone(), p384, true),
        (both, RSA(1024), false),
        (eddsa, p256, false),
    ] {
        let policy = policy(json!({ "allowedKeyTypes": types }));
        assert_eq!(policy.check_key(key).is_ok(), allowed, "{types} {key:?}");
    }
}

#[test]
fn only_the_allowed_issuance_modes_are_taken() {
    for (modes, csr, config) in [
        (json!({}), true, true),
        (json!({ "allowedIssuanceModes": {} }), false, false),
        (
            json!({ "allowedIssuanceModes": { "allowCsrBasedIssuance": true } }),
            true,
            false,
        ),
        (
            json!({ "allowedIssuanceModes": { "allowConfigBasedIssuance": true } }),
            false,
            true,
        ),
    ] {
        let policy = policy(modes);
        assert_eq!(policy.check_mode(Mode::Csr).is_ok(), csr);
        assert_eq!(policy.check_mode(Mode::Config).is_ok(), config);
    }
}

#[test]
fn a_lifetime_over_the_maximum_is_refused() {
    let policy = policy(json!({ "maximumLifetime": "3600s" }));
    assert!(
        policy
            .check_lifetime(SignedDuration::from_secs(3600))
            .is_ok()
    );
    assert!(
        policy
            .check_lifetime(SignedDuration::from_secs(3601))
            .is_err()
    );
}

#[test]
fn the_baseline_wins_over_what_was_asked() {
    let policy = policy(json!({ "baselineValues": {
        "keyUsage": { "extendedKeyUsage": { "clientAuth": true } },
        "caOptions": { "isCa": false },
    } }));
    let mut x509: X509Parameters = serde_json::from_value(json!({
        "keyUsage": {
            "baseKeyUsage": { "digitalSignature": true },
            "extendedKeyUsage": { "serverAuth": true },
        },
        "caOptions": { "isCa": true },
    }))
    .unwrap();
    policy.overwrite_with_baseline(&mut x509);
    let expected = json!({
        "keyUsage": {
            "baseKeyUsage": { "digitalSignature": true },
            "extendedKeyUsage": { "clientAuth": true },
        },
        "caOptions": { "isCa": false },
    });
    assert_eq!(serde_json::to_value(x509).unwrap(), expected);
}

#[test]
fn extensions_that_do_not_pass_through_are_dropped() {
    let asked = json!({
        "keyUsage": {
            "baseKeyUsage": { "digitalSignature": true },
            "extendedKeyUsage": { "serverAuth": true },
        },
        "caOptions": { "isCa": false },
    });
    for (known, expected) in [
        (json!([]), json!({ "keyUsage": {} })),
        (
            json!(["BASE_KEY_USAGE"]),
            json!({ "keyUsage": { "baseKeyUsage": { "digitalSignature": true } } }),
        ),
        (
            json!(["BASE_KEY_USAGE", "EXTENDED_KEY_USAGE", "CA_OPTIONS"]),
            asked.clone(),
        ),
    ] {
        let policy = policy(json!({ "passthroughExtensions": { "knownExtensions": known } }));
        let mut x509: X509Parameters = serde_json::from_value(asked.clone()).unwrap();
        policy.drop_extensions(&mut x509);
        assert_eq!(serde_json::to_value(x509).unwrap(), expected);
    }
}
