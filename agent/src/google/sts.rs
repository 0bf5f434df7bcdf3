//! The call that makes an access token of a workload's own token: the exchange at Google's Security
//! Token Service. How services that give tokens are asked, and why they give none.
use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};
use reqwest::{RequestBuilder, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    IdentityError, Origin, SCOPE, SubjectToken, Token, answer,
    audience::Audience,
    scrub,
    subject::{Claims, Subject},
};
use crate::cas::{
    ClientError, Endpoint, Roots, retry_after,
    transport::{self, ReadError, Timeouts},
};

/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The longest access token that is believed to be one, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The longest that a token of either service lasts, in seconds, whatever its answer says.
pub(super) const LONGEST_LIFETIME: i64 = 12 * 3600;

const AGAIN: &str =
    "it is asked again by itself; if this goes on, look at the network on the way to it";

/// An access token, and how long it lasts from when it was asked for.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) token: Token,
    pub(super) lifetime: SignedDuration,
}

/// Google's Security Token Service.
pub(super) struct Sts {
    service: Service,
    pub(super) audience: Audience,
}

/// A service that gives tokens.
pub(super) struct Service {
    pub(super) http: reqwest::Client,
    pub(super) endpoint: Endpoint,
    timeouts: Timeouts,
}

impl Sts {
    pub(super) fn new(
        endpoint: &Endpoint,
        roots: &Roots,
        audience: Audience,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        let service = Service::new(endpoint, roots, timeouts)?;
        Ok(Self { service, audience })
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.service.endpoint
    }

    /// Exchanges a token, which came from `source`, by RFC 8693.
    pub(super) async fn exchange(
        &self,
        subject: &Subject,
        source: &SubjectToken,
    ) -> Result<Granted, IdentityError> {
        let failed = |what: Failure| {
            let what = what.without(&subject.token);
            let advice = self.advice(&what, &subject.claims, source);
            let about = format!("{source} is not exchanged");
            what.into_error(&self.service.endpoint, &about, &advice)
        };
        let form = form(&self.audience, &subject.token);
        let request = self
            .service
            .http
            .post(self.service.endpoint.url("/v1/token"));
        let request = request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let body = self.service.call(request).await.map_err(failed)?;
        let answer: StsAnswer =
            serde_json::from_slice(&body).map_err(|_not_json| failed(Failure::NotUnderstood))?;
        let token = usable(answer.access_token).ok_or_else(|| failed(Failure::NotUnderstood))?;
        let seconds = answer.expires_in.as_ref().and_then(seconds).unwrap_or(0);
        let lifetime = SignedDuration::from_secs(seconds.clamp(0, LONGEST_LIFETIME));
        Ok(Granted { token, lifetime })
    }

    fn advice(&self, failure: &Failure, claims: &Claims, source: &SubjectToken) -> String {
        let audience = &self.audience;
        let (http, code) = match failure {
            Failure::Answer { http, code, .. } if failure.is_permanent() => (http, code),
            _ => return failure.advice("--sts-endpoint and --sts-audience"),
        };
        match (http, code.as_deref()) {
            (_, Some("invalid_target")) => {
                format!("compare --sts-audience {audience} with the pools and providers that exist")
            }
            (403, _) => format!(
                "check that the Security Token Service API is enabled in the project of {audience}, and that pool and provider are not disabled"
            ),
            (400, Some("invalid_grant")) | (401, _) => {
                let audience_of = claims.audience.as_deref().unwrap_or("nobody");
                let issuer = claims.issuer.as_deref().unwrap_or("nobody");
                let set_in = match source {
                    SubjectToken::File(_) => "",
                    SubjectToken::Pod(_) => {
                        "; its audience is set in tokenRequests of the CSIDriver object"
                    }
                };
                format!(
                    "the token is for the audience \"{audience_of}\" and of the issuer \"{issuer}\": compare both, and the keys of the issuer, with what the provider of {audience} allows{set_in}"
                )
            }
            (400..=499, Some(_)) => {
                format!("compare --sts-audience {audience} with the pool's provider")
            }
            _ => failure.advice("--sts-endpoint and --sts-audience"),
        }
    }
}

/// The form of RFC 8693, section 2.1, as Google's clients fill it in
/// (google-auth-library-python, `google/oauth2/sts.py`).
fn form(audience: &Audience, subject: &Token) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair(
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        )
        .append_pair("audience", audience.as_str())
        .append_pair("scope", SCOPE)
        .append_pair(
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        )
        .append_pair("subject_token", subject.expose())
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .finish()
}

#[derive(Deserialize)]
struct StsAnswer {
    access_token: String,
    /// Seconds, as a number or as a text.
    expires_in: Option<Value>,
}

