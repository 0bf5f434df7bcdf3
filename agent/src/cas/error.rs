//! What can go wrong with a call, told in one sentence each: which pool, which call, what happened
//! and what to do.
use std::{fmt, time::Duration};

use certagent_core::{
    outcome::{Attempt, Class},
    pool::CaPoolName,
};

use super::wire::LONGEST_WAIT;
use crate::google::{IdentityError, Shown};

/// Longest text from outside that a message repeats, in characters.
pub(crate) const LONGEST_TEXT: usize = 200;
/// Longest excerpt of an answer that is not CA Service's.
const LONGEST_EXCERPT: usize = 120;
/// The status of an answer to somebody whom the service does not know.
const UNAUTHENTICATED: u16 = 401;

/// One of the calls that certagent makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// Asks for a certificate.
    CreateCertificate,
    /// The same, for the caller's own identity.
    CreateCertificateForSelf,
    /// Fetches a certificate by its id.
    GetCertificate,
    /// Asks for a pool's tier and policy.
    GetCaPool,
    /// Fetches the chains of a pool's CAs.
    FetchCaCerts,
    /// Asks which CAs a pool has.
    ListCertificateAuthorities,
    /// Asks whether a certificate would be issued.
    ValidateCertificate,
    /// The same, for the caller's own identity.
    ValidateCertificateForSelf,
}

/// A call that brought no usable answer.
///
/// The message is complete; there is no source to print behind it. It holds no secret, and what
/// came from outside is cut and has no control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} at the CA pool {pool}: {reason}; {advice}", advice = self.advice())]
#[non_exhaustive]
pub struct CallError {
    /// The call.
    pub call: Call,
    /// The pool that was called.
    pub pool: CaPoolName,
    /// What it means for what may be done next.
    pub class: Class,
    /// How long the service wants to be left alone, at most an hour.
    pub retry_after: Option<Duration>,
    /// What happened.
    pub reason: Box<Reason>,
}

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// There was no access token to call with.
    #[error(transparent)]
    NoToken(IdentityError),
    /// Nothing was sent.
    #[error("no connection to {endpoint} ({detail}), so nothing was sent")]
    NotConnected {
        /// Where to.
        endpoint: String,
        /// What the system said.
        detail: String,
    },
    /// Whoever answered did not prove to be the service, so nothing was sent.
    #[error("no TLS with {endpoint} ({detail}), so nothing was sent")]
    NoTls {
        /// Where to.
        endpoint: String,
        /// What the TLS library said.
        detail: String,
    },
    /// No complete answer came in time.
    #[error("no answer from {endpoint} within {after:?}")]
    Timeout {
        /// Who was asked.
        endpoint: String,
        /// The time that the attempt had.
        after: Duration,
    },
    /// The connection ended before a complete answer.
    #[error("the connection to {endpoint} broke before the answer was complete ({detail})")]
    Broken {
        /// Who was asked.
        endpoint: String,
        /// What the system said.
        detail: String,
    },
    /// The answer is larger than [`MAX_ANSWER_BYTES`](super::client::MAX_ANSWER_BYTES).
    #[error("the answer is more than 1 MiB")]
    TooLarge,
    /// The service says yes, but not in its own JSON.
    #[error("HTTP {http}, but the answer is not CA Service's JSON: \"{excerpt}\"")]
    NotUnderstood {
        /// HTTP status.
        http: u16,
        /// The beginning of the answer.
        excerpt: String,
    },
    /// The answer has the right form and no usable content.
    #[error("the answer cannot be used: {detail}")]
    Unusable {
        /// What is wrong with it.
        detail: String,
    },
    /// The service does not accept who asks.
    #[error("HTTP 401 for {shown}{}", quoted(message))]
    Unauthenticated {
        /// Whom the call showed itself as.
        shown: Shown,
        /// The service's own words, or the beginning of an answer that is not CA Service's.
        message: String,
    },
    /// The service says no.
    #[error("HTTP {http}{}{}", spaced(status.as_deref()), quoted(message))]
    Answer {
        /// HTTP status.
        http: u16,
        /// The canonical status, for example `PERMISSION_DENIED`.
        status: Option<String>,
        /// The service's own words, or the beginning of an answer that is not CA Service's.
        message: String,
        /// The permission that the service says is missing.
        permission: Option<String>,
    },
}

