//! What a healthy pool says, to be bent by tests.
use std::time::Duration;

use certagent_core::{
    algorithm::KeyAlgorithm, names::SubjectNames, plan::IssuePlan, pool::CaPoolName,
    request::SubjectMode,
};
use certagent_svid::{Certificate, SpiffeId, certificate::hex};
use jiff::SignedDuration;
use serde_json::json;

use super::{
    super::fixture::{Contents, NOON, at, contents},
    Anchoring, Report, Wanted,
    facts::{AskedAs, Clocks, Facts, Named},
    judge,
};
use crate::cas::{Call, CallError, Reason, authority::CaAnswer, wire::CaPoolAnswer};

pub(super) const ENDPOINT: &str = "http://127.0.0.1:8080";

/// A pool whose every answer is good, and what is asked of it.
pub(super) struct Known {
    pub(super) facts: Facts,
    pub(super) wanted: Wanted,
    pub(super) anchoring: Anchoring,
    root: Certificate,
}

impl Known {
    pub(super) fn healthy() -> Self {
        let contents = contents();
        let plan = IssuePlan {
            spiffe_id: SpiffeId::new("spiffe://example.org/ns/shop/sa/cart").unwrap(),
            algorithm: KeyAlgorithm::EcdsaP256,
            validity: Duration::from_secs(86_400),
            rotation_window_percentage: 50,
            subject_mode: SubjectMode::Default,
            names: SubjectNames::default(),
        };
        let chain = chain(&contents);
        let root = chain.last().unwrap().clone();
        Self {
            facts: Facts {
                pool: Ok(answer(json!({ "tier": "DEVOPS" }))),
                clocks: Some(Clocks {
                    service: at(NOON),
                    before: at(NOON),
                    after: at(NOON) + SignedDuration::from_millis(12),
                }),
                latency: Duration::from_millis(12),
                authorities: Some(Ok(vec![authority("td-ca", "ENABLED", &contents)])),
                chains: Some(Ok(vec![chain])),
                plan: plan.clone(),
                asked_as: AskedAs::default(),
                creation: Some(Ok(())),
            },
            wanted: Wanted {
                plan,
                paths: vec!["/etc/certagent".into(), "/srv/the workloads.yaml".into()],
                named: Named::default(),
            },
            anchoring: Anchoring::Leads("to an anchor of example.org".to_owned()),
            root,
        }
    }

    pub(super) fn policy(&mut self, policy: &serde_json::Value) {
        let pool = json!({ "tier": "ENTERPRISE", "issuancePolicy": policy });
        self.facts.pool = Ok(answer(pool));
    }

    pub(super) fn judge(&self) -> Report {
        let (wanted, anchoring) = (&self.wanted, &self.anchoring);
        judge(&pool(), ENDPOINT, &self.facts, wanted, anchoring, at(NOON))
    }

    /// Both forms, without what differs from run to run.
    pub(super) fn forms(&self) -> [(&'static str, String); 2] {
        let report = self.judge();
        let sha256 = hex(&self.root.fingerprint());
        [("txt", report.to_text()), ("json", report.to_json())]
            .map(|(form, text)| (form, text.replace(&sha256, "FINGERPRINT")))
    }
}

pub(super) fn pool() -> CaPoolName {
    "//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/td-ca-pool"
        .parse()
        .unwrap()
}

pub(super) fn answer(pool: serde_json::Value) -> CaPoolAnswer {
    serde_json::from_value(pool).unwrap()
}

/// A CA of the pool with the fixture's chain.
pub(super) fn authority(id: &str, state: &str, contents: &Contents) -> CaAnswer {
    let [_, issuing, middle] = &contents.parts;
    serde_json::from_value(json!({
        "name": format!("{}/certificateAuthorities/{id}", pool().resource_name()),
        "type": "SUBORDINATE", "state": state, "tier": "DEVOPS",
        "keySpec": { "algorithm": "EC_P256_SHA256" },
        "createTime": "2026-01-01T00:00:00Z",
        "pemCaCertificates": [issuing, middle, contents.roots],
    }))
    .unwrap()
}

fn chain(contents: &Contents) -> Vec<Certificate> {
    let [_, issuing, middle] = &contents.parts;
    let pem = format!("{issuing}{middle}{}", contents.roots);
    Certificate::parse_pem_list(pem.as_bytes()).unwrap()
}

pub(super) fn failure(call: Call, reason: Reason) -> CallError {
    CallError::new(call, &pool(), reason, None)
}

/// CA Service says no in its own form.
pub(super) fn no(call: Call, http: u16, status: &str, message: &str) -> CallError {
    let reason = Reason::Answer {
        http,
        status: Some(status.to_owned()),
        message: message.to_owned(),
        permission: None,
    };
    failure(call, reason)
}

pub(super) fn denied(call: Call) -> CallError {
    no(call, 403, "PERMISSION_DENIED", "Permission denied.")
}

/// Nothing listens.
pub(super) fn nobody() -> CallError {
    failure(
        Call::GetCaPool,
        Reason::NotConnected {
            endpoint: ENDPOINT.to_owned(),
            detail: "Connection refused".to_owned(),
        },
    )
}
