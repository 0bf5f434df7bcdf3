//! The checks of a pool's issuance policy.
use super::{
    super::text::{clean, span},
    checks::{Inspection, signed},
    report::{CheckId, Passthrough, Policy},
    text::listed,
};
use crate::{
    cas::wire::IssuancePolicy,
    issuer::{
        IssueError,
        cas::{
            check_backdating, check_form, check_key_type, check_lifetime, check_names,
            describe_keys,
        },
    },
};
use certagent_core::{names::SubjectNames, request::RequestForm};

/// More of a rule in CEL is not shown.
const LONGEST_RULE: usize = 300;

/// More extensions are not shown; the service has six with names.
const MOST_EXTENSIONS: usize = 20;

/// Every check that needs nothing but the policy.
pub(super) fn checks(inspection: &mut Inspection<'_>, policy: &IssuancePolicy) {
    let (plan, pool) = (&inspection.facts.plan, inspection.pool);
    let validity = span(signed(plan.validity));
    let algorithm = plan.algorithm;
    let key_type = check_key_type(plan, pool, policy);
    judge(inspection, CheckId::KeyType, key_type, || {
        format!("the pool signs {algorithm} keys")
    });
    let lifetime = check_lifetime(plan, pool, policy);
    judge(inspection, CheckId::Lifetime, lifetime, || {
        format!("the pool issues for {validity}")
    });
    backdating(inspection, policy);
    issuance(inspection, policy);
    names(inspection, policy);
    usages(inspection, policy);
}

fn judge(
    inspection: &mut Inspection<'_>,
    id: CheckId,
    outcome: Result<(), IssueError>,
    good: impl FnOnce() -> String,
) {
    match outcome {
        Ok(()) => inspection.found.passed(id, &good()),
        Err(error) => inspection.found.failed(id, &error.to_string()),
    }
}

fn backdating(inspection: &mut Inspection<'_>, policy: &IssuancePolicy) {
    let (plan, pool) = (&inspection.facts.plan, inspection.pool);
    let id = CheckId::Backdating;
    if let Err(error) = check_backdating(plan, pool, policy) {
        return inspection.found.failed(id, &error.to_string());
    }
    let backdate = policy.backdate_duration.unwrap_or_default();
    if backdate.is_zero() {
        return inspection
            .found
            .passed(id, "certificates begin when they are issued");
    }
    let usable = plan.validity.saturating_sub(backdate);
    let window = usable * u32::from(plan.rotation_window_percentage) / 100;
    let detail = format!(
        "the pool backdates by {}, so {} of the {} that are asked for can be used, and renewal \
         begins {} before their end",
        span(signed(backdate)),
        span(signed(usable)),
        span(signed(plan.validity)),
        span(signed(window))
    );
    if backdate > usable {
        inspection.found.warned(id, &detail);
    } else {
        inspection.found.passed(id, &detail);
    }
}

fn issuance(inspection: &mut Inspection<'_>, policy: &IssuancePolicy) {
    let id = CheckId::Issuance;
    match check_form(inspection.pool, policy) {
        Ok(RequestForm::Config | RequestForm::Kubernetes) => inspection
            .found
            .passed(id, "the pool takes config-based requests"),
        Ok(RequestForm::PemCsr) => inspection.found.warned(
            id,
            "the pool takes CSRs only (allowedIssuanceModes): certagent then sends CSRs, but only \
             to ask for its own workloads; the guide's set-up issues from a config",
        ),
        Err(error) => inspection.found.failed(id, &error.to_string()),
    }
}

fn names(inspection: &mut Inspection<'_>, policy: &IssuancePolicy) {
    let id = CheckId::Names;
    let (plan, pool) = (&inspection.facts.plan, inspection.pool);
    if !keeps_identity(policy) {
        return inspection.found.failed(
            id,
            "the pool drops the names that are asked for (identityConstraints without \
             allowSubjectAltNamesPassthrough), so its certificates have no SPIFFE ID, and are \
             refused",
        );
    }
    // With the SPIFFE ID, DNS names are taken over, too.
    if let Err(error) = check_names(plan, pool, policy) {
        let who = listed(&inspection.wanted.named.common_name);
        let detail = format!("{error}. Asked for by {who}");
        return inspection.found.failed(id, &detail);
    }
    match &policy.identity_constraints {
        Some(constraints) if rule(constraints).is_some() => inspection.found.passed(
            id,
            "the pool takes the names over that fulfil its CEL expression",
        ),
        _ => inspection
            .found
            .passed(id, "the pool takes the SPIFFE ID over"),
    }
}

