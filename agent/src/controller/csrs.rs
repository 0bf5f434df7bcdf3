//! The `CertificateSigningRequest`s of the cluster: read, and written only as far as they were read.
use certagent_core::approval::{APPROVED_MESSAGE, AUTO_APPROVED, Allowance, Denial};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{
        CertificateSigningRequest, CertificateSigningRequestCondition,
        CertificateSigningRequestStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};

use crate::{
    issuer::csr::ISSUED,
    kube::{Trouble, answer, within},
};

/// A request that was approved and breaks a rule all the same.
pub(super) const NOT_VALID: &str = "ApprovedButNotValid";

/// Reads and writes the objects.
#[derive(Clone)]
pub(super) struct Csrs {
    api: Api<CertificateSigningRequest>,
}

/// What a request that breaks a rule has become.
pub(super) enum Refused {
    Denied,
    /// It was approved before.
    Failed,
}

/// Why a write had no effect.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The object is another one by now, or gone: it is read anew.
    Changed,
    /// The API server.
    Trouble(Trouble),
}

impl From<Trouble> for WriteError {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

type Written = Result<CertificateSigningRequest, WriteError>;

impl Csrs {
    pub(super) fn new(client: Client) -> Self {
        Self {
            api: Api::all(client),
        }
    }

    pub(super) fn api(&self) -> &Api<CertificateSigningRequest> {
        &self.api
    }

    /// The object of this name and UID; none if there is none any more.
    pub(super) async fn get(
        &self,
        name: &str,
        uid: &str,
    ) -> Result<Option<CertificateSigningRequest>, Trouble> {
        let there = answer(self.api.get_opt(name)).await?;
        Ok(there.filter(|there| there.uid().as_deref() == Some(uid)))
    }

    /// Uses up what A12 allowed the pod; if nothing is written, that is given back.
    pub(super) async fn approve(
        &self,
        csr: CertificateSigningRequest,
        allowed: Allowance,
        now: Timestamp,
    ) -> Result<CertificateSigningRequest, (WriteError, Allowance)> {
        let condition = condition("Approved", "True", AUTO_APPROVED, APPROVED_MESSAGE, now);
        let written = self.write("approval", with(csr, condition)).await;
        written.map_err(|error| (error, allowed))
    }

    /// Denied, or failed if it was approved already: that cannot be taken back.
    pub(super) async fn refuse(
        &self,
        csr: CertificateSigningRequest,
        denial: &Denial,
        now: Timestamp,
    ) -> Result<Refused, WriteError> {
        let reason = denial.reason().as_str();
        if is(&csr, "Approved") {
            let message = format!("{reason}: {}", denial.message());
            self.fail(csr, NOT_VALID, &message, now).await?;
            return Ok(Refused::Failed);
        }
        let condition = condition("Denied", "True", reason, denial.message(), now);
        self.write("approval", with(csr, condition)).await?;
        Ok(Refused::Denied)
    }

    pub(super) async fn fail(
        &self,
        csr: CertificateSigningRequest,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Written {
        let condition = condition("Failed", "True", reason, message, now);
        self.write("status", with(csr, condition)).await
    }

    /// Says why there is no certificate yet.
    pub(super) async fn say(
        &self,
        csr: CertificateSigningRequest,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Written {
        let condition = condition(ISSUED, "False", reason, message, now);
        self.write("status", with(csr, condition)).await
    }

    /// Writes the certificate. What was said about its delay goes.
    pub(super) async fn publish(
        &self,
        mut csr: CertificateSigningRequest,
        chain_pem: String,
    ) -> Written {
        let status = csr.status.get_or_insert_default();
        status.certificate = Some(ByteString(chain_pem.into_bytes()));
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|one| one.type_ != ISSUED);
        }
        self.write("status", csr).await
    }

    /// By the version that was read: whoever was faster is not overwritten.
    async fn write(&self, subresource: &str, csr: CertificateSigningRequest) -> Written {
        let name = csr.name_any();
        let post = PostParams::default();
        let call = self
            .api
            .replace_subresource(subresource, &name, &post, &csr);
        match within(call).await? {
            Ok(written) => Ok(written),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                Err(WriteError::Changed)
            }
            Err(error) => Err(Trouble::from(&error).into()),
        }
    }
}

/// A condition of this type is there; only [`ISSUED`] may be false.
pub(super) fn is(csr: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(csr).iter().any(|one| one.type_ == kind)
}

/// Nobody has to do anything about it any more.
pub(super) fn is_over(csr: &CertificateSigningRequest) -> bool {
    certificate(csr).is_some() || is(csr, "Denied") || is(csr, "Failed")
}

/// When it was approved, or else made: nothing can have been asked for before.
pub(super) fn approved_at(csr: &CertificateSigningRequest) -> Option<Timestamp> {
    let approved = conditions(csr).iter().find(|one| one.type_ == "Approved");
    let approved = approved.and_then(|one| one.last_update_time.as_ref());
    let made = csr.metadata.creation_timestamp.as_ref();
    approved.or(made).map(|time| time.0)
}

/// The chain that stands in the object, as PEM.
pub(super) fn certificate(csr: &CertificateSigningRequest) -> Option<&[u8]> {
    let certificate = csr.status.as_ref()?.certificate.as_ref()?;
    Some(certificate.0.as_slice()).filter(|pem| !pem.is_empty())
}

/// What was said about the delay last.
pub(super) struct Said<'a> {
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
    pub(super) at: Timestamp,
}

pub(super) fn said(csr: &CertificateSigningRequest) -> Option<Said<'_>> {
    let said = conditions(csr).iter().find(|one| one.type_ == ISSUED)?;
    Some(Said {
        reason: said.reason.as_deref().unwrap_or_default(),
        message: said.message.as_deref().unwrap_or_default(),
        at: said.last_update_time.as_ref().map(|time| time.0)?,
    })
}

fn conditions(csr: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = csr.status.as_ref();
    status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

/// The same with this condition in the place of the one of its type.
fn with(
    mut csr: CertificateSigningRequest,
    mut condition: CertificateSigningRequestCondition,
) -> CertificateSigningRequest {
    let status: &mut CertificateSigningRequestStatus = csr.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let place = conditions
        .iter()
        .position(|one| one.type_ == condition.type_);
    match place.and_then(|place| conditions.get_mut(place)) {
        Some(before) => {
            if before.status == condition.status {
                condition
                    .last_transition_time
                    .clone_from(&before.last_transition_time);
            }
            *before = condition;
        }
        None => conditions.push(condition),
    }
    csr
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}
