//! What an emulator starts with: pools, each with one CA. And the names of pools.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::errors::ApiError;
use crate::identity::IdentityConfig;
use crate::keys::CaKey;
use crate::policy::IssuancePolicy;
use crate::quota::Quotas;
use crate::scalars::NameOrNumber;

/// Id of the root pool in [`EmulatorConfig::guide`].
pub const ROOT_POOL_ID: &str = "root-pool";
/// Id of the issuing pool in [`EmulatorConfig::guide`].
pub const ISSUING_POOL_ID: &str = "issuing-pool";

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The pools that an emulator makes at its first start; none for an empty one. A parent pool comes
/// before the pools whose CAs it signs.
#[derive(Clone, Debug, Default)]
pub struct EmulatorConfig {
    /// The pools, parents first.
    pub pools: Vec<PoolSpec>,
    /// Whether the service's quotas hold.
    pub quotas: Quotas,
    /// Who may call; by default everybody, as an administrator.
    pub identities: IdentityConfig,
}

impl EmulatorConfig {
    /// The set-up of GKE's guide: [`ROOT_POOL_ID`] of tier ENTERPRISE with a self-signed root, and
    /// [`ISSUING_POOL_ID`] of tier DEVOPS with a subordinate CA signed by that root. Both CAs have
    /// keys on P-256; see [`with_ca_key`](Self::with_ca_key).
    ///
    /// # Errors
    /// When `project` or `location` cannot be part of a resource name.
    pub fn guide(project: &str, location: &str) -> Result<Self, PoolNameError> {
        let root = PoolName::new(project, location, ROOT_POOL_ID)?;
        let issuing = PoolName::new(project, location, ISSUING_POOL_ID)?;
        Ok(Self {
            pools: vec![
                PoolSpec {
                    name: root.clone(),
                    tier: Tier::Enterprise,
                    issuance_policy: IssuancePolicy::default(),
                    ca: CaSpec {
                        common_name: "certagent emulator root CA".to_owned(),
                        key: CaKey::EcP256,
                        lifetime: DAY * 3650,
                        parent: None,
                    },
                },
                PoolSpec {
                    name: issuing,
                    tier: Tier::Devops,
                    issuance_policy: IssuancePolicy::default(),
                    ca: CaSpec {
                        common_name: "certagent emulator issuing CA".to_owned(),
                        key: CaKey::EcP256,
                        lifetime: DAY * 1095,
                        parent: Some(root),
                    },
                },
            ],
            quotas: Quotas::Off,
            identities: IdentityConfig::default(),
        })
    }

    /// The same pools for the callers that `identities` names.
    #[must_use]
    pub fn with_identities(mut self, identities: IdentityConfig) -> Self {
        self.identities = identities;
        self
    }

    /// The same pools with keys of the kind `key` for every CA.
    #[must_use]
    pub fn with_ca_key(mut self, key: CaKey) -> Self {
        for pool in &mut self.pools {
            pool.ca.key = key;
        }
        self
    }
}

/// One pool with its first CA, which is enabled.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// The pool's resource name.
    pub name: PoolName,
    /// The pool's tier.
    pub tier: Tier,
    /// What the pool signs.
    pub issuance_policy: IssuancePolicy,
    /// The pool's CA.
    pub ca: CaSpec,
}

/// The CA of a pool.
#[derive(Clone, Debug)]
pub struct CaSpec {
    /// Common name of the CA's subject.
    pub common_name: String,
    /// Kind of the CA's key.
    pub key: CaKey,
    /// How long the CA's certificate lives. A subordinate's is cut to its parent's.
    pub lifetime: SignedDuration,
    /// The pool whose CA signs this one; none for a self-signed root.
    pub parent: Option<PoolName>,
}

/// The tier of a pool, which decides whether its certificates can be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", try_from = "NameOrNumber")]
pub enum Tier {
    /// Certificates are kept under their `certificateId`, which is required.
    Enterprise,
    /// Certificates are not kept; `certificateId` is ignored; no get, list or revoke.
    Devops,
}

impl TryFrom<NameOrNumber> for Tier {
    type Error = String;

    fn try_from(value: NameOrNumber) -> Result<Self, String> {
        value.pick_specified(&[
            ("TIER_UNSPECIFIED", None),
            ("ENTERPRISE", Some(Self::Enterprise)),
            ("DEVOPS", Some(Self::Devops)),
        ])
    }
}

/// The resource name of a pool: `projects/P/locations/L/caPools/N`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PoolName {
    // The whole name, proven to have its six parts.
    name: String,
}

