//! The full name of a CA pool, as `endpointURI` and `certificateAuthorityServiceURI` write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const SERVICE: &str = "privateca.googleapis.com";
const FORM: &str = "//privateca.googleapis.com/projects/PROJECT/locations/LOCATION/caPools/POOL";

/// A CA pool of CA Service: `//privateca.googleapis.com/projects/P/locations/L/caPools/N`.
///
/// Parsed strictly: two names are equal only if their texts are, and a value of this type can be
/// put into a URL path without escaping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaPoolName {
    project: String,
    location: String,
    id: String,
}

impl CaPoolName {
    /// The name without its service: `projects/P/locations/L/caPools/N`.
    pub fn resource_name(&self) -> String {
        format!(
            "projects/{}/locations/{}/caPools/{}",
            self.project, self.location, self.id
        )
    }

    /// The project's id or number.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The region, for example `us-central1`.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The pool's own id, the last segment.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl FromStr for CaPoolName {
    type Err = CaPoolNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = without_service(text)?;
        let segments: Vec<&str> = path.split('/').collect();
        if let [before @ .., ""] = segments.as_slice()
            && !before.is_empty()
        {
            return Err(CaPoolNameError::TrailingSlash);
        }
        collection(&segments, 0, "projects")?;
        let project = segment(&segments, 1, Segment::Project, is_project)?;
        collection(&segments, 2, "locations")?;
        let location = segment(&segments, 3, Segment::Location, is_location)?;
        collection(&segments, 4, "caPools")?;
        let id = segment(&segments, 5, Segment::Pool, is_pool_id)?;
        let name = Self {
            project,
            location,
            id,
        };
        match segments.get(6) {
            None => Ok(name),
            Some(&"certificateAuthorities") => Err(CaPoolNameError::NamesAnAuthority {
                pool: name.to_string(),
            }),
            Some(_) => Err(CaPoolNameError::TooLong {
                pool: name.to_string(),
            }),
        }
    }
}

/// What follows `//privateca.googleapis.com/`.
fn without_service(text: &str) -> Result<&str, CaPoolNameError> {
    if text.is_empty() {
        return Err(CaPoolNameError::Empty);
    }
    if text.starts_with("projects/") {
        return Err(CaPoolNameError::NoService {
            resource: shorten(text),
        });
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(CaPoolNameError::HasScheme {
            scheme: shorten(scheme),
        });
    }
    let Some(rest) = text.strip_prefix("//") else {
        return Err(CaPoolNameError::NoLeadingSlashes);
    };
    let (service, path) = rest.split_once('/').unwrap_or((rest, ""));
    if service == SERVICE {
        Ok(path)
    } else {
        Err(CaPoolNameError::OtherService {
            found: shorten(service),
        })
    }
}

/// The fixed word at `index`.
fn collection(
    segments: &[&str],
    index: usize,
    expected: &'static str,
) -> Result<(), CaPoolNameError> {
    match segments.get(index) {
        Some(&found) if found == expected => Ok(()),
        Some(&found) if !found.is_empty() => Err(CaPoolNameError::WrongWord {
            expected,
            found: shorten(found),
        }),
        _ => Err(CaPoolNameError::Missing { what: expected }),
    }
}

/// The variable segment at `index`.
fn segment(
    segments: &[&str],
    index: usize,
    which: Segment,
    is_valid: fn(&str) -> bool,
) -> Result<String, CaPoolNameError> {
    match segments.get(index) {
        None | Some(&"") => Err(CaPoolNameError::Missing { what: which.name() }),
        Some(&found) if is_valid(found) => Ok(found.to_owned()),
        Some(&found) => Err(CaPoolNameError::BadSegment {
            which,
            found: shorten(found),
        }),
    }
}

/// A project number, or an id of 6 to 30 characters, possibly scoped by a domain.
fn is_project(text: &str) -> bool {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return (1..=20).contains(&text.len());
    }
    let (domain, id) = text
        .rsplit_once(':')
        .map_or((None, text), |(d, id)| (Some(d), id));
    let domain_fits = domain.is_none_or(|domain| {
        domain.contains('.')
            && domain.len() <= 253
            && domain
                .split('.')
                .all(|label| is_lower_name(label) || is_digits(label))
    });
    domain_fits && (6..=30).contains(&id.len()) && is_lower_name(id)
}

