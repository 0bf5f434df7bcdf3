//! How far the pod's request has come, from the driver's asking to the mount.
use certagent_core::rotation::{self, CertState};
use certagent_svid::{Chain, leaf};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        cluster::{Request, SETTLING, State},
        report::Skip,
        text::{clean, relative, span},
    },
    report::{Certificate, CheckId},
    view::{Checks, Look, View},
};

/// More ends of a long life are not told.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 366 * 100);

/// What came with the newest request that is signed.
pub(super) struct Signed {
    pub(super) request: String,
    /// None if it cannot be read.
    pub(super) certificate: Option<Certificate>,
    /// Why the node refuses it.
    problem: Option<String>,
}

/// What was signed last for the pod.
pub(super) fn last_signed(look: &Look<'_>) -> Option<Signed> {
    let signed = look.own().find(|one| one.state == State::Signed)?;
    let request = signed.name.clone();
    let pem = signed.certificate.as_deref().unwrap_or_default();
    let chain = match Chain::parse_pem(pem) {
        Ok(chain) => chain,
        Err(error) => {
            return Some(Signed {
                request,
                certificate: None,
                problem: Some(error.to_string()),
            });
        }
    };
    let (leaf, not_after) = (chain.leaf(), chain.earliest_not_after());
    let id = leaf::spiffe_id(leaf);
    let problem = match &id {
        Ok(id) if look.is_identity(&id.to_string()) => None,
        Ok(id) => Some(format!("it is for {id}")),
        Err(error) => Some(error.to_string()),
    };
    let renews = renews(look, signed, leaf.not_before(), not_after);
    let certificate = Certificate {
        request: request.clone(),
        spiffe_id: id.ok().map(|id| clean(&id.to_string())),
        serial: leaf.serial_hex(),
        not_before: leaf.not_before(),
        not_after,
        renews_from: renews.map(|renews| renews.0),
        renews_until: renews.map(|renews| renews.1),
    };
    Some(Signed {
        request,
        certificate: Some(certificate),
        problem,
    })
}

/// Between which moments the renewal begins; only the node knows which one it drew.
fn renews(
    look: &Look<'_>,
    signed: &Request,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    let [Ok(Some(config)), _] = &look.around.objects else {
        return None;
    };
    let validity = config
        .validity
        .filter(|one| one.is_positive() && *one <= LONGEST)?;
    let percentage = config.rotation_window_percentage?;
    let due = |spread| {
        let state = CertState {
            not_before,
            not_after,
            authorities_until: None,
            issued_at: signed.since.or(signed.created).unwrap_or(not_before),
            validity,
            rotation_window_percentage: percentage.clamp(1, 99),
            spread,
        };
        Timestamp::from_second(rotation::due(&state).as_second()).ok()
    };
    Some((due(0.0)?, due(1.0)?))
}

/// The driver has asked.
pub(super) fn request(checks: &mut Checks, view: &View<'_>) {
    let id = CheckId::Request;
    let pod = view.look.pod;
    if let Err(unseen) = &view.look.around.requests {
        return checks.skipped(id, Skip::Unable, &unseen.text);
    }
    if let Some(newest) = view.newest() {
        let made = newest
            .created
            .map(|at| format!(", made {}", relative(at, view.look.now)));
        return checks.passed(id, &format!("{}{}", newest.name, made.unwrap_or_default()));
    }
    if pod.is_mounted {
        let detail = "none is kept any more: Kubernetes deletes requests an hour or two after the \
                      decision";
        return checks.skipped(id, Skip::Minor, detail);
    }
    if let Ok(requests) = &view.look.around.requests
        && requests.is_cut
    {
        let detail =
            "there are more requests than were looked at, and none of them is for this pod";
        return checks.skipped(id, Skip::Unable, detail);
    }
    let what = format!(
        "the driver on {} has made no request for the pod",
        view.node()
    );
    let detail = format!("{what}; {}", view.complaint());
    if view.has_complaint() || !view.is_young(pod.since()) {
        checks.failed(id, &detail);
    } else {
        checks.warned(id, &format!("{what} yet: look again in a moment"));
    }
}

/// Somebody said yes.
pub(super) fn approval(checks: &mut Checks, view: &View<'_>) {
    let id = CheckId::Approval;
    let Some(newest) = view.newest() else {
        return without_request(checks, id);
    };
    let name = format!("the request {}", newest.name);
    match &newest.state {
        State::Denied(reason) => {
            let again = "; the driver asks again by itself, under another name";
            view.bad(checks, id, &format!("{name} was denied: {reason}{again}"));
        }
        State::Pending => {
            let since = age(newest.created, view.look.now);
            let detail = format!("{name} is neither approved nor denied{since}");
            if view.is_young(newest.created) {
                checks.warned(id, &format!("{detail}: look again in a moment"));
            } else {
                let why = if checks.blocks(CheckId::Controller) {
                    "nobody is there who would"
                } else {
                    "the controller's log says why; a pod that was given several certificates \
                     lately waits for a while"
                };
                view.bad(checks, id, &format!("{detail}: {why}"));
            }
        }
        State::Failed(_) | State::Unsigned(_) | State::Signed => {
            checks.passed(id, &format!("{name} is approved"));
        }
    }
}

