//! One client for every call to CA Service.
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use certagent_core::{issued::RawChain, pool::CaPoolName, request::PreparedRequest};
use certagent_svid::Certificate;
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use zeroize::Zeroizing;

use super::{
    authority::{CaAnswer, CaListAnswer},
    endpoint::Endpoint,
    error::{Call, CallError, LONGEST_TEXT, Reason, excerpt, printable},
    retry_after,
    wire::{CaCertsAnswer, CaPoolAnswer, CertificateAnswer, ErrorAnswer, ErrorBody},
};
use crate::google::{Caller, Identity, Token};

/// The largest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How many CAs are asked for at a time: each comes with its whole chain, several kilobytes.
const PAGE_SIZE: usize = 25;

/// More pages are not read: CA Service allows 1,000 CAs for a location and project.
const MAX_PAGES: usize = 40;

/// A longer token, in bytes, is not sent back.
const LONGEST_PAGE_TOKEN: usize = 4096;

/// How long a connection with calls on it may be silent before it is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

const USER_AGENT: &str = concat!("certagent/", env!("CARGO_PKG_VERSION"));

/// A client of one CA Service. Clones share their connection.
#[derive(Clone, Debug)]
pub struct CasClient {
    http: reqwest::Client,
    endpoint: Endpoint,
    identity: Identity,
    timeouts: Timeouts,
}

/// An answer, or the lack of one, with what its header told beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply<T> {
    /// What was answered.
    pub value: T,
    /// The service's clock by the header `Date`, in whole seconds; none without an answer.
    pub date: Option<Timestamp>,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The TLS library refused its own defaults.
    #[error("the TLS library cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// The HTTP library refused the settings.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(#[source] reqwest::Error),
}

/// How long parts of a call may take, in real time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) attempt: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: Duration::from_secs(20),
        }
    }
}

impl CasClient {
    /// A client of the CA Service at `endpoint` that shows itself as `identity`. It connects with
    /// the first call.
    pub fn new(endpoint: &Endpoint, identity: Identity) -> Result<Self, ClientError> {
        Self::with_timeouts(endpoint, identity, Timeouts::default())
    }

