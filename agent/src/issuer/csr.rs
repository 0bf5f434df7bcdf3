//! Certificates by way of the cluster: the node makes a `CertificateSigningRequest`, the controller
//! approves it and has it signed.
//!
//! The object's name derives from the key, so that a repetition, by this process or the next, finds
//! the object that is there and makes no second one.
use std::collections::BTreeMap;

use certagent_core::{
    approval::{NEEDED_BY, OPTIONAL_USAGE, POD_NAME, USAGES},
    backoff,
    issued::RawChain,
    outcome::Class,
    plan::IssuePlan,
    pool::CaPoolName,
    request::{PreparedRequest, RequestForm, encipherment},
    rotation,
};
use certagent_svid::TrustBundle;
use futures::{StreamExt as _, future::BoxFuture, pin_mut, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{
        CertificateSigningRequest, CertificateSigningRequestSpec, CertificateSigningRequestStatus,
    },
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams, WatchEvent, WatchParams},
};
use tracing::debug;

use super::{Behalf, IssueError, Issuer, Preflight};
use crate::{
    clock::SharedClock,
    kube::{OURS, Trouble, answer, within},
    volume::PodRecord,
};

/// The condition by which the controller says why a certificate has not been issued yet.
pub const ISSUED: &str = "Issued";

/// One look at an object lasts so long at most; whoever still wants the certificate looks again.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// The API server did not answer, or said nothing that helps: it is asked again after a second, and then
/// ever less often, up to so long. Many wait, on many nodes.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(8);

/// How an object is followed.
#[derive(Default)]
struct Following {
    changes: Option<Changes>,
    /// Watches in a row that told nothing.
    breaks: u32,
}

/// The changes of one object.
type Changes = BoxStream<'static, kube::Result<WatchEvent<CertificateSigningRequest>>>;

/// Gets certificates by `CertificateSigningRequest`s.
#[derive(Clone)]
pub struct CsrIssuer {
    api: Api<CertificateSigningRequest>,
    signer: String,
    clock: SharedClock,
}

/// Why a `CertificateSigningRequest` brought no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CertificateSigningRequest {name} {trouble}")]
pub struct CsrError {
    /// The pool that the configuration names first.
    pub pool: CaPoolName,
    /// The object.
    pub name: String,
    /// What is wrong.
    pub trouble: CsrTrouble,
}

/// What is wrong with a `CertificateSigningRequest`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrTrouble {
    /// The controller, or a person, said no.
    #[error("was denied: {reason}: {message}")]
    Denied {
        /// The reason of the condition.
        reason: String,
        /// Its message.
        message: String,
    },
    /// The signer gave up.
    #[error("failed: {reason}: {message}")]
    Failed {
        /// The reason of the condition.
        reason: String,
        /// Its message.
        message: String,
    },
    /// Nobody has decided yet.
    #[error(
        "is not approved yet, so the certificate is waited for; if this goes on, look whether \
         `certagent controller` runs: kubectl -n certagent-system get pods"
    )]
    Undecided,
    /// It is approved, and not signed.
    #[error("is approved and not signed yet{}", said.as_ref().map_or_else(
        || "; if this goes on, look at the log of `certagent controller`".to_owned(),
        |said| format!(": {said}"),
    ))]
    Unsigned {
        /// What the controller said last about it.
        said: Option<String>,
    },
    /// It was there, and is gone.
    #[error("was deleted before the certificate came; the next one has another key and name")]
    Vanished,
    /// Somebody else made an object of this name.
    #[error("was made by somebody else, with another request; the next one has another name")]
    Taken,
    /// The volume is not a pod's.
    #[error("cannot be made: it is not known which pod the volume is of")]
    NoPod,
    /// The API server does not let us.
    #[error(
        "was refused by the API server: {why}; apply deploy/node.yaml, whose service account alone \
         may make one"
    )]
    Forbidden {
        /// What it said.
        why: String,
    },
    /// The API server takes no such object.
    #[error("was refused by the API server as invalid: {why}")]
    Invalid {
        /// What it said.
        why: String,
    },
    /// No answer, or none that helps.
    #[error("is not known, because the API server gave no usable answer: {why}")]
    Unreachable {
        /// What happened.
        why: String,
    },
}

impl CsrTrouble {
    /// What it means for what may be done next.
    pub fn class(&self) -> Class {
        match self {
            Self::Denied { .. } | Self::Failed { .. } | Self::Taken => Class::Declined,
            Self::Undecided | Self::Unsigned { .. } | Self::Unreachable { .. } => Class::Unknown,
            Self::Vanished => Class::Lost,
            Self::Forbidden { .. } => Class::Denied,
            Self::NoPod | Self::Invalid { .. } => Class::Invalid,
        }
    }
}