impl CallError {
    pub(crate) fn new(
        call: Call,
        pool: &CaPoolName,
        reason: Reason,
        retry_after: Option<Duration>,
    ) -> Self {
        let attempt = match &reason {
            Reason::NoToken(error) => Attempt::NoToken {
                is_permanent: error.is_permanent,
            },
            Reason::NotConnected { .. } | Reason::NoTls { .. } => Attempt::NotSent,
            Reason::Unauthenticated { .. } => Attempt::Answer {
                http: UNAUTHENTICATED,
                status: None,
                retry_after,
            },
            Reason::Answer { http, status, .. } => Attempt::Answer {
                http: *http,
                status: status.as_deref(),
                retry_after,
            },
            _ => Attempt::NoAnswer,
        };
        let class = Class::of(attempt);
        let retry_after = match &reason {
            Reason::NoToken(error) => retry_after.max(error.retry_after),
            _ => retry_after,
        };
        let retry_after = retry_after.map(|wait| wait.min(LONGEST_WAIT));
        Self {
            call,
            pool: pool.clone(),
            class,
            retry_after,
            reason: Box::new(reason),
        }
    }

    /// The service's HTTP status, if it answered with an error.
    pub fn http(&self) -> Option<u16> {
        match *self.reason {
            Reason::Answer { http, .. } => Some(http),
            Reason::Unauthenticated { .. } => Some(UNAUTHENTICATED),
            _ => None,
        }
    }

    /// The permission whose lack is the reason: the one that the service named, else the one that
    /// the call needs; and the narrowest predefined role that grants it.
    pub(crate) fn missing_permission(&self) -> Option<(&str, &'static str)> {
        let Reason::Answer {
            http: 403,
            permission,
            ..
        } = &*self.reason
        else {
            return None;
        };
        let permission = permission.as_deref().unwrap_or(self.call.permission());
        Some((
            permission,
            role(permission).unwrap_or("a role with that permission"),
        ))
    }

    /// The next step.
    fn advice(&self) -> Advice<'_> {
        Advice(self)
    }
}

/// Writes the next step.
struct Advice<'a>(&'a CallError);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        if let Some((permission, role)) = error.missing_permission() {
            return write!(
                f,
                "the caller lacks {permission}: grant it {role} on the pool, and check that the \
                 pool exists"
            );
        }
        let text = match &*error.reason {
            Reason::NoToken(_) => "nothing was sent to CA Service",
            Reason::NotConnected { .. } => {
                "check that the endpoint is right and that the CA runs there"
            }
            Reason::NoTls { .. } => {
                "check the endpoint's name, the clock of this machine, and that --ca-bundle, else \
                 SSL_CERT_FILE, else the system's CA certificates have the root of the service; and \
                 that a service without TLS is named by http://"
            }
            Reason::Timeout { .. } => AGAIN,
            Reason::Broken { .. } => {
                "it is asked again by itself; if this goes on, check that the endpoint is CA \
                 Service or its emulator, which speak HTTP/2, and that it keeps running"
            }
            Reason::TooLarge | Reason::NotUnderstood { .. } => {
                "check that the endpoint is CA Service or its emulator and nothing in between"
            }
            Reason::Unusable { .. } => "look at the CAs of the pool",
            Reason::Unauthenticated { shown, .. } => shown.advice(),
            Reason::Answer { http: 429, .. } => return busy(f, error.retry_after),
            Reason::Answer {
                http: 400, message, ..
            } if message.contains("REFLECTED_SPIFFE") => {
                "the workload's own token stands for no SPIFFE ID: check that it is the token of a \
                 Kubernetes service account, and the attribute mapping of the provider"
            }
            Reason::Answer { http, status, .. } => answered(error.call, *http, status.as_deref()),
        };
        f.write_str(text)
    }
}

const AGAIN: &str = "it is asked again by itself; if this goes on, look at the CA and at the \
                     network on the way to it";

