//! CAs over HTTP: their states, who signs, and what does not fit together.

use certagent_emulator::{CertificateJson, EmulatorConfig};
use jiff::SignedDuration;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::*;

const POOLS: &str = "projects/p/locations/l/caPools";

/// An emulator with the empty pools `roots` (ENTERPRISE) and `subs` (DEVOPS).
async fn two_pools() -> Server {
    let server = Server::with(EmulatorConfig::default()).await;
    fill(&server).await;
    server
}

async fn fill(server: &Server) {
    for (id, tier) in [("roots", "ENTERPRISE"), ("subs", "DEVOPS")] {
        let path = format!("{POOLS}?caPoolId={id}");
        let options = json!({ "publishCaCert": true });
        let body = json!({ "tier": tier, "publishingOptions": options });
        server.ok("POST", &path, &body).await;
    }
}

fn ca_body(kind: &str, path_length: i32) -> Value {
    json!({
        "type": kind,
        "keySpec": { "algorithm": "EC_P256_SHA256" },
        "lifetime": "315360000s",
        "config": {
            "subjectConfig": { "subject": { "commonName": kind, "organization": "Example" } },
            "x509Config": {
                "caOptions": { "isCa": true, "maxIssuerPathLength": path_length },
                "keyUsage": { "baseKeyUsage": { "certSign": true, "crlSign": true } },
            },
        },
    })
}

fn ca(pool: &str, id: &str) -> String {
    format!("{POOLS}/{pool}/certificateAuthorities/{id}")
}

async fn make(server: &Server, pool: &str, id: &str, body: &Value) -> Value {
    let path = format!("{POOLS}/{pool}/certificateAuthorities?certificateAuthorityId={id}");
    server.ok("POST", &path, body).await
}

async fn root(server: &Server, id: &str) {
    make(server, "roots", id, &ca_body("SELF_SIGNED", 1)).await;
    enable(server, "roots", id).await;
}

async fn enable(server: &Server, pool: &str, id: &str) {
    let path = format!("{}:enable", ca(pool, id));
    assert_eq!(
        server.ok("POST", &path, &json!({})).await["state"],
        "ENABLED"
    );
}

/// Has the pool `roots` sign the CSR of a subordinate; the answer and the activation's body.
async fn signed(server: &Server, id: &str) -> (Value, Value) {
    let csr = server.get(&format!("{}:fetch", ca("subs", id))).await;
    let path = format!("{POOLS}/roots/certificates?certificateId=for-{id}");
    let body = json!({ "lifetime": "94670778s", "pemCsr": csr["pemCsr"] });
    let issued = server.ok("POST", &path, &body).await;
    let activation = json!({
        "pemCaCertificate": issued["pemCertificate"],
        "subordinateConfig": {
            "pemIssuerChain": { "pemCertificates": issued["pemCertificateChain"] },
        },
    });
    (issued, activation)
}

