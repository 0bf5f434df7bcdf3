//! Calls without a good token, in Google's words.

use axum::http::HeaderValue;
use serde_json::json;

use crate::errors::{ApiError, Code};

/// The reason of a refusal for want of any token.
const MISSING: &str = "CREDENTIALS_MISSING";

const EXPECTED: &str = "Expected OAuth 2 access token, login cookie or other valid authentication \
                        credential. See \
                        https://developers.google.com/identity/sign-in/web/devconsole-project.";

/// For a call without a token.
pub(super) fn missing_credential() -> ApiError {
    let message = format!("Request is missing required authentication credential. {EXPECTED}");
    unauthenticated(message, MISSING)
}

/// For a token that is not taken, in Google's words; what this emulator knows beyond them goes into the details.
pub(super) fn bad_credential(reason: &str, why: &str) -> ApiError {
    let message = format!("Request had invalid authentication credentials. {EXPECTED}");
    let mut error = unauthenticated(message, reason);
    error.details.push(json!({
        "@type": "type.googleapis.com/google.rpc.DebugInfo",
        "detail": why,
    }));
    error
}

fn unauthenticated(message: String, reason: &str) -> ApiError {
    let mut error = ApiError::new(Code::Unauthenticated, message);
    error.details.push(error_info(reason));
    error
}

/// For a token that was issued for other services.
pub(super) fn insufficient_scope() -> ApiError {
    let message = "Request had insufficient authentication scopes.";
    let mut error = ApiError::new(Code::PermissionDenied, message);
    error
        .details
        .push(error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"));
    error
}

fn error_info(reason: &str) -> serde_json::Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": { "service": "privateca.googleapis.com" },
    })
}

/// The header `WWW-Authenticate` of a refusal for want of a good token (RFC 6750, section 3): only
/// a token that was there can be a bad one.
pub(crate) fn challenge(error: &ApiError) -> HeaderValue {
    let is_missing = error
        .details
        .iter()
        .any(|detail| detail["reason"] == MISSING);
    HeaderValue::from_static(if is_missing {
        "Bearer realm=\"https://accounts.google.com/\""
    } else {
        "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\""
    })
}
