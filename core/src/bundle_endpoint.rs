//! Where a trust domain serves its bundle, as `spiffeTrustBundleEndpoint` writes it.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The longest URL that is taken, in bytes.
pub const MAX_BYTES: usize = 2048;

/// The URL of a SPIFFE bundle endpoint of the profile `https_web`: `https://HOST[:PORT]/path`.
///
/// Source: the SPIFFE Federation standard, section 5.2.1.1, which forbids user information. A
/// query is allowed there and may hold a credential: `Display` and `Debug` leave it out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleEndpoint(Url);

/// Why a text is no usable [`BundleEndpoint`]. The text itself is never repeated: it may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleEndpointError {
    /// It is longer than [`MAX_BYTES`].
    #[error("the URL has {bytes} bytes, and at most {MAX_BYTES} are taken")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It does not begin with `https://`.
    #[error(
        "it is not an https:// URL, which a bundle endpoint must be: only TLS tells that the bundle comes from the named server"
    )]
    NotHttps,
    /// It has characters that no URL has.
    #[error(
        "the URL has a space, a backslash or a control character; write it as it is, escaped by % where needed"
    )]
    Characters,
    /// It cannot be parsed.
    #[error("it is not a URL: {reason}")]
    NotAUrl {
        /// What the parser said.
        reason: url::ParseError,
    },
    /// It has a user name or a password.
    #[error(
        "the URL has a user name or a password, which a bundle endpoint must not ask for; remove it"
    )]
    UserInfo,
    /// It has a fragment.
    #[error("the URL has a fragment (#...), which no server ever sees; remove it")]
    Fragment,
}

impl BundleEndpoint {
    /// The whole URL with its query, for the request and not for messages.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Where a redirect from here leads; `location` may be relative. The target obeys the rules of
    /// every endpoint.
    pub fn redirected(&self, location: &str) -> Result<Self, BundleEndpointError> {
        check_text(location)?;
        let target = self.0.join(location);
        target
            .map_err(|reason| BundleEndpointError::NotAUrl { reason })
            .and_then(Self::checked)
    }

    fn checked(url: Url) -> Result<Self, BundleEndpointError> {
        if url.scheme() != "https" {
            return Err(BundleEndpointError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BundleEndpointError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(BundleEndpointError::Fragment);
        }
        Ok(Self(url))
    }
}

impl FromStr for BundleEndpoint {
    type Err = BundleEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_text(text)?;
        // The parser would take https:host and https:/host as well.
        if !text
            .get(..8)
            .is_some_and(|start| start.eq_ignore_ascii_case("https://"))
        {
            return Err(BundleEndpointError::NotHttps);
        }
        Url::parse(text)
            .map_err(|reason| BundleEndpointError::NotAUrl { reason })
            .and_then(Self::checked)
    }
}

/// The parser passes over some characters that do not belong in a URL, and reads a backslash as a
/// slash: what a person sees would not be what is asked.
fn check_text(text: &str) -> Result<(), BundleEndpointError> {
    if text.len() > MAX_BYTES {
        return Err(BundleEndpointError::TooLong { bytes: text.len() });
    }
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    if text.contains(is_odd) {
        return Err(BundleEndpointError::Characters);
    }
    Ok(())
}

impl fmt::Display for BundleEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        match text.split_once('?') {
            Some((before, _)) => write!(f, "{before}?..."),
            None => f.write_str(text),
        }
    }
}

impl fmt::Debug for BundleEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BundleEndpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<BundleEndpoint, BundleEndpointError> {
        text.parse()
    }

    #[test]
    fn https_urls_are_endpoints_and_print_without_their_query() {
        for (text, shown) in [
            (
                "https://example.org/bundle.json",
                "https://example.org/bundle.json",
            ),
            ("https://example.org", "https://example.org/"),
            ("HTTPS://Example.org:443/a", "https://example.org/a"),
            ("https://[::1]:8443/a/b", "https://[::1]:8443/a/b"),
            (
                "https://cdn.example/b?token=hunter2",
                "https://cdn.example/b?...",
            ),
        ] {
            let endpoint = parse(text).unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert!(!format!("{endpoint:?}").contains("hunter2"));
        }
        let endpoint = parse("https://cdn.example/b?token=hunter2").unwrap();
        assert_eq!(endpoint.as_str(), "https://cdn.example/b?token=hunter2");
    }

    #[test]
    fn everything_else_is_refused_and_never_repeated() {
        for (text, expected) in [
            ("", "not an https:// URL"),
            ("example.org/hunter2", "not an https:// URL"),
            ("http://example.org/hunter2", "not an https:// URL"),
            ("https:example.org/hunter2", "not an https:// URL"),
            ("https:/example.org/hunter2", "not an https:// URL"),
            ("https://", "not a URL"),
            ("https://example.org:70000/hunter2", "not a URL"),
            (
                "https://user:hunter2@example.org/",
                "a user name or a password",
            ),
            ("https://hunter2@example.org/", "a user name or a password"),
            ("https://example.org/#hunter2", "a fragment"),
            ("https://example.org\\hunter2", "a backslash"),
            ("https://example.org/ hunter2", "a space"),
            ("https://exa\tmple.org/hunter2", "a control character"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        let long = format!("https://example.org/{}", "a".repeat(MAX_BYTES));
        assert!(parse(&long).unwrap_err().to_string().contains("2068 bytes"));
    }

    #[test]
    fn a_redirect_obeys_the_rules_of_endpoints() {
        let endpoint = parse("https://example.org/a/b").unwrap();
        for (location, target) in [
            ("c", "https://example.org/a/c"),
            ("/c?d", "https://example.org/c?d"),
            ("//cdn.example/c", "https://cdn.example/c"),
            ("https://cdn.example/c", "https://cdn.example/c"),
        ] {
            assert_eq!(endpoint.redirected(location).unwrap().as_str(), target);
        }
        for location in [
            "http://example.org/",
            "//user@example.org/",
            "#top",
            "\\\\cdn.example",
            "file:///etc/passwd",
        ] {
            assert!(endpoint.redirected(location).is_err(), "{location}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_is_an_endpoint_that_reads_back(text in "(https://)?\\PC{0,60}", to in "\\PC{0,60}") {
            if let Ok(endpoint) = parse(&text) {
                prop_assert!(endpoint.as_str().starts_with("https://"));
                prop_assert_eq!(parse(endpoint.as_str()).unwrap(), endpoint.clone());
                if let Ok(target) = endpoint.redirected(&to) {
                    prop_assert!(target.as_str().starts_with("https://"));
                }
            }
        }
    }
}
