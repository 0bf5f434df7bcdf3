//! The rules of the objects, as pure functions of their specs.
//!
//! They know nothing of YAML or files, so objects that come from a cluster obey the same rules.
//! Each returns the meaning of the spec together with everything that is wrong with it.

mod certificates;
mod hooks;
mod names;
mod trust;
mod workload;

pub use certificates::{ApiVersion, certificates};
pub use trust::trust;
pub use workload::{DeclaredWorkload, workload};

use certagent_svid::TrustDomain;

use super::{problem::FieldProblem, rule::Rule};

/// A trust domain as the objects write it: the bare name.
fn trust_domain(field: &str, text: &str, problems: &mut Vec<FieldProblem>) -> Option<TrustDomain> {
    let message = match TrustDomain::new(text) {
        _ if text.contains("://") => {
            "write the trust domain's name alone, without spiffe://".into()
        }
        Ok(domain) if domain.as_str() == text => return Some(domain),
        Ok(domain) => format!("a trust domain is written in lower case: {domain}"),
        Err(error) => format!(
            "{} is not a trust domain: {error}",
            super::problem::quote(text)
        ),
    };
    problems.push(
        FieldProblem::error(Rule::InvalidTrustDomain, field, message)
            .allowed("a name such as demo-project.svc.id.goog"),
    );
    None
}