    pub(crate) fn with_timeouts(
        endpoint: &Endpoint,
        identity: Identity,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        // `localhost` means this machine, whatever a resolver says; the port is the URL's.
        let local = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ];
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(no_tls()?)
            .http2_prior_knowledge()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs("localhost", &local)
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.attempt)
            // A connection that died silently must not swallow the next attempt too.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE / 2)
            .build()
            .map_err(ClientError::Http)?;
        Ok(Self {
            http,
            endpoint: endpoint.clone(),
            identity,
            timeouts,
        })
    }

    /// Where this client calls.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `CreateCertificate` with exactly the bytes and ids of `request`.
    ///
    /// The chain may be empty: a service may carry out a request and send no certificate.
    pub async fn create(
        &self,
        request: &PreparedRequest,
        caller: &Caller,
    ) -> Result<RawChain, CallError> {
        let mut url = self.url(&request.pool, "/certificates");
        url.query_pairs_mut()
            .append_pair("certificateId", &request.certificate_id)
            .append_pair("requestId", &request.request_id);
        let call = self.http.post(url).header(CONTENT_TYPE, "application/json");
        let call = call.body(request.body.clone());
        let answer: CertificateAnswer = self
            .call(Call::CreateCertificate, &request.pool, call, caller)
            .await?;
        Ok(answer.into())
    }

    /// `CreateCertificate` with `validateOnly`: whether `request` would be carried out. Nothing is
    /// signed, sold or kept, and the `requestId` is left out, so that nothing can be replayed.
    pub async fn validate(
        &self,
        request: &PreparedRequest,
        caller: &Caller,
    ) -> Result<(), CallError> {
        let mut url = self.url(&request.pool, "/certificates");
        url.query_pairs_mut()
            .append_pair("certificateId", &request.certificate_id)
            .append_pair("validateOnly", "true");
        let call = self.http.post(url).header(CONTENT_TYPE, "application/json");
        let call = call.body(request.body.clone());
        let _: IgnoredAny = self
            .call(Call::ValidateCertificate, &request.pool, call, caller)
            .await?;
        Ok(())
    }

    /// `GetCertificate`. Pools of tier DEVOPS refuse it.
    pub async fn get(
        &self,
        pool: &CaPoolName,
        certificate_id: &str,
        caller: &Caller,
    ) -> Result<RawChain, CallError> {
        let url = self.url(pool, &format!("/certificates/{certificate_id}"));
        let call = self.http.get(url);
        let answer: CertificateAnswer = self.call(Call::GetCertificate, pool, call, caller).await?;
        Ok(answer.into())
    }

    /// `GetCaPool`: tier and issuance policy.
    pub async fn pool(
        &self,
        pool: &CaPoolName,
        caller: &Caller,
    ) -> Result<CaPoolAnswer, CallError> {
        self.dated_pool(pool, caller).await.value
    }

    /// As [`pool`](Self::pool), with the service's clock, whatever it answered.
    pub async fn dated_pool(
        &self,
        pool: &CaPoolName,
        caller: &Caller,
    ) -> Reply<Result<CaPoolAnswer, CallError>> {
        let call = self.http.get(self.url(pool, ""));
        self.exchange(Call::GetCaPool, pool, call, caller).await
    }

    /// `ListCertificateAuthorities`: every CA of the pool, whatever its state.
    pub async fn list_authorities(
        &self,
        pool: &CaPoolName,
        caller: &Caller,
    ) -> Result<Vec<CaAnswer>, CallError> {
        const CALL: Call = Call::ListCertificateAuthorities;
        let (mut authorities, mut token) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let mut url = self.url(pool, "/certificateAuthorities");
            url.query_pairs_mut()
                .append_pair("pageSize", &PAGE_SIZE.to_string());
            if !token.is_empty() {
                url.query_pairs_mut().append_pair("pageToken", &token);
            }
            let page: CaListAnswer = self.call(CALL, pool, self.http.get(url), caller).await?;
            authorities.extend(page.certificate_authorities);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(authorities);
            }
            if token.len() > LONGEST_PAGE_TOKEN {
                break;
            }
        }
        let detail = format!(
            "the list of CAs does not end after {} of them",
            authorities.len()
        );
        Err(CallError::new(
            CALL,
            pool,
            Reason::Unusable { detail },
            None,
        ))
    }

    /// `FetchCaCerts`: the chains of the pool's CAs, each from the CA to its root. Chains without
    /// a certificate are left out; one that cannot be read fails the call.
    pub async fn fetch_ca_certs(
        &self,
        pool: &CaPoolName,
        caller: &Caller,
    ) -> Result<Vec<Vec<Certificate>>, CallError> {
        let call = self.http.post(self.url(pool, ":fetchCaCerts"));
        let call = call.header(CONTENT_TYPE, "application/json").body("{}");
        let answer: CaCertsAnswer = self.call(Call::FetchCaCerts, pool, call, caller).await?;
        chains(&answer).map_err(|detail| {
            CallError::new(Call::FetchCaCerts, pool, Reason::Unusable { detail }, None)
        })
    }

    fn url(&self, pool: &CaPoolName, rest: &str) -> Url {
        self.endpoint
            .url(&format!("/v1/{}{rest}", pool.resource_name()))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        call: Call,
        pool: &CaPoolName,
        request: RequestBuilder,
        caller: &Caller,
    ) -> Result<T, CallError> {
        self.exchange(call, pool, request, caller).await.value
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        call: Call,
        pool: &CaPoolName,
        request: RequestBuilder,
        caller: &Caller,
    ) -> Reply<Result<T, CallError>> {
        let mut date = None;
        let value = self.send(call, pool, request, caller, &mut date).await;
        Reply { value, date }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        call: Call,
        pool: &CaPoolName,
        request: RequestBuilder,
        caller: &Caller,
        date: &mut Option<Timestamp>,
    ) -> Result<T, CallError> {
        let failed = |reason| CallError::new(call, pool, reason, None);
        let token = self.identity.token(caller).await;
        let token = token.map_err(|error| failed(Reason::NoToken(error)))?;
        let request = match &token {
            Some(token) => request.header(AUTHORIZATION, bearer(token).map_err(failed)?),
            None => request,
        };
        let response = request
            .send()
            .await
            .map_err(|error| failed(self.reason(&error)))?;
        *date = service_clock(&response);
        let (status, wait) = (
            response.status(),
            retry_after::wait(response.headers(), *date),
        );
        let body = self.read(response).await;
        if !status.is_success() {
            return Err(refusal(
                call,
                pool,
                status,
                wait,
                body.as_deref().unwrap_or_default(),
            ));
        }
        let body = body.map_err(failed)?;
        serde_json::from_slice(&body).map_err(|_not_our_json| {
            failed(Reason::NotUnderstood {
                http: status.as_u16(),
                excerpt: excerpt(&body),
            })
        })
    }

    /// Reads an answer whole, but never more than [`MAX_ANSWER_BYTES`].
    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Reason> {
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.reason(&error))?
        {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Reason::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn reason(&self, error: &reqwest::Error) -> Reason {
        let (endpoint, detail) = (self.endpoint.to_string(), root_cause(error));
        if error.is_connect() {
            Reason::NotConnected { endpoint, detail }
        } else if error.is_timeout() {
            Reason::Timeout {
                endpoint,
                after: self.timeouts.attempt,
            }
        } else {
            Reason::Broken { endpoint, detail }
        }
    }
}