fn is_location(text: &str) -> bool {
    let is_zone = text.rsplit_once('-').is_some_and(|(region, zone)| {
        zone.len() == 1
            && zone.bytes().all(|b| b.is_ascii_lowercase())
            && region.ends_with(|c: char| c.is_ascii_digit())
    });
    text.len() <= 63 && is_lower_name(text) && !is_zone
}

fn is_pool_id(text: &str) -> bool {
    text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Lower-case letters, digits and hyphens; a letter first, no hyphen last.
fn is_lower_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Enough of a refused text to recognise it, safe to print on one line, and never a key.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.contains("PRIVATE KEY") {
        return "(a private key, not shown)".to_owned();
    }
    let mut short = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '\'' => short.push(c),
            other => short.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

impl fmt::Display for CaPoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            project,
            location,
            id,
        } = self;
        write!(
            f,
            "//{SERVICE}/projects/{project}/locations/{location}/caPools/{id}"
        )
    }
}

impl From<CaPoolName> for String {
    fn from(name: CaPoolName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for CaPoolName {
    type Error = CaPoolNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The segment of a pool name that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Segment {
    /// After `projects/`.
    Project,
    /// After `locations/`.
    Location,
    /// After `caPools/`.
    Pool,
}

impl Segment {
    const fn name(self) -> &'static str {
        match self {
            Self::Project => "PROJECT",
            Self::Location => "LOCATION",
            Self::Pool => "POOL",
        }
    }

    const fn rule(self) -> &'static str {
        match self {
            Self::Project => {
                "a project id has 6 to 30 lower-case letters, digits and hyphens (or it is the \
                 project's number)"
            }
            Self::Location => "a location is a region such as us-central1, not a zone",
            Self::Pool => "a pool id has 1 to 63 letters, digits, underscores and hyphens",
        }
    }
}

/// Why a text is not a [`CaPoolName`]. Each message shows the right form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaPoolNameError {
    /// Nothing at all.
    #[error("a CA pool name is missing; the form is {FORM}")]
    Empty,
    /// A bare resource name, as the API writes it.
    #[error("the name starts without its service; write //{SERVICE}/{resource}")]
    NoService {
        /// The text, shortened.
        resource: String,
    },
    /// `https://…` or another scheme.
    #[error("the name is not a URL: remove `{scheme}:` in front; the form is {FORM}")]
    HasScheme {
        /// The scheme found.
        scheme: String,
    },
    /// No `//` in front.
    #[error("the leading `//` is missing; the form is {FORM}")]
    NoLeadingSlashes,
    /// A host other than CA Service's.
    #[error("the service is `{found}`, it must be `{SERVICE}`; the form is {FORM}")]
    OtherService {
        /// The host found.
        found: String,
    },
    /// The text stops too early, or a segment is empty.
    #[error("the name has no {what}; the form is {FORM}")]
    Missing {
        /// What should be there.
        what: &'static str,
    },
    /// A fixed word is another one, for example `caPool`.
    #[error("found `{found}` where `{expected}` belongs; the form is {FORM}")]
    WrongWord {
        /// The right word.
        expected: &'static str,
        /// The word found.
        found: String,
    },
    /// A variable segment breaks its syntax.
    #[error("{name} cannot be `{found}`: {rule}; the form is {FORM}", name = which.name(), rule = which.rule())]
    BadSegment {
        /// Which one.
        which: Segment,
        /// Its text, shortened.
        found: String,
    },
    /// One slash too many.
    #[error("remove the slash at the end; the form is {FORM}")]
    TrailingSlash,
    /// The name of one CA in the pool.
    #[error("this names one certificate authority; name its pool: {pool}")]
    NamesAnAuthority {
        /// The right text.
        pool: String,
    },
    /// Something behind the pool.
    #[error("the name goes on behind the pool; end it there: {pool}")]
    TooLong {
        /// The right text.
        pool: String,
    },
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
