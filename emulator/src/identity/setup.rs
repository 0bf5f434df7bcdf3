//! From the configuration as it was written to principals, keys and providers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::ServiceAccount;
use super::caller::Principal;
use super::config::{IdentityConfig, IdentityConfigError};
use super::jwk::VerifyingKey;
use super::provider::Provider;
use super::tokens::sha256;
use crate::iam;

/// The shortest token of a user, in characters.
const MIN_USER_TOKEN: usize = 16;

pub(super) fn error(field: impl Into<String>, problem: impl Into<String>) -> IdentityConfigError {
    IdentityConfigError {
        field: field.into(),
        problem: problem.into(),
    }
}

pub(super) fn users(
    config: &IdentityConfig,
) -> Result<HashMap<[u8; 32], Arc<Principal>>, IdentityConfigError> {
    let mut users = HashMap::new();
    for (index, user) in config.users.iter().enumerate() {
        let error = |field, problem| error(format!("users[{index}].{field}"), problem);
        if !is_email(&user.email) {
            return Err(error("email", "it is not a mail address"));
        }
        let token = &user.access_token;
        if token.len() < MIN_USER_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let problem = "write at least 16 printable characters without spaces";
            return Err(error("accessToken", problem));
        }
        let principal = Arc::new(Principal::user(&user.email));
        if users.insert(sha256(token), principal).is_some() {
            return Err(error(
                "accessToken",
                "an earlier user has the same; make each its own",
            ));
        }
    }
    Ok(users)
}

pub(super) fn accounts(
    config: &IdentityConfig,
) -> Result<BTreeMap<String, ServiceAccount>, IdentityConfigError> {
    let mut accounts = BTreeMap::new();
    for (index, account) in config.service_accounts.iter().enumerate() {
        let at = |field: &str| format!("serviceAccounts[{index}].{field}");
        if !is_email(&account.email) {
            return Err(error(at("email"), "it is not a mail address"));
        }
        let mut keys = match &account.jwks {
            None => Vec::new(),
            Some(jwks) => jwks
                .verifying_keys()
                .map_err(|(field, problem)| error(at(&format!("jwks.{field}")), problem))?,
        };
        for (key, pem) in account.public_keys.iter().enumerate() {
            let parsed = VerifyingKey::from_pem(pem);
            keys.push(parsed.map_err(|problem| error(at(&format!("publicKeys[{key}]")), problem))?);
        }
        for (member, name) in account.impersonators.iter().enumerate() {
            iam::check_member(name)
                .map_err(|problem| error(at(&format!("impersonators[{member}]")), problem))?;
        }
        let entry = ServiceAccount {
            principal: Arc::new(Principal::service_account(&account.email)),
            keys,
            impersonators: account.impersonators.clone(),
        };
        if accounts
            .insert(account.email.to_ascii_lowercase(), entry)
            .is_some()
        {
            return Err(error(at("email"), "it is configured twice"));
        }
    }
    Ok(accounts)
}

pub(super) fn providers(
    config: &IdentityConfig,
) -> Result<BTreeMap<String, Provider>, IdentityConfigError> {
    let mut providers = BTreeMap::new();
    for (index, provider) in config.providers.iter().enumerate() {
        let at = format!("providers[{index}]");
        let parsed = Provider::new(provider, &at)?;
        if providers
            .insert(provider.audience.clone(), parsed)
            .is_some()
        {
            let problem = "an earlier provider has the same; give each its own";
            return Err(error(format!("{at}.audience"), problem));
        }
    }
    Ok(providers)
}

/// Whether `text` has the form of a mail address that IAM could name.
pub(super) fn is_email(text: &str) -> bool {
    text.len() <= 254
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"[]\"\\".contains(&b))
        && text
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}
