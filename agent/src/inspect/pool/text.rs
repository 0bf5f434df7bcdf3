//! The report of a pool as people read it.
use std::time::Duration;

use super::{
    super::{
        report::Finding,
        roots,
        text::{relative, seconds_span, span},
    },
    checks::signed,
    report::{Authority, CheckId, Policy, Report},
};

/// More CAs are counted, not shown.
const MOST_AUTHORITIES: usize = 8;

/// More workloads with names are counted, not shown.
const MOST_NAMED: usize = 3;

/// What is the matter, in a few words.
pub(super) fn summary(report: &Report) -> String {
    let Some(cause) = &report.cause else {
        let asked = &report.evidence.asked;
        let (algorithm, validity) = (asked.key_algorithm, span(signed(asked.validity())));
        return format!("the pool would issue ({algorithm}, {validity})");
    };
    let failed = matches!(cause.finding, Finding::Failed(_));
    match cause.id {
        CheckId::Endpoint => NOBODY,
        CheckId::Clock if failed => "this machine's clock is wrong",
        CheckId::Clock => "this machine's clock is off",
        CheckId::Identity if !was_asked(report) => "there is no access token to ask with",
        CheckId::Identity => "CA Service does not know who asks",
        CheckId::Pool if report.evidence.exists == Some(false) => "there is no such pool",
        CheckId::Pool if failed => "the pool cannot be used",
        CheckId::Pool => "the pool may not be looked at",
        CheckId::Authorities => "no CA of the pool issues",
        CheckId::AuthoritiesValidity if failed => "the pool's CAs have expired",
        CheckId::AuthoritiesValidity => "the pool's CAs end soon",
        CheckId::Roots => "the pool has no usable roots",
        CheckId::RootsValidity => "a root has ended, or soon will",
        CheckId::KeyType => "the pool does not sign this kind of key",
        CheckId::KeyFamily => "workloads and CAs have keys of two families",
        CheckId::Lifetime => "the pool does not issue for so long",
        CheckId::Backdating => "the pool backdates too far",
        CheckId::Issuance if failed => "the pool takes no form of request",
        CheckId::Issuance => "the pool takes CSRs only",
        CheckId::Names if keeps_identity(report) => "the pool drops the common name",
        CheckId::Names => "the pool drops the SPIFFE ID",
        CheckId::Usages => "the pool's certificates would be no X.509-SVIDs",
        CheckId::Anchored => "the pool leads to no trust anchor",
        CheckId::MayCreate if report.evidence.may_create == Some(false) => {
            "the identity in use may not create certificates"
        }
        CheckId::MayCreate => "the pool would not issue",
    }
    .to_owned()
}

fn keeps_identity(report: &Report) -> bool {
    let policy = report.evidence.policy.as_ref();
    policy.is_none_or(|policy| policy.names.subject_alt_names_passthrough)
}

/// CA Service was asked anything at all.
fn was_asked(report: &Report) -> bool {
    let mut checks = report.checks.iter();
    checks.any(|check| check.id == CheckId::Endpoint && matches!(check.finding, Finding::Passed(_)))
}

const NOBODY: &str = "nobody answers as CA Service does";

/// What a check that could not run means.
pub(super) fn unseen(id: CheckId) -> Option<&'static str> {
    match id {
        CheckId::Endpoint => Some(NOBODY),
        CheckId::Identity => Some("there is no access token at the moment"),
        CheckId::Pool | CheckId::MayCreate => Some("CA Service does not say at the moment"),
        CheckId::Anchored => Some("the trust anchors are not known"),
        _ => None,
    }
}

/// What is known, in lines.
pub(super) fn evidence(report: &Report) -> Vec<(&'static str, String)> {
    let evidence = &report.evidence;
    let mut lines = vec![("endpoint", evidence.endpoint.clone())];
    lines.extend(evidence.tier.map(|tier| ("tier", tier.to_owned())));
    if let Some(known) = &evidence.policy {
        policy(&mut lines, known);
    }
    for ca in evidence.authorities.iter().take(MOST_AUTHORITIES) {
        lines.push(("CA", authority(ca)));
        lines.extend(ca.subject.as_ref().zip(ca.not_after).map(|(subject, end)| {
            let end = relative(end, report.checked_at);
            ("", format!("\"{subject}\", ends {end}"))
        }));
    }
    if let Some(more @ 1..) = evidence.authorities.len().checked_sub(MOST_AUTHORITIES) {
        lines.push(("", format!("and {more} more")));
    }
    lines.extend(roots::lines(&evidence.roots));
    let asked = &evidence.asked;
    let whence = if asked.is_configured {
        "as configured"
    } else {
        "as the pool allows"
    };
    lines.push(("asked for", asked.spiffe_id.clone()));
    lines.push((
        "",
        format!(
            "{}, {}, {whence}",
            asked.key_algorithm,
            span(signed(asked.validity()))
        ),
    ));
    for (field, who) in [
        ("commonName", &asked.common_name_for),
        ("dnsNames", &asked.dns_names_for),
    ] {
        if !who.is_empty() {
            lines.push(("", format!("{field} for {}", listed(who))));
        }
    }
    if let (Some(service), Some(ahead)) = (evidence.service_time, evidence.clock_ahead_seconds) {
        let difference = match ahead {
            0 => "this machine's agrees".to_owned(),
            1.. => format!("this machine's is {} ahead", span(seconds_span(ahead))),
            _ => format!("this machine's is {} behind", span(seconds_span(ahead))),
        };
        lines.push(("clock", format!("{service}; {difference}")));
    }
    let latency = evidence.latency_milliseconds;
    lines.extend(latency.map(|taken| ("latency", format!("{taken} ms, with the connection"))));
    lines
}

/// The first of them, and how many more there are.
pub(super) fn listed(who: &[String]) -> String {
    let shown: Vec<_> = who.iter().take(MOST_NAMED).map(String::as_str).collect();
    let shown = shown.join(", ");
    match who.len().checked_sub(MOST_NAMED) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

fn policy(lines: &mut Vec<(&'static str, String)>, policy: &Policy) {
    let seconds = |seconds: u64| span(signed(Duration::from_secs(seconds)));
    let keys = policy.key_types.as_deref().unwrap_or("every kind");
    lines.push(("key types", keys.to_owned()));
    let longest = policy.maximum_lifetime_seconds.map(seconds);
    lines.push((
        "lifetime",
        longest.map_or_else(
            || "no maximum".to_owned(),
            |longest| format!("at most {longest}"),
        ),
    ));
    if let Some(by @ 1..) = policy.backdate_seconds {
        lines.push(("backdating", seconds(by)));
    }
    let issuance = match (policy.config_based_issuance, policy.csr_based_issuance) {
        (true, true) => "config and CSR",
        (true, false) => "config only",
        (false, true) => "CSR only",
        (false, false) => "none",
    };
    lines.push(("issuance", issuance.to_owned()));
    if let Some(rule) = &policy.cel_expression {
        lines.push(("names", format!("CEL: {rule}")));
    }
    if let Some(passed) = &policy.passthrough_extensions {
        let passed = if passed.is_empty() {
            "none".to_owned()
        } else {
            passed.join(", ")
        };
        lines.push(("extensions", format!("taken over: {passed}")));
    }
}

fn authority(ca: &Authority) -> String {
    let kind = if ca.is_root { "root" } else { "subordinate" };
    format!("{} ({kind}), {}, {}", ca.id, ca.state, ca.key_algorithm)
}
