//! One client for every call to CA Service.
use std::time::Duration;

use certagent_core::{
    issued::RawChain,
    pool::CaPoolName,
    request::{PreparedRequest, SubjectMode},
};
use certagent_svid::Certificate;
use jiff::Timestamp;
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    authority::{CaAnswer, CaListAnswer},
    ca_bundle::Roots,
    endpoint::Endpoint,
    error::{Call, CallError, LONGEST_TEXT, Reason, excerpt, printable},
    retry_after,
    transport::{self, ClientError, ReadError, Timeouts, root_cause},
    wire::{CaCertsAnswer, CaPoolAnswer, CertificateAnswer, ErrorAnswer},
};
use crate::google::{Caller, Identity, Shown, Token};

/// The largest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How many CAs are asked for at a time: each comes with its whole chain, several kilobytes.
const PAGE_SIZE: usize = 25;

/// More pages are not read: CA Service allows 1,000 CAs for a location and project.
const MAX_PAGES: usize = 40;

/// A longer token, in bytes, is not sent back.
const LONGEST_PAGE_TOKEN: usize = 4096;

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

impl CasClient {
    /// A client of the CA Service at `endpoint`, which needs no CA certificates to be trusted, that
    /// shows itself as `identity`. It connects with the first call.
    pub fn new(endpoint: &Endpoint, identity: Identity) -> Result<Self, ClientError> {
        Self::trusting(endpoint, &Roots::none(), identity, Timeouts::default())
    }

    /// The same, where the CA Service has to prove itself by a certificate under one of `roots`.
    pub fn with_roots(
        endpoint: &Endpoint,
        roots: &Roots,
        identity: Identity,
    ) -> Result<Self, ClientError> {
        Self::trusting(endpoint, roots, identity, Timeouts::default())
    }

    pub(crate) fn trusting(
        endpoint: &Endpoint,
        roots: &Roots,
        identity: Identity,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            http: transport::client(endpoint, roots, timeouts)?,
            endpoint: endpoint.clone(),
            identity,
            timeouts,
        })
    }

    /// Where this client calls.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Who calls.
    pub fn identity(&self) -> &Identity {
        &self.identity
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
        let method = match request.plan.subject_mode {
            SubjectMode::Default => Call::CreateCertificate,
            SubjectMode::ReflectedSpiffe => Call::CreateCertificateForSelf,
        };
        let answer: CertificateAnswer = self.call(method, &request.pool, call, caller).await?;
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
        let method = match request.plan.subject_mode {
            SubjectMode::Default => Call::ValidateCertificate,
            SubjectMode::ReflectedSpiffe => Call::ValidateCertificateForSelf,
        };
        let _: IgnoredAny = self.call(method, &request.pool, call, caller).await?;
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
        // Several calls in one future would make it larger than the stack likes.
        let value = Box::pin(self.send(call, pool, request, caller, &mut date)).await;
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
        // Only a token that was refused is a reason to send it twice.
        let mut again = request.try_clone();
        let mut request = request;
        let response = loop {
            let token = self.identity.token(caller).await;
            let token = token.map_err(|error| failed(Reason::NoToken(error)))?;
            if let Some(token) = &token {
                request = request.header(AUTHORIZATION, bearer(token).map_err(failed)?);
            }
            let response = request
                .send()
                .await
                .map_err(|error| failed(self.reason(&error)))?;
            if response.status() == StatusCode::UNAUTHORIZED
                && let (Some(token), Some(same)) = (token, again.take())
                && self.identity.refused(caller, &token).await
            {
                request = same;
                continue;
            }
            break response;
        };
        *date = retry_after::service_clock(response.headers());
        let (status, wait) = (response.status(), retry_after::wait(response.headers()));
        let body = self.read(response).await;
        if !status.is_success() {
            let shown = self.identity.shown(caller);
            return Err(refusal(
                call,
                pool,
                status,
                wait,
                body.as_deref().unwrap_or_default(),
                shown,
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
    async fn read(&self, response: Response) -> Result<Vec<u8>, Reason> {
        transport::read(response, MAX_ANSWER_BYTES)
            .await
            .map_err(|error| match error {
                ReadError::TooLarge => Reason::TooLarge,
                ReadError::Http(error) => self.reason(&error),
            })
    }

    fn reason(&self, error: &reqwest::Error) -> Reason {
        let (endpoint, detail) = (self.endpoint.to_string(), root_cause(error));
        if transport::is_tls_fault(error) {
            Reason::NoTls { endpoint, detail }
        } else if error.is_connect() {
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
    token.bearer().map_err(|_odd| Reason::Unusable {
        detail: "the access token has characters that no token has".into(),
    })
}

/// The service's no to whom the call was `shown` as, with as much of its reason as it gave.
fn refusal(
    call: Call,
    pool: &CaPoolName,
    status: StatusCode,
    wait: Option<Duration>,
    body: &[u8],
    shown: Shown,
) -> CallError {
    let error = serde_json::from_slice::<ErrorAnswer>(body)
        .ok()
        .and_then(|answer| answer.error);
    let (wait, permission, canonical, message) = match error {
        Some(error) => (
            wait.max(error.retry_delay()),
            error.permission().map(str::to_owned),
            error.status.as_deref().map(|status| printable(status, 40)),
            printable(&error.message, LONGEST_TEXT),
        ),
        None => (wait, None, None, excerpt(body)),
    };
    let reason = if status == StatusCode::UNAUTHORIZED {
        Reason::Unauthenticated { shown, message }
    } else {
        Reason::Answer {
            http: status.as_u16(),
            status: canonical,
            message,
            permission,
        }
    };
    CallError::new(call, pool, reason, wait)
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
