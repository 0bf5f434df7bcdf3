//! A pod that has all that it needs, to be bent by tests.
use certagent_svid::TrustDomain;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    super::{
        cluster::{
            ConfigObject, Controller, Deployed, Led, Permission, Ready, Reason, Request, Requests,
            State, Unseen,
        },
        fixture::{Leaf, NOON, at, contents, contents_with},
    },
    Report, Wanted,
    facts::{Around, Cluster, Facts},
    judge,
    objects::{Complaint, Driver, Mode, Pod},
};
use crate::kube::Trouble;

pub(super) const DRIVER: &str = "workloadcertificates.security.cloud.google.com";
pub(super) const SIGNER: &str = "spiffe.gke.io/spiffe-leaf-signer";
pub(super) const UID: &str = "9c2f1a52-8d0e-4b6f-9a21-5c4d3e2f1a0b";
pub(super) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";
pub(super) const POOL: &str =
    "//privateca.googleapis.com/projects/demo/locations/us-central1/caPools/issuing";

/// The pod shop/cart-7d9f with everything around it.
pub(super) struct Known {
    pub(super) wanted: Wanted,
    pub(super) facts: Facts,
}

impl Known {
    pub(super) fn healthy() -> Self {
        let wanted = Wanted {
            namespace: "shop".to_owned(),
            name: "cart-7d9f".to_owned(),
            driver: DRIVER.to_owned(),
            signer: SIGNER.to_owned(),
            trust_domain: TrustDomain::new("example.org").ok(),
        };
        let facts = Facts {
            cluster: Ok(Cluster {
                version: Some("v1.37.1".to_owned()),
                pod: Ok(Some(pod())),
                around: Some(around()),
            }),
        };
        Self { wanted, facts }
    }

    /// One that waits for its volume.
    pub(super) fn waiting(state: State) -> Self {
        let mut known = Self::healthy();
        let pod = known.pod();
        pod.is_mounted = false;
        pod.phase = "Pending".to_owned();
        known.requests().all = vec![request("certagent-1f2e", state)];
        known
    }

    pub(super) fn cluster(&mut self) -> &mut Cluster {
        self.facts.cluster.as_mut().unwrap()
    }

    pub(super) fn pod(&mut self) -> &mut Pod {
        self.cluster().pod.as_mut().unwrap().as_mut().unwrap()
    }

    pub(super) fn around(&mut self) -> &mut Around {
        self.cluster().around.as_mut().unwrap()
    }

    pub(super) fn requests(&mut self) -> &mut Requests {
        self.around().requests.as_mut().unwrap()
    }

    /// Its two pods are not ready, and nobody leads.
    pub(super) fn without_controller(&mut self) {
        self.around().controller = Controller {
            deployed: Ok(Some(Deployed {
                ready: 0,
                wanted: 2,
            })),
            led: Ok(Some(Led {
                holder: None,
                renewed_at: Some(before(3600)),
            })),
        };
    }

    /// What kubelet says of the volume.
    pub(super) fn complain(&mut self, message: &str) {
        self.around().complaint = Ok(Some(Complaint {
            message: message.to_owned(),
            at: Some(before(20)),
            count: 7,
            is_ours: true,
        }));
    }

    pub(super) fn judge(&self) -> Report {
        judge(&self.wanted, &self.facts, at(NOON))
    }
}

/// So many seconds before the report.
pub(super) fn before(seconds: i64) -> Timestamp {
    at(NOON) - SignedDuration::from_secs(seconds)
}

pub(super) fn pod() -> Pod {
    Pod {
        uid: UID.to_owned(),
        created: Some(before(1805)),
        node: Some("node-1".to_owned()),
        scheduled_at: Some(before(1804)),
        unscheduled: None,
        service_account: "cart".to_owned(),
        phase: "Running".to_owned(),
        reason: None,
        is_mirror: false,
        is_being_deleted: false,
        volumes: vec!["certs".to_owned()],
        is_mounted: true,
    }
}

fn around() -> Around {
    let object = json!({
        "metadata": {"name": DRIVER},
        "spec": {"podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"]},
    });
    let ready = Ready {
        status: "True".to_owned(),
        reason: "ConfigReady".to_owned(),
        message: "it is ready".to_owned(),
        observed_generation: Some(2),
    };
    let certificates = ConfigObject {
        generation: Some(2),
        ready: Some(ready),
        pools: vec![POOL.to_owned()],
        validity: Some(SignedDuration::from_hours(20 * 24)),
        rotation_window_percentage: Some(50),
        status: None,
    };
    let rendered = json!({"renderedTrustStores": [{"trustDomain": "example.org",
        "trustAnchors": [{"pemCertificates": [contents().roots]}]}]});
    let trust = ConfigObject {
        status: Some(rendered),
        ..certificates.clone()
    };
    Around {
        complaint: Ok(None),
        requests: Ok(Requests {
            all: vec![request("certagent-1f2e", State::Signed)],
            is_cut: false,
        }),
        driver: Ok(Some(Driver {
            name: "certagent-node-x7k2p".to_owned(),
            is_ready: true,
            reason: None,
            mode: Mode::Controller,
        })),
        driver_object: Ok(serde_json::from_value(object).ok()),
        objects: [Ok(Some(certificates)), Ok(Some(trust))],
        controller: Controller {
            deployed: Ok(Some(Deployed {
                ready: 2,
                wanted: 2,
            })),
            led: Ok(Some(Led {
                holder: Some("certagent-controller-6b7d-abcde".to_owned()),
                renewed_at: Some(before(2)),
            })),
        },
    }
}

/// A request of the pod's own node, made half an hour ago.
pub(super) fn request(name: &str, state: State) -> Request {
    let leaf = Leaf {
        begin: (2026, 11, 20),
        end: (2026, 12, 10),
        ..Leaf::default()
    };
    let certificate = (state == State::Signed).then(|| {
        let contents = contents_with(&leaf, "Test Root", (2036, 1, 1));
        contents.certificates.into_bytes()
    });
    Request {
        name: name.to_owned(),
        created: Some(before(1800)),
        node: Some("node-1".to_owned()),
        pod_name: Some("cart-7d9f".to_owned()),
        pod_uid: Some(UID.to_owned()),
        spiffe_id: Some(ID.to_owned()),
        since: (state != State::Pending).then(|| before(1799)),
        state,
        certificate,
    }
}

pub(super) fn reason(reason: &str, message: &str) -> Reason {
    Reason {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// The API server refuses.
pub(super) fn forbidden(verb: &'static str, resource: &'static str) -> Unseen {
    let why = format!("{resource} is forbidden: User \"jane\" cannot {verb} it");
    Permission::of(verb, resource).unseen(Trouble::Forbidden(why))
}
