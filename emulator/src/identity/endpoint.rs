//! The neighbours of CA Service that issue tokens, over HTTP.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method as Verb, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::Identities;
use super::exchange::{OauthError, TokenAnswer, TokenRequest};
use super::metadata::Metadata;
use crate::errors::ApiError;
use crate::faults::Method;
use crate::rest::{error_response, json_bytes};

/// The largest request that is read, in bytes.
const BODY_LIMIT: usize = 64 * 1024;
const FLAVOR: &str = "metadata-flavor";
const GOOGLE: &str = "Google";

/// A call to one of the neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `sts.googleapis.com`, and `securetoken.googleapis.com`.
    Exchange,
    /// `oauth2.googleapis.com`.
    Assert,
    /// `iamcredentials.googleapis.com`.
    GenerateAccessToken { email: String },
    /// `metadata.google.internal`.
    Metadata,
}

impl Endpoint {
    /// The neighbour that a path belongs to, if it is not CA Service's.
    pub(crate) fn route(path: &str) -> Option<Self> {
        match path {
            "/v1/token" | "/v1/identitybindingtoken" => return Some(Self::Exchange),
            "/token" => return Some(Self::Assert),
            "/" | "/computeMetadata" => return Some(Self::Metadata),
            _ if path.starts_with("/computeMetadata/") => return Some(Self::Metadata),
            _ => {}
        }
        let email = path
            .strip_prefix("/v1/projects/-/serviceAccounts/")?
            .strip_suffix(":generateAccessToken")?;
        let email = percent_decode_str(email).decode_utf8().ok()?.into_owned();
        (!email.contains('/')).then_some(Self::GenerateAccessToken { email })
    }

    /// The call by its method.
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Exchange | Self::Assert => Method::ExchangeToken,
            Self::GenerateAccessToken { .. } => Method::GenerateAccessToken,
            Self::Metadata => Method::GetMetadata,
        }
    }

    /// An answer that the neighbour itself gives, with what all of its answers have: clients know the
    /// metadata server by it, also when it refuses.
    pub(crate) fn sign(&self, mut answer: Response) -> Response {
        if let Self::Metadata = self {
            let google = HeaderValue::from_static(GOOGLE);
            answer.headers_mut().insert(FLAVOR, google);
        }
        answer
    }

    /// Answers the call.
    pub(crate) fn answer(
        &self,
        identities: &Identities,
        parts: &Parts,
        body: &[u8],
        now: Timestamp,
    ) -> Response {
        if let Self::Metadata = self {
            return self.sign(metadata(identities, parts, now));
        }
        if parts.method != Verb::POST {
            return error_response(&ApiError::not_found(parts.uri.path()));
        }
        if let Self::GenerateAccessToken { email } = self {
            let authorization = authorization(&parts.headers);
            let answer = identities.generate_access_token(email, authorization, body, now);
            return match answer {
                Ok(answer) => json(StatusCode::OK, &answer),
                Err(error) => error_response(&error),
            };
        }
        let answer = self.token(identities, &parts.headers, body, now);
        let mut response = match answer {
            Ok(answer) => json(StatusCode::OK, &answer),
            Err(error) => json(StatusCode::BAD_REQUEST, &error),
        };
        let no_store = HeaderValue::from_static("no-store");
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_store);
        response
    }

    fn token(
        &self,
        identities: &Identities,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<TokenAnswer, OauthError> {
        if body.len() > BODY_LIMIT {
            let description = "The request is larger than 64 KiB.";
            return Err(OauthError::new("invalid_request", description));
        }
        let content_type = text(headers, &header::CONTENT_TYPE);
        let request = TokenRequest::parse(content_type, body)?;
        match self {
            Self::Assert => identities.assert(&request, now),
            _ => identities.exchange(&request, now),
        }
    }
}

/// The value of the header `Authorization`.
pub(crate) fn authorization(headers: &HeaderMap) -> Option<&str> {
    text(headers, &header::AUTHORIZATION)
}

fn metadata(identities: &Identities, parts: &Parts, now: Timestamp) -> Response {
    const HTML: &str = "text/html";
    let (status, content_type, body) = if parts.method != Verb::GET {
        let body = "Method Not Allowed\n".to_owned();
        (StatusCode::METHOD_NOT_ALLOWED, HTML, body)
    } else if parts
        .headers
        .get(FLAVOR)
        .is_none_or(|value| value != GOOGLE)
    {
        let body = "Missing required header: Metadata-Flavor: Google\n".to_owned();
        (StatusCode::FORBIDDEN, HTML, body)
    } else if parts.headers.contains_key("x-forwarded-for") {
        // From a proxy: the one who asks is not on this machine.
        let body = "Forbidden header: X-Forwarded-For\n".to_owned();
        (StatusCode::FORBIDDEN, HTML, body)
    } else {
        let query = parts.uri.query().unwrap_or_default();
        match identities.metadata(parts.uri.path(), query, now) {
            Metadata::Text(text) => (StatusCode::OK, "application/text", text),
            Metadata::Json(json) => (StatusCode::OK, "application/json", json),
            Metadata::NotFound => {
                let body = "Not Found: see metadataServer of the identities\n".to_owned();
                (StatusCode::NOT_FOUND, HTML, body)
            }
            Metadata::Failed => {
                let body = "Service Unavailable\n".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, HTML, body)
            }
        }
    };
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => json_bytes(status, body),
        Err(error) => error_response(&ApiError::internal("The answer", error)),
    }
}
