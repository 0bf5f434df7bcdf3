//! Roots: what is said of them, and whether they last.
use certagent_svid::{Certificate, certificate::hex};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    report::Finding,
    text::{clean, span},
};

/// More roots are counted, not shown.
const MOST_ROOTS: usize = 8;

/// A root that ends sooner than this is worth a warning, or than a tenth of its life if that is
/// shorter.
const ROOT_ENDS_SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A root certificate.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Root {
    pub(super) subject: String,
    pub(super) sha256: String,
    pub(super) not_after: Timestamp,
}

impl Root {
    pub(super) fn of(root: &Certificate) -> Self {
        Self {
            subject: clean(&root.subject_text()),
            sha256: hex(&root.fingerprint()),
            not_after: root.not_after(),
        }
    }
}

/// A CA certificate has ended, or will before somebody may have replaced it.
pub(super) fn ends_soon(ca: &Certificate, now: Timestamp) -> bool {
    let life = ca.not_after().duration_since(ca.not_before());
    ca.not_after().duration_since(now) < ROOT_ENDS_SOON.min(life / 10)
}

/// Whether one of them has ended, or soon will.
pub(super) fn validity(roots: &[Certificate], now: Timestamp) -> Finding {
    for root in roots {
        let (subject, end) = (root.subject_text(), root.not_after());
        let left = end.duration_since(now);
        if left.is_negative() {
            let ago = span(left);
            let problem = format!("the root \"{subject}\" expired at {end}, {ago} ago");
            return Finding::Warned(clean(&problem));
        }
        if ends_soon(root, now) {
            let problem = format!(
                "the root \"{subject}\" ends at {end}, in {}: certificates under it end with it",
                span(left)
            );
            return Finding::Warned(clean(&problem));
        }
    }
    Finding::Passed("no root ends soon".to_owned())
}

/// The roots in lines; of many, the first.
pub(super) fn lines(roots: &[Root]) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for root in roots.iter().take(MOST_ROOTS) {
        lines.push((
            "root",
            format!("\"{}\", ends {}", root.subject, root.not_after),
        ));
        lines.push(("", format!("sha256 {}", root.sha256)));
    }
    if let Some(more @ 1..) = roots.len().checked_sub(MOST_ROOTS) {
        lines.push(("", format!("and {more} more")));
    }
    lines
}
