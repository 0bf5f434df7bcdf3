//! A node on which everything is as it should be, to be bent by tests.
use std::path::PathBuf;

use certagent_core::config::Settings;
use certagent_csi::{
    Target,
    look::{Announcement, Answer},
    paths::Places,
};
use jiff::SignedDuration;

use super::{
    super::fixture::{Contents, ID, NOON, at, contents},
    Report, Wanted,
    facts::{Cluster, Facts, Fault, Registered},
    judge,
    volume::VolumeFacts,
};
use crate::{
    config::{Found, fixture::Objects},
    kube::{DriverObject, Tokens, Verdict},
    volume::{PodRecord, Record, VolumeId},
};

pub(super) const DRIVER: &str = "workloadcertificates.security.cloud.google.com";
pub(super) const AUDIENCE: &str = "demo.svc.id.goog";

/// A node whose every fact is good.
pub(super) struct Known {
    pub(super) wanted: Wanted,
    pub(super) facts: Facts,
    pub(super) contents: Contents,
}

impl Known {
    pub(super) fn healthy() -> Self {
        let places = Places::new(PathBuf::from("/var/lib/kubelet"), DRIVER.parse().unwrap());
        let contents = contents();
        let known = Self {
            facts: Facts {
                plain: Ok(()),
                shared: Ok(()),
                socket: Ok(Answer {
                    name: DRIVER.to_owned(),
                    version: "0.1.0".to_owned(),
                }),
                announced: Ok(vec![
                    announcement(
                        "other.example.com-reg.sock",
                        "other.example.com",
                        "/other.sock",
                    ),
                    Announcement {
                        socket: places.registration_socket(),
                        name: DRIVER.to_owned(),
                        endpoint: places.socket(),
                    },
                ]),
                ready: None,
                cluster: Ok(Cluster {
                    version: "v1.37.1".to_owned(),
                    definitions: Verdict::Ours,
                    driver_object: DriverObject::Right,
                    registered: Some(Ok(Registered::Yes)),
                }),
                objects: Some(Ok(objects(&Objects {
                    workloads: &[],
                    ..Objects::default()
                }))),
                volumes: Ok(Vec::new()),
            },
            wanted: Wanted {
                places,
                driver: DRIVER.to_owned(),
                tokens: Tokens::For(AUDIENCE.to_owned()),
                node: Some("node-1".to_owned()),
                admin: None,
                adopt_foreign: false,
                settings: Settings::default(),
                files: None,
            },
            contents,
        };
        known.with(&["web-1"])
    }

    /// Volumes for these pods, in place of those that there were.
    pub(super) fn with(mut self, pods: &[&str]) -> Self {
        let volumes = pods.iter().map(|pod| volume(pod, &self.contents));
        self.facts.volumes = Ok(volumes.collect());
        self
    }

    pub(super) fn volumes(&mut self) -> &mut Vec<VolumeFacts> {
        self.facts.volumes.as_mut().unwrap()
    }

    pub(super) fn cluster(&mut self) -> &mut Cluster {
        self.facts.cluster.as_mut().unwrap()
    }

    /// The API server cannot be reached.
    pub(super) fn away(&mut self) {
        let why = "the API server cannot be reached, so the cluster is not known: no answer";
        self.facts.cluster = Err(why.to_owned());
        self.facts.objects = None;
    }

    pub(super) fn judge(&self) -> Report {
        judge(&self.wanted, &self.facts, at(NOON))
    }
}

pub(super) fn announcement(socket: &str, name: &str, endpoint: &str) -> Announcement {
    Announcement {
        socket: PathBuf::from("/var/lib/kubelet/plugins_registry").join(socket),
        name: name.to_owned(),
        endpoint: PathBuf::from(endpoint),
    }
}

pub(super) fn objects(objects: &Objects) -> Found {
    let sources = vec![certagent_core::config::Source {
        name: "objects".to_owned(),
        text: objects.yaml(),
    }];
    Found::check(sources, &Settings::default())
}

pub(super) fn failed(text: &str) -> Fault {
    Fault {
        text: text.to_owned(),
        is_unseen: false,
    }
}

pub(super) fn denied(text: &str) -> Fault {
    Fault {
        is_unseen: true,
        ..failed(text)
    }
}

/// The volume of a pod, with the certificate of the fixture, issued when that begins.
pub(super) fn volume(pod: &str, contents: &Contents) -> VolumeFacts {
    let target = format!("/var/lib/kubelet/pods/uid-{pod}/volumes/kubernetes.io~csi/certs/mount");
    let data = format!("/var/lib/kubelet/plugins/{DRIVER}/volumes/csi-{pod}/data");
    VolumeFacts {
        id: format!("csi-{pod}"),
        is_mounted: true,
        targets: vec![Target {
            path: target.into(),
            pod_uid: format!("uid-{pod}"),
        }],
        record: Ok(Some(record(pod))),
        certificates: Ok(Some(contents.certificates.clone().into_bytes())),
        pending: Ok(None),
        has_pod: Some(true),
        held_as: VolumeId::of(data.as_ref()),
    }
}

pub(super) fn record(pod: &str) -> Record {
    Record {
        version: Record::VERSION,
        volume: format!("csi-{pod}"),
        spiffe_id: ID.to_owned(),
        issued_at: at("2026-11-15T00:00:00Z"),
        validity_seconds: SignedDuration::from_hours(20 * 24).as_secs().unsigned_abs(),
        rotation_window_percentage: 50,
        serial: "c0ffee".to_owned(),
        pool: None,
        sequences: std::collections::BTreeMap::new(),
        pod: Some(PodRecord {
            uid: format!("uid-{pod}"),
            name: pod.to_owned(),
            namespace: "shop".to_owned(),
            service_account: "cart".to_owned(),
            fs_group: None,
        }),
        asked_names: None,
    }
}
