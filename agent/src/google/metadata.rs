//! The metadata server of a machine or pod on Google Cloud: one call.
use std::{fmt, time::Duration};

use reqwest::{Response, StatusCode, Url, header::HeaderMap};
use serde::Deserialize;

use super::{IdentityError, Origin, Token, answer};
use crate::cas::{
    retry_after,
    transport::{self, ClientError, ReadError, Timeouts},
};

/// The variable that names another server.
pub(super) const HOST_VARIABLE: &str = "GCE_METADATA_HOST";

/// Where Google's own clients ask (`google/auth/compute_engine/_metadata.py`).
const HOST: &str = "metadata.google.internal";
const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// Sent with the question, so that no browser is tricked into it, and with every answer.
const FLAVOR: &str = "metadata-flavor";

/// It is next door: it answers soon or not at all. In real time.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(3),
    attempt: Duration::from_secs(3),
};

/// The largest answer that is read, in bytes. Tokens have about 1 KB.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The longest life that is believed. Google's tokens live for an hour, at most for 12.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A client of the metadata server.
#[derive(Clone, Debug)]
pub(super) struct MetadataServer {
    http: reqwest::Client,
    url: Url,
    host: String,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

impl MetadataServer {
    /// The usual one, or the one at `host` (`HOST[:PORT]`).
    pub(super) fn new(host: Option<&str>) -> Result<Self, IdentityError> {
        let host = host.unwrap_or(HOST);
        // Whatever cannot be part of a host and a port would mean another place.
        let is_host = !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
        let url = Url::parse(&format!("http://{host}{PATH}"));
        let (true, Ok(url)) = (is_host, url) else {
            return Err(IdentityError::permanent(format!(
                "{HOST_VARIABLE} is no host; write HOST or HOST:PORT, or unset it"
            )));
        };
        let http = transport::plain_client(TIMEOUTS)
            .map_err(|error: ClientError| IdentityError::permanent(error.to_string()))?;
        Ok(Self {
            http,
            url,
            host: host.to_owned(),
        })
    }

    /// A token of the machine's or pod's own service account, and for how long it is good.
    pub(super) async fn token(&self) -> Result<(Token, Duration), IdentityError> {
        let response = self
            .http
            .get(self.url.clone())
            .header(FLAVOR, "Google")
            .send()
            .await
            .map_err(|error| self.absent(&error))?;
        self.read(response).await
    }

    async fn read(&self, response: Response) -> Result<(Token, Duration), IdentityError> {
        let status = response.status();
        let retry_after = retry_after::wait(response.headers());
        let is_google = is_google(response.headers());
        let body = match transport::read(response, MAX_ANSWER_BYTES).await {
            Ok(body) => body,
            Err(ReadError::TooLarge) => {
                return Err(self.odd(&format!("an answer of more than {MAX_ANSWER_BYTES} bytes")));
            }
            Err(ReadError::Http(error)) => return Err(self.absent(&error)),
        };
        let said = answer::describe(status.as_u16(), &body);
        if status != StatusCode::OK {
            let is_denied = matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
            let next = if is_denied {
                "attach a service account to this machine, or on GKE check the pod's Workload \
                 Identity binding"
            } else {
                "it is asked again by itself"
            };
            let detail = if is_google {
                format!("{self} says {said}; {next}")
            } else {
                // An error is passed on without it by some who stand in between.
                format!(
                    "{self} says {said}, without the header Metadata-Flavor: Google; check that \
                     nothing else answers there (see {HOST_VARIABLE}), and if not: {next}"
                )
            };
            return Err(IdentityError {
                detail,
                is_permanent: is_denied && is_google,
                retry_after: retry_after.filter(|_| !is_denied),
                origin: Origin::Credential,
            });
        }
        if !is_google {
            return Err(self.odd(&format!(
                "{said}, without the header Metadata-Flavor: Google"
            )));
        }
        let Ok(TokenAnswer {
            access_token,
            expires_in,
        }) = serde_json::from_slice(&body)
        else {
            return Err(self.odd("something else than a token"));
        };
        let life = Duration::from_secs(expires_in).min(LONGEST_LIFE);
        if access_token.is_empty() || life.is_zero() {
            return Err(self.odd("a token that is empty or has expired"));
        }
        Ok((Token::new(access_token), life))
    }

    fn absent(&self, error: &reqwest::Error) -> IdentityError {
        let detail = if error.is_timeout() {
            format!("no answer within {:?}", TIMEOUTS.attempt)
        } else {
            transport::root_cause(error)
        };
        IdentityError::passing(format!(
            "{self} cannot be asked ({detail}): is this not Google Cloud? Then name a credentials \
             file in GOOGLE_APPLICATION_CREDENTIALS, or pass --identity none with an emulator"
        ))
    }

    fn odd(&self, what: &str) -> IdentityError {
        IdentityError::passing(format!(
            "{self} gave {what}; check that nothing else answers there (see {HOST_VARIABLE})"
        ))
    }
}

fn is_google(headers: &HeaderMap) -> bool {
    headers
        .get(FLAVOR)
        .is_some_and(|flavor| flavor.as_bytes().eq_ignore_ascii_case(b"google"))
}

impl fmt::Display for MetadataServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the metadata server {}", self.host)
    }
}
