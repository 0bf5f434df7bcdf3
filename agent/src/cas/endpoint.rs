//! Where a service is: Google's, or an emulator on this machine.
use std::{fmt, net::IpAddr, str::FromStr};

use reqwest::Url;

/// Longest piece of a refused text that a message repeats.
const LONGEST_QUOTE: usize = 80;

/// The base URL of a service: `https://`, or `http://` on a loopback host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Why a text is no usable [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is not a URL.
    #[error(
        "\"{text}\" is not a URL ({reason}); write one like https://privateca.googleapis.com or http://127.0.0.1:8080"
    )]
    NotAUrl {
        /// The text, shortened.
        text: String,
        /// What the parser said.
        reason: String,
    },
    /// Another scheme.
    #[error(
        "\"{text}\" has the scheme {scheme}; use https, or http on this machine, such as http://127.0.0.1:8080"
    )]
    Scheme {
        /// The text, shortened.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// Plain HTTP to another machine.
    #[error(
        "\"{text}\" is plain HTTP to another machine, where anybody on the way could read and change the traffic; use https, or an emulator on 127.0.0.1, [::1] or localhost"
    )]
    NotLoopback {
        /// The text, shortened.
        text: String,
    },
    /// It says more than where the server is.
    #[error(
        "the endpoint has {what}; write only scheme, host and port, such as http://127.0.0.1:8080"
    )]
    Extra {
        /// What is too much. Its text is left out: it may be a password.
        what: &'static str,
    },
}

impl Endpoint {
    /// Parses a URL: `https://HOST[:PORT]`, or `http://HOST[:PORT]` with a host of `127.0.0.0/8`,
    /// `[::1]` or `localhost`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text.trim()).map_err(|error| EndpointError::NotAUrl {
            text: quote(text),
            reason: error.to_string(),
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Extra {
                what: "a user name or password",
            });
        }
        match url.scheme() {
            "https" => {}
            "http" if url.host_str().is_some_and(is_loopback) => {}
            "http" => return Err(EndpointError::NotLoopback { text: quote(text) }),
            scheme => {
                let (text, scheme) = (quote(text), quote(scheme));
                return Err(EndpointError::Scheme { text, scheme });
            }
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::Extra {
                what: "a query or a fragment",
            });
        }
        if !matches!(url.path(), "" | "/") {
            return Err(EndpointError::Extra { what: "a path" });
        }
        Ok(Self(url))
    }

    /// Whether the service proves who it is, by TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether the service is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.0.host_str().is_some_and(is_loopback)
    }

    /// The URL of `path`, which begins with a slash and needs no escaping.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        url
    }
}

/// `localhost` is not looked up: the client connects to the loopback addresses by itself.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

fn quote(text: &str) -> String {
    super::error::printable(text, LONGEST_QUOTE)
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_and_loopback_hosts_are_endpoints_and_print_as_written() {
        for text in [
            "https://privateca.googleapis.com",
            "https://privateca.googleapis.com:8443",
            "https://127.0.0.1:1",
            "http://127.0.0.1:8080",
            "http://127.255.0.7:1",
            "http://[::1]:443",
            "http://localhost:9",
            "http://localhost",
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
            assert_eq!(
                Endpoint::parse(&format!("{text}/")).unwrap().to_string(),
                text
            );
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_reason_and_what_to_use() {
        for (text, expected) in [
            ("", "is not a URL"),
            ("127.0.0.1:8080", "is not a URL"),
            (
                "http://privateca.googleapis.com",
                "plain HTTP to another machine",
            ),
            ("http://10.0.0.1:1", "plain HTTP to another machine"),
            (
                "http://localhost.example.com",
                "plain HTTP to another machine",
            ),
            ("http://[::ffff:10.0.0.1]", "plain HTTP to another machine"),
            ("unix:///tmp/x", "the scheme unix"),
            ("https://", "is not a URL"),
            ("https://privateca.googleapis.com/v1", "has a path"),
            ("https://privateca.googleapis.com?a=b", "has a query"),
            (
                "https://privateca.googleapis.com/#a",
                "has a query or a fragment",
            ),
            ("http://127.0.0.1/v1", "has a path"),
            ("http://127.0.0.1/?a=b", "has a query"),
        ] {
            let message = Endpoint::parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
            assert!(
                message.contains("127.0.0.1"),
                "{text}: no next step in: {message}"
            );
        }
    }

    #[test]
    fn a_password_in_an_endpoint_is_refused_without_being_repeated() {
        for text in [
            "http://user:hunter2@127.0.0.1:1",
            "https://hunter2@example.com",
        ] {
            let message = Endpoint::parse(text).unwrap_err().to_string();
            assert!(
                message.contains("password") && !message.contains("hunter2"),
                "{message}"
            );
        }
    }
}
