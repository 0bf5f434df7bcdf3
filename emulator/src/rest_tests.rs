use std::sync::OnceLock;

use axum::http::Method as Verb;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;
use crate::emulator::system_clock;
use crate::pool::EmulatorConfig;

/// Parts of paths and field names that mean something, so that requests get past the first check.
const PARTS: [&str; 18] = [
    "v1",
    "v3",
    "v1beta1",
    "projects",
    "p",
    "locations",
    "l",
    "operations",
    "caPools",
    "-",
    "root-pool",
    "issuing-pool",
    "certificateAuthorities",
    "certificates",
    "services",
    "%2F",
    "",
    "ü",
];
const ACTIONS: [&str; 12] = [
    "",
    ":fetchCaCerts",
    ":getIamPolicy",
    ":setIamPolicy",
    ":testIamPermissions",
    ":enable",
    ":disable",
    ":undelete",
    ":activate",
    ":fetch",
    ":revoke",
    ":cancel",
];
const PARENTS: [&str; 6] = [
    "v1/projects/p",
    "v1/projects/p/locations/l",
    "v1/projects/p/locations/l/caPools",
    "v1/projects/p/locations/l/caPools/root-pool",
    "v1/projects/p/locations/l/caPools/root-pool/certificates",
    "v1/projects/p/locations/l/caPools/issuing-pool/certificateAuthorities",
];
const PARAMETERS: [&str; 13] = [
    "caPoolId",
    "certificateAuthorityId",
    "certificateId",
    "requestId",
    "updateMask",
    "validateOnly",
    "pageSize",
    "pageToken",
    "filter",
    "issuingCertificateAuthorityId",
    "options.requestedPolicyVersion",
    "skipGracePeriod",
    "$alt",
];
const FIELDS: [&str; 44] = [
    "name",
    "tier",
    "issuancePolicy",
    "issuance_policy",
    "maximumLifetime",
    "backdateDuration",
    "allowedKeyTypes",
    "rsa",
    "minModulusSize",
    "ellipticCurve",
    "signatureAlgorithm",
    "identityConstraints",
    "celExpression",
    "passthroughExtensions",
    "knownExtensions",
    "labels",
    "publishingOptions",
    "publishCaCert",
    "type",
    "config",
    "lifetime",
    "keySpec",
    "algorithm",
    "subjectConfig",
    "subject",
    "commonName",
    "subjectAltName",
    "uris",
    "x509Config",
    "caOptions",
    "isCa",
    "maxIssuerPathLength",
    "keyUsage",
    "baseKeyUsage",
    "certSign",
    "publicKey",
    "key",
    "pemCsr",
    "pemCaCertificate",
    "subordinateConfig",
    "pemIssuerChain",
    "pemCertificates",
    "policy",
    "bindings",
];
const VALUES: [&str; 12] = [
    "",
    "x",
    "60s",
    "-1s",
    "DEVOPS",
    "ENTERPRISE",
    "SELF_SIGNED",
    "SUBORDINATE",
    "EC_P256_SHA256",
    "PEM",
    "00000000-0000-4000-8000-000000000001",
    "labels,issuancePolicy.maximumLifetime",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![select(&VALUES[..]).prop_map(str::to_owned), ".{0,12}"]
}

/// No numbers of RSA keys: making these takes seconds.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..6_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(Value::from(i64::MIN)),
        text().prop_map(Value::from),
    ];
    let field = prop_oneof![9 => select(&FIELDS[..]).prop_map(str::to_owned), 1 => ".{0,5}"];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((field.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => any_json().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(Vec::new()),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![9 => select(&PARTS[..]).prop_map(str::to_owned), 1 => ".{0,6}"];
    let below = (
        select(&PARENTS[..]),
        prop::collection::vec(part.clone(), 0..3),
    );
    prop_oneof![
        5 => below.prop_map(|(parent, rest)| [vec![parent.to_owned()], rest].concat().join("/")),
        1 => prop::collection::vec(part, 0..9).prop_map(|parts| parts.join("/")),
    ]
}

fn emulator() -> &'static Emulator {
    static EMULATOR: OnceLock<Arc<Emulator>> = OnceLock::new();
    EMULATOR.get_or_init(|| {
        let config = EmulatorConfig::guide("p", "l").unwrap();
        Emulator::new(config, system_clock(), None).unwrap()
    })
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_request_makes_it_panic(
        verb in select(&["GET", "POST", "PATCH", "DELETE", "HEAD"][..]),
        path in path(),
        action in select(&ACTIONS[..]),
        query in prop::collection::vec((select(&PARAMETERS[..]), text()), 0..4),
        body in body(),
    ) {
        let verb: Verb = verb.parse().unwrap();
        let query: Vec<_> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let uri: Uri = format!("/x?{}", query.join("&")).parse().unwrap();
        let Ok(call) = Call::route(&verb, &format!("/{path}{action}")) else {
            return Ok(());
        };
        match call.run(emulator(), &Caller::anybody(), &uri, &body) {
            Ok(answer) => prop_assert!(serde_json::from_slice::<Value>(&answer).is_ok()),
            Err(error) => prop_assert_ne!(error.code, Code::Internal, "{}", error),
        }
    }

    #[test]
    fn no_change_of_a_good_request_makes_it_panic(
        good in 0..5_usize,
        place in 0..30_usize,
        change in any_json(),
    ) {
        let (path, query, mut body) = good_requests()[good].clone();
        let mut place = place;
        replace(&mut body, &mut place, &change);
        let call = Call::route(&Verb::POST, &format!("/v1/projects/p/locations/l/{path}")).unwrap();
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        let body = body.to_string().into_bytes();
        if let Err(error) = call.run(emulator(), &Caller::anybody(), &uri, &body) {
            prop_assert_ne!(error.code, Code::Internal, "{}", error);
        }
    }
}

