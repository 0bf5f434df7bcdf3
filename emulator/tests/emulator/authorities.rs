//! CAs over HTTP: their states, and what does not fit together.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::*;
use crate::world::*;

#[tokio::test]
async fn a_root_is_staged_then_enabled() {
    let server = two_pools().await;
    let made = make(&server, "roots", "r", &ca_body("SELF_SIGNED", 1)).await;
    assert_eq!(made["state"], "STAGED");
    assert_eq!(made["type"], "SELF_SIGNED");
    assert_eq!(made["tier"], "ENTERPRISE");
    assert_eq!(made["keySpec"], json!({ "algorithm": "EC_P256_SHA256" }));
    assert_eq!(made["pemCaCertificates"].as_array().unwrap().len(), 1);
    let description = &made["caCertificateDescriptions"][0];
    assert_eq!(
        description["subjectDescription"]["subject"],
        json!({ "commonName": "SELF_SIGNED", "organization": "Example" })
    );
    assert_eq!(description["subjectDescription"]["lifetime"], "315360000s");
    assert_eq!(
        description["x509Description"],
        ca_body("SELF_SIGNED", 1)["config"]["x509Config"]
    );
    assert!(made["accessUrls"]["caCertificateAccessUrl"].is_string());

    let roots = format!("{POOLS}/roots");
    let create = format!("{roots}/certificates?certificateId=c");
    let none = server.refused("POST", &create, &body()).await;
    assert!(
        none.contains("no certificate authority in state ENABLED"),
        "{none}"
    );
    let named = format!("{create}&issuingCertificateAuthorityId=r");
    let issued = server.ok("POST", &named, &body()).await;
    assert_eq!(issued["issuerCertificateAuthority"], ca("roots", "r"));
    let trusted = server
        .ok("POST", &format!("{roots}:fetchCaCerts"), &json!({}))
        .await;
    assert_eq!(
        trusted["caCerts"][0]["certificates"],
        made["pemCaCertificates"]
    );
    enable(&server, "roots", "r").await;
    server.stop().await;
}

