//! What callers may do: roles in the policies of pools and projects, over HTTP.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::identities::{ADMIN, call, closed};
use crate::support::*;

/// Replaces the policy of `resource` as an administrator.
async fn set_policy(server: &Server, resource: &str, bindings: Value) -> (StatusCode, Value) {
    let request = http1()
        .post(server.url(&format!("{resource}:setIamPolicy")))
        .json(&json!({ "policy": { "version": 3, "bindings": bindings } }));
    call(request, ADMIN).await
}

#[tokio::test]
async fn the_policy_of_a_pool_decides_who_may_make_which_call() {
    let server = Server::with(closed()).await;
    let member = "user:somebody@example.com";
    let token = server.emulator.mint_access_token(member).unwrap();
    let ids = [
        "privateca.certificates.create",
        "privateca.certificates.createForSelf",
        "privateca.certificates.get",
        "privateca.caPools.get",
        "privateca.caPools.setIamPolicy",
    ];
    let mut n = 0;
    // For each role: the calls that it is for, in the order below, and its part of the permissions.
    for (role, expected, has) in [
        ("certificateRequester", "create", &[0][..]),
        ("workloadCertificateRequester", "", &[1]),
        ("poolReader", "pool roots", &[3]),
        ("auditor", "get list pool roots CAs policy", &[2, 3]),
        (
            "certificateManager",
            "create get list pool roots CAs policy",
            &[0, 2, 3],
        ),
        ("caManager", "get list pool roots CAs policy", &[2, 3]),
        ("templateUser", "", &[]),
        (
            "admin",
            "create get list pool roots CAs policy",
            &[0, 1, 2, 3, 4],
        ),
    ] {
        let role = format!("roles/privateca.{role}");
        let bindings = json!([{ "role": role, "members": [member] }]);
        let (status, answer) = set_policy(&server, ROOT, bindings).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        n += 1;
        let certificate = format!("c{n}");
        let create = server.url(&format!("{ROOT}/certificates?certificateId={certificate}"));
        let kept = if expected.contains("create") {
            &certificate
        } else {
            "none"
        };
        let get = |path: &str| http1().get(server.url(&format!("{ROOT}{path}")));
        let fetch = http1().post(server.url(&format!("{ROOT}:fetchCaCerts")));
        let mut allowed = Vec::new();
        for (name, request) in [
            ("create", http1().post(create).json(&body())),
            ("get", get(&format!("/certificates/{kept}"))),
            ("list", get("/certificates")),
            ("pool", get("")),
            ("roots", fetch.json(&json!({}))),
            ("CAs", get("/certificateAuthorities")),
            ("policy", get(":getIamPolicy")),
        ] {
            let (status, answer) = call(request, &token).await;
            match status {
                StatusCode::FORBIDDEN => {
                    let denied = &answer["error"]["details"][0]["metadata"]["resource"];
                    assert!(denied.as_str().unwrap().starts_with(ROOT), "{answer}");
                }
                // Past the check, and then there may be no such certificate.
                StatusCode::OK | StatusCode::NOT_FOUND => allowed.push(name),
                _ => panic!("{role} {name}: {answer}"),
            }
        }
        assert_eq!(allowed.join(" "), expected, "{role}");

        let test = http1().post(server.url(&format!("{ROOT}:testIamPermissions")));
        let (_, answer) = call(test.json(&json!({ "permissions": ids })), &token).await;
        let granted: Vec<&str> = has.iter().map(|index: &usize| ids[*index]).collect();
        assert_eq!(answer, json!({ "permissions": granted }), "{role}");

        let (status, _) = call(http1().get(server.url(ISSUING)), &token).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "another pool");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_policy_of_a_project_holds_for_its_pools_and_its_locations() {
    let server = Server::with(closed()).await;
    let token = server
        .emulator
        .mint_access_token("user:somebody@example.com")
        .unwrap();
    let pools = "projects/p/locations/l/caPools";
    let statuses = async || {
        let create = http1().post(server.url(&format!("{pools}?caPoolId=new")));
        let mut statuses = Vec::new();
        for request in [
            http1().get(server.url(ISSUING)),
            http1().get(server.url(pools)),
            http1().get(server.url("projects/p/locations")),
            http1().get(server.url(&format!("{pools}/-/certificateAuthorities"))),
            create.json(&json!({ "tier": "DEVOPS" })),
            http1()
                .post(server.url("projects/p:getIamPolicy"))
                .json(&json!({})),
        ] {
            statuses.push(call(request, &token).await.0.as_u16());
        }
        statuses
    };
    assert_eq!(statuses().await, [403; 6]);
    let manager = json!([{
        "role": "roles/privateca.caManager", "members": ["allAuthenticatedUsers"],
    }]);
    assert_eq!(
        set_policy(&server, "projects/p", manager).await.0,
        StatusCode::OK
    );
    assert_eq!(statuses().await, [200, 200, 200, 200, 200, 403]);
    let (_, answer) = call(http1().get(server.url("projects/other/locations")), &token).await;
    let expected =
        json!({ "permission": "privateca.locations.list", "resource": "projects/other" });
    assert_eq!(answer["error"]["details"][0]["metadata"], expected);
    let test = http1().post(server.url("projects/p:testIamPermissions"));
    let asked = json!({ "permissions": [
        "privateca.certificateAuthorities.create", "privateca.certificates.create",
    ] });
    let (_, answer) = call(test.json(&asked), &token).await;
    let expected = json!({ "permissions": ["privateca.certificateAuthorities.create"] });
    assert_eq!(answer, expected);
    server.stop().await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_decided_by_is_not_stored() {
    let server = Server::with(closed()).await;
    let reader = "roles/privateca.poolReader";
    for (binding, word) in [
        (
            json!({ "role": "roles/privateca.reader", "members": [] }),
            "not supported",
        ),
        (
            json!({ "role": reader, "members": ["somebody"] }),
            "type prefix",
        ),
        (
            json!({ "role": reader, "members": ["allUsers"], "condition": { "expression": "1" } }),
            "condition",
        ),
    ] {
        let (status, answer) = set_policy(&server, ISSUING, json!([binding])).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(word),
            "{answer}"
        );
    }
    let policy = http1().get(server.url(&format!("{ISSUING}:getIamPolicy")));
    assert!(call(policy, ADMIN).await.1["bindings"].is_null());
    server.stop().await;
}