async fn activate(server: &Server, id: &str, body: &Value) -> Value {
    let path = format!("{}:activate", ca("subs", id));
    server.ok("POST", &path, body).await
}

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
async fn a_subordinate_is_signed_activated_and_signs() {
    let server = two_pools().await;
    root(&server, "r").await;
    let made = make(&server, "subs", "s", &ca_body("SUBORDINATE", 0)).await;
    assert_eq!(made["state"], "AWAITING_USER_ACTIVATION");
    assert_eq!(made.get("pemCaCertificates"), None);
    let subs = format!("{POOLS}/subs");
    let fetch = format!("{subs}:fetchCaCerts");
    assert_eq!(
        server.ok("POST", &fetch, &json!({})).await,
        json!({ "caCerts": [] })
    );

    let (issued, activation) = signed(&server, "s").await;
    let options = &issued["certificateDescription"]["x509Description"]["caOptions"];
    assert_eq!(*options, json!({ "isCa": true, "maxIssuerPathLength": 0 }));
    let active = activate(&server, "s", &activation).await;
    assert_eq!(active["state"], "STAGED");
    assert_eq!(active["pemCaCertificates"][0], issued["pemCertificate"]);
    assert_eq!(
        active["pemCaCertificates"][1],
        issued["pemCertificateChain"][0]
    );
    enable(&server, "subs", "s").await;

    let leaf = server
        .ok("POST", &format!("{subs}/certificates"), &body())
        .await;
    let leaf: CertificateJson = serde_json::from_value(leaf).unwrap();
    assert_eq!(leaf.issuer_certificate_authority, ca("subs", "s"));
    verify_in(&server.emulator, &subs, &leaf, server.clock.now()).unwrap();

    let fetch = format!("{}:fetch", ca("subs", "s"));
    let csr = server.refused("GET", &fetch, &Value::Null).await;
    assert!(csr.contains("must be AWAITING_USER_ACTIVATION"), "{csr}");
    let again = format!("{}:activate", ca("subs", "s"));
    let again = server.refused("POST", &again, &activation).await;
    assert!(again.starts_with("FAILED_PRECONDITION"), "{again}");

    // The issuer may also be named.
    make(&server, "subs", "t", &ca_body("SUBORDINATE", 0)).await;
    let (issued, _) = signed(&server, "t").await;
    let named = json!({
        "pemCaCertificate": issued["pemCertificate"],
        "subordinateConfig": { "certificateAuthority": ca("roots", "r") },
    });
    let active = activate(&server, "t", &named).await;
    assert_eq!(active["subordinateConfig"], named["subordinateConfig"]);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_the_subordinates_does_not_activate_it() {
    let server = two_pools().await;
    root(&server, "r").await;
    for id in ["s", "t"] {
        make(&server, "subs", id, &ca_body("SUBORDINATE", 0)).await;
    }
    let (_, good) = signed(&server, "s").await;
    let (_, others) = signed(&server, "t").await;
    let leaf = {
        let path = format!("{POOLS}/roots/certificates?certificateId=leaf");
        let mut leaf = body();
        leaf["config"]["subjectConfig"]["subject"] = json!({ "commonName": "leaf" });
        server.ok("POST", &path, &leaf).await["pemCertificate"].clone()
    };
    let chain = |pems: Value| json!({ "pemIssuerChain": { "pemCertificates": pems } });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let stranger = {
        // A CA that nobody here made, with a name that fits.
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        params
            .distinguished_name
            .push(DnType::CommonName, "SELF_SIGNED");
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
    };
    let bad = [
        (others, "for another key"),
        (with("pemCaCertificate", leaf), "no CA's"),
        (
            with("pemCaCertificate", json!("nonsense")),
            "not one certificate in PEM",
        ),
        (
            with("pemCaCertificate", Value::Null),
            "not one certificate in PEM",
        ),
        (
            with("subordinateConfig", Value::Null),
            "subordinate_config is required",
        ),
        (
            with("subordinateConfig", chain(json!([]))),
            "no self-signed root",
        ),
        (
            with("subordinateConfig", chain(json!([stranger]))),
            "does not verify",
        ),
        (
            with(
                "subordinateConfig",
                json!({ "certificateAuthority": ca("roots", "none") }),
            ),
            "NOT_FOUND",
        ),
        (
            with(
                "subordinateConfig",
                json!({ "certificateAuthority": ca("subs", "t") }),
            ),
            "cannot be an issuer",
        ),
        (with("pemCert", json!("x")), "Unknown name \"pemCert\""),
    ];
    let path = format!("{}:activate", ca("subs", "s"));
    for (body, problem) in bad {
        let error = server.refused("POST", &path, &body).await;
        assert!(error.contains(problem), "{problem}: {error}");
    }
    server.clock.step(SignedDuration::from_hours(24 * 365 * 4));
    let late = server.refused("POST", &path, &good).await;
    assert!(late.contains("are valid together from"), "{late}");
    let waiting = server.get(&ca("subs", "s")).await;
    assert_eq!(waiting["state"], "AWAITING_USER_ACTIVATION");
    server.stop().await;
}

#[tokio::test]
async fn the_enabled_cas_of_a_pool_sign_in_turn() {
    let server = two_pools().await;
    for id in ["a", "b", "c", "d"] {
        make(&server, "roots", id, &ca_body("SELF_SIGNED", 1)).await;
    }
    for id in ["a", "b", "c"] {
        enable(&server, "roots", id).await;
    }
    let disable = format!("{}:disable", ca("roots", "b"));
    let keep = json!({ "ignoreDependentResources": false });
    let disabled = server.ok("POST", &disable, &keep).await;
    assert_eq!(disabled["state"], "DISABLED");

    let create = |n: u32, more: &str| {
        format!(
            "{POOLS}/roots/certificates?certificateId=c{n}&requestId={}{more}",
            uuid(n)
        )
    };
    let mut issuers = Vec::new();
    for n in [1, 2, 2, 3, 4] {
        let issued = server.ok("POST", &create(n, ""), &body()).await;
        issuers.push(issued["issuerCertificateAuthority"].clone());
    }
    let [a, c] = [ca("roots", "a"), ca("roots", "c")];
    assert_eq!(issuers, [&*a, &c, &c, &a, &c], "a replay is nobody's turn");

    for (id, outcome) in [
        ("d", Ok(())),
        ("b", Err("FAILED_PRECONDITION")),
        ("none", Err("NOT_FOUND")),
    ] {
        let path = create(9, &format!("&issuingCertificateAuthorityId={id}"));
        match outcome {
            Ok(()) => {
                let issued = server.ok("POST", &path, &body()).await;
                assert_eq!(issued["issuerCertificateAuthority"], ca("roots", id));
                // The number is used; the others need one of their own.
                let late = server.ok("POST", &path, &body()).await;
                assert_eq!(late, issued);
            }
            Err(status) => {
                let path = path.replace(&uuid(9), &uuid(10));
                let error = server
                    .refused("POST", &path.replace("=c9", "=c10"), &body())
                    .await;
                assert!(error.starts_with(status), "{error}");
            }
        }
    }
    let fetch = format!("{POOLS}/roots:fetchCaCerts");
    let trusted = server
        .ok("POST", &fetch, &json!({ "requestId": uuid(1) }))
        .await;
    assert_eq!(
        trusted["caCerts"].as_array().unwrap().len(),
        4,
        "staged and disabled ones, too"
    );
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

#[tokio::test]
async fn ca_certificates_from_a_config_respect_the_path_length() {
    let server = two_pools().await;
    root(&server, "r").await;
    let mut wanted = body();
    let x509 = &mut wanted["config"]["x509Config"];
    x509["keyUsage"]["baseKeyUsage"]["certSign"] = json!(true);
    for (options, problem) in [
        (json!({ "isCa": true, "maxIssuerPathLength": 0 }), None),
        (json!({ "isCa": true }), None),
        (
            json!({ "isCa": true, "maxIssuerPathLength": 1 }),
            Some("path length 1"),
        ),
        (
            json!({ "isCa": true, "maxIssuerPathLength": -1 }),
            Some("between 0 and 255"),
        ),
        (json!({ "maxIssuerPathLength": 0 }), Some("only with is_ca")),
    ] {
        wanted["config"]["x509Config"]["caOptions"] = options.clone();
        let path = format!("{POOLS}/roots/certificates?validateOnly=true&certificateId=c");
        let (status, answer) = server.call("POST", &path, &wanted).await;
        match problem {
            None => {
                let issued = &answer["certificateDescription"]["x509Description"]["caOptions"];
                assert_eq!((status, issued), (200, &options));
            }
            Some(problem) => {
                let message = answer["error"]["message"].as_str().unwrap();
                assert!(message.contains(problem), "{problem}: {message}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_was_made_over_the_api_survives_a_restart() {
    let dir = TempDir::new().unwrap();
    let paths = [
        format!("{POOLS}/roots"),
        format!("{POOLS}/subs:getIamPolicy"),
        ca("roots", "r"),
        ca("subs", "s"),
        ca("subs", "t"),
        format!("{}:fetch", ca("subs", "t")),
        format!("{POOLS}/roots/certificates"),
    ];
    let read = async |server: &Server| {
        let mut answers = Vec::new();
        for path in &paths {
            answers.push(server.get(path).await);
        }
        let project = json!({ "options": {} });
        answers.push(server.ok("POST", "projects/p:getIamPolicy", &project).await);
        answers
    };
    let (emulator, clock) = build(EmulatorConfig::default(), Some(dir.path())).unwrap();
    let server = Server::of(emulator, clock).await;
    fill(&server).await;
    root(&server, "r").await;
    make(&server, "subs", "s", &ca_body("SUBORDINATE", 0)).await;
    let (_, activation) = signed(&server, "s").await;
    activate(&server, "s", &activation).await;
    make(&server, "subs", "t", &ca_body("SUBORDINATE", 0)).await;
    make(&server, "roots", "gone", &ca_body("SELF_SIGNED", 1)).await;
    let gone = format!("{}?skipGracePeriod=true", ca("roots", "gone"));
    server.ok("DELETE", &gone, &Value::Null).await;
    let revoke = format!("{POOLS}/roots/certificates/for-s:revoke");
    server.ok("POST", &revoke, &json!({ "reason": 4 })).await;
    let binding = json!({ "role": "roles/privateca.poolReader", "members": ["allUsers"] });
    let policy = json!({ "policy": { "bindings": [binding] } });
    let set = format!("{POOLS}/subs:setIamPolicy");
    server.ok("POST", &set, &policy).await;
    server.ok("POST", "projects/p:setIamPolicy", &policy).await;
    let before = read(&server).await;
    server.stop().await;

    let (emulator, clock) = build(EmulatorConfig::default(), Some(dir.path())).unwrap();
    let server = Server::of(emulator, clock).await;
    assert_eq!(read(&server).await, before);
    let (_, activation) = signed(&server, "t").await;
    activate(&server, "t", &activation).await;
    enable(&server, "subs", "t").await;
    let leaf = format!("{POOLS}/subs/certificates");
    server.ok("POST", &leaf, &body()).await;

    let all = format!("{POOLS}/subs?ignoreDependentResources=True");
    server.ok("DELETE", &all, &Value::Null).await;
    assert_eq!(
        std::fs::read_dir(dir.path().join("cas")).unwrap().count(),
        1
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("pools")).unwrap().count(),
        1
    );
    server.stop().await;
}

#[tokio::test]
async fn certificates_of_enterprise_pools_are_listed_relabelled_and_revoked() {
    let server = two_pools().await;
    root(&server, "r").await;
    let certificates = format!("{POOLS}/roots/certificates");
    for id in ["b", "a", "c"] {
        let path = format!("{certificates}?certificateId={id}");
        let mut body = body();
        body["name"] = json!(format!("{certificates}/{id}"));
        body["labels"] = json!({ "id": id });
        server.ok("POST", &path, &body).await;
    }
    let page = server.get(&format!("{certificates}?pageSize=2")).await;
    assert_eq!(page["certificates"].as_array().unwrap().len(), 2);
    let token = page["nextPageToken"].as_str().unwrap();
    let rest = server
        .get(&format!("{certificates}?pageToken={token}"))
        .await;
    assert_eq!(rest["certificates"][0]["labels"]["id"], "c");
    let found = server
        .get(&format!("{certificates}?filter=labels.id=b"))
        .await;
    assert_eq!(
        found["certificates"][0]["name"],
        format!("{certificates}/b")
    );

    let name = format!("{certificates}/a");
    let relabel = format!("{name}?updateMask=labels");
    let changed = server.ok("PATCH", &relabel, &json!({ "labels": {} })).await;
    assert_eq!(changed.get("labels"), None);
    server.clock.step(SignedDuration::from_secs(5));
    let revoke = format!("{name}:revoke");
    let wrong = server
        .refused("POST", &revoke, &json!({ "reason": "BAD" }))
        .await;
    assert!(wrong.contains("none of"), "{wrong}");
    let request = json!({ "reason": "KEY_COMPROMISE", "requestId": uuid(1) });
    let revoked = server.ok("POST", &revoke, &request).await;
    let details = json!({
        "revocationState": "KEY_COMPROMISE",
        "revocationTime": "2027-01-15T08:00:05Z",
    });
    assert_eq!(revoked["revocationDetails"], details);
    assert_eq!(server.get(&name).await, revoked);
    assert_eq!(
        server.ok("POST", &revoke, &request).await,
        revoked,
        "a repetition"
    );
    let twice = server
        .refused("POST", &revoke, &json!({ "reason": 1 }))
        .await;
    assert!(twice.starts_with("FAILED_PRECONDITION"), "{twice}");
    let none = format!("{certificates}/none:revoke");
    let none = server.refused("POST", &none, &json!({})).await;
    assert!(none.starts_with("NOT_FOUND"), "{none}");
    server.stop().await;
}