impl CsrIssuer {
    /// Asks the signer of this name.
    pub fn new(client: Client, signer: String, clock: SharedClock) -> Self {
        Self {
            api: Api::all(client),
            signer,
            clock,
        }
    }

    async fn certificate(
        &self,
        request: &PreparedRequest,
        behalf: &Behalf,
    ) -> Result<RawChain, CsrTrouble> {
        let pod = behalf.pod.as_ref().ok_or(CsrTrouble::NoPod)?;
        let wanted = self.object(request, pod, behalf.needed_by);
        let there = self.make(&wanted).await?;
        self.decided(there).await
    }

    fn object(
        &self,
        request: &PreparedRequest,
        pod: &PodRecord,
        needed_by: Option<Timestamp>,
    ) -> CertificateSigningRequest {
        let mut annotations = BTreeMap::from([(POD_NAME.to_owned(), pod.name.clone())]);
        annotations.extend(needed_by.map(|end| (NEEDED_BY.to_owned(), end.to_string())));
        let mut usages = USAGES.map(str::to_owned).to_vec();
        if encipherment(request.plan.algorithm) {
            usages.push(OPTIONAL_USAGE.to_owned());
        }
        CertificateSigningRequest {
            metadata: ObjectMeta {
                name: Some(request.certificate_id.clone()),
                labels: Some(BTreeMap::from([(OURS.0.to_owned(), OURS.1.to_owned())])),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.body.clone().into_bytes()),
                signer_name: self.signer.clone(),
                usages: Some(usages),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        }
    }

    /// The object as it is in the cluster: made now, or by an earlier attempt.
    async fn make(
        &self,
        wanted: &CertificateSigningRequest,
    ) -> Result<CertificateSigningRequest, CsrTrouble> {
        let post = PostParams::default();
        let made = within(self.api.create(&post, wanted)).await;
        match made.map_err(into_trouble)? {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let name = wanted.metadata.name.as_deref().unwrap_or_default();
                let there = self.read(name).await?;
                let is_ours = there.spec.request == wanted.spec.request
                    && there.spec.signer_name == wanted.spec.signer_name;
                if is_ours {
                    Ok(there)
                } else {
                    Err(CsrTrouble::Taken)
                }
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                let why = status.message.clone();
                Err(CsrTrouble::Invalid { why })
            }
            made => made.map_err(|error| into_trouble(Trouble::from(&error))),
        }
    }

    async fn read(&self, name: &str) -> Result<CertificateSigningRequest, CsrTrouble> {
        let there = answer(self.api.get_opt(name)).await;
        there.map_err(into_trouble)?.ok_or(CsrTrouble::Vanished)
    }

    /// Follows the object until it is decided, or nobody has the patience.
    async fn decided(&self, mut there: CertificateSigningRequest) -> Result<RawChain, CsrTrouble> {
        let until = self
            .clock
            .now()
            .saturating_add(PATIENCE)
            .unwrap_or_default();
        let patience = self.clock.sleep_until(until);
        pin_mut!(patience);
        let mut trouble = CsrTrouble::Undecided;
        let mut following = Following::default();
        loop {
            trouble = match state(there.status.as_ref()) {
                State::Decided(decided) => return decided,
                State::Open(CsrTrouble::Undecided) => trouble,
                State::Open(open) => open,
            };
            let next = self.next(&there, &mut following);
            there = tokio::select! {
                next = next => match next {
                    Ok(next) => next,
                    Err(CsrTrouble::Vanished) => return Err(CsrTrouble::Vanished),
                    // The watch begins anew, and what it breaks on shows there.
                    Err(other) => {
                        debug!(%other, "a CertificateSigningRequest is read anew");
                        trouble = other;
                        there
                    }
                },
                () = &mut patience => return Err(trouble),
            };
        }
    }

    /// The object after its next change; one watch shows them all.
    async fn next(
        &self,
        there: &CertificateSigningRequest,
        following: &mut Following,
    ) -> Result<CertificateSigningRequest, CsrTrouble> {
        let name = there.metadata.name.as_deref().unwrap_or_default();
        if following.changes.is_none() {
            let version = there.metadata.resource_version.as_deref();
            let only = WatchParams::default().fields(&format!("metadata.name={name}"));
            let watch = self.api.watch(&only, version.unwrap_or("0")).await;
            following.changes = watch.ok().map(futures::StreamExt::boxed);
        }
        if let Some(changes) = &mut following.changes {
            while let Some(event) = changes.next().await {
                match event {
                    Ok(WatchEvent::Added(now) | WatchEvent::Modified(now)) => {
                        following.breaks = 0;
                        return Ok(now);
                    }
                    Ok(WatchEvent::Deleted(_)) => return Err(CsrTrouble::Vanished),
                    Ok(WatchEvent::Bookmark(_)) => {}
                    // Too old, or broken: it is read anew.
                    Ok(WatchEvent::Error(_)) | Err(_) => break,
                }
            }
        }
        following.changes = None;
        following.breaks = following.breaks.saturating_add(1);
        let pause = backoff::first_issue(following.breaks).min(LONGEST_PAUSE);
        let pause = backoff::jitter(pause, rotation::spread(name, ""));
        let now = self.clock.now();
        self.clock
            .sleep_until(now.saturating_add(pause).unwrap_or(now))
            .await;
        self.read(name).await
    }
}

