use serde_json::{Value, json};

use super::issuer::{base64url, merged};
use super::*;

fn assert_refused(pointer: &str, value: Value, field: &str, word: &str) {
    let mut config = config_json();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[name] = value;
    let error = identities_of(config).unwrap_err();
    assert_eq!(error.field, field, "{pointer}: {error}");
    assert!(error.problem.contains(word), "{error}");
    assert!(
        !error.to_string().contains("c2VjcmV0"),
        "a secret in {error}"
    );
}

#[test]
fn principals_that_make_no_sense_are_refused_with_their_field() {
    let pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let at = "serviceAccounts[1]";
    for (pointer, value, field, word) in [
        (
            "/tokenLifetimeSeconds",
            json!(0),
            "tokenLifetimeSeconds",
            "3600",
        ),
        (
            "/tokenLifetimeSeconds",
            json!(3601),
            "tokenLifetimeSeconds",
            "3600",
        ),
        (
            "/administrators",
            json!(["a@example.com"]),
            "administrators[0]",
            "prefix",
        ),
        (
            "/bindings",
            json!([{ "role": "roles/x" }]),
            "bindings",
            "poolReader",
        ),
        (
            "/users/0/accessToken",
            json!("short"),
            "users[0].accessToken",
            "16",
        ),
        ("/users/0/email", json!("admin"), "users[0].email", "mail"),
        (
            "/serviceAccounts/1/email",
            json!(ACCOUNT),
            &format!("{at}.email"),
            "twice",
        ),
        (
            "/serviceAccounts/1/publicKeys",
            json!([pem]),
            &format!("{at}.publicKeys[0]"),
            "private key",
        ),
        (
            "/serviceAccounts/1/publicKeys",
            json!(["x"]),
            &format!("{at}.publicKeys[0]"),
            "PEM",
        ),
        (
            "/serviceAccounts/1/impersonators",
            json!(["me"]),
            &format!("{at}.impersonators[0]"),
            "prefix",
        ),
        (
            "/metadataServer/serviceAccount",
            json!("x@y"),
            "metadataServer.serviceAccount",
            "add it",
        ),
    ] {
        assert_refused(pointer, value, field, word);
    }
    let nobody = json!({ "administrators": ["user:a@b"] });
    assert!(
        identities_of(nobody)
            .unwrap_err()
            .problem
            .contains("nobody")
    );
    assert!(serde_json::from_value::<IdentityConfig>(json!({ "user": [] })).is_err());
}

#[test]
fn providers_that_make_no_sense_are_refused_with_their_field() {
    let secret = merged(keys().generic.jwk(), json!({ "d": "c2VjcmV0" }));
    let small = json!({ "kty": "RSA", "n": base64url([0xff; 128]), "e": "AQAB" });
    let half = json!({ "kty": "EC", "crv": "P-256", "x": "AA" });
    let keys = "/providers/0/jwks/keys";
    for (pointer, value, field, word) in [
        (
            "/providers/0/audience",
            json!("x"),
            "providers[0].audience",
            "//iam.googleapis.com",
        ),
        (
            "/providers/0/projectNumber",
            json!(5),
            "providers[0].audience",
            "projectNumber is 5",
        ),
        (
            "/providers/0/issuer",
            json!(""),
            "providers[0].issuer",
            "iss",
        ),
        (
            "/providers/0/trustDomain",
            json!("A b"),
            "providers[0].trustDomain",
            "trust domain",
        ),
        (
            "/providers/0/spiffeId",
            json!("spiffe://x/{y}"),
            "providers[0].spiffeId",
            "placeholders",
        ),
        (keys, json!([]), "providers[0].jwks.keys", "JWKS"),
        (
            keys,
            json!([{ "kty": "oct" }]),
            "providers[0].jwks.keys",
            "JWKS",
        ),
        (
            keys,
            json!(vec![json!({}); 65]),
            "providers[0].jwks.keys",
            "64",
        ),
        (
            keys,
            json!([secret]),
            "providers[0].jwks.keys[0]",
            "private key",
        ),
        (
            keys,
            json!([small]),
            "providers[0].jwks.keys[0]",
            "1024 bits",
        ),
        (keys, json!([half]), "providers[0].jwks.keys[0]", "\"x\""),
        (
            "/providers/1/projectNumber",
            Value::Null,
            "providers[1].audience",
            "projectNumber",
        ),
    ] {
        assert_refused(pointer, value, field, word);
    }
    let mut config = config_json();
    let twice = config["providers"][0].clone();
    config["providers"].as_array_mut().unwrap().push(twice);
    let error = identities_of(config).unwrap_err();
    assert_eq!(error.field, "providers[2].audience");
}