#[test]
fn the_good_requests_are_good() {
    let config = EmulatorConfig::guide("p", "l").unwrap();
    let emulator = Emulator::new(config, system_clock(), None).unwrap();
    for (path, query, body) in good_requests() {
        let call = Call::route(&Verb::POST, &format!("/v1/projects/p/locations/l/{path}")).unwrap();
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        call.run(
            &emulator,
            &Caller::anybody(),
            &uri,
            body.to_string().as_bytes(),
        )
        .unwrap();
    }
}

/// Path, query and body of requests that are answered if nothing is changed about them.
fn good_requests() -> &'static [(&'static str, &'static str, Value)] {
    static REQUESTS: OnceLock<Vec<(&'static str, &'static str, Value)>> = OnceLock::new();
    REQUESTS.get_or_init(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key);
        let encoded = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            key.public_key_pem(),
        );
        let x509 = json!({
            "caOptions": { "isCa": true, "maxIssuerPathLength": 0 },
            "keyUsage": {
                "baseKeyUsage": { "certSign": true },
                "extendedKeyUsage": { "serverAuth": true },
            },
        });
        let subject = json!({
            "subject": { "commonName": "a", "countryCode": "DE" },
            "subjectAltName": {
                "uris": ["spiffe://a/b"],
                "dnsNames": ["a.b"],
                "ipAddresses": ["::1"],
                "emailAddresses": ["a@b"],
            },
        });
        let config = json!({ "subjectConfig": subject, "x509Config": x509 });
        let mut with_key = config.clone();
        with_key["publicKey"] = json!({ "format": "PEM", "key": encoded });
        vec![
            (
                "caPools",
                "caPoolId=n",
                json!({
                    "tier": "DEVOPS",
                    "labels": { "a": "b" },
                    "publishingOptions": { "publishCaCert": true, "encodingFormat": "PEM" },
                    "issuancePolicy": {
                        "maximumLifetime": "60s",
                        "backdateDuration": "1s",
                        "allowedKeyTypes": [{ "rsa": { "minModulusSize": "1" } }],
                        "allowedIssuanceModes": { "allowCsrBasedIssuance": true },
                        "baselineValues": x509,
                        "identityConstraints": { "allowSubjectPassthrough": true },
                        "passthroughExtensions": { "knownExtensions": ["CA_OPTIONS"] },
                    },
                }),
            ),
            (
                "caPools/root-pool/certificateAuthorities",
                "certificateAuthorityId=a",
                json!({
                    "type": "SELF_SIGNED",
                    "lifetime": "60s",
                    "keySpec": { "algorithm": "EC_P256_SHA256" },
                    "config": config,
                }),
            ),
            (
                "caPools/root-pool/certificates",
                "certificateId=a",
                json!({ "lifetime": "60s", "config": with_key, "subjectMode": "DEFAULT" }),
            ),
            (
                "caPools/root-pool/certificates",
                "certificateId=b",
                json!({ "lifetime": "60s", "pemCsr": csr.unwrap().pem().unwrap() }),
            ),
            (
                "caPools/root-pool:setIamPolicy",
                "",
                json!({ "policy": {
                    "version": 3,
                    "etag": "",
                    "bindings": [{ "role": "roles/privateca.poolReader", "members": ["allUsers"] }],
                } }),
            ),
        ]
    })
}

/// Puts `change` where the walk over `value` comes after `place` steps.
fn replace(value: &mut Value, place: &mut usize, change: &Value) {
    if *place == 0 {
        value.clone_from(change);
    }
    // Once zero was passed nothing is changed any more.
    *place = place.wrapping_sub(1);
    match value {
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| replace(value, place, change)),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|value| replace(value, place, change)),
        _ => {}
    }
}
