//! Certificates: whose turn it is to sign, many at once, and what becomes of those that are kept.

use std::sync::Barrier;

use certagent_emulator::{Code, CreateQuery};
use jiff::SignedDuration;
use serde_json::json;

use crate::support::*;
use crate::world::*;

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
async fn an_expired_ca_is_nobodys_turn_as_long_as_another_lives() {
    let server = two_pools().await;
    let mut short = ca_body("SELF_SIGNED", 1);
    short["lifetime"] = json!("60s");
    make(&server, "roots", "short", &short).await;
    enable(&server, "roots", "short").await;
    server.clock.step(SignedDuration::from_secs(60));
    let path = |id: &str| format!("{POOLS}/roots/certificates?certificateId={id}");
    let error = server.refused("POST", &path("a"), &body()).await;
    assert!(error.contains("short or one above it expired"), "{error}");
    root(&server, "r").await;
    for id in ["a", "b"] {
        let issued = server.ok("POST", &path(id), &body()).await;
        assert_eq!(issued["issuerCertificateAuthority"], ca("roots", "r"));
    }
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

#[test]
fn two_requests_with_one_id_at_once_buy_one_certificate() {
    let (emulator, _) = emulator();
    let barrier = Barrier::new(8);
    let names: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    create(&emulator, ISSUING, &request(1), &body())
                        .unwrap()
                        .name
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(names.iter().all(|name| *name == names[0]));
    assert_eq!(emulator.stats().total_sold(), 1);
    assert_eq!(emulator.stats().replayed, 7);
}

#[test]
fn two_certificates_of_one_id_at_once_are_one_and_a_refusal() {
    let (emulator, _) = emulator();
    let barrier = Barrier::new(8);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (emulator, barrier) = (&emulator, &barrier);
                scope.spawn(move || {
                    let query = CreateQuery {
                        certificate_id: Some("cart".to_owned()),
                        ..request(n)
                    };
                    barrier.wait();
                    create(emulator, ROOT, &query, &body()).map_err(|error| error.code)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(Code::AlreadyExists));
    assert_eq!(refused.count(), 7);
    assert_eq!(emulator.stats().total_sold(), 1);
}
