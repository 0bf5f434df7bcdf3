//! Two pools of one's own making, and CAs in them.

use certagent_emulator::EmulatorConfig;
use serde_json::{Value, json};

use crate::support::*;

pub(crate) const POOLS: &str = "projects/p/locations/l/caPools";

/// An emulator with the empty pools `roots` (ENTERPRISE) and `subs` (DEVOPS).
pub(crate) async fn two_pools() -> Server {
    let server = Server::with(EmulatorConfig::default()).await;
    fill(&server).await;
    server
}

pub(crate) async fn fill(server: &Server) {
    for (id, tier) in [("roots", "ENTERPRISE"), ("subs", "DEVOPS")] {
        let path = format!("{POOLS}?caPoolId={id}");
        let options = json!({ "publishCaCert": true });
        let body = json!({ "tier": tier, "publishingOptions": options });
        server.ok("POST", &path, &body).await;
    }
}

pub(crate) fn ca_body(kind: &str, path_length: i32) -> Value {
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

pub(crate) fn ca(pool: &str, id: &str) -> String {
    format!("{POOLS}/{pool}/certificateAuthorities/{id}")
}

pub(crate) async fn make(server: &Server, pool: &str, id: &str, body: &Value) -> Value {
    let path = format!("{POOLS}/{pool}/certificateAuthorities?certificateAuthorityId={id}");
    server.ok("POST", &path, body).await
}

pub(crate) async fn root(server: &Server, id: &str) {
    make(server, "roots", id, &ca_body("SELF_SIGNED", 1)).await;
    enable(server, "roots", id).await;
}

pub(crate) async fn enable(server: &Server, pool: &str, id: &str) {
    let path = format!("{}:enable", ca(pool, id));
    assert_eq!(
        server.ok("POST", &path, &json!({})).await["state"],
        "ENABLED"
    );
}

/// Has the pool `roots` sign the CSR of a subordinate; the answer and the activation's body.
pub(crate) async fn signed(server: &Server, id: &str) -> (Value, Value) {
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

pub(crate) async fn activate(server: &Server, id: &str, body: &Value) -> Value {
    let path = format!("{}:activate", ca("subs", id));
    server.ok("POST", &path, body).await
}