fn seconds(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The text as a token, if a header can carry it.
pub(super) fn usable(text: String) -> Option<Token> {
    let is_good =
        (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let token = Token::new(text);
    is_good.then_some(token)
}

impl Service {
    pub(super) fn new(
        endpoint: &Endpoint,
        roots: &Roots,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            http: transport::client(endpoint, roots, timeouts)?,
            endpoint: endpoint.clone(),
            timeouts,
        })
    }

    /// The body of a good answer: with a token in it, so that nothing of it may be shown.
    pub(super) async fn call(
        &self,
        request: RequestBuilder,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        let retry_after = retry_after::wait(response.headers());
        let body = transport::read(response, MAX_ANSWER_BYTES).await;
        let body = body.map(Zeroizing::new).map_err(|error| match error {
            ReadError::TooLarge => Failure::TooLarge,
            ReadError::Http(error) => self.broken(&error),
        });
        if status.is_success() {
            return body;
        }
        let (http, body) = (status.as_u16(), body.unwrap_or_default());
        Err(Failure::Answer {
            http,
            code: oauth_code(&body),
            said: answer::describe(http, &body),
            retry_after,
        })
    }

    fn broken(&self, error: &reqwest::Error) -> Failure {
        let detail = transport::root_cause(error);
        if transport::is_tls_fault(error) {
            Failure::Tls { detail }
        } else if error.is_timeout() {
            Failure::Timeout {
                after: self.timeouts.attempt,
            }
        } else {
            Failure::Broken { detail }
        }
    }
}

/// The code of an error by OAuth's rules (RFC 6749, section 5.2).
fn oauth_code(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    answer.get("error")?.as_str().map(str::to_owned)
}

/// Why a call brought no token.
pub(super) enum Failure {
    Tls {
        detail: String,
    },
    Broken {
        detail: String,
    },
    Timeout {
        after: Duration,
    },
    TooLarge,
    NotUnderstood,
    /// The token had ended before it came.
    Ended {
        at: Timestamp,
        seconds: i64,
    },
    Answer {
        http: u16,
        code: Option<String>,
        said: String,
        retry_after: Option<Duration>,
    },
}

impl Failure {
    /// Whatever the service quotes of the token that was shown to it is left out.
    pub(super) fn without(mut self, secret: &Token) -> Self {
        if let Self::Answer { said, .. } = &mut self {
            *said = scrub::without(said, secret.expose());
        }
        self
    }

    /// Only a change of something helps: the request came to somebody who refuses it.
    fn is_permanent(&self) -> bool {
        matches!(self, Self::Answer { http, .. }
            if (300..500).contains(http) && !matches!(http, 408 | 425 | 429))
    }

    /// A refusal in OAuth's form is about what was shown.
    fn origin(&self, endpoint: &Endpoint) -> Origin {
        match self {
            Self::Answer { code: Some(_), .. } if self.is_permanent() => {
                Origin::Refused(endpoint.to_string())
            }
            _ => Origin::Service(endpoint.to_string()),
        }
    }

    /// The next step; `named` is what says who is asked.
    pub(super) fn advice(&self, named: &str) -> String {
        let text = match self {
            Self::Answer { .. } if self.is_permanent() => {
                return format!("check {named}");
            }
            Self::Tls { .. } => "check --ca-bundle, and that nothing in between answers instead",
            Self::Answer { http: 429, .. } => "a quota is used up; it is asked again by itself",
            Self::TooLarge | Self::NotUnderstood => {
                "check that the endpoint is Google's or an emulator's, and that nothing in between answers instead"
            }
            Self::Ended { .. } => "check this machine's clock",
            Self::Broken { .. } | Self::Timeout { .. } | Self::Answer { .. } => AGAIN,
        };
        text.to_owned()
    }

    pub(super) fn into_error(
        self,
        endpoint: &Endpoint,
        about: &str,
        advice: &str,
    ) -> IdentityError {
        let retry_after = match &self {
            Self::Answer { retry_after, .. } => *retry_after,
            _ => None,
        };
        IdentityError {
            detail: format!("{about} by {endpoint}: {self}; {advice}"),
            is_permanent: self.is_permanent(),
            retry_after,
            origin: self.origin(endpoint),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { detail } => write!(f, "it does not prove who it is ({detail})"),
            Self::Broken { detail } => write!(f, "no connection, or it broke ({detail})"),
            Self::Timeout { after } => write!(f, "no answer within {after:?}"),
            Self::TooLarge => write!(f, "the answer is more than {} KiB", MAX_ANSWER_BYTES / 1024),
            Self::NotUnderstood => f.write_str("it says yes, and sends no usable access token"),
            Self::Ended { at, seconds } => write!(
                f,
                "it gives a token that ended {seconds} s ago by this machine's clock, at {at}"
            ),
            Self::Answer { said, .. } => f.write_str(said),
        }
    }
}

#[cfg(test)]
#[path = "sts_tests.rs"]
mod tests;
