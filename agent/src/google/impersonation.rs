//! The impersonation of a service account: a token of somebody who may becomes one of the account
//! (`generateAccessToken` of Google's IAM Service Account Credentials API).
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::{Url, header::AUTHORIZATION};
use serde::Deserialize;
use serde_json::json;

use super::{
    IdentityError, SCOPE, ServiceAccount, Token,
    sts::{Failure, Granted, LONGEST_LIFETIME, Service, usable},
};
use crate::cas::{ClientError, Endpoint, Roots, error::printable, transport::Timeouts};

/// The lifetime that a service account's token is asked for: the longest without an exception in
/// the organisation's policy (google/iam/credentials/v1/common.proto).
const LIFETIME: Duration = Duration::from_secs(3600);

/// The longest name of an account that a message repeats, in characters.
const LONGEST_NAME: usize = 254;

/// Whom a request is charged to, where that is not the caller's own project.
const QUOTA_PROJECT: &str = "x-goog-user-project";

/// A service account whose tokens are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    endpoint: Endpoint,
    path: String,
    /// Its address, or another name of it.
    account: String,
    /// The accounts in between, each of which may impersonate the next.
    pub(super) delegates: Vec<String>,
    /// The project that the call is charged to.
    pub(super) quota_project: Option<String>,
    named_by: NamedBy,
}

/// What a reader is pointed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamedBy {
    Flags,
    File,
}

impl Target {
    /// The account of `--impersonate`.
    pub(super) fn of_flags(endpoint: &Endpoint, account: &ServiceAccount) -> Self {
        Self {
            endpoint: endpoint.clone(),
            path: format!("/v1/projects/-/serviceAccounts/{account}:generateAccessToken"),
            account: account.to_string(),
            delegates: Vec::new(),
            quota_project: None,
            named_by: NamedBy::Flags,
        }
    }

    /// The account of a credentials file's `service_account_impersonation_url`; none if the text
    /// is no such URL.
    pub(super) fn of_url(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let endpoint = Endpoint::parse(&url.origin().ascii_serialization()).ok()?;
        let (_, named) = url.path().rsplit_once("/serviceAccounts/")?;
        let account = named.strip_suffix(":generateAccessToken")?;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.@:%".contains(&b);
        let is_good = !account.is_empty()
            && account.bytes().all(is_name)
            && url.query().is_none()
            && url.fragment().is_none();
        is_good.then(|| Self {
            path: url.path().to_owned(),
            account: printable(account, LONGEST_NAME),
            endpoint,
            delegates: Vec::new(),
            quota_project: None,
            named_by: NamedBy::File,
        })
    }
}

/// A service account, and the client that asks for its tokens.
pub(super) struct Impersonation {
    service: Service,
    target: Target,
}

impl Impersonation {
    pub(super) fn new(
        target: Target,
        roots: &Roots,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        let service = Service::new(&target.endpoint, roots, timeouts)?;
        Ok(Self { service, target })
    }

    /// The service account, for people.
    pub(super) fn account(&self) -> &str {
        &self.target.account
    }

    /// Where its tokens are made.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.service.endpoint
    }

    /// Asks for a token of the service account, as whoever `shown` is.
    pub(super) async fn token(
        &self,
        shown: &Token,
        now: Timestamp,
    ) -> Result<Granted, IdentityError> {
        let failed = |what: Failure| {
            let what = what.without(shown);
            let advice = self.advice(&what);
            let about = format!("no token of {}", self.target.account);
            what.into_error(&self.service.endpoint, &about, &advice)
        };
        let lifetime = format!("{}s", LIFETIME.as_secs());
        let mut body = json!({ "scope": [SCOPE], "lifetime": lifetime });
        if !self.target.delegates.is_empty() {
            body["delegates"] = json!(self.target.delegates);
        }
        let header = shown
            .bearer()
            .map_err(|_odd| failed(Failure::NotUnderstood))?;
        let url = self.service.endpoint.url(&self.target.path);
        let mut request = self.service.http.post(url).header(AUTHORIZATION, header);
        if let Some(project) = &self.target.quota_project {
            request = request.header(QUOTA_PROJECT, project);
        }
        let body = self
            .service
            .call(request.json(&body))
            .await
            .map_err(failed)?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_not_json| failed(Failure::NotUnderstood))?;
        let token = usable(answer.access_token).ok_or_else(|| failed(Failure::NotUnderstood))?;
        let until: Timestamp = answer
            .expire_time
            .parse()
            .map_err(|_no_moment| failed(Failure::NotUnderstood))?;
        let left = until.duration_since(now);
        if !left.is_positive() {
            let seconds = -left.as_secs();
            return Err(failed(Failure::Ended { at: until, seconds }));
        }
        let lifetime = left.min(SignedDuration::from_secs(LONGEST_LIFETIME));
        Ok(Granted { token, lifetime })
    }

    fn advice(&self, failure: &Failure) -> String {
        let account = &self.target.account;
        let (whom, role, named) = match self.target.named_by {
            NamedBy::Flags => (
                "the workload's identity",
                "roles/iam.workloadIdentityUser",
                "--iamcredentials-endpoint and --impersonate",
            ),
            NamedBy::File => (
                "the identity that the file's source credentials are of",
                "roles/iam.serviceAccountTokenCreator",
                "service_account_impersonation_url in it",
            ),
        };
        match failure {
            Failure::Answer { http: 403, .. } => format!(
                "grant {whom} {role} on {account}, and check that the IAM Service Account Credentials API is enabled in its project"
            ),
            Failure::Answer { http: 404, .. } => match self.target.named_by {
                NamedBy::Flags => {
                    format!("check --impersonate: compare {account} with the accounts that exist")
                }
                NamedBy::File => {
                    format!("check {named}: compare {account} with the accounts that exist")
                }
            },
            _ => failure.advice(named),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: String,
    expire_time: String,
}

#[cfg(test)]
#[path = "impersonation_tests.rs"]
mod tests;
