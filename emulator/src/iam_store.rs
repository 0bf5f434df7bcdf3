//! The IAM policies of pools and projects: kept, handed out, and asked whether a call may be made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::emulator::Emulator;
use crate::errors::{ApiError, Code};
use crate::faults::Method;
use crate::iam;
use crate::identity::Caller;
use crate::json::from_body;
use crate::order::is_for_self;
use crate::pool::PoolName;
use crate::route::Call;

/// The versions of policies that there are: 0 for "whichever", 3 with conditions.
const VERSIONS: [i32; 3] = [0, 1, 3];

/// The etag of a policy that nobody has set.
const FIRST_ETAG: &str = "ACAB";

/// Who may do what with a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Policy {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) version: i32,
    /// Changes with every change.
    pub(crate) etag: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) bindings: Vec<Binding>,
    /// Kept for who sent them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) audit_configs: Vec<Value>,
}

/// A role, and who has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Binding {
    /// `roles/privateca.certificateRequester`, for one.
    pub role: String,
    /// `user:a@example.com`, `principal://…`, `principalSet://…`, `allUsers`, for some.
    pub members: Vec<String>,
    /// An expression. This emulator does not evaluate it, so nothing is granted under one, and the
    /// policy of a pool may not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Value>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version: 0,
            etag: FIRST_ETAG.to_owned(),
            bindings: Vec::new(),
            audit_configs: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetBody {
    #[serde(default, rename = "resource")]
    _resource: Option<IgnoredAny>,
    policy: Option<NewPolicy>,
    #[serde(default, rename = "updateMask")]
    _update_mask: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct NewPolicy {
    version: i32,
    etag: String,
    bindings: Vec<Binding>,
    audit_configs: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GetBody {
    #[serde(rename = "resource")]
    _resource: Option<IgnoredAny>,
    options: GetOptions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GetOptions {
    requested_policy_version: i32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TestBody {
    #[serde(rename = "resource")]
    _resource: Option<IgnoredAny>,
    permissions: Vec<String>,
}

impl Emulator {
    /// The policy of a pool, if there is such a pool.
    pub(crate) fn iam_policy(&self, pool: &PoolName) -> Option<Policy> {
        self.world.get(pool).map(|pool| pool.iam.clone())
    }

    pub(crate) fn get_pool_policy(&self, pool: &str, version: i32) -> Result<Policy, ApiError> {
        check_version(version)?;
        let name = pool.parse().ok();
        name.and_then(|name| self.iam_policy(&name))
            .ok_or_else(|| ApiError::not_found(pool))
    }

    pub(crate) fn set_pool_policy(&self, pool: &str, body: &[u8]) -> Result<Policy, ApiError> {
        let body: SetBody = from_body(body)?;
        self.change_pool(pool, |pool, _| {
            let policy = replaced(&pool.iam, body)?;
            iam::check_policy(&policy)?;
            pool.iam = policy;
            Ok(pool.iam.clone())
        })
    }

    /// Those of the permissions asked for that `caller` has on `resource`: a pool or `projects/P`.
    pub(crate) fn test_permissions(
        &self,
        caller: &Caller,
        resource: &str,
        body: &[u8],
    ) -> Result<Value, ApiError> {
        let mut body: TestBody = from_body(body)?;
        let policies = self.policies_of(resource);
        let policies: Vec<&Policy> = policies.iter().collect();
        body.permissions
            .retain(|permission| iam::is_granted(caller, permission, &policies));
        Ok(json!({ "permissions": body.permissions }))
    }

    /// Refuses a caller without the permission that a call needs.
    pub(crate) fn check_access(
        &self,
        caller: &Caller,
        call: &Call,
        body: &[u8],
    ) -> Result<(), ApiError> {
        if caller.is_administrator() {
            return Ok(());
        }
        let permission = match call.permission() {
            None => return Ok(()),
            Some(_) if call.method == Method::CreateCertificate && is_for_self(body) => {
                "privateca.certificates.createForSelf"
            }
            Some((permission, _)) => permission,
        };
        let policies = self.policies_of(&call.resource);
        let policies: Vec<&Policy> = policies.iter().collect();
        iam::authorize(caller, permission, &call.resource, &policies)
    }

    /// The policies that hold for a resource: of its pool, of its project, and everywhere.
    fn policies_of(&self, resource: &str) -> Vec<Policy> {
        let parts: Vec<&str> = resource.split('/').collect();
        let mut policies = vec![self.identities.policy().clone()];
        policies.extend(
            parts
                .get(..2)
                .map(|project| self.project_policy(&project.join("/"))),
        );
        let pool = parts.get(..6).map(|pool| pool.join("/").parse());
        if let Some(Ok(pool)) = pool {
            policies.extend(self.iam_policy(&pool));
        }
        policies
    }
}

/// The version that the body of a project's `getIamPolicy` asks for.
pub(crate) fn check_get_body(body: &[u8]) -> Result<(), ApiError> {
    let body: GetBody = from_body(body)?;
    check_version(body.options.requested_policy_version)
}

/// What a project's `setIamPolicy` makes of its policy.
pub(crate) fn replaced_by_body(old: &Policy, body: &[u8]) -> Result<Policy, ApiError> {
    replaced(old, from_body(body)?)
}

fn replaced(old: &Policy, body: SetBody) -> Result<Policy, ApiError> {
    let new = body
        .policy
        .ok_or_else(|| ApiError::invalid("policy is required."))?;
    check_version(new.version)?;
    if !new.etag.is_empty() && new.etag != old.etag {
        return Err(ApiError::new(
            Code::Aborted,
            "There were concurrent policy changes: the etag is not the current one. Read the \
             policy again, change it and send it with its etag.",
        ));
    }
    for binding in &new.bindings {
        if binding.role.is_empty() {
            return Err(ApiError::invalid("policy.bindings.role is required."));
        }
        if binding.condition.is_some() && new.version != 3 {
            return Err(ApiError::invalid(
                "policy.bindings.condition needs policy.version 3.",
            ));
        }
    }
    Ok(Policy {
        version: new.version.max(1),
        etag: new_etag()?,
        bindings: new.bindings,
        audit_configs: new.audit_configs,
    })
}

fn check_version(version: i32) -> Result<(), ApiError> {
    if VERSIONS.contains(&version) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "The policy version {version} is none of 0, 1 and 3."
    )))
}

fn new_etag() -> Result<String, ApiError> {
    let mut bits = [0; 9];
    getrandom::fill(&mut bits).map_err(|error| ApiError::internal("Randomness", error))?;
    Ok(STANDARD.encode(bits))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_zero(value: &i32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(old: &Policy, policy: &Value) -> Result<Policy, ApiError> {
        replaced_by_body(old, json!({ "policy": policy }).to_string().as_bytes())
    }

    #[test]
    fn an_etag_guards_against_a_change_in_between() {
        let empty = Policy::default();
        assert_eq!(
            serde_json::to_value(&empty).unwrap(),
            json!({ "etag": "ACAB" })
        );
        let binding = json!({ "role": "roles/x", "members": ["user:a@example.com"] });
        let first = set(&empty, &json!({ "etag": "ACAB", "bindings": [binding] })).unwrap();
        assert_eq!(first.version, 1);
        assert_ne!(first.etag, "ACAB");
        let stale = set(&first, &json!({ "etag": "ACAB" })).unwrap_err();
        assert_eq!(stale.code, Code::Aborted);
        let cleared = set(&first, &json!({ "etag": first.etag })).unwrap();
        assert_eq!(cleared.bindings, []);
        let blind = set(&first, &json!({ "version": 3 })).unwrap();
        assert_eq!(blind.version, 3, "without an etag the last writer wins");
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_refused() {
        let empty = Policy::default();
        let conditional = json!({ "role": "roles/x", "condition": { "expression": "true" } });
        for (policy, message) in [
            (json!({ "version": 2 }), "none of 0, 1 and 3"),
            (
                json!({ "bindings": [{ "members": [] }] }),
                "role is required",
            ),
            (
                json!({ "bindings": [conditional] }),
                "needs policy.version 3",
            ),
            (json!({ "bindngs": [] }), "Unknown name \"bindngs\""),
            (json!(1), "invalid type"),
        ] {
            let error = set(&empty, &policy).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument);
            assert!(error.message.contains(message), "{error}");
        }
        assert!(replaced_by_body(&empty, b"{}").is_err());
        assert!(set(&empty, &json!({ "version": 3, "bindings": [conditional] })).is_ok());
        assert!(check_get_body(br#"{"options": {"requestedPolicyVersion": 3}}"#).is_ok());
        assert!(check_get_body(br#"{"options": {"requestedPolicyVersion": 4}}"#).is_err());
    }
}
