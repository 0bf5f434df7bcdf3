//! IAM: which caller may do what with which resource.
//!
//! A caller may do what a role of theirs permits, in the policy of the CA pool, of its project, or
//! in the configuration's `bindings`. Groups and domains are accepted as members and match nobody,
//! for no caller is known to be in one; a deleted principal matches nobody either. A binding with a
//! condition is refused, since it would be granted or denied wrongly without an evaluation of it.

mod roles;

use crate::errors::ApiError;
use crate::iam_store::Policy;
use crate::identity::{Caller, excerpt};

/// Google's bound on the members of a policy.
const MAX_MEMBERS: usize = 1500;

/// Who may call the API without being told from the others.
const EVERYBODY: [&str; 2] = ["allUsers", "allAuthenticatedUsers"];

/// Kinds of members by the text before their name.
const KINDS: [&str; 8] = [
    "user:",
    "serviceAccount:",
    "group:",
    "domain:",
    "deleted:",
    "principal://iam.googleapis.com/",
    "principalSet://iam.googleapis.com/",
    "principalSet://cloudresourcemanager.googleapis.com/",
];

/// Whether the policies give `caller` the `permission`.
pub(crate) fn is_granted(caller: &Caller, permission: &str, policies: &[&Policy]) -> bool {
    caller.is_administrator()
        || policies
            .iter()
            .flat_map(|policy| &policy.bindings)
            .any(|binding| {
                // A stored condition is never evaluated, so nothing follows from its binding.
                binding.condition.is_none()
                    && roles::permits(&binding.role, permission)
                    && binding.members.iter().any(|member| caller.is(member))
            })
}

/// Refuses a caller to whom the policies do not give the `permission` on `resource`
/// (`projects/P/locations/L/caPools/N` or one of its parents).
pub(crate) fn authorize(
    caller: &Caller,
    permission: &str,
    resource: &str,
    policies: &[&Policy],
) -> Result<(), ApiError> {
    if is_granted(caller, permission, policies) {
        Ok(())
    } else {
        Err(ApiError::permission_denied(permission, resource))
    }
}

/// Refuses a policy that this emulator cannot decide by, or that the service would not take.
pub(crate) fn check_policy(policy: &Policy) -> Result<(), ApiError> {
    let members: usize = policy
        .bindings
        .iter()
        .map(|binding| binding.members.len())
        .sum();
    if members > MAX_MEMBERS {
        let message = format!("The policy has {members} members; {MAX_MEMBERS} are the most.");
        return Err(ApiError::invalid(message));
    }
    for binding in &policy.bindings {
        if !roles::is_role(&binding.role) {
            return Err(ApiError::invalid(format!(
                "Role \"{}\" is not supported for this resource; this emulator knows {}.",
                excerpt(&binding.role),
                roles::names().collect::<Vec<_>>().join(", "),
            )));
        }
        if binding.condition.is_some() {
            return Err(ApiError::invalid(format!(
                "policy.bindings.condition of {} is not supported by this emulator.",
                binding.role
            )));
        }
        for member in &binding.members {
            check_member(member).map_err(ApiError::invalid)?;
        }
    }
    Ok(())
}

/// Refuses what is no IAM member.
pub(crate) fn check_member(member: &str) -> Result<(), String> {
    let has_name = |kind: &&str| {
        member
            .strip_prefix(*kind)
            .is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace))
    };
    if EVERYBODY.contains(&member) || KINDS.iter().any(has_name) {
        return Ok(());
    }
    Err(format!(
        "The member \"{}\" is of an unknown type. Please set a valid type prefix for the member: \
         user:, serviceAccount:, group:, domain:, principal://iam.googleapis.com/ or \
         principalSet://iam.googleapis.com/.",
        excerpt(member)
    ))
}

#[cfg(test)]
mod tests;
