use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::issuer::{Issuer, base64url, merged, unsigned};
use super::*;

#[test]
fn a_workloads_token_becomes_an_access_token_of_its_principal() {
    let identities = identities();
    let token = keys().cluster.sign(&cluster_claims());
    let answer = exchange(&identities, &exchange_json(GKE, &token), at(10)).unwrap();
    assert_eq!(answer["expires_in"], 3600);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(
        answer["issued_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
    assert!(!answer["access_token"].as_str().unwrap().contains("cart"));
    let caller = identities
        .authenticate(Some(&bearer(&answer)), at(20))
        .unwrap();
    let pool = "iam.googleapis.com/projects/77/locations/global/workloadIdentityPools/my-project.svc.id.goog";
    for member in [
        format!("principal://{pool}/subject/ns/shop/sa/cart"),
        format!("principal://{pool}/subject/{SUBJECT}"),
        format!("principalSet://{pool}/*"),
        format!("principalSet://{pool}/namespace/shop"),
        "serviceAccount:my-project.svc.id.goog[shop/cart]".to_owned(),
        "allUsers".to_owned(),
    ] {
        assert!(caller.is(&member), "{member}");
    }
    for member in [
        format!("principal://{pool}/subject/ns/shop/sa/car"),
        format!("principalSet://{pool}/namespace/sho"),
        format!("deleted:principal://{pool}/subject/ns/shop/sa/cart"),
        "allAuthenticatedUsers".to_owned(),
        "user:admin@example.com".to_owned(),
    ] {
        assert!(!caller.is(&member), "{member}");
    }
    assert_eq!(
        caller.reflected_id().unwrap(),
        "spiffe://my-project.svc.id.goog/ns/shop/sa/cart"
    );
    assert!(!caller.is_administrator());
}

#[test]
fn all_forms_of_a_token_request_are_read_alike() {
    let identities = identities();
    let token = keys().generic.sign(&generic_claims());
    let camel = exchange_json(GENERIC, &token);
    let mut snake = serde_json::Map::new();
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("options", "{\"userProject\":\"1\"}");
    for (name, value) in camel.as_object().unwrap() {
        let mut snake_name = String::new();
        for char in name.chars() {
            if char.is_ascii_uppercase() {
                snake_name.push('_');
            }
            snake_name.push(char.to_ascii_lowercase());
        }
        form.append_pair(&snake_name, value.as_str().unwrap());
        snake.insert(snake_name, value.clone());
    }
    for (content_type, body) in [
        ("application/json", camel.to_string()),
        (
            "application/json; charset=utf-8",
            Value::Object(snake).to_string(),
        ),
        ("application/x-www-form-urlencoded", form.finish()),
    ] {
        let request = TokenRequest::parse(Some(content_type), body.as_bytes());
        assert!(
            identities.exchange(&request.unwrap(), at(0)).is_ok(),
            "{content_type}"
        );
    }
    for (content_type, body, word) in [
        (None, "grant_type=x", "Content-Type"),
        (Some("text/plain"), "grant_type=x", "Content-Type"),
        (Some("application/json"), "{", "JSON"),
        (
            Some("application/x-www-form-urlencoded"),
            "scope=a&scope=b",
            "repeated",
        ),
    ] {
        let error = TokenRequest::parse(content_type, body.as_bytes())
            .err()
            .unwrap();
        assert_eq!(error.error, "invalid_request");
        assert!(error.description.contains(word), "{error:?}");
    }
}

#[test]
fn an_exchange_that_asks_for_the_wrong_thing_is_refused() {
    let identities = identities();
    let token = keys().generic.sign(&generic_claims());
    let unknown = GENERIC.replace("plants", "animals");
    for (change, error, word) in [
        (
            json!({ "grantType": "refresh_token" }),
            "unsupported_grant_type",
            "refresh_token",
        ),
        (
            json!({ "grantType": null }),
            "invalid_request",
            "grant_type",
        ),
        (
            json!({ "audience": "plants" }),
            "invalid_request",
            "full resource name",
        ),
        (
            json!({ "audience": unknown }),
            "invalid_target",
            "disabled or deleted",
        ),
        (
            json!({ "requestedTokenType": "urn:x" }),
            "invalid_request",
            "requested token type",
        ),
        (
            json!({ "subjectTokenType": "urn:x" }),
            "invalid_request",
            "subject token type",
        ),
        (json!({ "scope": null }), "invalid_scope", "cloud-platform"),
        (
            json!({ "scope": "everything" }),
            "invalid_scope",
            "cloud-platform",
        ),
        (
            json!({ "subjectToken": null }),
            "invalid_request",
            "subject_token",
        ),
    ] {
        let request = merged(exchange_json(GENERIC, &token), change);
        let (name, description) = exchange(&identities, &request, at(0)).unwrap_err();
        assert_eq!(name, error, "{description}");
        assert!(description.contains(word), "{description}");
    }
}

#[test]
fn a_subject_token_that_does_not_hold_is_refused() {
    let identities = identities();
    let sign = |change: Value| keys().generic.sign(&merged(generic_claims(), change));
    for (token, text) in [
        (
            sign(json!({ "iss": "https://issuer.example/" })),
            "The issuer in ID Token [https://issuer.example/] does not match",
        ),
        (
            sign(json!({ "aud": "somebody else" })),
            "The audience in ID Token [somebody else] does not match the expected audience //iam",
        ),
        (
            sign(json!({ "aud": null })),
            "The audience in ID Token [] does not match",
        ),
        (
            sign(json!({ "iat": NOW - 900, "exp": NOW })),
            "ID Token issued at 1799999100 is stale to sign-in.",
        ),
        (sign(json!({ "iat": NOW + 61 })), "is not valid yet"),
        (sign(json!({ "nbf": NOW + 61 })), "is not valid yet"),
        (sign(json!({ "exp": NOW + 86_401 })), "longer than 24 hours"),
        (
            sign(json!({ "exp": null })),
            "its claims (iss, aud, iat, exp) cannot be read",
        ),
        (sign(json!({ "sub": null })), "no subject"),
        (sign(json!({ "exp": "soon" })), "cannot be read"),
        (sign(json!({ "exp": 1e300 })), "cannot be read"),
        (sign(json!({ "sub": "x".repeat(128) })), "127 bytes limit"),
        (
            keys().stranger.sign(&generic_claims()),
            "signature of the token does not verify",
        ),
        ("x".repeat(16 * 1024 + 1), "longer than 16384 bytes"),
        ("a.b".to_owned(), "three parts"),
        ("a.b.c.d".to_owned(), "three parts"),
        ("!.!.!".to_owned(), "header cannot be read"),
    ] {
        let description = refusal(&identities, &token);
        assert!(description.contains(text), "{description}");
    }
    // Fractions of a second are a number, too.
    let token = sign(json!({ "exp": 1_800_000_000.5 + 60.0, "iat": 1_799_999_999.5 }));
    assert!(exchange(&identities, &exchange_json(GENERIC, &token), at(0)).is_ok());
}

#[test]
fn a_token_does_not_choose_how_it_is_verified() {
    let identities = identities();
    let claims = generic_claims();
    let header = |alg: &str| json!({ "alg": alg, "kid": "generic-1" });
    let none = format!("{}.", unsigned(&header("none"), &claims));
    assert!(refusal(&identities, &none).contains("signed with \"none\""));
    let dressed = keys().generic.sign_as(&header("none"), &claims);
    assert!(refusal(&identities, &dressed).contains("signed with \"none\""));

    // The public key, which everybody has, as the secret of a MAC.
    let message = unsigned(&header("HS256"), &claims);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, keys().generic.public());
    let forged = format!(
        "{message}.{}",
        base64url(hmac::sign(&secret, message.as_bytes()))
    );
    assert!(refusal(&identities, &forged).contains("signed with \"HS256\""));

    let crossed = keys().generic.sign_as(&header("RS256"), &claims);
    assert!(refusal(&identities, &crossed).contains("kind that the token is signed with"));
    let unknown = json!({ "alg": "ES256", "kid": "generic-2" });
    let unknown = keys().generic.sign_as(&unknown, &claims);
    assert!(refusal(&identities, &unknown).contains("key id \"generic-2\""));
    let critical = json!({ "alg": "ES256", "kid": "generic-1", "crit": ["b64"], "b64": false });
    let critical = keys().generic.sign_as(&critical, &claims);
    assert!(refusal(&identities, &critical).contains("extension"));

    // Another claim under the same signature.
    let token = keys().generic.sign(&claims);
    let signature = token.rsplit('.').next().unwrap();
    let other = merged(claims, json!({ "sub": "root" }));
    let swapped = format!("{}.{signature}", unsigned(&header("ES256"), &other));
    assert!(refusal(&identities, &swapped).contains("does not verify"));

    // Without a key id every key may be the one.
    let token = keys()
        .generic
        .sign_as(&json!({ "alg": "ES256" }), &generic_claims());
    assert!(exchange(&identities, &exchange_json(GENERIC, &token), at(0)).is_ok());
}

#[test]
fn every_algorithm_that_is_taken_verifies() {
    for issuer in [Issuer::rsa("k"), Issuer::p256("k"), Issuer::p384("k")] {
        let mut config = config_json();
        config["providers"][0]["jwks"] = issuer.jwks();
        let identities = identities_of(config).unwrap();
        let good = issuer.sign(&generic_claims());
        assert!(exchange(&identities, &exchange_json(GENERIC, &good), at(0)).is_ok());
        assert!(!refusal(&identities, &keys().stranger.sign(&generic_claims())).is_empty());
    }
}

#[test]
fn a_key_files_assertion_becomes_an_access_token() {
    let identities = identities();
    let claims = json!({
        "iss": ACCOUNT, "sub": ACCOUNT, "aud": "https://oauth2.googleapis.com/token",
        "iat": NOW, "exp": NOW + 3600, "scope": CLOUD_PLATFORM,
    });
    let ask = |claims: &Value, grant: &str| {
        let assertion = keys().account.sign(claims);
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", grant)
            .append_pair("assertion", &assertion)
            .finish();
        let form = Some("application/x-www-form-urlencoded");
        let request = TokenRequest::parse(form, body.as_bytes()).unwrap();
        identities
            .assert(&request, at(0))
            .map(|answer| serde_json::to_value(answer).unwrap())
    };
    let bearer_grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let answer = ask(&claims, bearer_grant).unwrap();
    let caller = identities
        .authenticate(Some(&bearer(&answer)), at(0))
        .unwrap();
    assert!(caller.is(&format!("serviceAccount:{ACCOUNT}")));
    ask(
        &merged(claims.clone(), json!({ "sub": null })),
        bearer_grant,
    )
    .unwrap();
    let error = |claims: Value| ask(&claims, bearer_grant).unwrap_err().error;
    assert_eq!(
        error(merged(claims.clone(), json!({ "aud": "x" }))),
        "invalid_grant"
    );
    assert_eq!(
        error(merged(claims.clone(), json!({ "exp": NOW }))),
        "invalid_grant"
    );
    assert_eq!(
        error(merged(claims.clone(), json!({ "scope": null }))),
        "invalid_scope"
    );
    assert_eq!(
        ask(&claims, "password").unwrap_err().error,
        "unsupported_grant_type"
    );
}