/// How far an object has come.
enum State {
    Decided(Result<RawChain, CsrTrouble>),
    Open(CsrTrouble),
}

fn state(status: Option<&CertificateSigningRequestStatus>) -> State {
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let find = |kind: &str| {
        let mut there = conditions.unwrap_or_default().iter();
        there.find(|one| one.type_ == kind)
    };
    // Untrusted text: bounded before it goes into an event or a log.
    let reason = |text: &Option<String>| bounded(text.as_deref().unwrap_or("no reason given"));
    if let Some(one) = find("Denied") {
        let (reason, message) = (reason(&one.reason), reason(&one.message));
        return State::Decided(Err(CsrTrouble::Denied { reason, message }));
    }
    if let Some(one) = find("Failed") {
        let (reason, message) = (reason(&one.reason), reason(&one.message));
        return State::Decided(Err(CsrTrouble::Failed { reason, message }));
    }
    let certificate = status.and_then(|status| status.certificate.as_ref());
    if let Some(certificate) = certificate.filter(|bytes| !bytes.0.is_empty()) {
        return State::Decided(Ok(RawChain {
            certificate: String::from_utf8_lossy(&certificate.0).into_owned(),
            chain: Vec::new(),
        }));
    }
    if find("Approved").is_none() {
        return State::Open(CsrTrouble::Undecided);
    }
    let said = find(ISSUED).filter(|one| one.status == "False");
    let said = said.map(|one| format!("{}: {}", reason(&one.reason), reason(&one.message)));
    State::Open(CsrTrouble::Unsigned { said })
}

/// The longest text of a condition that is passed on.
const MAX_TEXT: usize = 1024;

fn bounded(text: &str) -> String {
    let mut text: String = text
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(MAX_TEXT + 1)
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        text.pop();
        text.push('…');
    }
    text
}

fn into_trouble(trouble: Trouble) -> CsrTrouble {
    match trouble {
        Trouble::Forbidden(why) => CsrTrouble::Forbidden { why },
        Trouble::Unreachable(why) => CsrTrouble::Unreachable { why },
        Trouble::UnknownKind => CsrTrouble::Unreachable {
            why: "it does not know certificates.k8s.io/v1".to_owned(),
        },
    }
}

impl Issuer for CsrIssuer {
    fn preflight<'a>(
        &'a self,
        _plan: &'a IssuePlan,
        _pool: &'a CaPoolName,
        _bundle: &'a TrustBundle,
        _behalf: &'a Behalf,
    ) -> BoxFuture<'a, Result<Preflight, IssueError>> {
        // What can be known of the pool the controller knows.
        Box::pin(std::future::ready(Ok(Preflight {
            form: RequestForm::Kubernetes,
            ca_until: None,
        })))
    }

    fn csr<'a>(&self, request: &'a PreparedRequest) -> Option<&'a str> {
        Some(&request.certificate_id)
    }

    fn issue<'a>(
        &'a self,
        request: &'a PreparedRequest,
        behalf: &'a Behalf,
    ) -> BoxFuture<'a, Result<RawChain, IssueError>> {
        Box::pin(async move {
            let certificate = self.certificate(request, behalf).await;
            certificate.map_err(|trouble| {
                IssueError::Csr(Box::new(CsrError {
                    pool: request.pool.clone(),
                    name: request.certificate_id.clone(),
                    trouble,
                }))
            })
        })
    }
}

#[cfg(test)]
#[path = "csr_tests.rs"]
mod tests;
