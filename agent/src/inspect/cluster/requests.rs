//! The `CertificateSigningRequest`s of a signer: how far each has come.
use ::kube::{Api, Client, ResourceExt as _, api::ListParams};
use certagent_core::approval::{self, NODE_NAME, POD_NAME};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};

use super::{super::text::clean, Permission, Seen};
use crate::issuer::csr::ISSUED;

/// Objects of one page, and how many pages are read: more than the largest clusters have at a time.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 40;

/// Those that were asked for.
#[derive(Clone, Debug, Default)]
pub(in crate::inspect) struct Requests {
    /// The newest first.
    pub(in crate::inspect) all: Vec<Request>,
    /// There are more than were looked at.
    pub(in crate::inspect) is_cut: bool,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::inspect) struct Request {
    pub(in crate::inspect) name: String,
    pub(in crate::inspect) created: Option<Timestamp>,
    /// The node whose driver made it, by the API server's word.
    pub(in crate::inspect) node: Option<String>,
    /// The pod that it is for, by its own word.
    pub(in crate::inspect) pod_name: Option<String>,
    pub(in crate::inspect) pod_uid: Option<String>,
    pub(in crate::inspect) spiffe_id: Option<String>,
    pub(in crate::inspect) state: State,
    /// When it came to that.
    pub(in crate::inspect) since: Option<Timestamp>,
    /// What was signed.
    pub(in crate::inspect) certificate: Option<Vec<u8>>,
}

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::inspect) enum State {
    /// Nobody has decided.
    Pending,
    /// Somebody said no.
    Denied(Reason),
    /// The signer gave up.
    Failed(Reason),
    /// Approved, and not signed: what the controller said of that last.
    Unsigned(Option<Reason>),
    /// There is a certificate.
    Signed,
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::inspect) struct Reason {
    pub(in crate::inspect) reason: String,
    pub(in crate::inspect) message: String,
}

impl Requests {
    /// Those of the signer that are `wanted`.
    pub(in crate::inspect) async fn look(
        client: &Client,
        signer: &str,
        wanted: impl Fn(&Request) -> bool,
    ) -> Seen<Self> {
        let api: Api<CertificateSigningRequest> = Api::all(client.clone());
        let fields = format!("spec.signerName={signer}");
        let mut page = ListParams::default().fields(&fields).limit(PAGE);
        let mut found = Self::default();
        for _page in 0..MOST_PAGES {
            let needed = Permission::of("list", "certificatesigningrequests.certificates.k8s.io");
            let listed = needed.ask(api.list(&page)).await?;
            let these = listed.items.iter().map(Request::of);
            found.all.extend(these.filter(&wanted));
            match listed.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => page = page.continue_token(&next),
                None => return Ok(found.sorted()),
            }
        }
        found.is_cut = true;
        Ok(found.sorted())
    }

    fn sorted(mut self) -> Self {
        self.all
            .sort_by(|one, other| (other.created, &other.name).cmp(&(one.created, &one.name)));
        self
    }
}

impl Request {
    pub(in crate::inspect) fn of(csr: &CertificateSigningRequest) -> Self {
        let status = csr.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref());
        let conditions = conditions.unwrap_or_default();
        let certificate = status
            .and_then(|status| status.certificate.as_ref())
            .map(|certificate| certificate.0.clone())
            .filter(|certificate| !certificate.is_empty());
        let (state, since) = state(conditions, certificate.is_some());
        let claimed = approval::claimed(&csr.spec.request.0);
        let (uid, uri) = claimed.map(|one| (one.pod_uid, one.uri)).unzip();
        let extra = csr.spec.extra.as_ref();
        let node = extra.and_then(|extra| extra.get(NODE_NAME)?.first().cloned());
        let created = csr.metadata.creation_timestamp.as_ref();
        Self {
            name: clean(&csr.name_any()),
            created: created.map(|time| time.0),
            node: node.as_deref().map(clean),
            pod_name: csr.annotations().get(POD_NAME).map(|name| clean(name)),
            pod_uid: uid,
            spiffe_id: uri.as_deref().map(clean),
            state,
            since,
            certificate,
        }
    }

    /// The controller's alarm: a node asked for a pod that does not run on it.
    pub(in crate::inspect) fn is_alarm(&self) -> bool {
        let alarm = approval::Reason::PodOnOtherNode.as_str();
        matches!(&self.state, State::Denied(reason) if reason.reason == alarm)
    }
}

/// In the order in which the node reads them.
fn state(
    conditions: &[CertificateSigningRequestCondition],
    is_signed: bool,
) -> (State, Option<Timestamp>) {
    let find = |kind: &str| conditions.iter().find(|one| one.type_ == kind);
    let at = |one: &CertificateSigningRequestCondition| {
        let time = one.last_update_time.as_ref();
        time.or(one.last_transition_time.as_ref())
            .map(|time| time.0)
    };
    if let Some(one) = find("Denied") {
        (State::Denied(Reason::of(one)), at(one))
    } else if let Some(one) = find("Failed") {
        (State::Failed(Reason::of(one)), at(one))
    } else if is_signed {
        // What is nearest to its moment.
        (State::Signed, find("Approved").and_then(at))
    } else if let Some(approved) = find("Approved") {
        let said = find(ISSUED).filter(|one| one.status == "False");
        (State::Unsigned(said.map(Reason::of)), at(approved))
    } else {
        (State::Pending, None)
    }
}

impl Reason {
    fn of(condition: &CertificateSigningRequestCondition) -> Self {
        let text = |text: &Option<String>| clean(text.as_deref().unwrap_or("none given"));
        Self {
            reason: text(&condition.reason),
            message: text(&condition.message),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl State {
    pub(in crate::inspect) fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Denied(_) => "denied",
            Self::Failed(_) => "failed",
            Self::Unsigned(_) => "unsigned",
            Self::Signed => "signed",
        }
    }

    pub(in crate::inspect) fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Denied(reason) | Self::Failed(reason) | Self::Unsigned(Some(reason)) => {
                Some(reason)
            }
            Self::Pending | Self::Unsigned(None) | Self::Signed => None,
        }
    }
}
