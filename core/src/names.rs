//! The names that a certificate carries beside its SPIFFE ID.
//!
//! Only the plain agent asks for any: databases tell their users by the common name, and clients
//! of many kinds compare host names. A certificate has exactly those that were asked for, so
//! whoever signs can neither add a name nor drop one unnoticed.
use certagent_svid::Certificate;
use serde::{Deserialize, Serialize};

/// Names beside the SPIFFE ID; empty for certificates that have none, as all of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectNames {
    /// The common name, and with it the whole subject; none for an empty subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// DNS names in lower case, none twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
}

/// How the DNS names of a certificate differ from those asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsDifference {
    /// Asked for, and not there.
    pub missing: Vec<String>,
    /// How many are there that were not asked for, one that is there twice included.
    pub extra: usize,
}

impl SubjectNames {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.common_name.is_none() && self.dns_names.is_empty()
    }

    /// The certificate has these names, these alone, and each once. Its SPIFFE ID is not looked at.
    pub fn are_those_of(&self, leaf: &Certificate) -> bool {
        self.has_subject(leaf)
            && self.dns_difference(leaf) == DnsDifference::default()
            && leaf.names().others == 0
    }

    /// The subject is the common name and nothing else, or empty where there is none.
    pub fn has_subject(&self, leaf: &Certificate) -> bool {
        match &self.common_name {
            None => leaf.subject_is_empty(),
            Some(asked) => leaf.common_name() == Some(asked),
        }
    }

    /// Compares DNS names as DNS does, without regard to case and order.
    pub fn dns_difference(&self, leaf: &Certificate) -> DnsDifference {
        let mut there: Vec<_> = leaf.names().dns.iter().collect();
        let missing = self.dns_names.iter().filter(|asked| {
            let found = there
                .iter()
                .position(|name| name.eq_ignore_ascii_case(asked));
            found.map(|place| there.swap_remove(place)).is_none()
        });
        let missing = missing.cloned().collect();
        DnsDifference {
            missing,
            extra: there.len(),
        }
    }
}
