//! Which pool a rule is for.

use std::fmt;
use std::str::FromStr;

use crate::pool::{PoolName, is_resource_id};

/// The host before the name of a pool in configurations, where names begin with `//`.
const SERVICE: &str = "//privateca.googleapis.com/";

/// A pool by its resource name, or every pool with an id. Read from `issuing-pool`, from
/// `projects/P/locations/L/caPools/issuing-pool`, and from that with
/// `//privateca.googleapis.com/` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSelector(Selected);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Selected {
    Id(String),
    Name(PoolName),
}

impl PoolSelector {
    /// Whether `pool` is meant.
    pub fn selects(&self, pool: &PoolName) -> bool {
        match &self.0 {
            Selected::Id(id) => id == pool.id(),
            Selected::Name(name) => name == pool,
        }
    }
}

impl From<PoolName> for PoolSelector {
    fn from(name: PoolName) -> Self {
        Self(Selected::Name(name))
    }
}

impl FromStr for PoolSelector {
    type Err = PoolSelectorError;

    fn from_str(text: &str) -> Result<Self, PoolSelectorError> {
        if is_resource_id(text) {
            return Ok(Self(Selected::Id(text.to_owned())));
        }
        let name = text.strip_prefix(SERVICE).unwrap_or(text);
        name.parse()
            .map(|name| Self(Selected::Name(name)))
            .map_err(|_error| PoolSelectorError)
    }
}

impl fmt::Display for PoolSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Selected::Id(id) => f.write_str(id),
            Selected::Name(name) => name.fmt(f),
        }
    }
}

/// A text that selects no pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not the name of a CA pool; write its id, or \
     projects/PROJECT/locations/LOCATION/caPools/POOL"
)]
pub struct PoolSelectorError;

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "projects/p/locations/l/caPools/a";

    fn pool(name: &str) -> PoolName {
        name.parse().unwrap()
    }

    #[test]
    fn a_pool_is_selected_by_its_id_or_by_its_name_in_either_form() {
        let elsewhere = pool("projects/p/locations/m/caPools/a");
        let by_id: PoolSelector = "a".parse().unwrap();
        assert!(by_id.selects(&pool(NAME)) && by_id.selects(&elsewhere));
        assert!(!by_id.selects(&pool("projects/p/locations/l/caPools/ab")));
        for form in [NAME.to_owned(), format!("{SERVICE}{NAME}")] {
            let by_name: PoolSelector = form.parse().unwrap();
            assert!(by_name.selects(&pool(NAME)) && !by_name.selects(&elsewhere));
            assert_eq!(by_name.to_string(), NAME);
            assert_eq!(by_name, pool(NAME).into());
        }
    }

    #[test]
    fn what_is_no_name_of_a_pool_selects_nothing() {
        for bad in [
            "",
            "a pool",
            "caPools/a",
            "projects/p/locations/l/caPools/a/certificates/b",
            "https://privateca.googleapis.com/v1/projects/p/locations/l/caPools/a",
            "//other.googleapis.com/projects/p/locations/l/caPools/a",
        ] {
            assert_eq!(bad.parse::<PoolSelector>(), Err(PoolSelectorError), "{bad}");
        }
    }
}
