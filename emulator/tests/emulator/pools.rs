//! Pools, policies, locations, operations and neighbours over HTTP.

use certagent_emulator::EmulatorConfig;
use jiff::SignedDuration;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

const LOCATION: &str = "projects/p/locations/l";

async fn empty() -> Server {
    Server::with(EmulatorConfig::default()).await
}

async fn make_pool(server: &Server, id: &str, tier: &Value) -> Value {
    let path = format!("{LOCATION}/caPools?caPoolId={id}");
    server.ok("POST", &path, &json!({ "tier": tier })).await
}

#[tokio::test]
async fn a_pool_is_made_changed_and_deleted() {
    let server = empty().await;
    let body = json!({
        "tier": 2,
        "issuance_policy": {
            "maximum_lifetime": "86400s",
            "allowedKeyTypes": [
                { "rsa": { "minModulusSize": 2048, "maxModulusSize": "4096" } },
                { "ellipticCurve": { "signatureAlgorithm": 1 } },
            ],
            "passthroughExtensions": { "knownExtensions": [1, "EXTENDED_KEY_USAGE"] },
            "identityConstraints": {
                "allowSubjectPassthrough": false,
                "allowSubjectAltNamesPassthrough": true,
            },
        },
        "publishingOptions": { "publishCaCert": true, "encodingFormat": 2 },
        "labels": { "team_name": "shop" },
    });
    let made = server
        .ok("POST", &format!("{LOCATION}/caPools?caPoolId=n"), &body)
        .await;
    let name = format!("{LOCATION}/caPools/n");
    let mut expected = json!({
        "@type": "type.googleapis.com/google.cloud.security.privateca.v1.CaPool",
        "name": name,
        "tier": "DEVOPS",
        "issuancePolicy": {
            "maximumLifetime": "86400s",
            "allowedKeyTypes": [
                { "rsa": { "minModulusSize": "2048", "maxModulusSize": "4096" } },
                { "ellipticCurve": { "signatureAlgorithm": "ECDSA_P256" } },
            ],
            "passthroughExtensions": { "knownExtensions": ["BASE_KEY_USAGE", "EXTENDED_KEY_USAGE"] },
            "identityConstraints": { "allowSubjectAltNamesPassthrough": true },
        },
        "publishingOptions": { "publishCaCert": true, "encodingFormat": "DER" },
        "labels": { "team_name": "shop" },
    });
    assert_eq!(made, expected);

    let change = json!({
        "issuancePolicy": { "maximumLifetime": "60s" },
        "publishingOptions": { "publishCaCert": false },
        "labels": { "ignored": "by the mask" },
    });
    let mask = "updateMask=issuance_policy.maximum_lifetime,publishingOptions.publishCaCert";
    let changed = server.ok("PATCH", &format!("{name}?{mask}"), &change).await;
    expected["issuancePolicy"]["maximumLifetime"] = json!("60s");
    expected["publishingOptions"] = json!({ "encodingFormat": "DER" });
    assert_eq!(changed, expected);
    let deleted = server.ok("DELETE", &name, &Value::Null).await;
    assert_eq!(
        deleted,
        json!({ "@type": "type.googleapis.com/google.protobuf.Empty" })
    );
    let gone = server.refused("GET", &name, &Value::Null).await;
    assert!(gone.starts_with("NOT_FOUND: Resource"), "{gone}");
    server.stop().await;
}

