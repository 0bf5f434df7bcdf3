//! Identities: who calls. Tokens of configured principals are issued, exchanged and checked here;
//! what a caller may do is decided in `iam.rs`.
//!
//! Without any configured principal every caller is an administrator, whatever token it has.
//! Otherwise a call needs one of:
//! - an access token that was issued here: by the exchange of a workload's own token
//!   (`exchange.rs`), by taking over a service account (`impersonate.rs`), or by the metadata
//!   server (`metadata.rs`);
//! - the fixed token of a configured user;
//! - a JWT that a service account's key signed, as Google's client libraries send them.

mod caller;
mod config;
mod endpoint;
mod exchange;
mod impersonate;
mod jwk;
mod jwt;
mod metadata;
mod provider;
mod refusals;
mod setup;
mod text;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

pub(crate) use caller::{Caller, Principal};
pub use config::{
    IdentityConfig, IdentityConfigError, MetadataServerConfig, ProviderConfig,
    ServiceAccountConfig, UserConfig,
};
pub(crate) use endpoint::{Endpoint, authorization};
use jwk::VerifyingKey;
pub use jwk::{Jwk, Jwks};
use jwt::Jwt;
use provider::Provider;
pub(crate) use refusals::challenge;
use refusals::{bad_credential, insufficient_scope, missing_credential};
use setup::{accounts, error, is_email, providers, users};
pub(crate) use text::excerpt;
use tokens::{CLOUD_PLATFORM, Grant, Scopes, TokenTable, sha256};

use crate::errors::ApiError;
use crate::iam;
use crate::iam_store::Policy;

/// What a service account's own JWT may name as `aud` when it has no scope.
const AUDIENCE: &str = "https://privateca.googleapis.com";

/// So much longer than an hour may a JWT live that a client's own key signed: Google's Rust library
/// begins 10 s early, and ends 10 s late.
const SLACK_SECONDS: i64 = 60;

/// The configured principals and the tokens in force.
pub(crate) struct Identities {
    /// By the digest of their tokens.
    users: HashMap<[u8; 32], Arc<Principal>>,
    /// By address in lowercase.
    accounts: BTreeMap<String, ServiceAccount>,
    /// By the audience of the exchange.
    providers: BTreeMap<String, Provider>,
    metadata_server: Option<MetadataServerConfig>,
    administrators: Vec<String>,
    policy: Policy,
    lifetime: SignedDuration,
    tokens: Mutex<TokenTable>,
}

#[derive(Debug)]
struct ServiceAccount {
    principal: Arc<Principal>,
    keys: Vec<VerifyingKey>,
    impersonators: Vec<String>,
}

/// An access token and when it expires.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) expires: Timestamp,
}

// By hand: short, and without a look into the lock.
impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("users", &self.users.len())
            .field("accounts", &self.accounts.keys())
            .field("providers", &self.providers.keys())
            .finish_non_exhaustive()
    }
}

impl IdentityConfig {
    /// Whether nobody is configured, so that every caller is an administrator.
    pub fn is_open(&self) -> bool {
        self.users.is_empty() && self.service_accounts.is_empty() && self.providers.is_empty()
    }

    /// Checks the configuration without using it.
    ///
    /// # Errors
    /// The first thing that makes no sense, with the name of its field and what to write instead.
    pub fn validate(&self) -> Result<(), IdentityConfigError> {
        Identities::new(self).map(|_| ())
    }
}

impl Identities {
    /// Refuses what cannot be meant.
    pub(crate) fn new(config: &IdentityConfig) -> Result<Self, IdentityConfigError> {
        let lifetime = config.token_lifetime_seconds;
        if !(1..=config::HOUR).contains(&lifetime) {
            return Err(error("tokenLifetimeSeconds", "write 1 to 3600"));
        }
        let accounts = accounts(config)?;
        if let Some(server) = &config.metadata_server
            && !accounts.contains_key(&server.service_account.to_ascii_lowercase())
        {
            let problem = format!(
                "{:?} is none of the serviceAccounts; add it there",
                server.service_account
            );
            return Err(error("metadataServer.serviceAccount", problem));
        }
        for (index, member) in config.administrators.iter().enumerate() {
            iam::check_member(member)
                .map_err(|problem| error(format!("administrators[{index}]"), problem))?;
        }
        let policy = Policy {
            bindings: config.bindings.clone(),
            ..Policy::default()
        };
        iam::check_policy(&policy).map_err(|refusal| error("bindings", refusal.message))?;
        let identities = Self {
            users: users(config)?,
            accounts,
            providers: providers(config)?,
            metadata_server: config.metadata_server.clone(),
            administrators: config.administrators.clone(),
            policy,
            lifetime: SignedDuration::from_secs(lifetime.into()),
            tokens: Mutex::default(),
        };
        let grants = !config.administrators.is_empty() || !config.bindings.is_empty();
        if identities.is_open() && grants {
            let problem = "nobody is configured who could be one of the members named here; add \
                           users, serviceAccounts or providers";
            return Err(error("administrators and bindings", problem));
        }
        Ok(identities)
    }

    /// Whether nobody is configured, so that everybody is an administrator.
    pub(crate) fn is_open(&self) -> bool {
        self.users.is_empty() && self.accounts.is_empty() && self.providers.is_empty()
    }

    /// The roles that hold everywhere.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who sent the header `Authorization`, for a call to CA Service.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, and `PERMISSION_DENIED` for a token that is not good for the service.
    pub(crate) fn authenticate(
        &self,
        authorization: Option<&str>,
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        self.authenticate_for(authorization, now, |scopes| scopes.cloud_platform)
    }

