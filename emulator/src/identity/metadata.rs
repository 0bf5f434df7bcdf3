//! The metadata server of the machine that a caller runs on
//! (<https://docs.cloud.google.com/compute/docs/metadata/overview>).

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::tokens::{CLOUD_PLATFORM, Scopes};
use super::{Identities, MetadataServerConfig};

/// Where the values are.
pub(super) const PREFIX: &str = "/computeMetadata/v1";

/// An answer: plain text, or JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    Text(String),
    Json(String),
    NotFound,
    /// No token could be issued.
    Failed,
}

impl Identities {
    /// The value at `path`, which begins with [`PREFIX`], or `/`.
    pub(super) fn metadata(&self, path: &str, query: &str, now: Timestamp) -> Metadata {
        let Some(server) = &self.metadata_server else {
            return Metadata::NotFound;
        };
        let Some(key) = path.strip_prefix(PREFIX) else {
            // Clients knock here to find out whether there is a metadata server.
            return match path {
                "/" => Metadata::Text("computeMetadata/\n".to_owned()),
                "/computeMetadata" | "/computeMetadata/" => Metadata::Text("v1/\n".to_owned()),
                _ => Metadata::NotFound,
            };
        };
        let parts: Vec<&str> = key.split('/').skip(1).collect();
        let email = &server.service_account;
        let text = match parts.as_slice() {
            [] | [""] => Some("instance/\nproject/\nuniverse/\n".to_owned()),
            ["project", "project-id"] => server.project_id.clone(),
            ["project", "numeric-project-id"] => server.numeric_project_id.map(|n| n.to_string()),
            ["universe", "universe-domain" | "universe_domain"] => {
                Some("googleapis.com".to_owned())
            }
            ["instance", "attributes", "cluster-name"] => server.cluster_name.clone(),
            ["instance", "attributes", "cluster-location"] => server.cluster_location.clone(),
            ["instance", "service-accounts"] | ["instance", "service-accounts", ""] => {
                Some(format!("default/\n{email}/\n"))
            }
            ["instance", "service-accounts", account, rest @ ..]
                if *account == "default" || account.eq_ignore_ascii_case(email) =>
            {
                return self.account_metadata(server, rest, query, now);
            }
            _ => None,
        };
        text.map_or(Metadata::NotFound, Metadata::Text)
    }

    fn account_metadata(
        &self,
        server: &MetadataServerConfig,
        key: &[&str],
        query: &str,
        now: Timestamp,
    ) -> Metadata {
        let email = &server.service_account;
        let parameter = |wanted: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
        };
        match key {
            [] | [""]
                if parameter("recursive")
                    .is_some_and(|value| value.eq_ignore_ascii_case("true")) =>
            {
                let account =
                    json!({ "aliases": ["default"], "email": email, "scopes": [CLOUD_PLATFORM] });
                Metadata::Json(account.to_string())
            }
            [] | [""] => Metadata::Text("aliases\nemail\nscopes\ntoken\n".to_owned()),
            ["aliases"] => Metadata::Text("default\n".to_owned()),
            ["email"] => Metadata::Text(email.clone()),
            ["scopes"] => Metadata::Text(format!("{CLOUD_PLATFORM}\n")),
            ["token"] => {
                let asked = parameter("scopes").unwrap_or_default();
                let asked = asked.split([',', ' ']).filter(|scope| !scope.is_empty());
                self.account_token(server, Scopes::parse(asked), now)
            }
            _ => Metadata::NotFound,
        }
    }

    fn account_token(
        &self,
        server: &MetadataServerConfig,
        scopes: Option<Scopes>,
        now: Timestamp,
    ) -> Metadata {
        let email = server.service_account.to_ascii_lowercase();
        let Some(account) = self.accounts.get(&email) else {
            return Metadata::NotFound;
        };
        // Without a scope that is known, the machine's own.
        let scopes = scopes.unwrap_or(Scopes::ALL);
        match self.issue(Arc::clone(&account.principal), scopes, None, now) {
            Ok(issued) => Metadata::Json(
                json!({
                    "access_token": issued.token,
                    "expires_in": issued.expires.duration_since(now).as_secs(),
                    "token_type": "Bearer",
                })
                .to_string(),
            ),
            Err(_no_random_numbers) => Metadata::Failed,
        }
    }
}
