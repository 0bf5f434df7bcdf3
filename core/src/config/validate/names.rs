//! The rules of `commonName` and `dnsNames`.

use crate::config::problem::{FieldProblem, quote};
use crate::config::rule::Rule;
use crate::config::workload::WorkloadSpec;
use crate::{dns, names::SubjectNames, request::SubjectMode};

/// `ub-common-name` of RFC 5280, in characters.
const LONGEST_COMMON_NAME: usize = 64;

/// More names than this are some mistake, and no certificate of one workload.
const MOST_DNS_NAMES: usize = 32;

/// The names beside the SPIFFE ID.
pub(super) fn names(
    spec: &WorkloadSpec,
    mode: Option<SubjectMode>,
    problems: &mut Vec<FieldProblem>,
) -> SubjectNames {
    let common_name = spec
        .common_name
        .as_deref()
        .and_then(|text| common_name(text, problems));
    let dns_names = dns_names(&spec.dns_names, problems);
    if mode == Some(SubjectMode::ReflectedSpiffe) {
        let fields = [
            ("spec.commonName", spec.common_name.is_some()),
            ("spec.dnsNames", !spec.dns_names.is_empty()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, is_there)| *is_there) {
            let message = "with --identity reflected CA Service puts nothing but the token's \
                           identity into a certificate; take the field out, or use --identity \
                           direct";
            problems.push(FieldProblem::error(Rule::InvalidWorkload, field, message));
        }
    }
    SubjectNames {
        common_name,
        dns_names,
    }
}

fn common_name(text: &str, problems: &mut Vec<FieldProblem>) -> Option<String> {
    let is_printable = |text: &str| text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    let message = if text.is_empty() {
        "the name is empty; leave the field out for a certificate without a subject".to_owned()
    } else if text.chars().count() > LONGEST_COMMON_NAME {
        format!(
            "the name has {} characters, more than a certificate may have",
            text.chars().count()
        )
    } else if !is_printable(text) {
        "the name has a character outside printable ASCII, which programs compare differently"
            .to_owned()
    } else if text.trim() != text {
        "the name begins or ends with a space".to_owned()
    } else {
        return Some(text.to_owned());
    };
    problems.push(
        FieldProblem::error(Rule::InvalidWorkload, "spec.commonName", message)
            .allowed("1 to 64 printable ASCII characters, without a space at the ends"),
    );
    None
}

fn dns_names(texts: &[String], problems: &mut Vec<FieldProblem>) -> Vec<String> {
    if texts.len() > MOST_DNS_NAMES {
        let message = format!("there are {} names", texts.len());
        let problem = FieldProblem::error(Rule::InvalidWorkload, "spec.dnsNames", message);
        problems.push(problem.allowed(format!("at most {MOST_DNS_NAMES} names")));
        return Vec::new();
    }
    for (index, text) in texts.iter().enumerate() {
        let earlier = texts.iter().take(index).position(|other| other == text);
        let message = if let Some(earlier) = earlier {
            format!("the name stands in dnsNames[{earlier}] already; remove one")
        } else if dns::is_host_name(text) {
            continue;
        } else if text.starts_with("*.") {
            "a wildcard would stand for every host below it, those of other workloads included; \
             list the names"
                .to_owned()
        } else if dns::is_host_name(&text.to_ascii_lowercase()) {
            format!(
                "DNS names are written in lower case here: {}",
                text.to_ascii_lowercase()
            )
        } else {
            format!("{} is not the DNS name of a host", quote(text))
        };
        let field = format!("spec.dnsNames[{index}]");
        problems.push(
            FieldProblem::error(Rule::InvalidWorkload, field, message).allowed(
                "a name such as db.example.com: parts of 1 to 63 of a-z, 0-9 and -, 253 in all, no IP address",
            ),
        );
    }
    texts.to_vec()
}