/// The CA has signed.
pub(super) fn signature(checks: &mut Checks, view: &View<'_>) {
    let id = CheckId::Signature;
    let Some(newest) = view.newest() else {
        return without_request(checks, id);
    };
    let name = format!("the request {}", newest.name);
    match &newest.state {
        State::Failed(reason) => {
            let again = "; the driver asks again by itself, with a new key";
            view.bad(checks, id, &format!("{name} failed: {reason}{again}"));
        }
        State::Unsigned(Some(reason)) => {
            view.bad(
                checks,
                id,
                &format!("{name} is approved and not signed: {reason}"),
            );
        }
        State::Unsigned(None) => {
            let since = age(newest.since.or(newest.created), view.look.now);
            let detail = format!("{name} is approved and not signed{since}");
            if view.is_young(newest.since.or(newest.created)) {
                checks.warned(id, &format!("{detail}: look again in a moment"));
            } else {
                let why = "the controller has not said why; its log does";
                view.bad(checks, id, &format!("{detail}: {why}"));
            }
        }
        State::Signed => checks.passed(id, &format!("{name} is signed")),
        State::Denied(_) | State::Pending => {
            checks.skipped(id, Skip::Depends, "it is not approved");
        }
    }
}

/// What was signed last can be used.
pub(super) fn certificate(checks: &mut Checks, view: &View<'_>) {
    let id = CheckId::Certificate;
    let Some(signed) = &view.signed else {
        return checks.skipped(id, Skip::Minor, "no request for the pod has one");
    };
    let request = &signed.request;
    if let Some(problem) = &signed.problem {
        let problem = format!("the certificate in {request} is refused by the node: {problem}");
        return view.bad(checks, id, &problem);
    }
    let Some(certificate) = &signed.certificate else {
        return;
    };
    let (now, begin, end) = (view.look.now, certificate.not_before, certificate.not_after);
    if now > end {
        let end = relative(end, now);
        let problem = format!("the certificate in {request} expired at {end}: nothing renewed it");
        return checks.failed(id, &problem);
    }
    if now < begin {
        let ahead = span(begin.duration_since(now));
        let problem = format!(
            "the certificate in {request} begins in {ahead}: this machine's clock is behind the CA's"
        );
        return view.bad(checks, id, &problem);
    }
    let is_newest = view.newest().is_some_and(|newest| newest.name == *request);
    match certificate.renews_until {
        Some(due) if is_newest && now.duration_since(due) > SETTLING => {
            let problem = format!(
                "the certificate in {request} was to be renewed until {}, and the driver has not \
                 asked yet",
                relative(due, now)
            );
            checks.warned(id, &problem);
        }
        _ => checks.passed(id, &format!("valid until {end}")),
    }
}

/// Kubelet has mounted it.
pub(super) fn mount(checks: &mut Checks, view: &View<'_>) {
    let id = CheckId::Mount;
    let pod = view.look.pod;
    if pod.is_mounted {
        return checks.passed(id, "kubelet has mounted the pod's volumes");
    }
    let (what, since) = match (view.is_by_controller(), view.newest()) {
        (true, Some(newest)) if newest.state == State::Signed => (
            format!("the request {} is signed", newest.name),
            newest.since.or(newest.created),
        ),
        (true, _) => {
            // What comes first is told already.
            return checks.skipped(id, Skip::Depends, "there is no certificate to mount yet");
        }
        (false, _) => (
            "the driver gets certificates by itself".to_owned(),
            pod.since(),
        ),
    };
    if view.has_complaint() || !view.is_young(since) {
        let detail = format!(
            "{what}, and the volume is not mounted; {}",
            view.complaint()
        );
        checks.failed(id, &detail);
    } else {
        let detail = format!("{what}, and the volume is not mounted yet: look again in a moment");
        checks.warned(id, &detail);
    }
}

/// Those that have nothing to look at, and need not have.
pub(super) fn without_requests(checks: &mut Checks, view: &View<'_>) {
    let why = format!(
        "there are no requests: certificates come {}",
        view.mode.as_str()
    );
    for id in [
        CheckId::Controller,
        CheckId::OtherNodes,
        CheckId::Request,
        CheckId::Approval,
        CheckId::Signature,
        CheckId::Certificate,
    ] {
        checks.skipped(id, Skip::Minor, &why);
    }
}

/// The check of the request said why there is none.
fn without_request(checks: &mut Checks, id: CheckId) {
    if !checks.blocks(CheckId::Request) {
        checks.skipped(id, Skip::Minor, "there is no request to look at");
    }
}

fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or_else(String::new, |since| {
        format!(", for {}", span(now.duration_since(since)))
    })
}
