//! The token service (`sts.googleapis.com`): a workload's own token in, an access token out
//! (RFC 8693), also in the older form of `securetoken.googleapis.com`; and the one of
//! `oauth2.googleapis.com`, which takes the JWTs that service accounts sign (RFC 7523).

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::jwt::{Claims, Jwt};
use super::provider::{Provider, SubjectTooLong, is_audience};
use super::tokens::Scopes;
use super::{Identities, Issued, excerpt};
use crate::errors::ApiError;
use crate::json::from_body;

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const SUBJECT_TYPES: [&str; 2] = [
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
];
/// Google's bound on the life of a subject token, in seconds.
const MAX_SUBJECT_LIFETIME: i64 = 24 * 3600;
/// The most pairs of a form that are looked at.
const MAX_PAIRS: usize = 32;

/// A request, in any of its forms. What is not known here is ignored, as RFC 6749 asks.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TokenRequest {
    grant_type: String,
    audience: String,
    scope: String,
    requested_token_type: String,
    subject_token: String,
    subject_token_type: String,
    assertion: String,
}

/// The answer to a token exchange.
#[derive(Serialize)]
pub(super) struct TokenAnswer {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
    token_type: &'static str,
    expires_in: i64,
}

/// A refusal in OAuth's form. Holds no token.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct OauthError {
    pub(super) error: &'static str,
    #[serde(rename = "error_description")]
    pub(super) description: String,
}

impl OauthError {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            error,
            description: description.into(),
        }
    }

    fn request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    fn grant(description: impl Into<String>) -> Self {
        Self::new("invalid_grant", description)
    }
}

impl TokenRequest {
    /// From a body in one of the two encodings.
    pub(super) fn parse(content_type: Option<&str>, body: &[u8]) -> Result<Self, OauthError> {
        let media_type = content_type.unwrap_or_default().split(';').next();
        match media_type
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/json" => {
                from_body(body).map_err(|error| OauthError::request(error.message))
            }
            "application/x-www-form-urlencoded" => Self::from_form(body),
            _ => Err(OauthError::request(
                "Content-Type must be application/x-www-form-urlencoded or application/json.",
            )),
        }
    }

    fn from_form(body: &[u8]) -> Result<Self, OauthError> {
        let mut request = Self::default();
        for (count, (name, value)) in form_urlencoded::parse(body).enumerate() {
            if count >= MAX_PAIRS {
                return Err(OauthError::request("Too many parameters."));
            }
            let field = match &*name {
                "grant_type" => &mut request.grant_type,
                "audience" => &mut request.audience,
                "scope" => &mut request.scope,
                "requested_token_type" => &mut request.requested_token_type,
                "subject_token" => &mut request.subject_token,
                "subject_token_type" => &mut request.subject_token_type,
                "assertion" => &mut request.assertion,
                _ => continue,
            };
            if !field.is_empty() {
                return Err(OauthError::request(format!(
                    "The parameter {name} is repeated."
                )));
            }
            *field = value.into_owned();
        }
        Ok(request)
    }
}