#[test]
fn a_configuration_may_be_written_in_yaml() {
    let (x, y) = (
        keys().generic.jwk()["x"].clone(),
        keys().generic.jwk()["y"].clone(),
    );
    let pem = crate::encoding::pem("RSA PUBLIC KEY", keys().account.public());
    let pem = pem.replace('\n', "\n        ");
    let text = format!(
        "
users:
- email: admin@example.com
  accessToken: a-made-up-admin-token
administrators: [user:admin@example.com]
serviceAccounts:
- email: {ACCOUNT}
  publicKeys:
    - |
        {pem}
providers:
- audience: {GKE}
  projectNumber: 77
  issuer: {CLUSTER}
  trustDomain: example.org
  jwks: {{\"keys\":[{{\"use\":\"sig\",\"kty\":\"EC\",\"kid\":\"a\",\"crv\":\"P-256\",\"alg\":\"ES256\",\"x\":{x},\"y\":{y}}}]}}
metadataServer:
  serviceAccount: {ACCOUNT}
  numericProjectId: 77
bindings:
- role: roles/privateca.workloadCertificateRequester
  members:
  - principalSet://iam.googleapis.com/projects/77/locations/global/workloadIdentityPools/my-project.svc.id.goog/*
"
    );
    let config: IdentityConfig = serde_saphyr::from_str(&text).unwrap();
    config.validate().unwrap();
    assert_eq!(config.providers[0].project_number, Some(77));
    assert_eq!(config.token_lifetime_seconds, 3600);
}

#[test]
fn public_keys_come_as_pem_too() {
    let pkcs1 = crate::encoding::pem("RSA PUBLIC KEY", keys().account.public());
    let certificate = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    for (pem, algorithm) in [
        (pkcs1, jwk::JwsAlgorithm::Rs256),
        (certificate.cert.pem(), jwk::JwsAlgorithm::Es256),
        (
            certificate.signing_key.public_key_pem(),
            jwk::JwsAlgorithm::Es256,
        ),
    ] {
        assert_eq!(VerifyingKey::from_pem(&pem).unwrap().algorithm(), algorithm);
    }
    let mut config = config_json();
    config["serviceAccounts"][0]["jwks"] = json!({ "keys": [keys().stranger.jwk()] });
    config["serviceAccounts"][0]["publicKeys"] = json!([crate::encoding::pem(
        "RSA PUBLIC KEY",
        keys().account.public()
    )]);
    let identities = identities_of(config).unwrap();
    let claims = json!({
        "iss": ACCOUNT, "sub": ACCOUNT, "iat": NOW, "exp": NOW + 60, "scope": CLOUD_PLATFORM,
    });
    let header = format!("Bearer {}", keys().account.sign(&claims));
    assert!(identities.authenticate(Some(&header), at(0)).is_ok());
}

#[test]
fn spiffe_ids_come_from_the_template_and_only_valid_ones() {
    let id = |template: Option<&str>, domain: Option<&str>, subject: &str| {
        let mut config = config_json();
        let provider = &mut config["providers"][0];
        provider["spiffeId"] = json!(template);
        provider["trustDomain"] = json!(domain);
        let identities = identities_of(config).unwrap();
        let pool = "principal://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/plants";
        let issued = identities
            .mint(&format!("{pool}/subject/{subject}"), at(0))
            .unwrap();
        let header = format!("Bearer {}", issued.token);
        let caller = identities.authenticate(Some(&header), at(0)).unwrap();
        caller.reflected_id().ok().map(str::to_owned)
    };
    let some = |id: &str| Some(id.to_owned());
    let google = some("spiffe://plants.global.123.workload.id.goog/ns/shop/sa/cart");
    assert_eq!(id(None, None, SUBJECT), google);
    assert_eq!(
        id(None, Some("example.org"), SUBJECT),
        some("spiffe://example.org/ns/shop/sa/cart")
    );
    assert_eq!(id(None, None, "tree"), None, "no subject of Kubernetes");
    let by_subject = Some("spiffe://{trustDomain}/s/{subject}");
    assert_eq!(id(by_subject, Some("x"), "tree"), some("spiffe://x/s/tree"));
    for subject in ["a b", "{namespace}", "..", "a%2fb", "a?b", ""] {
        assert_eq!(id(by_subject, Some("x"), subject), None, "{subject:?}");
    }
    for subject in [
        "system:serviceaccount:shop/sa/admin:cart",
        "system:serviceaccount:shop:cart/x",
        "system:serviceaccount::cart",
        "system:serviceaccount:shop",
        "system:serviceaccount:shop:cart:x",
    ] {
        assert_eq!(id(None, None, subject), None, "{subject:?}");
    }
}

#[test]
fn nothing_that_is_printed_holds_a_token() {
    let config: IdentityConfig = serde_json::from_value(config_json()).unwrap();
    let identities = identities();
    let issued = identities.mint("user:somebody@example.com", at(0)).unwrap();
    for text in [format!("{config:?}"), format!("{identities:?}")] {
        assert!(
            !text.contains("a-made-up-admin-token") && !text.contains(&issued.token),
            "{text}"
        );
    }
}
