//! `iamcredentials.googleapis.com`: an access token of a service account for somebody who may have
//! one.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tokens::Scopes;
use super::{Caller, Identities, config};
use crate::errors::{ApiError, Code};
use crate::json::from_body;
use crate::scalars::ProtoDuration;

const PERMISSION: &str = "iam.serviceAccounts.getAccessToken";
/// The most delegates between the caller and the account.
const MAX_DELEGATES: usize = 16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GenerateBody {
    #[serde(default)]
    scope: Vec<String>,
    lifetime: Option<ProtoDuration>,
    #[serde(default)]
    delegates: Vec<String>,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GenerateAnswer {
    access_token: String,
    expire_time: Timestamp,
}

impl Identities {
    /// `generateAccessToken` for the account `email`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `PERMISSION_DENIED` (also for an account that is not there, as Google
    /// has it) and `INVALID_ARGUMENT`.
    pub(super) fn generate_access_token(
        &self,
        email: &str,
        authorization: Option<&str>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<GenerateAnswer, ApiError> {
        let caller = self.authenticate_for(authorization, now, |scopes| {
            scopes.cloud_platform || scopes.iam
        })?;
        let body: GenerateBody = from_body(body)?;
        let scopes = Scopes::parse(body.scope.iter().map(String::as_str)).ok_or_else(|| {
            ApiError::invalid("scope is required and holds Google's scopes in their full form.")
        })?;
        let lifetime = body.lifetime.map(|lifetime| lifetime.0);
        let longest = SignedDuration::from_secs(config::HOUR.into());
        if lifetime.is_some_and(|lifetime| !lifetime.is_positive() || lifetime > longest) {
            let message = "lifetime is more than 0s and at most 3600s.";
            return Err(ApiError::invalid(message));
        }
        if body.delegates.len() > MAX_DELEGATES {
            return Err(ApiError::invalid("There are too many delegates."));
        }
        // Each may take the tokens of the next one, the last one those of the account.
        let mut holder = caller;
        for delegate in &body.delegates {
            let delegate = delegate
                .rsplit_once('/')
                .map_or(delegate.as_str(), |(_, email)| email);
            holder = self.take_over(&holder, delegate)?;
        }
        let Some(principal) = self.account_for(&holder, email) else {
            return Err(denied());
        };
        let issued = self.issue(principal, scopes, lifetime, now)?;
        // Google's client for Python takes whole seconds only.
        let expire_time = Timestamp::from_second(issued.expires.as_second())
            .map_err(|error| ApiError::internal("The token's expiry", error))?;
        Ok(GenerateAnswer {
            access_token: issued.token,
            expire_time,
        })
    }

    fn take_over(&self, holder: &Caller, email: &str) -> Result<Caller, ApiError> {
        let principal = self.account_for(holder, email).ok_or_else(denied)?;
        Ok(self.caller(principal))
    }

    fn account_for(&self, holder: &Caller, email: &str) -> Option<Arc<super::Principal>> {
        let account = self.accounts.get(&email.to_ascii_lowercase())?;
        let may = holder.is_administrator()
            || account.impersonators.iter().any(|member| holder.is(member));
        may.then(|| Arc::clone(&account.principal))
    }
}

/// In Google's words, which do not tell a missing account from a missing permission.
fn denied() -> ApiError {
    let message = format!("Permission '{PERMISSION}' denied on resource (or it may not exist).");
    let mut error = ApiError::new(Code::PermissionDenied, message);
    error.details.push(json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": { "permission": PERMISSION },
    }));
    error
}
