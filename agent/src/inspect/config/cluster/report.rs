//! What an inspection of a cluster's configuration looks at, and what it learns.
use std::collections::BTreeMap;

use certagent_core::{config::Problem, spread_rotation::SpreadRotation};
use serde::Serialize;

use super::{
    super::super::{
        cluster::{Deployed, Led, Ready},
        report::{self, CheckName, Subject},
        roots::Root,
    },
    rotation::Progress,
    tally::Tally,
    text,
};

/// The configuration of a cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterObjects;

/// The outcome of inspecting it.
pub(crate) type Report = report::Report<ClusterObjects>;

/// A check of it.
pub(super) type Check = report::Check<CheckId>;

impl Subject for ClusterObjects {
    type Id = CheckId;
    type Evidence = Evidence;

    const NAME: &'static str = "objects";

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

/// The checks, in the order in which they depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckId {
    /// The API server answers.
    ApiServer,
    /// Both objects are there, and mean something.
    Objects,
    /// The controller runs, and one of its replicas leads.
    Controller,
    /// It can use them as they are now.
    Ready,
    /// What nodes trust is in the status of the `TrustConfig`, for every trust domain.
    RenderedRoots,
    /// The roots stay valid for a while.
    RootsValidity,
    /// No node asks for another's pods.
    OtherNodes,
    /// Requests are decided.
    Approvals,
    /// What is approved is signed.
    Signatures,
    /// None was denied or given up lately.
    Refusals,
    /// What is to be renewed ahead of its time, is.
    Rotation,
}

impl CheckName for CheckId {
    const ALL: &'static [Self] = &[
        Self::ApiServer,
        Self::Objects,
        Self::Controller,
        Self::Ready,
        Self::RenderedRoots,
        Self::RootsValidity,
        Self::OtherNodes,
        Self::Approvals,
        Self::Signatures,
        Self::Refusals,
        Self::Rotation,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::Objects => "objects",
            Self::Controller => "controller",
            Self::Ready => "ready",
            Self::RenderedRoots => "rendered-roots",
            Self::RootsValidity => "roots-validity",
            Self::OtherNodes => "other-nodes",
            Self::Approvals => "approvals",
            Self::Signatures => "signatures",
            Self::Refusals => "refusals",
            Self::Rotation => "rotation",
        }
    }

    fn needs(self) -> &'static [Self] {
        match self {
            Self::ApiServer => &[],
            Self::Objects | Self::Controller | Self::OtherNodes => &[Self::ApiServer],
            Self::Ready | Self::RenderedRoots | Self::Rotation => &[Self::ApiServer, Self::Objects],
            Self::RootsValidity => &[Self::ApiServer, Self::Objects, Self::RenderedRoots],
            Self::Approvals | Self::Signatures | Self::Refusals => {
                &[Self::ApiServer, Self::OtherNodes]
            }
        }
    }
}

/// What is known, whatever the verdict.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence {
    pub(super) kubernetes: Option<String>,
    pub(super) objects: Vec<Object>,
    pub(super) problems: Vec<Problem>,
    /// The CA pools that certificates come from.
    pub(super) pools: Vec<String>,
    pub(super) deployment: Option<Deployed>,
    pub(super) lease: Option<Led>,
    /// What nodes trust, by trust domain.
    pub(super) rendered_roots: BTreeMap<String, Vec<Root>>,
    pub(super) requests: Option<Tally>,
    /// What is to be renewed ahead of its time; none if nothing is.
    pub(super) rotation: Option<Rotation>,
}

/// A spread rotation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rotation {
    #[serde(flatten)]
    pub(super) asked: SpreadRotation,
    /// None if the drivers could not be asked.
    pub(super) progress: Option<Progress>,
}

/// One object, and what the controller says of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) kind: &'static str,
    pub(super) generation: Option<i64>,
    pub(super) ready: Option<Ready>,
}