impl Identities {
    /// `POST /v1/token` of the token service, and `/v1/identitybindingtoken`.
    pub(super) fn exchange(
        &self,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<TokenAnswer, OauthError> {
        check_grant_type(&request.grant_type, TOKEN_EXCHANGE)?;
        if !is_audience(&request.audience) {
            return Err(OauthError::request(
                "Invalid value for \"audience\". This value should be the full resource name of \
                 the Identity Provider. See \
                 https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the \
                 list of possible formats.",
            ));
        }
        let provider = self.providers.get(&request.audience).ok_or_else(|| {
            OauthError::new(
                "invalid_target",
                "The target service indicated by the \"audience\" parameters is invalid. This \
                 might either be because the pool or provider is disabled or deleted or because \
                 it doesn't exist.",
            )
        })?;
        // The legacy service had no other type to ask for.
        if !matches!(request.requested_token_type.as_str(), "" | ACCESS_TOKEN) {
            return Err(OauthError::request(format!(
                "Invalid requested token type; expected {ACCESS_TOKEN}."
            )));
        }
        if !SUBJECT_TYPES.contains(&request.subject_token_type.as_str()) {
            return Err(OauthError::request(format!(
                "Invalid subject token type {:?}; expected {}.",
                excerpt(&request.subject_token_type),
                SUBJECT_TYPES.join(" or "),
            )));
        }
        let scopes = scopes(&request.scope)?;
        if request.subject_token.is_empty() {
            return Err(OauthError::request(
                "Missing required parameter: subject_token.",
            ));
        }
        let jwt = Jwt::parse(&request.subject_token)
            .map_err(|error| OauthError::grant(format!("Invalid ID Token: {error}.")))?;
        check_subject_token(&jwt, provider, &request.audience, now)?;
        let subject = jwt.claims.sub.as_deref().unwrap_or_default();
        if subject.is_empty() {
            return Err(OauthError::grant(
                "Invalid ID Token: it has no subject (sub).",
            ));
        }
        let principal = provider.principal(subject).map_err(|SubjectTooLong| {
            OauthError::grant(
                "The size of mapped attribute google.subject exceeds the 127 bytes limit. \
                     Either modify your attribute mapping or the incoming assertion to produce a \
                     mapped attribute that is less than 127 bytes.",
            )
        })?;
        let issued = self.issue(Arc::new(principal), scopes, None, now);
        answer(issued, Some(ACCESS_TOKEN), now)
    }

    /// `POST /token` of Google's OAuth service: for a service account's key file.
    pub(super) fn assert(
        &self,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<TokenAnswer, OauthError> {
        check_grant_type(&request.grant_type, JWT_BEARER)?;
        let (jwt, account) = self
            .signed_by_account(&request.assertion, now)
            .map_err(OauthError::grant)?;
        // The key file names the token service, and here that may be any address of the emulator.
        let is_token_service = |aud: &String| aud.ends_with("/token");
        if !jwt.claims.aud.0.iter().any(is_token_service) {
            let description = "Invalid JWT: Failed audience check; it is not a token URI.";
            return Err(OauthError::grant(description));
        }
        let scopes = scopes(&jwt.claims.scope)?;
        let issued = self.issue(Arc::clone(&account.principal), scopes, None, now);
        answer(issued, None, now)
    }
}

fn check_grant_type(given: &str, expected: &str) -> Result<(), OauthError> {
    if given.is_empty() {
        return Err(OauthError::request(
            "Missing required parameter: grant_type.",
        ));
    }
    if given != expected {
        return Err(OauthError::new(
            "unsupported_grant_type",
            format!(
                "Invalid grant_type: {}. Expected {expected}.",
                excerpt(given)
            ),
        ));
    }
    Ok(())
}

fn scopes(scope: &str) -> Result<Scopes, OauthError> {
    Scopes::parse(scope.split_whitespace()).ok_or_else(|| {
        OauthError::new(
            "invalid_scope",
            "Invalid OAuth scope or ID token audience provided: write \
             https://www.googleapis.com/auth/cloud-platform.",
        )
    })
}

/// The issuer first: it says where to look for the cause of everything else.
fn check_subject_token(
    jwt: &Jwt<'_>,
    provider: &Provider,
    audience: &str,
    now: Timestamp,
) -> Result<(), OauthError> {
    let claims: &Claims = &jwt.claims;
    if claims.iss != provider.issuer {
        return Err(OauthError::grant(format!(
            "The issuer in ID Token [{}] does not match the expected issuer {}.",
            excerpt(&claims.iss),
            provider.issuer,
        )));
    }
    jwt.verify(&provider.keys)
        .map_err(|error| OauthError::grant(format!("Invalid ID Token: {error}.")))?;
    if !claims
        .aud
        .0
        .iter()
        .any(|aud| provider.audiences.contains(aud))
    {
        return Err(OauthError::grant(format!(
            "The audience in ID Token [{}] does not match the expected audience {}.",
            excerpt(&claims.aud.0.join(", ")),
            provider.audiences.first().map_or(audience, String::as_str),
        )));
    }
    if claims.is_expired(now) {
        return Err(OauthError::grant(format!(
            "ID Token issued at {} is stale to sign-in.",
            claims.iat.0
        )));
    }
    if claims.is_early(now) {
        return Err(OauthError::grant(format!(
            "ID Token issued at {} is not valid yet; it is {} here. Compare the clocks.",
            claims.iat.0,
            now.as_second(),
        )));
    }
    if claims.lifetime() > MAX_SUBJECT_LIFETIME {
        return Err(OauthError::grant(
            "ID Token lives longer than 24 hours from its iat to its exp.",
        ));
    }
    Ok(())
}

fn answer(
    issued: Result<Issued, ApiError>,
    issued_token_type: Option<&'static str>,
    now: Timestamp,
) -> Result<TokenAnswer, OauthError> {
    let issued = issued.map_err(|error| OauthError::new("server_error", error.message))?;
    Ok(TokenAnswer {
        access_token: issued.token,
        issued_token_type,
        token_type: "Bearer",
        expires_in: issued.expires.duration_since(now).as_secs(),
    })
}
