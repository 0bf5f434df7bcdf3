//! What the log says when roots change: by subject and SHA-256, which is what `--distrust` takes.
use certagent_svid::{Certificate, TrustDomain};
use tracing::{info, warn};

use super::{distrust::Fingerprint, roots::Trust};

/// Tells what is different between two moments.
pub(super) fn tell(before: &Trust, after: &Trust) {
    for (trust_domain, known) in after.known() {
        let earlier = before
            .known()
            .find(|(domain, one)| *domain == trust_domain && one.root == known.root);
        let (subject, sha256) = shown(&known.root);
        let was_leaving = earlier.is_some_and(|(_, one)| one.leaving.is_some());
        match (earlier, known.leaving) {
            (None, _) if after.distrusts(&known.root) => {
                warn!(%trust_domain, subject, %sha256,
                    "a root is named by its source and not trusted, because --distrust names it");
            }
            (None, _) => info!(%trust_domain, subject, %sha256, "a root is trusted from now on"),
            (Some(_), Some(grace)) if !was_leaving => {
                let until = known.end().unwrap_or(grace.until());
                info!(%trust_domain, subject, %sha256, %until,
                    "no anchor names a root any more; it stays trusted for one validity");
            }
            (Some(_), None) if was_leaving => {
                info!(%trust_domain, subject, %sha256, "a root is named again and stays");
            }
            _ => {}
        }
    }
    for (trust_domain, gone) in before.known() {
        if !after
            .known()
            .any(|(domain, one)| domain == trust_domain && one.root == gone.root)
        {
            let (subject, sha256) = shown(&gone.root);
            info!(%trust_domain, subject, %sha256, "a root is no longer trusted");
        }
    }
}

/// Tells what the emergency switch does, as soon as every source was asked: which fingerprints
/// match nothing that was `seen`, and which of the roots that remain have the key of one that was
/// dropped.
pub(super) fn tell_distrust(trust: &Trust, is_seen: impl Fn(&Fingerprint) -> bool) {
    let there = || {
        let known = trust.known().map(|(domain, known)| (domain, &known.root));
        known.filter(|(_, root)| !trust.distrusts(root))
    };
    for sha256 in trust.distrust().iter().filter(|one| !is_seen(one)) {
        let roots: Vec<_> = there().map(listed).collect();
        warn!(%sha256, roots = roots.join(", "),
            "--distrust names a certificate that is no root here; is the fingerprint right?");
    }
    for (trust_domain, known) in trust.known().filter(|(_, one)| trust.distrusts(&one.root)) {
        let twins = there().filter(|(domain, root)| {
            *domain == trust_domain && root.public_key() == known.root.public_key()
        });
        for (_, twin) in twins {
            let (subject, sha256) = shown(twin);
            warn!(%trust_domain, subject, %sha256,
                "a root with the key of a distrusted one is still trusted; if that key is the \
                 trouble, distrust this one, too");
        }
    }
}

fn shown(root: &Certificate) -> (String, Fingerprint) {
    (root.subject_text(), Fingerprint::of(root))
}

fn listed((trust_domain, root): (&TrustDomain, &Certificate)) -> String {
    format!("{} of {trust_domain}", super::distrust::describe(root))
}
