//! What there is to say at each of the two objects. Pure.
use std::collections::BTreeMap;

use certagent_core::{
    conditions::{self, InForce, Statement, Status, with_end},
    config::{Problem, TrustPolicy},
    pool::CaPoolName,
    request::RequestForm,
};
use certagent_svid::{TrustBundles, TrustDomain};

use super::reason;
use crate::{
    config::{ClusterState, JudgedObject},
    issuer::{IssueError, cas::Survey},
    kube::Kind,
    trust::{SourceName, Trust},
};

/// What is known of an issuing pool.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// It would issue.
    Issues(Survey),
    /// It would not.
    Refuses(IssueError),
    /// It cannot be told, because of the roots, and why.
    NoRoots(String),
}

/// What the rules say of an object.
pub(super) enum Ruled {
    /// It is not ready.
    NotReady(Vec<Statement>),
    /// Nothing stands against it but what a look at the pools and anchors finds; the warnings.
    Good(Vec<Statement>),
}

/// What the rules say of an object, and of the other one without which it is not used. None if
/// there is no such object.
pub(super) fn by_rules(kind: Kind, state: &ClusterState) -> Option<Ruled> {
    let object = state.objects.get(&kind)?;
    let mut said = conditions::judge(&object.problems, object.in_force, object.generation);
    if said.iter().any(|one| one.status == Status::False) {
        return Some(Ruled::NotReady(said));
    }
    let (other, reason) = match kind {
        Kind::Certificates => (Kind::Trust, reason::TRUST_CONFIG_NOT_READY),
        Kind::Trust => (Kind::Certificates, reason::CERTIFICATES_NOT_READY),
    };
    let Some(lacks) = lacks(other, state.objects.get(&other)) else {
        return Some(Ruled::Good(said));
    };
    let end = match object.in_force {
        InForce::This => "Until then this object stays in force as it is".to_owned(),
        other => format!("Until then {other}"),
    };
    let message = with_end(&lacks, &end);
    said.push(Statement::not_ready(reason, message, object.generation));
    Some(Ruled::NotReady(said))
}

/// Why an object cannot be used together with the other one.
fn lacks(kind: Kind, object: Option<&JudgedObject>) -> Option<String> {
    let kind = kind.name();
    let Some(object) = object else {
        return Some(format!(
            "there is no {kind} named default, and neither object is used without the other; \
             apply one"
        ));
    };
    let is_broken = object.problems.iter().any(Problem::is_error);
    is_broken.then(|| {
        format!(
            "the {kind} named default has errors, and neither object is used without the other; \
             its own conditions say what to correct"
        )
    })
}

/// What to say at the `TrustConfig` whose policy is `policy`. None as long as the anchors were not
/// asked. `rendered` is what will stand in it; none if that is too much.
pub(super) fn trust(
    generation: i64,
    mut said: Vec<Statement>,
    policy: &TrustPolicy,
    trust: &Trust,
    rendered: Option<&TrustBundles>,
) -> Option<Vec<Statement>> {
    if !trust.follows(policy) || !trust.is_resolved() {
        return None;
    }
    let Some(rendered) = rendered else {
        let message = "the roots of all trust domains together are more than an object can hold; \
                       name fewer anchors";
        let reason = reason::TOO_MANY_ROOTS;
        said.push(Statement::not_ready(reason, message.to_owned(), generation));
        return Some(said);
    };
    let mut found = Vec::new();
    // A source that several trust domains name is asked once, and told once.
    let mut sources = BTreeMap::<SourceName, Vec<&TrustDomain>>::new();
    for (domain, anchors) in &policy.stores {
        for name in anchors.iter().filter_map(SourceName::of) {
            sources.entry(name).or_default().push(domain);
        }
        if trust.is_stripped(domain) {
            found.push((reason::DISTRUSTED, trust.trouble(domain)));
        }
    }
    for (name, domains) in sources {
        let source = trust.sources().get(&name);
        let Some(error) = source.and_then(|source| source.error.as_ref()) else {
            continue;
        };
        for domain in domains {
            let rest = if rendered.get(domain).is_some() {
                "the roots that are known of it stay rendered"
            } else {
                "no root of it is known, so nothing is rendered"
            };
            let message = format!("a trust anchor of {domain} is not available: {error}; {rest}");
            found.push((reason::of_anchor(error), message));
        }
    }
    said.push(verdict(Kind::Trust, found, generation));
    Some(said)
}

/// What to say at the `WorkloadCertificateConfig` after a look at its pools, in their order.
///
/// It is ready as long as one of them would issue: the others, and what is to be doubted, are the
/// warning.
pub(super) fn certificates(
    generation: i64,
    mut said: Vec<Statement>,
    looks: &[(CaPoolName, Look)],
) -> Vec<Statement> {
    let (mut against, mut doubts) = (Vec::new(), Vec::new());
    for (pool, look) in looks {
        match look {
            Look::Issues(survey) if survey.preflight.form != RequestForm::Config => {
                let message = format!(
                    "the CA pool {pool} forbids config-based issuance, and the controller makes \
                     no other requests, so that nothing but the key comes from a node; allow it in \
                     the pool's allowedIssuanceModes"
                );
                against.push((reason::FORBIDS_CONFIG, message));
            }
            Look::Issues(survey) => {
                let doubt = |one| (reason::of_doubt(one), one.to_string());
                doubts.extend(survey.doubts.iter().map(doubt));
            }
            Look::Refuses(error) => against.push((reason::of_pool(error), error.to_string())),
            Look::NoRoots(why) => against.push((reason::TRUST_CONFIG_NOT_READY, why.clone())),
        }
    }
    if against.len() < looks.len() {
        doubts.splice(0..0, against.drain(..));
    }
    said.push(verdict(Kind::Certificates, against, generation));
    warn(&mut said, doubts, generation);
    said
}

/// Ready, unless something was found.
fn verdict(kind: Kind, found: Vec<(&'static str, String)>, generation: i64) -> Statement {
    match found.first() {
        None => Statement::ready(kind.name(), generation),
        Some((reason, _)) => {
            let reason = *reason;
            let lines: Vec<_> = found.into_iter().map(|(_, message)| message).collect();
            Statement::not_ready(reason, lines.join("\n"), generation)
        }
    }
}

/// Puts what was found into the one warning.
fn warn(said: &mut Vec<Statement>, found: Vec<(&'static str, String)>, generation: i64) {
    let Some((reason, _)) = found.first() else {
        return;
    };
    let place = said
        .iter()
        .position(|one| one.r#type == conditions::WARNING);
    let before = place.map(|place| said.swap_remove(place));
    let reason = before.as_ref().map_or(*reason, |before| before.reason);
    let earlier = before.into_iter().map(|before| before.message);
    let lines: Vec<_> = earlier
        .chain(found.into_iter().map(|(_, message)| message))
        .collect();
    said.push(Statement::warning(reason, lines.join("\n"), generation));
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "judge_tests.rs"]
mod tests;