fn answered(call: Call, http: u16, status: Option<&str>) -> &'static str {
    match (http, status) {
        (300..=399, _) => "redirects are not followed; name CA Service itself as the endpoint",
        (404, _) if call == Call::GetCertificate => "the pool keeps no certificate under this id",
        (404, _) => "compare the name in the configuration with the pools that exist there",
        (409, Some("ALREADY_EXISTS")) if call.creates() => {
            "the ids of this request were used before, for this key"
        }
        (412, _) | (400, Some("FAILED_PRECONDITION")) => {
            "look at the pool: it needs a CA that is enabled"
        }
        (408 | 409, _) => AGAIN,
        (400..=498, _) => {
            "compare keyAlgorithm and validityDurationSeconds with the pool's issuance policy"
        }
        _ => AGAIN,
    }
}

fn busy(f: &mut fmt::Formatter<'_>, wait: Option<Duration>) -> fmt::Result {
    f.write_str("a quota is used up")?;
    if let Some(wait) = wait {
        write!(f, ", and the service asks to be left alone for {wait:?}")?;
    }
    f.write_str(": a CA signs 7 certificates/s in an ENTERPRISE pool and 25/s in a DEVOPS pool, so add CAs or ask for longer lifetimes")
}

/// The narrowest predefined role that grants a permission
/// (cloud.google.com/certificate-authority-service/docs/access-control).
fn role(permission: &str) -> Option<&'static str> {
    match permission {
        "privateca.certificates.create" => Some("roles/privateca.certificateRequester"),
        "privateca.certificates.createForSelf" => {
            Some("roles/privateca.workloadCertificateRequester")
        }
        "privateca.certificates.get" | "privateca.certificateAuthorities.list" => {
            Some("roles/privateca.auditor")
        }
        "privateca.caPools.get" => Some("roles/privateca.poolReader"),
        _ => None,
    }
}

impl Call {
    /// The name of the method, as audit logs show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateCertificate | Self::CreateCertificateForSelf => "CreateCertificate",
            Self::GetCertificate => "GetCertificate",
            Self::GetCaPool => "GetCaPool",
            Self::FetchCaCerts => "FetchCaCerts",
            Self::ListCertificateAuthorities => "ListCertificateAuthorities",
            Self::ValidateCertificate | Self::ValidateCertificateForSelf => {
                "CreateCertificate (validateOnly)"
            }
        }
    }

    /// Whether it asks for a certificate.
    fn creates(self) -> bool {
        matches!(
            self,
            Self::CreateCertificate | Self::CreateCertificateForSelf
        )
    }

    /// The permission that the call needs.
    pub fn permission(self) -> &'static str {
        match self {
            Self::CreateCertificate | Self::ValidateCertificate => "privateca.certificates.create",
            Self::CreateCertificateForSelf | Self::ValidateCertificateForSelf => {
                "privateca.certificates.createForSelf"
            }
            Self::GetCertificate => "privateca.certificates.get",
            Self::GetCaPool | Self::FetchCaCerts => "privateca.caPools.get",
            Self::ListCertificateAuthorities => "privateca.certificateAuthorities.list",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// At most `longest` characters of a text from outside, on one line, without anything that a
/// terminal would obey.
pub(crate) fn printable(text: &str, longest: usize) -> String {
    let is_steering =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut short = String::new();
    // No word is looked at beyond what can be shown, however long the text is.
    let mut characters = text.trim().chars().peekable();
    for _ in 0..longest {
        let Some(c) = characters.next() else {
            return short;
        };
        if c.is_whitespace() {
            while characters.next_if(|next| next.is_whitespace()).is_some() {}
            short.push(' ');
        } else {
            short.push(if is_steering(c) { '\u{fffd}' } else { c });
        }
    }
    if characters.peek().is_some() {
        short.push('…');
    }
    short
}

/// The beginning of an answer that is not in the form it should have.
pub(crate) fn excerpt(body: &[u8]) -> String {
    // One character has at most four bytes; the rest would be cut anyway.
    let head = body.get(..LONGEST_EXCERPT * 8).unwrap_or(body);
    printable(&String::from_utf8_lossy(head), LONGEST_EXCERPT)
}

fn spaced(status: Option<&str>) -> String {
    status
        .map(|status| format!(" {status}"))
        .unwrap_or_default()
}

fn quoted(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(", \"{message}\"")
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
