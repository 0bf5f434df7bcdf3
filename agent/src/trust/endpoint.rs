//! Roots from a SPIFFE bundle endpoint, whose server proves by Web PKI who it is.
//!
//! Source: the SPIFFE Federation standard, section 5.2.1 (`https_web`).
use std::time::Duration;

use certagent_core::bundle_endpoint::BundleEndpoint;
use certagent_svid::jwks;
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT, LOCATION},
};

use super::source::Answer;
use crate::cas::{
    ClientError, Roots,
    error::{LONGEST_TEXT, excerpt, printable},
    transport::{self, ReadError, Timeouts},
};

/// How many redirects are followed. Each must lead to a URL that could stand in the configuration.
const MOST_REDIRECTS: usize = 3;

/// Asks bundle endpoints. Clones share their connections.
#[derive(Clone, Debug)]
pub struct EndpointClient {
    http: reqwest::Client,
    has_roots: bool,
    timeouts: Timeouts,
}

/// A bundle endpoint that gave no bundle that can be used.
///
/// The message is complete; what came from outside is cut and has no control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bundle endpoint {endpoint}: {reason}; {advice}", advice = self.advice())]
pub struct EndpointError {
    /// As it is configured.
    pub endpoint: BundleEndpoint,
    /// What happened.
    pub reason: EndpointReason,
}

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointReason {
    /// Nobody could prove to be the server.
    #[error("there are no CA certificates to check its server by")]
    NoCaCertificates,
    /// The connection did not come about.
    #[error("no connection ({detail})")]
    NotConnected {
        /// What the system said.
        detail: String,
    },
    /// TLS did not come about.
    #[error("its server could not prove to be the one that the URL names ({detail})")]
    NotProven {
        /// What the TLS library said.
        detail: String,
    },
    /// No complete answer came in time.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The time that the attempt had.
        after: Duration,
    },
    /// The connection ended before a complete answer.
    #[error("the connection broke before the answer was complete ({detail})")]
    Broken {
        /// What the system said.
        detail: String,
    },
    /// The answer is larger than [`jwks::MAX_BYTES`].
    #[error("the answer is more than 1 MiB")]
    TooLarge,
    /// It sends those who ask to a place that no bundle may come from.
    #[error("it redirects to a place that is refused ({detail})")]
    BadRedirect {
        /// Why.
        detail: String,
    },
    /// It sends those who ask from one place to the next.
    #[error("it redirects more than {MOST_REDIRECTS} times")]
    TooManyRedirects,
    /// The server says no.
    #[error("HTTP {http}, \"{excerpt}\"")]
    Status {
        /// HTTP status.
        http: u16,
        /// The beginning of the answer.
        excerpt: String,
    },
    /// The answer is no bundle with roots for X.509-SVIDs.
    #[error("{detail}")]
    NotABundle {
        /// What is wrong with it.
        detail: String,
    },
}

impl EndpointError {
    fn advice(&self) -> &'static str {
        match &self.reason {
            EndpointReason::NoCaCertificates => "pass --ca-bundle FILE, or set SSL_CERT_FILE",
            EndpointReason::NotProven { .. } => {
                "its certificate must be for that host and from a CA that this machine, or \
                 --ca-bundle, trusts"
            }
            EndpointReason::NotConnected { .. }
            | EndpointReason::Timeout { .. }
            | EndpointReason::Broken { .. } => {
                "it is asked again; is the URL right, and the way open?"
            }
            EndpointReason::Status { .. } => "it is asked again; is the URL right?",
            EndpointReason::TooLarge
            | EndpointReason::BadRedirect { .. }
            | EndpointReason::TooManyRedirects
            | EndpointReason::NotABundle { .. } => "ask whoever runs it",
        }
    }
}

impl EndpointClient {
    /// A client for servers that prove themselves by a certificate under one of `roots`. It
    /// connects with the first call; without any root every call fails, and says so.
    pub fn new(roots: &Roots) -> Result<Self, ClientError> {
        Self::with_timeouts(roots, Timeouts::default())
    }

    pub(super) fn with_timeouts(roots: &Roots, timeouts: Timeouts) -> Result<Self, ClientError> {
        Ok(Self {
            http: transport::web_client(roots, timeouts)?,
            has_roots: !roots.is_empty(),
            timeouts,
        })
    }

    /// The bundle that `endpoint` serves now.
    pub(super) async fn fetch(&self, endpoint: &BundleEndpoint) -> Result<Answer, EndpointError> {
        let attempt = tokio::time::timeout(self.timeouts.attempt, self.follow(endpoint));
        let late = EndpointReason::Timeout {
            after: self.timeouts.attempt,
        };
        let answer = attempt.await.unwrap_or(Err(late));
        answer.map_err(|reason| EndpointError {
            endpoint: endpoint.clone(),
            reason,
        })
    }

    /// The place that a redirect names is forgotten afterwards: the next look begins at the
    /// configured URL again.
    async fn follow(&self, endpoint: &BundleEndpoint) -> Result<Answer, EndpointReason> {
        if !self.has_roots {
            return Err(EndpointReason::NoCaCertificates);
        }
        let mut place = endpoint.clone();
        for _ in 0..=MOST_REDIRECTS {
            let call = self.http.get(place.as_str());
            let call = call.header(ACCEPT, "application/json");
            let response = call.send().await.map_err(|error| self.reason(&error))?;
            match response.status() {
                StatusCode::OK => return self.read(response).await,
                status if is_redirect(status) => place = redirect(&place, &response)?,
                status => return Err(self.refusal(status, response).await),
            }
        }
        Err(EndpointReason::TooManyRedirects)
    }

    async fn read(&self, response: Response) -> Result<Answer, EndpointReason> {
        let body =
            transport::read(response, jwks::MAX_BYTES)
                .await
                .map_err(|error| match error {
                    ReadError::TooLarge => EndpointReason::TooLarge,
                    ReadError::Http(error) => self.reason(&error),
                })?;
        let served = jwks::parse(&body).map_err(|error| EndpointReason::NotABundle {
            detail: printable(&error.to_string(), LONGEST_TEXT),
        })?;
        Ok(Answer {
            roots: served.roots,
            sequence: served.sequence,
            refresh_hint: served.refresh_hint,
        })
    }

    async fn refusal(&self, status: StatusCode, response: Response) -> EndpointReason {
        // What it said helps, and is not needed.
        let body = transport::read(response, jwks::MAX_BYTES).await;
        EndpointReason::Status {
            http: status.as_u16(),
            excerpt: excerpt(&body.unwrap_or_default()),
        }
    }

    fn reason(&self, error: &reqwest::Error) -> EndpointReason {
        let detail = transport::root_cause(error);
        if transport::is_tls_fault(error) {
            EndpointReason::NotProven { detail }
        } else if error.is_connect() {
            EndpointReason::NotConnected { detail }
        } else if error.is_timeout() {
            EndpointReason::Timeout {
                after: self.timeouts.attempt,
            }
        } else {
            EndpointReason::Broken { detail }
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

fn redirect(from: &BundleEndpoint, response: &Response) -> Result<BundleEndpoint, EndpointReason> {
    let bad = |detail: String| EndpointReason::BadRedirect { detail };
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .ok_or_else(|| bad("it does not say where to".to_owned()))?;
    from.redirected(location)
        .map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "endpoint_tests.rs"]
mod tests;
