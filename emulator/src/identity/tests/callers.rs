use serde_json::{Value, json};

use super::issuer::{Issuer, merged};
use super::*;

#[test]
fn an_access_token_ends_with_its_time() {
    let config = merged(config_json(), json!({ "tokenLifetimeSeconds": 30 }));
    let identities = identities_of(config).unwrap();
    let token = keys().generic.sign(&generic_claims());
    let answer = exchange(&identities, &exchange_json(GENERIC, &token), at(0)).unwrap();
    assert_eq!(answer["expires_in"], 30);
    let header = bearer(&answer);
    assert!(identities.authenticate(Some(&header), at(29)).is_ok());
    let error = identities.authenticate(Some(&header), at(30)).unwrap_err();
    assert_eq!(error.code, crate::Code::Unauthenticated);
    assert_eq!(error.details[0]["reason"], "ACCESS_TOKEN_EXPIRED");
}

#[test]
fn calls_without_a_good_token_are_unauthenticated() {
    let identities = identities();
    for (header, reason) in [
        (None, "CREDENTIALS_MISSING"),
        (Some("Bearer "), "CREDENTIALS_MISSING"),
        (Some("Basic YTpi"), "CREDENTIALS_MISSING"),
        (Some("a-made-up-admin-token"), "CREDENTIALS_MISSING"),
        (Some("Bearer fake-token"), "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        (Some("Bearer eyJ.e.e"), "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
    ] {
        let error = identities.authenticate(header, at(0)).unwrap_err();
        assert_eq!(error.code, crate::Code::Unauthenticated);
        assert_eq!(error.details[0]["reason"], reason, "{header:?}");
        assert!(!error.body().to_string().contains("fake-token"));
    }
    let caller = identities
        .authenticate(Some("bearer a-made-up-admin-token"), at(0))
        .unwrap();
    assert!(caller.is("user:ADMIN@example.com") && caller.is_administrator());
    let error = caller.reflected_id().unwrap_err();
    assert!(
        error
            .message
            .contains("user:admin@example.com has no SPIFFE identity"),
        "{error}"
    );
}

#[test]
fn without_a_principal_everybody_is_an_administrator() {
    let open = identities_of(json!({})).unwrap();
    for header in [None, Some("Bearer fake-token"), Some("nonsense")] {
        let caller = open.authenticate(header, at(0)).unwrap();
        assert!(caller.is_administrator());
        assert!(
            caller
                .reflected_id()
                .unwrap_err()
                .message
                .contains("--identities")
        );
    }
}

#[test]
fn a_service_accounts_own_jwt_is_taken_as_a_token() {
    let identities = identities();
    let claims = json!({
        "iss": ACCOUNT, "sub": ACCOUNT, "iat": NOW, "exp": NOW + 3600, "scope": CLOUD_PLATFORM,
    });
    let call = |claims: &Value| {
        let header = format!("Bearer {}", keys().account.sign(claims));
        identities.authenticate(Some(&header), at(1))
    };
    let caller = call(&claims).unwrap();
    assert!(caller.is(&format!("serviceAccount:{ACCOUNT}")) && caller.is("allAuthenticatedUsers"));
    let audience = |aud: &str| merged(claims.clone(), json!({ "scope": null, "aud": aud }));
    call(&audience("https://privateca.googleapis.com/")).unwrap();
    for (claims, text) in [
        (
            audience("https://storage.googleapis.com/"),
            "audience is not",
        ),
        (
            merged(claims.clone(), json!({ "scope": "x" })),
            "scope of the JWT",
        ),
        (
            merged(claims.clone(), json!({ "sub": "other" })),
            "subject is not its issuer",
        ),
        (
            merged(claims.clone(), json!({ "iss": "x@y", "sub": "x@y" })),
            "no configured service",
        ),
        (
            merged(claims.clone(), json!({ "exp": NOW + 1 })),
            "short-lived",
        ),
        (
            merged(claims.clone(), json!({ "exp": NOW + 3661 })),
            "short-lived",
        ),
        (
            merged(claims.clone(), json!({ "iat": NOW + 62 })),
            "short-lived",
        ),
    ] {
        let error = call(&claims).unwrap_err();
        assert_eq!(error.code, crate::Code::Unauthenticated);
        let detail = error.details[1]["detail"].as_str().unwrap();
        assert!(detail.contains(text), "{detail}");
    }
    let storage = "https://www.googleapis.com/auth/devstorage.read_only";
    let error = call(&merged(claims.clone(), json!({ "scope": storage }))).unwrap_err();
    assert_eq!(
        error.details[0]["reason"],
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    );
    assert_eq!(error.code.http(), 403);
    let forged = format!("Bearer {}", Issuer::rsa("account-1").sign(&claims));
    assert!(identities.authenticate(Some(&forged), at(1)).is_err());
    // An account without a key has no JWTs.
    let middle = "middle@my-project.iam.gserviceaccount.com";
    let error = call(&merged(claims, json!({ "iss": middle, "sub": middle }))).unwrap_err();
    assert!(
        error.details[1]["detail"]
            .as_str()
            .unwrap()
            .contains("without a key")
    );
}

#[test]
fn impersonation_needs_the_permission_at_every_step() {
    let identities = identities();
    let tokens = |subject: &str| {
        let token = keys()
            .generic
            .sign(&merged(generic_claims(), json!({ "sub": subject })));
        bearer(&exchange(&identities, &exchange_json(GENERIC, &token), at(0)).unwrap())
    };
    let ask = |header: Option<&str>, email: &str, body: Value| {
        identities
            .generate_access_token(email, header, body.to_string().as_bytes(), at(0))
            .map(|answer| serde_json::to_value(answer).unwrap())
    };
    let body = || json!({ "scope": [CLOUD_PLATFORM], "lifetime": "60s" });
    let tree = tokens("tree");
    // A fraction of a second is cut off, for clients that take whole ones only.
    let fraction = json!({ "scope": [CLOUD_PLATFORM], "lifetime": "1.5s", "delegates": null });
    let answer = ask(Some(&tree), ACCOUNT, fraction).unwrap();
    assert_eq!(answer["expireTime"], "2027-01-15T08:00:01Z");
    let answer = ask(Some(&tree), ACCOUNT, body()).unwrap();
    assert_eq!(answer["expireTime"], "2027-01-15T08:01:00Z");
    let header = format!("Bearer {}", answer["accessToken"].as_str().unwrap());
    let caller = identities.authenticate(Some(&header), at(59)).unwrap();
    assert!(caller.is(&format!("serviceAccount:{ACCOUNT}")));
    assert!(identities.authenticate(Some(&header), at(60)).is_err());

    let bush = tokens("bush");
    for email in [ACCOUNT, "nobody@my-project.iam.gserviceaccount.com"] {
        let error = ask(Some(&bush), email, body()).unwrap_err();
        assert_eq!(error.code, crate::Code::PermissionDenied);
        assert_eq!(
            error.details[0]["metadata"]["permission"],
            "iam.serviceAccounts.getAccessToken"
        );
    }
    let middle = "projects/-/serviceAccounts/middle@my-project.iam.gserviceaccount.com";
    let through = merged(body(), json!({ "delegates": [middle] }));
    ask(Some(&bush), ACCOUNT, through).unwrap();
    // A workload of another pool gets to neither of the two.
    let token = keys().cluster.sign(&cluster_claims());
    let cart = exchange(&identities, &exchange_json(GKE, &token), at(0)).unwrap();
    let through = merged(body(), json!({ "delegates": [middle] }));
    assert!(ask(Some(&bearer(&cart)), ACCOUNT, through).is_err());
    let other_way = merged(body(), json!({ "delegates": [ACCOUNT] }));
    assert!(
        ask(
            Some(&tree),
            "middle@my-project.iam.gserviceaccount.com",
            other_way
        )
        .is_err()
    );
    ask(Some("Bearer a-made-up-admin-token"), ACCOUNT, body()).unwrap();

    assert_eq!(ask(None, ACCOUNT, body()).unwrap_err().code.http(), 401);
    for wrong in [
        json!({ "scope": [] }),
        json!({ "scope": ["cloud-platform"] }),
        json!({ "scope": [CLOUD_PLATFORM], "lifetime": "3601s" }),
        json!({ "scope": [CLOUD_PLATFORM], "lifetime": "0s" }),
        json!({ "scope": [CLOUD_PLATFORM], "lifetim": "60s" }),
        merged(body(), json!({ "delegates": vec![middle; 17] })),
    ] {
        assert_eq!(
            ask(Some(&tree), ACCOUNT, wrong).unwrap_err().code.http(),
            400
        );
    }
}

#[test]
fn a_token_can_be_minted_for_a_member() {
    let identities = identities();
    let pool = "principal://iam.googleapis.com/projects/77/locations/global/workloadIdentityPools/my-project.svc.id.goog";
    for member in [
        "user:somebody@example.com",
        "serviceAccount:other@example.com",
        &format!("{pool}/subject/ns/shop/sa/cart"),
    ] {
        let issued = identities.mint(member, at(0)).unwrap();
        let header = format!("Bearer {}", issued.token);
        let caller = identities.authenticate(Some(&header), at(0)).unwrap();
        assert!(caller.is(member));
        let reflected = caller.reflected_id().ok();
        let expected = "spiffe://my-project.svc.id.goog/ns/shop/sa/cart";
        assert_eq!(reflected, member.starts_with(pool).then_some(expected));
    }
    for member in [
        "",
        "user:",
        "allUsers",
        "group:a@b",
        "principal://iam.googleapis.com/x",
    ] {
        assert!(identities.mint(member, at(0)).is_err(), "{member}");
    }
    // The name of a Kubernetes account is no mail address.
    assert!(
        identities
            .mint("serviceAccount:my-project.svc.id.goog[shop/cart]", at(0))
            .is_err()
    );
}
