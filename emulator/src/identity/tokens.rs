//! Access tokens: opaque, random, and kept only as digests.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::caller::Principal;

/// The most tokens that are remembered; beyond it the oldest are forgotten.
const CAPACITY: usize = 65_536;

/// What a token is good for.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) principal: Arc<Principal>,
    pub(super) scopes: Scopes,
    /// None for a token that never expires.
    pub(super) expires: Option<Timestamp>,
}

impl Grant {
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The scopes that anything here asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes {
    /// `https://www.googleapis.com/auth/cloud-platform`: everything.
    pub(crate) cloud_platform: bool,
    /// `https://www.googleapis.com/auth/iam`: tokens of service accounts.
    pub(crate) iam: bool,
}

pub(crate) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
const IAM: &str = "https://www.googleapis.com/auth/iam";
const PREFIX: &str = "https://www.googleapis.com/auth/";

impl Scopes {
    pub(crate) const ALL: Self = Self {
        cloud_platform: true,
        iam: true,
    };

    /// None when there is no scope, or one that is not Google's.
    pub(crate) fn parse<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut parsed = Self::default();
        let mut count = 0;
        for scope in scopes {
            count += 1;
            match scope {
                CLOUD_PLATFORM => parsed.cloud_platform = true,
                IAM => parsed.iam = true,
                "openid" | "email" => {}
                _ if scope.starts_with(PREFIX) => {}
                _ => return None,
            }
        }
        (count > 0).then_some(parsed)
    }
}

type Digest = [u8; 32];

/// The tokens in force. Holds no token itself, so that nothing that prints it can give one away.
#[derive(Debug, Default)]
pub(super) struct TokenTable {
    grants: HashMap<Digest, Grant>,
    by_age: VecDeque<Digest>,
}

impl TokenTable {
    /// A new token for `grant`.
    pub(super) fn mint(
        &mut self,
        grant: Grant,
        now: Timestamp,
    ) -> Result<String, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let token = format!("emulated.{}", URL_SAFE_NO_PAD.encode(random));
        self.insert(&token, grant, now);
        Ok(token)
    }

    /// A token that was chosen elsewhere.
    pub(super) fn insert(&mut self, token: &str, grant: Grant, now: Timestamp) {
        while let Some(oldest) = self.by_age.front() {
            let expired = self
                .grants
                .get(oldest)
                .is_none_or(|grant| grant.is_expired(now));
            if !expired && self.by_age.len() < CAPACITY {
                break;
            }
            self.grants.remove(oldest);
            self.by_age.pop_front();
        }
        let digest = sha256(token);
        self.by_age.push_back(digest);
        self.grants.insert(digest, grant);
    }

    /// What `token` is good for, or was.
    pub(super) fn get(&self, token: &str) -> Option<&Grant> {
        self.grants.get(&sha256(token))
    }
}

pub(super) fn sha256(token: &str) -> Digest {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(expires: i64) -> Grant {
        Grant {
            principal: Arc::new(Principal::user("a@example.com")),
            scopes: Scopes::ALL,
            expires: Some(at(expires)),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn tokens_differ_and_the_table_holds_none_of_them() {
        let mut table = TokenTable::default();
        let one = table.mint(grant(10), at(0)).unwrap();
        let two = table.mint(grant(10), at(0)).unwrap();
        assert_ne!(one, two);
        assert!(one.len() >= 43, "256 bits");
        let printed = format!("{table:?}");
        assert!(!printed.contains(&one) && !one.contains("a@example.com"));
        assert!(table.get(&one).is_some() && table.get("emulated.x").is_none());
    }

    #[test]
    fn expired_tokens_go_and_beyond_the_capacity_the_oldest() {
        let mut table = TokenTable::default();
        let old = table.mint(grant(10), at(0)).unwrap();
        let first = table.mint(grant(100), at(20)).unwrap();
        assert!(table.get(&old).is_none(), "expired");
        for n in 1..CAPACITY {
            table.insert(&n.to_string(), grant(100), at(20));
        }
        assert!(table.get(&first).is_some());
        table.insert("one more", grant(100), at(20));
        assert!(table.get(&first).is_none());
        assert_eq!(table.grants.len(), CAPACITY);
    }

    #[test]
    fn scopes_are_googles() {
        let parse = |text: &'static str| Scopes::parse(text.split_whitespace());
        assert_eq!(parse(""), None);
        assert_eq!(parse("cloud-platform"), None);
        assert_eq!(
            parse("https://www.googleapis.com/auth/cloud-platform openid")
                .map(|s| s.cloud_platform),
            Some(true)
        );
        assert_eq!(
            parse("https://www.googleapis.com/auth/devstorage.read_only"),
            Some(Scopes::default())
        );
    }
}