    fn authenticate_for(
        &self,
        authorization: Option<&str>,
        now: Timestamp,
        suffices: impl Fn(Scopes) -> bool,
    ) -> Result<Caller, ApiError> {
        if self.is_open() {
            return Ok(Caller::anybody());
        }
        let token = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty())
            .ok_or_else(missing_credential)?;
        let (principal, scopes) = self.look_up(token, now)?;
        if !suffices(scopes) {
            return Err(insufficient_scope());
        }
        Ok(self.caller(principal))
    }

    fn caller(&self, principal: Arc<Principal>) -> Caller {
        let is_administrator = principal.is_any(&self.administrators);
        Caller::known(principal, is_administrator)
    }

    fn look_up(&self, token: &str, now: Timestamp) -> Result<(Arc<Principal>, Scopes), ApiError> {
        if let Some(user) = self.users.get(&sha256(token)) {
            return Ok((Arc::clone(user), Scopes::ALL));
        }
        if let Some(grant) = self.lock().get(token) {
            if grant.is_expired(now) {
                return Err(bad_credential(
                    "ACCESS_TOKEN_EXPIRED",
                    "The access token is expired.",
                ));
            }
            return Ok((Arc::clone(&grant.principal), grant.scopes));
        }
        if token.contains('.') && token.starts_with("eyJ") {
            return self
                .self_signed(token, now)
                .map_err(|reason| bad_credential("ACCESS_TOKEN_TYPE_UNSUPPORTED", &reason));
        }
        Err(bad_credential(
            "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            "The access token was not issued by this emulator, or long ago.",
        ))
    }

    /// The service account whose own JWT this is (<https://google.aip.dev/auth/4111>).
    fn self_signed(&self, token: &str, now: Timestamp) -> Result<(Arc<Principal>, Scopes), String> {
        let (jwt, account) = self.signed_by_account(token, now)?;
        let scopes = if jwt.claims.scope.is_empty() {
            let names = &jwt.claims.aud.0;
            if !names
                .iter()
                .any(|name| name.trim_end_matches('/') == AUDIENCE)
            {
                return Err(format!(
                    "The JWT has no scope, and its audience is not {AUDIENCE}/."
                ));
            }
            Scopes::ALL
        } else {
            Scopes::parse(jwt.claims.scope.split_whitespace()).ok_or_else(|| {
                format!("The scope of the JWT is not Google's; {CLOUD_PLATFORM} is.")
            })?
        };
        Ok((Arc::clone(&account.principal), scopes))
    }

    /// A JWT that the key of a configured service account signed, in force at `now`.
    fn signed_by_account<'a>(
        &self,
        token: &'a str,
        now: Timestamp,
    ) -> Result<(Jwt<'a>, &ServiceAccount), String> {
        let jwt = Jwt::parse(token).map_err(|error| format!("Invalid JWT: {error}."))?;
        let claims = &jwt.claims;
        let account = self
            .accounts
            .get(&claims.iss.to_ascii_lowercase())
            .ok_or("Invalid JWT: its issuer is no configured service account.")?;
        if account.keys.is_empty() {
            return Err("Invalid JWT: its issuer is configured without a key.".to_owned());
        }
        jwt.verify(&account.keys)
            .map_err(|error| format!("Invalid JWT Signature: {error}."))?;
        // Key files are exchanged without a subject.
        let subject = claims.sub.as_ref().unwrap_or(&claims.iss);
        if !subject.eq_ignore_ascii_case(&claims.iss) {
            return Err("Invalid JWT: its subject is not its issuer.".to_owned());
        }
        let longest = i64::from(config::HOUR) + SLACK_SECONDS;
        if claims.is_expired(now) || claims.is_early(now) || claims.lifetime() > longest {
            return Err(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable \
                 timeframe. Check your iat and exp values in the JWT claim."
                    .to_owned(),
            );
        }
        Ok((jwt, account))
    }

    /// A new access token for `principal`, for `lifetime` or the configured span, whichever is
    /// shorter.
    fn issue(
        &self,
        principal: Arc<Principal>,
        scopes: Scopes,
        lifetime: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<Issued, ApiError> {
        let lifetime = lifetime.unwrap_or(self.lifetime).min(self.lifetime);
        let expires = now
            .checked_add(lifetime)
            .map_err(|error| ApiError::internal("The token's expiry", error))?;
        tracing::debug!(principal = principal.name(), %expires, "access token issued");
        let grant = Grant {
            principal,
            scopes,
            expires: Some(expires),
        };
        let token = self
            .lock()
            .mint(grant, now)
            .map_err(|error| ApiError::internal("No random numbers", error))?;
        Ok(Issued { token, expires })
    }

    /// An access token for the IAM member `user:…`, `serviceAccount:…` or `principal://…`, the
    /// last one of a configured provider.
    pub(crate) fn mint(&self, member: &str, now: Timestamp) -> Result<Issued, ApiError> {
        let principal = match member.split_once(':') {
            Some(("user", email)) if is_email(email) => Principal::user(email),
            Some(("serviceAccount", email)) if is_email(email) => Principal::service_account(email),
            _ => self
                .providers
                .values()
                .find_map(|provider| {
                    let subject = provider.subject_of(member)?;
                    provider.principal(&subject).ok()
                })
                .ok_or_else(|| {
                    ApiError::invalid(format!(
                        "{:?} is no member that a token can be issued for: user:EMAIL, \
                     serviceAccount:EMAIL, or principal://… of a configured provider.",
                        excerpt(member)
                    ))
                })?,
        };
        self.issue(Arc::new(principal), Scopes::ALL, None, now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TokenTable> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
