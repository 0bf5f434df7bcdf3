//! What an inspection of a pod looks at, and what it learns.
use jiff::Timestamp;
use serde::Serialize;

use super::{
    super::{
        cluster::{Deployed, Led},
        report::{self, CheckName, Subject},
    },
    objects::{Complaint, Mode},
    text,
};

/// One pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod;

/// The outcome of inspecting a pod.
pub(crate) type Report = report::Report<Pod>;

/// A check of a pod.
pub(super) type Check = report::Check<CheckId>;

impl Subject for Pod {
    type Id = CheckId;
    type Evidence = Evidence;

    const NAME: &'static str = "pod";

    fn summary(report: &Report) -> String {
        text::summary(report).to_owned()
    }

    fn unseen(id: CheckId) -> Option<&'static str> {
        text::unseen(id)
    }

    fn evidence(report: &Report) -> Vec<(&'static str, String)> {
        text::evidence(report)
    }
}

/// The checks: the pod, then what has to be there, then the way of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckId {
    /// The API server answers.
    ApiServer,
    /// There is such a pod.
    Pod,
    /// It has an inline volume of the driver.
    Volume,
    /// It has not run to its end, and is one of the API server's own.
    Phase,
    /// It has a node.
    Scheduled,
    /// Kubelet tells the driver what it needs, because of its `CSIDriver` object.
    DriverObject,
    /// The driver runs on the pod's node.
    Driver,
    /// The two objects of the configuration are there, and the controller can use them.
    Configuration,
    /// The controller runs, and one of its replicas leads.
    Controller,
    /// Nobody but its own node asks for its certificate.
    OtherNodes,
    /// The driver has asked for its certificate.
    Request,
    /// The request is approved.
    Approval,
    /// It is signed.
    Signature,
    /// What was signed is the pod's, and valid now.
    Certificate,
    /// The volume is mounted.
    Mount,
}

impl CheckName for CheckId {
    const ALL: &'static [Self] = &[
        Self::ApiServer,
        Self::Pod,
        Self::Volume,
        Self::Phase,
        Self::Scheduled,
        Self::DriverObject,
        Self::Driver,
        Self::Configuration,
        Self::Controller,
        Self::OtherNodes,
        Self::Request,
        Self::Approval,
        Self::Signature,
        Self::Certificate,
        Self::Mount,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::Pod => "pod",
            Self::Volume => "volume",
            Self::Phase => "phase",
            Self::Scheduled => "scheduled",
            Self::DriverObject => "driver-object",
            Self::Driver => "driver",
            Self::Configuration => "configuration",
            Self::Controller => "controller",
            Self::OtherNodes => "other-nodes",
            Self::Request => "request",
            Self::Approval => "approval",
            Self::Signature => "signature",
            Self::Certificate => "certificate",
            Self::Mount => "mount",
        }
    }

    fn needs(self) -> &'static [Self] {
        // Each of these stands on those before it.
        const WAY: &[CheckId] = &[
            CheckId::ApiServer,
            CheckId::Pod,
            CheckId::Volume,
            CheckId::Phase,
            CheckId::Scheduled,
            CheckId::Request,
            CheckId::Approval,
            CheckId::Signature,
        ];
        let so_many = match self {
            Self::ApiServer => 0,
            Self::Pod => 1,
            Self::Volume => 2,
            Self::Phase => 3,
            Self::Scheduled | Self::DriverObject | Self::Configuration | Self::Controller => 4,
            Self::Driver | Self::OtherNodes | Self::Request => 5,
            Self::Approval => 6,
            Self::Signature => 7,
            Self::Certificate | Self::Mount => 8,
        };
        WAY.get(..so_many).unwrap_or_default()
    }
}

/// What is known of the pod, whatever the verdict.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence {
    pub(super) kubernetes: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) phase: Option<String>,
    pub(super) is_being_deleted: bool,
    /// Its volumes are mounted; none if the pod is not known.
    pub(super) is_mounted: Option<bool>,
    pub(super) node: Option<String>,
    /// Whose the certificate has to be, as far as that is known.
    pub(super) spiffe_id: Option<String>,
    /// Who gets the certificate.
    pub(super) mode: Option<Mode>,
    /// The driver's pod on the pod's node.
    pub(super) driver_pod: Option<String>,
    pub(super) controller: ControllerEvidence,
    /// The `CertificateSigningRequest`s for the pod, the newest first.
    pub(super) requests: Vec<RequestEvidence>,
    pub(super) certificate: Option<Certificate>,
    /// What kubelet could not mount last, while it is not mounted.
    pub(super) complaint: Option<Complaint>,
}

/// What is known of the controller.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ControllerEvidence {
    pub(super) deployment: Option<Deployed>,
    pub(super) lease: Option<Led>,
}

/// One request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestEvidence {
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) created: Option<Timestamp>,
    /// The node whose driver made it.
    pub(super) node: Option<String>,
}

/// The certificate that was signed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    /// Of which request it is.
    pub(super) request: String,
    pub(super) spiffe_id: Option<String>,
    pub(super) serial: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// When its renewal begins: a draw between these, by the configuration as it is now.
    pub(super) renews_from: Option<Timestamp>,
    pub(super) renews_until: Option<Timestamp>,
}
