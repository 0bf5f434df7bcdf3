//! The report of a credential directory as people read it.
use super::{
    super::{
        report::Finding,
        roots,
        text::{relative, seconds_span, span},
    },
    report::{Check, CheckId, Evidence, Report},
};

/// What is the matter, in a few words.
pub(super) fn summary(report: &Report) -> String {
    match &report.cause {
        None => match report.evidence.remaining_seconds {
            Some(seconds) => format!("valid for another {}", span(seconds_span(seconds))),
            None => "nothing is wrong".to_owned(),
        },
        Some(Check {
            id: CheckId::Validity,
            finding: Finding::Failed(_),
        }) => match report.evidence.remaining_seconds {
            Some(seconds @ ..0) => {
                format!(
                    "the certificate expired {} ago",
                    span(seconds_span(seconds))
                )
            }
            _ => "the certificate is not valid yet".to_owned(),
        },
        Some(cause) if cause.id == CheckId::Roots && report.evidence.distrusted_root.is_some() => {
            "a root that is not to be trusted is published".to_owned()
        }
        Some(cause) => headline(cause).to_owned(),
    }
}

fn headline(cause: &Check) -> &'static str {
    let failed = matches!(cause.finding, Finding::Failed(_));
    match cause.id {
        CheckId::Directory => "there is no credential directory",
        CheckId::Generation => "the current generation is missing",
        CheckId::Links => "programs do not see the current files",
        CheckId::Certificates => "there is no usable certificate",
        CheckId::ChainOrder if failed => "the workload's certificate is not the first one",
        CheckId::ChainOrder => "the intermediates are out of order",
        CheckId::Svid => "the certificate is no X.509-SVID",
        CheckId::PrivateKey if failed => "there is no usable private key",
        CheckId::PrivateKey => "some TLS stacks cannot read the private key",
        CheckId::KeyMatch => "key and certificate do not belong together",
        CheckId::Validity => "renewal is overdue",
        CheckId::Roots => "there are no usable roots",
        CheckId::RootsValidity => "a root has ended, or soon will",
        CheckId::ChainVerifies => "the chain does not lead to the roots",
        CheckId::TrustBundles if failed => "trust_bundles.json cannot be used",
        CheckId::TrustBundles => "trust_bundles.json has other roots",
        CheckId::CredentialBundle if failed => "credential-bundle.pem cannot be used",
        CheckId::CredentialBundle => "credential-bundle.pem holds another credential",
        CheckId::KeyMode => "everybody can read the key",
        CheckId::KeyStorage => "the key is on a disk",
        CheckId::Leftovers => "a write was interrupted",
        CheckId::Names => "the certificate has other names than are asked for",
        CheckId::Hooks => "programs were not told of the certificate",
    }
}

/// What is known, in lines.
pub(super) fn evidence(report: &Report) -> Vec<(&'static str, String)> {
    let Evidence {
        identity,
        common_name,
        dns_names,
        serial,
        algorithm,
        issuer,
        not_before,
        not_after,
        path_not_after,
        ..
    } = &report.evidence;
    let now = report.checked_at;
    let mut lines = Vec::new();
    let dns_names = (!dns_names.is_empty()).then(|| dns_names.join(", "));
    for (name, value) in [
        ("identity", identity),
        ("common name", common_name),
        ("DNS names", &dns_names),
        ("serial", serial),
        ("algorithm", algorithm),
        ("issuer", issuer),
    ] {
        lines.extend(value.clone().map(|value| (name, value)));
    }
    for (name, moment) in [
        ("valid from", not_before),
        ("valid until", not_after),
        ("path until", path_not_after),
    ] {
        lines.extend(moment.map(|moment| (name, relative(moment, now))));
    }
    if not_after.is_some() {
        let renews = match report.evidence.renews_at {
            Some(moment) => relative(moment, now),
            None => "unknown: no record of the agent for this certificate was given".to_owned(),
        };
        lines.push(("renews", renews));
    }
    if let Some(generation) = &report.evidence.generation {
        let age = generation.age_seconds.map_or_else(
            || "age unknown".to_owned(),
            |age| format!("{} old", span(seconds_span(age.max(0)))),
        );
        lines.push(("generation", format!("{} ({age})", generation.name)));
    }
    if let Some(fits) = report.evidence.key_matches {
        let fits = if fits {
            "matches the certificate"
        } else {
            "of another certificate"
        };
        lines.push(("key", fits.to_owned()));
    }
    match (
        report.evidence.chain_verifies,
        &report.evidence.verified_root,
    ) {
        (Some(true), Some(root)) => lines.push(("chain", format!("verifies to \"{root}\""))),
        (Some(_), _) => lines.push(("chain", "does not verify to the roots".to_owned())),
        (None, _) => {}
    }
    lines.extend(roots::lines(&report.evidence.roots));
    lines
}