/// The settings without which the pool drops names that are asked for.
pub(super) fn missing_for_names(
    policy: &IssuancePolicy,
    names: &SubjectNames,
) -> Vec<&'static str> {
    let constraints = policy.identity_constraints.as_ref();
    let drops_subject = constraints.is_some_and(|one| !one.allow_subject_passthrough);
    [
        (!keeps_identity(policy), "allowSubjectAltNamesPassthrough"),
        (
            names.common_name.is_some() && drops_subject,
            "allowSubjectPassthrough",
        ),
    ]
    .into_iter()
    .filter_map(|(is_missing, setting)| is_missing.then_some(setting))
    .collect()
}

fn keeps_identity(policy: &IssuancePolicy) -> bool {
    let constraints = policy.identity_constraints.as_ref();
    constraints.is_none_or(|constraints| constraints.allow_subject_alt_names_passthrough)
}

fn rule(constraints: &crate::cas::wire::IdentityConstraints) -> Option<&str> {
    let rule = constraints.cel_expression.as_ref()?.expression.trim();
    (!rule.is_empty()).then_some(rule)
}

/// Whether what the pool makes of the asked key usages is an X.509-SVID.
fn usages(inspection: &mut Inspection<'_>, policy: &IssuancePolicy) {
    let id = CheckId::Usages;
    let baseline = &policy.baseline_values;
    let base = &baseline.key_usage.base_key_usage;
    let extended = &baseline.key_usage.extended_key_usage;
    let passes = |name: &str| {
        policy
            .passthrough_extensions
            .as_ref()
            .is_none_or(|passed| passed.known_extensions.iter().any(|one| one == name))
    };
    let problem = if baseline.ca_options.is_ca {
        "the pool's baselineValues make every certificate a CA's"
    } else if base.has("certSign") || base.has("crlSign") {
        "the pool's baselineValues let every key sign certificates or revocation lists"
    } else if base.is_set() && !base.has("digitalSignature") {
        "the pool's baselineValues set key usages without digitalSignature"
    } else if !base.is_set() && !passes("BASE_KEY_USAGE") {
        "the pool drops the key usages that are asked for (passthroughExtensions without \
         BASE_KEY_USAGE), and its baselineValues have none"
    } else if extended.is_set() && !(extended.has("serverAuth") && extended.has("clientAuth")) {
        "the pool's baselineValues set extended key usages without serverAuth and clientAuth"
    } else {
        let detail = "the pool's certificates may be used as X.509-SVIDs";
        return inspection.found.passed(id, detail);
    };
    let detail = format!("{problem}: such certificates are no X.509-SVIDs, and are refused");
    inspection.found.failed(id, &detail);
}

/// What the pool issues, for the report.
pub(super) fn describe(policy: &IssuancePolicy) -> Policy {
    let modes = policy.allowed_issuance_modes;
    let keys = &policy.allowed_key_types;
    let passed = policy.passthrough_extensions.as_ref().map(|passed| {
        let names = passed.known_extensions.iter().take(MOST_EXTENSIONS);
        names.map(|name| clean(name)).collect()
    });
    Policy {
        key_types: (!keys.is_empty()).then(|| clean(&describe_keys(keys))),
        maximum_lifetime_seconds: policy.maximum_lifetime.map(|longest| longest.as_secs()),
        backdate_seconds: policy.backdate_duration.map(|by| by.as_secs()),
        config_based_issuance: modes.is_none_or(|modes| modes.allow_config_based_issuance),
        csr_based_issuance: modes.is_none_or(|modes| modes.allow_csr_based_issuance),
        names: Passthrough {
            subject_passthrough: policy
                .identity_constraints
                .as_ref()
                .is_none_or(|constraints| constraints.allow_subject_passthrough),
            subject_alt_names_passthrough: keeps_identity(policy),
        },
        cel_expression: policy
            .identity_constraints
            .as_ref()
            .and_then(rule)
            .map(|rule| crate::cas::error::printable(rule, LONGEST_RULE)),
        passthrough_extensions: passed,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
