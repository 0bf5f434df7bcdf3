//! Who may call, as it is written down in a file.

use std::fmt;

use serde::Deserialize;

use super::jwk::Jwks;
use crate::iam_store::Binding;

/// Google's longest life of an access token, and the default, in seconds.
pub(super) const HOUR: u32 = 3600;

/// The callers that an emulator knows, and how they prove who they are.
///
/// The default knows nobody, and then every caller is an administrator, with any token and with
/// none. As soon as one user, service account or provider is configured, every call needs a token
/// of theirs, and the IAM policies of the pools decide what they may do.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: certagent_emulator::IdentityConfig = serde_json::from_str(
///     r#"{
///         "users": [{ "email": "admin@example.com", "accessToken": "a-made-up-admin-token" }],
///         "administrators": ["user:admin@example.com"],
///         "serviceAccounts": [{ "email": "agent@my-project.iam.gserviceaccount.com" }],
///         "metadataServer": { "serviceAccount": "agent@my-project.iam.gserviceaccount.com" },
///         "bindings": [{
///             "role": "roles/privateca.certificateRequester",
///             "members": ["serviceAccount:agent@my-project.iam.gserviceaccount.com"]
///         }]
///     }"#,
/// )?;
/// config.validate()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// People, each with an access token that never expires, for gcloud's
    /// `CLOUDSDK_AUTH_ACCESS_TOKEN`.
    pub users: Vec<UserConfig>,
    /// Service accounts.
    pub service_accounts: Vec<ServiceAccountConfig>,
    /// Workload identity providers, whose tokens the token service exchanges.
    pub providers: Vec<ProviderConfig>,
    /// The metadata server of the machine that callers run on; none when absent.
    pub metadata_server: Option<MetadataServerConfig>,
    /// IAM members that may do everything, so that somebody can set the pools up.
    pub administrators: Vec<String>,
    /// Roles that hold on every pool of every project, as if each project's policy had them.
    pub bindings: Vec<Binding>,
    /// How long an issued access token lives, in seconds: 1 to 3600.
    pub token_lifetime_seconds: u32,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            service_accounts: Vec::new(),
            providers: Vec::new(),
            metadata_server: None,
            administrators: Vec::new(),
            bindings: Vec::new(),
            token_lifetime_seconds: HOUR,
        }
    }
}

/// A person.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserConfig {
    /// The mail address: in IAM the member `user:EMAIL`.
    pub email: String,
    /// The token that proves it, at least 16 characters. Made up for this emulator, never a real one.
    pub access_token: String,
}

// By hand: the token must not be printed.
impl fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UserConfig");
        debug.field("email", &self.email).finish_non_exhaustive()
    }
}

/// A service account: in IAM the member `serviceAccount:EMAIL`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountConfig {
    /// Its address, usually `NAME@PROJECT.iam.gserviceaccount.com`.
    pub email: String,
    /// Public keys that verify the JWTs which the account's key file signs.
    #[serde(default)]
    pub jwks: Option<Jwks>,
    /// The same in PEM: `PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`.
    #[serde(default)]
    pub public_keys: Vec<String>,
    /// IAM members that may take tokens of this account (`iam.serviceAccounts.getAccessToken`).
    #[serde(default)]
    pub impersonators: Vec<String>,
}

/// An issuer of tokens that the token service exchanges for access tokens.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderConfig {
    /// The `audience` of the exchange:
    /// `//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`,
    /// or GKE's
    /// `identitynamespace:PROJECT.svc.id.goog:https://container.googleapis.com/v1/projects/PROJECT/locations/LOCATION/clusters/CLUSTER`.
    pub audience: String,
    /// What the tokens must have as `iss`.
    pub issuer: String,
    /// The issuer's public keys, as `kubectl get --raw /openid/v1/jwks` prints them.
    pub jwks: Jwks,
    /// What the tokens may have as `aud`. When empty: the audience itself, with and without
    /// `https:` before it, and for GKE `PROJECT.svc.id.goog`.
    #[serde(default)]
    pub allowed_audiences: Vec<String>,
    /// The project's number, which GKE's form of the audience lacks and the names of its
    /// principals have.
    #[serde(default)]
    pub project_number: Option<u64>,
    /// The trust domain of the SPIFFE IDs; `PROJECT.svc.id.goog` for GKE and
    /// `POOL.global.NUMBER.workload.id.goog` otherwise when absent.
    #[serde(default)]
    pub trust_domain: Option<String>,
    /// The SPIFFE ID of a caller, with `{trustDomain}`, `{subject}` and, for the subjects
    /// `system:serviceaccount:NAMESPACE:NAME` of Kubernetes, `{namespace}` and `{serviceAccount}`.
    /// `spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}` when absent. A caller for whom
    /// this gives no valid SPIFFE ID has none.
    #[serde(default)]
    pub spiffe_id: Option<String>,
}

/// What a machine's metadata server tells.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetadataServerConfig {
    /// Address of the service account that the machine runs as; one of the configured ones.
    pub service_account: String,
    /// The project's id.
    #[serde(default)]
    pub project_id: Option<String>,
    /// The project's number.
    #[serde(default)]
    pub numeric_project_id: Option<u64>,
    /// The GKE cluster's name.
    #[serde(default)]
    pub cluster_name: Option<String>,
    /// The GKE cluster's region or zone.
    #[serde(default)]
    pub cluster_location: Option<String>,
}

/// A configuration of identities that makes no sense. Holds no token and no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("identities: {field}: {problem}")]
pub struct IdentityConfigError {
    /// Where in the configuration, like `providers[1].audience`.
    pub field: String,
    /// What is wrong there and what to write instead.
    pub problem: String,
}