impl PoolName {
    /// A name from its three parts.
    ///
    /// # Errors
    /// When a part is empty or holds a character that it may not hold.
    pub fn new(project: &str, location: &str, pool: &str) -> Result<Self, PoolNameError> {
        // A project of a domain is called `example.com:name`.
        let project_char = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        let name = format!("projects/{project}/locations/{location}/caPools/{pool}");
        if (1..=128).contains(&project.len())
            && project.chars().all(project_char)
            && is_resource_id(location)
            && is_resource_id(pool)
        {
            Ok(Self { name })
        } else {
            Err(PoolNameError { name })
        }
    }

    /// The pool `id` of a location, `projects/P/locations/L`.
    pub(crate) fn in_location(location: &str, id: &str) -> Result<Self, PoolNameError> {
        format!("{location}/caPools/{id}").parse()
    }

    /// The pool's own id, `N`.
    pub fn id(&self) -> &str {
        self.split().1
    }

    /// `projects/P/locations/L`, within which request and certificate ids are unique.
    pub fn location(&self) -> &str {
        self.split().0
    }

    /// `//privateca.googleapis.com/projects/P/locations/L/caPools/N`, the form that the guide's
    /// objects use.
    pub fn uri(&self) -> String {
        format!("//privateca.googleapis.com/{self}")
    }

    /// The pool of a resource and the resource's id, from its name
    /// `projects/P/locations/L/caPools/N/COLLECTION/ID`.
    pub(crate) fn split_child<'a>(
        name: &'a str,
        collection: &str,
    ) -> Result<(Self, &'a str), ApiError> {
        let split = || {
            let (parent, id) = name.rsplit_once('/')?;
            let pool = parent.strip_suffix(collection)?.strip_suffix('/')?;
            Some((pool.parse().ok()?, id)).filter(|_| is_resource_id(id))
        };
        split().ok_or_else(|| ApiError::not_found(name))
    }

    /// The project, `P`.
    pub fn project(&self) -> &str {
        self.name.split('/').nth(1).unwrap_or_default()
    }

    /// A file name of its own for each pool: a project has no `@`, and ids have no dots.
    pub(crate) fn file_stem(&self) -> String {
        let parts: Vec<&str> = self.name.split('/').skip(1).step_by(2).collect();
        parts.join(".").replace(':', "@")
    }

    fn split(&self) -> (&str, &str) {
        self.name
            .split_once("/caPools/")
            .unwrap_or((&self.name, ""))
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl From<PoolName> for String {
    fn from(name: PoolName) -> Self {
        name.name
    }
}

impl TryFrom<String> for PoolName {
    type Error = PoolNameError;

    fn try_from(name: String) -> Result<Self, PoolNameError> {
        name.parse()
    }
}

impl FromStr for PoolName {
    type Err = PoolNameError;

    fn from_str(name: &str) -> Result<Self, PoolNameError> {
        let parts: Vec<&str> = name.split('/').collect();
        match parts.as_slice() {
            ["projects", project, "locations", location, "caPools", pool] => {
                Self::new(project, location, pool)
            }
            _ => Err(PoolNameError {
                name: name.to_owned(),
            }),
        }
    }
}

/// A text that is not the name of a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not the name of a CA pool; write projects/PROJECT/locations/LOCATION/caPools/POOL"
)]
pub struct PoolNameError {
    name: String,
}

/// Whether `id` is what the service takes for an id: `[a-zA-Z0-9_-]{1,63}`.
pub(crate) fn is_resource_id(id: &str) -> bool {
    (1..=63).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_name_is_parsed_not_matched_loosely() {
        let name: PoolName = "projects/example.com:p/locations/l-1/caPools/a_B-9"
            .parse()
            .unwrap();
        assert_eq!(
            name.to_string(),
            "projects/example.com:p/locations/l-1/caPools/a_B-9"
        );
        assert_eq!(name.location(), "projects/example.com:p/locations/l-1");
        for bad in [
            "",
            "projects/p/locations/l/caPools",
            "projects/p/locations/l/caPools/",
            "projects/p/locations/l/caPools/a/b",
            "projects//locations/l/caPools/a",
            "projects/p/locations/l/caPools/a:b",
            "projects/p/locations/l/capools/a",
            "//privateca.googleapis.com/projects/p/locations/l/caPools/a",
        ] {
            assert!(bad.parse::<PoolName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_has_one_to_sixty_three_plain_characters() {
        assert!(is_resource_id("a"));
        assert!(is_resource_id(&"x".repeat(63)));
        for bad in ["", "a.b", "a/b", "ü", "a b", &"x".repeat(64)] {
            assert!(!is_resource_id(bad), "{bad}");
        }
    }
}