#[tokio::test]
async fn a_pool_that_makes_no_sense_is_refused() {
    let server = empty().await;
    let path = format!("{LOCATION}/caPools?caPoolId=n");
    let policy = |policy: Value| json!({ "tier": "DEVOPS", "issuancePolicy": policy });
    for (body, problem) in [
        (json!({}), "tier is required"),
        (json!({ "tier": 0 }), "must be one of ENTERPRISE, DEVOPS"),
        (json!({ "tier": "GOLD" }), "none of"),
        (json!({ "tier": 3 }), "none of"),
        (
            json!({ "tier": "DEVOPS", "teir": 1 }),
            "Unknown name \"teir\"",
        ),
        (
            json!({ "tier": "DEVOPS", "labels": { "Big": "x" } }),
            "labels: \"Big\"",
        ),
        (
            json!({ "tier": "DEVOPS", "encryptionSpec": { "cloudKmsKey": "k" } }),
            "encryptionSpec is not supported by this emulator",
        ),
        (policy(json!({ "backdateDuration": "172801s" })), "48 hours"),
        (
            policy(json!({ "maximumLifetime": "0s" })),
            "must be positive",
        ),
        (
            policy(json!({ "identityConstraints": { "celExpression": { "expression": "true" } } })),
            "issuancePolicy.identityConstraints.celExpression is not supported by this emulator",
        ),
        (
            policy(json!({ "passthroughExtensions": { "additionalExtensions": [{}] } })),
            "passthroughExtensions.additionalExtensions is not supported by this emulator",
        ),
        (
            policy(
                json!({ "allowedKeyTypes": [{ "ellipticCurve": { "signatureAlgorithm": 3 } }] }),
            ),
            "EDDSA_25519 is not supported by this emulator",
        ),
        (json!([]), "Invalid JSON payload"),
    ] {
        let error = server.refused("POST", &path, &body).await;
        assert!(error.starts_with("INVALID_ARGUMENT: "), "{error}");
        assert!(error.contains(problem), "{problem}: {error}");
    }
    let body = json!({ "tier": "DEVOPS" });
    for (query, problem) in [
        ("", "ca_pool_id is required"),
        ("?caPoolId=a.b", "does not match"),
        ("?caPoolId=a&requestId=1", "not a UUID"),
        ("?poolId=a", "Unknown name \"poolId\""),
    ] {
        let path = format!("{LOCATION}/caPools{query}");
        let error = server.refused("POST", &path, &body).await;
        assert!(error.contains(problem), "{problem}: {error}");
    }
    make_pool(&server, "n", &json!("DEVOPS")).await;
    let twice = server.refused("POST", &path, &body).await;
    assert!(twice.starts_with("ALREADY_EXISTS: "), "{twice}");
    let name = format!("{LOCATION}/caPools/n");
    for (query, problem) in [
        ("", "update_mask is required"),
        ("?updateMask=tier", "\"tier\" cannot be changed"),
        ("?updateMask=issuancePolicy", "must be positive"),
    ] {
        let body = json!({ "issuancePolicy": { "maximumLifetime": "-1s" } });
        let error = server
            .refused("PATCH", &format!("{name}{query}"), &body)
            .await;
        assert!(error.contains(problem), "{problem}: {error}");
    }
    assert_eq!(server.get(&name).await["issuancePolicy"], json!({}));
    server.stop().await;
}

