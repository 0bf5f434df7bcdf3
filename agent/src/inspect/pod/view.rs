//! A pod as the checks see it: with what is around it, and what follows from that.
use std::ops::Deref;

use jiff::Timestamp;

use super::{
    super::{
        cluster::{Request, SETTLING},
        report::Findings,
    },
    facts::{Around, Wanted},
    objects::{Complaint, Mode, Pod},
    report::CheckId,
    requests::{self, Signed},
};

pub(super) type Checks = Findings<CheckId>;

/// A pod that is there, and what is around it.
pub(super) struct Look<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) pod: &'a Pod,
    pub(super) around: &'a Around,
    pub(super) now: Timestamp,
}

/// The same with what follows from it.
pub(super) struct View<'a> {
    pub(super) look: Look<'a>,
    pub(super) mode: Mode,
    /// What was signed last.
    pub(super) signed: Option<Signed>,
    /// The pod runs by a certificate, so that what is wrong is wrong with the next one.
    pub(super) works_now: bool,
}

impl<'a> Look<'a> {
    pub(super) fn own(&self) -> impl Iterator<Item = &'a Request> {
        self.around.own(Some(self.pod))
    }

    pub(super) fn newest(&self) -> Option<&'a Request> {
        self.own().next()
    }

    /// It is the identity of the pod, as far as that is known.
    pub(super) fn is_identity(&self, id: &str) -> bool {
        let path = format!(
            "/ns/{}/sa/{}",
            self.wanted.namespace, self.pod.service_account
        );
        match &self.wanted.trust_domain {
            Some(domain) => id == format!("spiffe://{domain}{path}"),
            None => id.ends_with(&path),
        }
    }

    pub(super) fn node(&self) -> &str {
        self.pod.node.as_deref().unwrap_or("its node")
    }

    /// Whoever has to do something about it may be about to.
    pub(super) fn is_young(&self, since: Option<Timestamp>) -> bool {
        since.is_some_and(|since| self.now.duration_since(since) < SETTLING)
    }

    pub(super) fn last_complaint(&self) -> Option<&'a Complaint> {
        self.around.complaint.as_ref().ok()?.as_ref()
    }

    pub(super) fn has_complaint(&self) -> bool {
        self.last_complaint().is_some()
    }

    /// What kubelet said last.
    pub(super) fn complaint(&self) -> String {
        match &self.around.complaint {
            Ok(Some(one)) if one.is_ours => format!("kubelet says: {}", one.message),
            Ok(Some(one)) => format!("kubelet says nothing of this volume, but: {}", one.message),
            Ok(None) => "kubelet has said nothing of it".to_owned(),
            Err(unseen) => format!("what kubelet says is not known: {}", unseen.text),
        }
    }
}

impl<'a> View<'a> {
    pub(super) fn of(look: Look<'a>) -> Self {
        let signed = requests::last_signed(&look);
        let certificate = signed.as_ref().and_then(|one| one.certificate.as_ref());
        let has_expired = certificate.is_some_and(|one| look.now > one.not_after);
        Self {
            mode: look.around.mode(),
            works_now: look.pod.is_mounted && !has_expired,
            signed,
            look,
        }
    }

    pub(super) fn is_by_controller(&self) -> bool {
        self.mode == Mode::Controller
    }

    /// A problem; a warning as long as the pod has what it needs.
    pub(super) fn bad(&self, checks: &mut Checks, id: CheckId, detail: &str) {
        if self.works_now {
            checks.warned(id, detail);
        } else {
            checks.failed(id, detail);
        }
    }
}

impl<'a> Deref for View<'a> {
    type Target = Look<'a>;

    fn deref(&self) -> &Look<'a> {
        &self.look
    }
}