fn bearer(token: &Token) -> Result<HeaderValue, Reason> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_holds_the_token| Reason::Unusable {
        detail: "the access token has characters that no token has".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The service's no, with as much of its reason as it gave.
fn refusal(
    call: Call,
    pool: &CaPoolName,
    status: StatusCode,
    wait: Option<Duration>,
    body: &[u8],
) -> CallError {
    let http = status.as_u16();
    let error = serde_json::from_slice::<ErrorAnswer>(body)
        .ok()
        .and_then(|answer| answer.error);
    let Some(error) = error else {
        let message = excerpt(body);
        let reason = Reason::Answer {
            http,
            status: None,
            message,
            permission: None,
        };
        return CallError::new(call, pool, reason, wait);
    };
    let wait = wait.max(error.retry_delay());
    let permission = error.permission().map(str::to_owned);
    let ErrorBody {
        message, status, ..
    } = error;
    let message = printable(&message, LONGEST_TEXT);
    let status = status.map(|status| printable(&status, 40));
    CallError::new(
        call,
        pool,
        Reason::Answer {
            http,
            status,
            message,
            permission,
        },
        wait,
    )
}

/// The header `Date`. Every server has to send it in the form of RFC 2822 with the zone GMT
/// (RFC 9110, section 6.6.1).
fn service_clock(response: &Response) -> Option<Timestamp> {
    let text = response.headers().get(DATE)?.to_str().ok()?;
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

fn chains(answer: &CaCertsAnswer) -> Result<Vec<Vec<Certificate>>, String> {
    let mut chains = Vec::new();
    for (index, chain) in answer.ca_certs.iter().enumerate() {
        let mut certificates = Vec::new();
        for pem in &chain.certificates {
            let parsed = Certificate::parse_pem_list(pem.as_bytes()).map_err(|error| {
                format!(
                    "chain {}: {}",
                    index + 1,
                    printable(&error.to_string(), LONGEST_TEXT)
                )
            })?;
            if parsed.is_empty() {
                return Err(format!(
                    "chain {} holds a text without a certificate",
                    index + 1
                ));
            }
            certificates.extend(parsed);
        }
        if !certificates.is_empty() {
            chains.push(certificates);
        }
    }
    Ok(chains)
}

/// TLS that trusts nobody: a loopback endpoint needs none, and the machine's own certificates must
/// not be needed either.
fn no_tls() -> Result<rustls::ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

/// The last of a chain of errors: the one that says why. Its wrappers only repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    printable(&cause.to_string(), LONGEST_TEXT)
}

impl From<CertificateAnswer> for RawChain {
    fn from(answer: CertificateAnswer) -> Self {
        Self {
            certificate: answer.pem_certificate,
            chain: answer.pem_certificate_chain,
        }
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "client_tests.rs"]
mod tests;