#[tokio::test]
async fn pools_and_locations_are_listed_page_by_page() {
    let server = empty().await;
    for id in ["c", "a", "b"] {
        make_pool(&server, id, &json!("ENTERPRISE")).await;
    }
    let elsewhere = "projects/p/locations/m/caPools?caPoolId=z";
    let body = json!({ "tier": "DEVOPS" });
    server.ok("POST", elsewhere, &body).await;
    let ids = |list: &Value| -> Vec<String> {
        let pools = list["caPools"].as_array().cloned().unwrap_or_default();
        let name = |pool: &Value| pool["name"].as_str().unwrap().to_owned();
        pools
            .iter()
            .map(|pool| name(pool).rsplit('/').next().unwrap().to_owned())
            .collect()
    };
    let first = server.get(&format!("{LOCATION}/caPools?pageSize=2")).await;
    assert_eq!(ids(&first), ["a", "b"]);
    let token = first["nextPageToken"].as_str().unwrap();
    let path = format!("{LOCATION}/caPools?pageSize=2&pageToken={token}");
    let second = server.get(&path).await;
    assert_eq!(ids(&second), ["c"]);
    assert_eq!(second.get("nextPageToken"), None);
    let all = server.get("projects/p/locations/-/caPools").await;
    assert_eq!(ids(&all), ["a", "b", "c", "z"]);
    let filtered = server
        .get("projects/p/locations/-/caPools?filter=tier:DEVOPS")
        .await;
    assert_eq!(ids(&filtered), ["z"]);
    assert_eq!(
        server.get("projects/q/locations/-/caPools").await,
        json!({})
    );

    let locations = server.get("projects/p/locations").await;
    let locations = locations["locations"].as_array().unwrap();
    for id in ["l", "m", "us-central1"] {
        let location = json!({ "name": format!("projects/p/locations/{id}"), "locationId": id });
        assert!(locations.contains(&location), "{id}");
        assert_eq!(
            server.get(&format!("projects/p/locations/{id}")).await,
            location
        );
    }
    server
        .refused("GET", "projects/q/locations/m", &Value::Null)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_starts_one_operation_within_an_hour() {
    let server = empty().await;
    let path = |id: &str| format!("{LOCATION}/caPools?caPoolId={id}&requestId={}", uuid(1));
    let body = json!({ "tier": "DEVOPS" });
    let (status, first) = server.call("POST", &path("n"), &body).await;
    assert_eq!(status, 200);
    let metadata = &first["metadata"];
    assert_eq!(metadata["target"], format!("{LOCATION}/caPools/n"));
    assert_eq!(metadata["verb"], "create");
    assert_eq!(metadata["apiVersion"], "v1");
    assert_eq!(metadata.get("endTime"), None);
    let (_, again) = server.call("POST", &path("n"), &body).await;
    assert_eq!(again, first);

    let operation = first["name"].as_str().unwrap();
    let (_, done) = server.call("GET", operation, &Value::Null).await;
    assert_eq!(done["done"], true);
    assert_eq!(done["metadata"]["endTime"], metadata["createTime"]);
    let listed = server.get(&format!("{LOCATION}/operations")).await;
    assert_eq!(listed, json!({ "operations": [done] }));
    let cancel = format!("{operation}:cancel");
    assert_eq!(server.ok("POST", &cancel, &json!({})).await, json!({}));
    assert_eq!(
        server.ok("DELETE", operation, &Value::Null).await,
        json!({})
    );
    server.refused("GET", operation, &Value::Null).await;

    server.clock.step(SignedDuration::from_secs(3601));
    let late = server.refused("POST", &path("n"), &body).await;
    assert!(late.starts_with("ALREADY_EXISTS"), "{late}");
    server.stop().await;
}

#[tokio::test]
async fn policies_are_kept_per_pool_and_per_project() {
    let server = Server::start().await;
    let binding = json!({
        "role": "roles/privateca.certificateRequester",
        "members": ["user:a@example.com"],
    });
    for (get, body, set, test) in [
        (
            format!("{ISSUING}:getIamPolicy?options.requestedPolicyVersion=3"),
            Value::Null,
            format!("{ISSUING}:setIamPolicy"),
            format!("{ISSUING}:testIamPermissions"),
        ),
        (
            "projects/p:getIamPolicy".to_owned(),
            json!({ "options": { "requestedPolicyVersion": 3 } }),
            "projects/p:setIamPolicy".to_owned(),
            "projects/p:testIamPermissions".to_owned(),
        ),
    ] {
        let verb = if body.is_null() { "GET" } else { "POST" };
        let empty = server.ok(verb, &get, &body).await;
        assert_eq!(empty, json!({ "etag": "ACAB" }));
        let policy = json!({ "bindings": [binding], "etag": "ACAB", "version": 3 });
        let policy = json!({ "policy": policy });
        let kept = server.ok("POST", &set, &policy).await;
        assert_eq!(kept["bindings"], json!([binding]));
        assert_eq!(server.ok(verb, &get, &body).await, kept);
        let stale = server.refused("POST", &set, &policy).await;
        assert!(stale.starts_with("ABORTED: "), "{stale}");
        let asked = json!({ "permissions": ["privateca.certificates.create"] });
        assert_eq!(server.ok("POST", &test, &asked).await, asked);
    }
    let none = format!("{LOCATION}/caPools/none");
    for (verb, action) in [
        ("GET", "getIamPolicy"),
        ("POST", "setIamPolicy"),
        ("POST", "testIamPermissions"),
    ] {
        let body = if verb == "GET" {
            Value::Null
        } else {
            json!({ "policy": {} })
        };
        let body = if action.starts_with("test") {
            json!({})
        } else {
            body
        };
        let error = server
            .refused(verb, &format!("{none}:{action}"), &body)
            .await;
        assert!(error.starts_with("NOT_FOUND"), "{error}");
    }
    server.stop().await;
}

#[tokio::test]
async fn other_verbs_and_the_neighbours_get_an_answer() {
    let server = Server::start().await;
    let url = |path: &str| format!("http://{}/{path}", server.address);
    let client = http1();
    for verb in ["OPTIONS", "PUT", "TRACE"] {
        let request = client.request(verb.parse().unwrap(), server.url(ISSUING));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let json: Value = answer.json().await.unwrap();
        assert_eq!(json["error"]["status"], "NOT_FOUND");
    }
    let head = client.head(server.url(ISSUING)).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::NOT_FOUND);

    let identity = "v1beta1/projects/p/services/127.0.0.1:generateServiceIdentity";
    let answer = client.post(url(identity)).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["done"], true);
    assert_eq!(
        answer["response"]["email"],
        "service-p@gcp-sa-privateca.iam.gserviceaccount.com"
    );
    let v3 = "v3/projects/p:testIamPermissions";
    let asked = json!({ "permissions": ["x.y.z"] });
    let answer = client.post(url(v3)).json(&asked).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), asked);
    server.stop().await;
}
