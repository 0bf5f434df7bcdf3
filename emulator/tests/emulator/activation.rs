//! Subordinate CAs over HTTP: signed, activated, refused, kept.

use certagent_emulator::{CertificateJson, EmulatorConfig};
use jiff::SignedDuration;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::*;
use crate::world::*;

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