#[tokio::test]
async fn a_ca_goes_through_its_states_and_no_others() {
    let server = two_pools().await;
    root(&server, "r").await;
    let name = ca("roots", "r");
    let act = async |action: &str| {
        let path = format!("{name}:{action}");
        let (status, answer) = server.call("POST", &path, &json!({})).await;
        (status == 200).then_some(answer).ok_or(())
    };
    let delete = format!("{name}?ignoreActiveCertificates=True");
    assert!(act("enable").await.is_err(), "enabled already");
    let enabled = server.refused("DELETE", &delete, &Value::Null).await;
    assert!(enabled.starts_with("FAILED_PRECONDITION"), "{enabled}");
    assert!(enabled.contains("disabled first"), "{enabled}");
    let pool = server
        .refused("DELETE", &format!("{POOLS}/roots"), &Value::Null)
        .await;
    assert!(pool.contains("ignore_dependent_resources"), "{pool}");

    let create = format!("{POOLS}/roots/certificates?certificateId=c");
    server.ok("POST", &create, &body()).await;
    act("disable").await.unwrap();
    assert!(act("disable").await.is_err());
    let active = server.refused("DELETE", &name, &Value::Null).await;
    assert!(active.contains("has active certificates"), "{active}");
    let deleted = server.ok("DELETE", &delete, &Value::Null).await;
    assert_eq!(deleted["state"], "DELETED");
    assert_eq!(deleted["deleteTime"], "2027-01-15T08:00:00Z");
    assert_eq!(deleted["expireTime"], "2027-02-14T08:00:00Z");
    assert!(act("enable").await.is_err());
    let fetch = format!("{POOLS}/roots:fetchCaCerts");
    assert_eq!(
        server.ok("POST", &fetch, &json!({})).await,
        json!({ "caCerts": [] })
    );
    act("undelete").await.unwrap();
    assert!(act("undelete").await.is_err());
    let back = server.get(&name).await;
    assert_eq!(back["state"], "DISABLED");
    assert_eq!(back.get("expireTime"), None);
    act("enable").await.unwrap();

    act("disable").await.unwrap();
    server.ok("DELETE", &delete, &Value::Null).await;
    server.clock.step(SignedDuration::from_hours(30 * 24));
    server.refused("GET", &name, &Value::Null).await;
    assert!(act("undelete").await.is_err(), "the grace period is over");
    make(&server, "roots", "r", &ca_body("SELF_SIGNED", 0)).await;
    let gone = format!("{name}?skipGracePeriod=true");
    server.ok("DELETE", &gone, &Value::Null).await;
    server.refused("GET", &name, &Value::Null).await;
    server
        .ok("DELETE", &format!("{POOLS}/roots"), &Value::Null)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn a_ca_that_makes_no_sense_is_refused() {
    type Edit = fn(&mut Value);
    let rows: [(Edit, &str); 18] = [
        (|b| b["type"] = Value::Null, "type is required"),
        (|b| b["type"] = json!(0), "SELF_SIGNED, SUBORDINATE"),
        (|b| b["type"] = json!("ROOT"), "none of"),
        (|b| b["lifetime"] = Value::Null, "lifetime is required"),
        (|b| b["lifetime"] = json!("0s"), "lifetime must be positive"),
        (|b| b["lifetime"] = json!("315576000000s"), "too long"),
        (|b| b["keySpec"] = Value::Null, "key_spec is required"),
        (
            |b| b["keySpec"]["algorithm"] = json!(1),
            "RSA_PSS is not supported",
        ),
        (
            |b| b["keySpec"] = json!({ "cloudKmsKeyVersion": "k" }),
            "keySpec.cloudKmsKeyVersion is not supported by this emulator",
        ),
        (|b| b["config"] = Value::Null, "config is required"),
        (
            |b| b["config"]["subjectConfig"] = json!({}),
            "must not be empty",
        ),
        (
            |b| b["config"]["x509Config"]["caOptions"]["isCa"] = json!(false),
            "only with is_ca",
        ),
        (
            |b| b["config"]["x509Config"]["caOptions"] = json!({ "isCa": false }),
            "is_ca must be true",
        ),
        (
            |b| b["config"]["x509Config"]["caOptions"]["maxIssuerPathLength"] = json!(-1),
            "not between 0 and 255",
        ),
        (
            |b| b["config"]["x509Config"]["keyUsage"]["baseKeyUsage"] = json!({ "crlSign": true }),
            "cert_sign must be set",
        ),
        (
            |b| b["config"]["publicKey"] = json!({ "key": "", "format": "PEM" }),
            "made by the service",
        ),
        (
            |b| b["subordinateConfig"] = json!({ "certificateAuthority": "x" }),
            "for CAs of type SUBORDINATE",
        ),
        (|b| b["keyspec"] = json!(1), "Unknown name \"keyspec\""),
    ];
    let server = two_pools().await;
    let path = format!("{POOLS}/roots/certificateAuthorities?certificateAuthorityId=r");
    for (edit, problem) in rows {
        let mut body = ca_body("SELF_SIGNED", 1);
        edit(&mut body);
        let error = server.refused("POST", &path, &body).await;
        assert!(error.starts_with("INVALID_ARGUMENT"), "{error}");
        assert!(error.contains(problem), "{problem}: {error}");
    }
    let body = ca_body("SELF_SIGNED", 1);
    make(&server, "roots", "r", &body).await;
    for (path, problem) in [
        (path.as_str(), "ALREADY_EXISTS"),
        (&path.replace("=r", "=a.b"), "does not match"),
        (
            &path.replace("=r", "="),
            "certificate_authority_id is required",
        ),
        (&path.replace("/roots/", "/none/"), "NOT_FOUND"),
    ] {
        let error = server.refused("POST", path, &body).await;
        assert!(error.contains(problem), "{problem}: {error}");
    }
    server.stop().await;
}

#[tokio::test]
async fn cas_come_by_numbers_too_and_are_listed_and_relabelled() {
    let server = two_pools().await;
    let mut body = ca_body("SUBORDINATE", 0);
    body["type"] = json!(2);
    body["key_spec"] = json!({ "algorithm": 5 });
    body.as_object_mut().unwrap().remove("keySpec");
    body["state"] = json!("ENABLED");
    let made = make(&server, "subs", "s", &body).await;
    assert_eq!(made["keySpec"]["algorithm"], "EC_P384_SHA384");
    assert_eq!(
        made["state"], "AWAITING_USER_ACTIVATION",
        "nobody asks for a state"
    );
    for id in ["r1", "r2"] {
        make(&server, "roots", id, &ca_body("SELF_SIGNED", 1)).await;
    }
    let ids = async |query: &str| -> Vec<String> {
        let list = server.get(&format!("{POOLS}/{query}")).await;
        let list = list["certificateAuthorities"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let id = |ca: &Value| {
            ca["name"]
                .as_str()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned()
        };
        list.iter().map(id).collect()
    };
    let all = "-/certificateAuthorities";
    assert_eq!(ids(all).await, ["r1", "r2", "s"]);
    assert_eq!(ids("roots/certificateAuthorities?pageSize=1").await, ["r1"]);
    for (filter, expected) in [
        ("type:SELF_SIGNED", vec!["r1", "r2"]),
        ("type%3A%22SELF_SIGNED%22", vec!["r1", "r2"]),
        ("type=SUBORDINATE", vec!["s"]),
        ("type:SELF_SIGNED%20AND%20state:ENABLED", vec![]),
    ] {
        let found = ids(&format!("{all}?filter={filter}&pageSize=100")).await;
        assert_eq!(found, expected, "{filter}");
    }
    server
        .refused(
            "GET",
            &format!("{POOLS}/none/certificateAuthorities"),
            &Value::Null,
        )
        .await;

    // As clients do it: read, change, send back whole.
    let name = ca("roots", "r1");
    let mut whole = server.get(&name).await;
    whole["labels"] = json!({ "team": "shop" });
    let changed = server
        .ok("PATCH", &format!("{name}?updateMask=labels"), &whole)
        .await;
    assert_eq!(changed["labels"], whole["labels"]);
    let other = format!("{name}?updateMask=lifetime");
    let error = server.refused("PATCH", &other, &whole).await;
    assert!(error.contains("\"lifetime\" cannot be changed"), "{error}");
    server.stop().await;
}
