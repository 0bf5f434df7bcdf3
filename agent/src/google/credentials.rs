//! Credential files: service account keys, workload identity federation, impersonation, a user's
//! own. Google's library reads them, and is kept on a short lead.
//!
//! It refreshes its tokens in tasks that nobody can stop, gives up for ever after a permanent
//! error (googleapis/google-cloud-rust#4541), has no deadline, and reads the file once. So it is
//! built anew for each token, from the file as it is then, on a runtime that ends with it. What it
//! is not trusted with at all is in [`super::members`].
use std::{
    error::Error as _,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use google_cloud_auth::{
    build_errors,
    credentials::{
        AccessTokenCredentials, external_account,
        service_account::{self, AccessSpecifier},
        user_account,
    },
    errors::CredentialsError,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    IdentityError, Origin, SCOPE, Token, answer,
    impersonation::{Impersonation, Target},
    members::{Members, Source},
};
use crate::{
    cas::{
        Roots,
        error::{LONGEST_TEXT, printable},
        transport::{self, Timeouts},
    },
    small_file,
};

/// What a token is good for that only makes others.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";

/// The largest file that is read, in bytes. Keys have 2.4 KB.
const MAX_BYTES: usize = 64 * 1024;

/// For everything that it takes to get a token, in real time. The library has no deadline.
const DEADLINE: Duration = Duration::from_secs(20);

/// A file with credentials, and who named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CredentialFile {
    pub(super) path: PathBuf,
    /// It was found where gcloud puts it, and not named by anybody.
    pub(super) is_gclouds: bool,
}

impl CredentialFile {
    /// Checks what can be known without asking anybody.
    pub(super) fn check(&self) -> Result<(), IdentityError> {
        self.read().map(drop)
    }

    /// A token for the credentials that the file has now, and for how long it is good if that is
    /// known. It asks whom they name; those who make tokens of service accounts have to prove
    /// themselves under `roots`.
    pub(super) async fn token(
        &self,
        roots: &Roots,
        now: Timestamp,
    ) -> Result<(Token, Option<SignedDuration>), IdentityError> {
        let file = self.clone();
        // The runtime inside must neither be driven nor dropped by this one.
        let (mut token, targets) = tokio::task::spawn_blocking(move || file.source_blocking())
            .await
            .unwrap_or_else(|error| {
                Err(IdentityError::passing(format!(
                    "{self}: nothing came of asking for a token ({error})"
                )))
            })?;
        let mut lifetime = None;
        for target in targets {
            let timeouts = Timeouts::default();
            let impersonation = Impersonation::new(target, roots, timeouts)
                .map_err(|error| IdentityError::permanent(format!("{self}: {error}")))?;
            let granted = impersonation.token(&token, now).await;
            let granted = granted.map_err(|error| IdentityError {
                detail: format!("{self}: {}", error.detail),
                ..error
            })?;
            token = granted.token;
            lifetime = Some(granted.lifetime);
        }
        Ok((token, lifetime))
    }

    /// The token of the credentials that impersonate nobody, and whom it is for.
    fn source_blocking(&self) -> Result<(Token, Vec<Target>), IdentityError> {
        let Members {
            source,
            json,
            targets,
        } = self.read()?;
        let scope = scope(source, !targets.is_empty());
        // The library takes the process's own. Somebody may have been faster; then it is theirs.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        if source != Source::ServiceAccount {
            self.try_https()?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .map_err(|error| IdentityError::passing(format!("{self}: {error}")))?;
        let asked = runtime.block_on(async {
            let credentials = build(source, json, scope).map_err(|error| self.not_built(&error))?;
            match tokio::time::timeout(DEADLINE, credentials.access_token()).await {
                Ok(Ok(token)) if token.token.is_empty() => Err(IdentityError::passing(format!(
                    "{self}: the token is empty"
                ))),
                Ok(Ok(token)) => Ok((Token::new(token.token), targets)),
                Ok(Err(error)) => Err(self.refused(&error)),
                Err(_elapsed) => Err(IdentityError::passing(format!(
                    "{self}: no token within {DEADLINE:?}; it is asked for again by itself"
                ))),
            }
        });
        // Ends the library's tasks, and waits for none.
        runtime.shutdown_background();
        asked
    }

    fn read(&self) -> Result<Members, IdentityError> {
        let bytes = small_file::read(&self.path, MAX_BYTES)
            .map_err(|error| self.wrong(&error.to_string()))?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| {
            // Its own words could repeat a secret.
            let (line, column) = (error.line(), error.column());
            self.wrong(&format!("not JSON (line {line}, column {column})"))
        })?;
        Members::of(json).map_err(|fault| match fault.next {
            Some(next) => IdentityError::permanent(format!("{self}: {}; {next}", fault.what)),
            None => self.wrong(&fault.what),
        })
    }

    /// The library panics where there are no CA certificates, so they are tried first.
    fn try_https(&self) -> Result<(), IdentityError> {
        reqwest::Client::builder().build().map(drop).map_err(|error| {
            IdentityError::permanent(format!(
                "{self}: a token for it is fetched by https, and the library that does so finds no \
                 CA certificates ({}); set SSL_CERT_FILE to a PEM file that has them, the one of \
                 --ca-bundle for example",
                transport::root_cause(&error)
            ))
        })
    }

    /// Something is wrong with the file itself.
    fn wrong(&self, what: &str) -> IdentityError {
        let next = if self.is_gclouds {
            "make it again with `gcloud auth application-default login`, or remove it"
        } else {
            "check GOOGLE_APPLICATION_CREDENTIALS, and get the file again from where it came"
        };
        IdentityError::permanent(format!("{self}: {what}; {next}"))
    }

    fn not_built(&self, error: &build_errors::Error) -> IdentityError {
        // What a parser says could repeat a secret.
        self.wrong(if error.is_missing_field() {
            "a member that its type needs is missing"
        } else if error.is_not_supported() || error.is_unknown_type() {
            "this kind of credentials is not supported"
        } else {
            "its members are not those of its type"
        })
    }

    /// Nobody gave a token. What the library says may repeat an answer with a token in it, so only
    /// what is known to be none is told.
    fn refused(&self, error: &CredentialsError) -> IdentityError {
        let said = Said::of(error);
        let is_permanent = !error.is_transient() && !said.is_passing();
        let next = if is_permanent {
            "check what the file names, and that it is still valid"
        } else {
            "it is asked for again by itself"
        };
        IdentityError {
            detail: format!("{self}: {said}; {next}"),
            is_permanent,
            retry_after: None,
            origin: Origin::Credential,
        }
    }
}

/// What can be told of an error of the library.
enum Said {
    Answer(String),
    NoTls(String),
    NotConnected(String),
    Timeout,
    File(String),
    Nothing,
}

impl Said {
    fn of(error: &CredentialsError) -> Self {
        let mut texts = vec![error.to_string()];
        let mut source = error.source();
        let mut status = None;
        let mut found = None;
        while let Some(cause) = source {
            texts.push(cause.to_string());
            if let Some(http) = cause.downcast_ref::<reqwest::Error>() {
                status = http.status().map(|status| status.as_u16());
                if transport::is_tls_fault(http) {
                    found = Some(Self::NoTls(transport::root_cause(http)));
                } else if http.is_timeout() {
                    found = Some(Self::Timeout);
                } else if status.is_none() {
                    found = Some(Self::NotConnected(transport::root_cause(http)));
                }
                break;
            }
            if let Some(file) = cause.downcast_ref::<io::Error>() {
                found = Some(Self::File(printable(&file.to_string(), LONGEST_TEXT)));
            }
            source = cause.source();
        }
        // The answer's own words stand somewhere in the texts, as JSON.
        let answer = texts.iter().find_map(|text| refusal_in(text));
        match (found, status, answer) {
            (Some(found), _, _) => found,
            (None, _, Some((Some(status), body))) | (None, Some(status), Some((None, body))) => {
                Self::Answer(answer::describe(status, body.as_bytes()))
            }
            (None, Some(status), None) => Self::Answer(format!("HTTP {status}")),
            _ => Self::Nothing,
        }
    }

    /// The library takes some of these for permanent.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Timeout | Self::NotConnected(_) | Self::NoTls(_))
    }
}

/// The JSON of a refusal in a text, and the status that it names itself.
fn refusal_in(text: &str) -> Option<(Option<u16>, String)> {
    let start = text.find('{')?;
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let error = value.get("error")?;
    let status = error.get("code").and_then(Value::as_u64);
    let status = status.and_then(|status| u16::try_from(status).ok());
    Some((status, value.to_string()))
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => write!(f, "whom it names says {answer}"),
            Self::NoTls(detail) => write!(
                f,
                "no TLS with whom it names ({detail}; the library checks by SSL_CERT_FILE, else by \
                 the system's CA certificates, and not by --ca-bundle)"
            ),
            Self::NotConnected(detail) => write!(f, "whom it names cannot be asked ({detail})"),
            Self::Timeout => f.write_str("whom it names gives no answer"),
            Self::File(detail) => write!(f, "a file that it names cannot be read ({detail})"),
            Self::Nothing => f.write_str("no token came of it"),
        }
    }
}

impl fmt::Display for CredentialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the credentials file {}", self.path.display())
    }
}

/// What the library's token is to be good for: as it asks itself for what only impersonates.
fn scope(source: Source, impersonates: bool) -> Option<&'static str> {
    match source {
        Source::External if impersonates => Some(IAM_SCOPE),
        // What the user agreed to.
        Source::User if impersonates => None,
        Source::ServiceAccount | Source::External | Source::User => Some(SCOPE),
    }
}

/// Starts a task, so a runtime must be there.
fn build(
    source: Source,
    json: Value,
    scope: Option<&str>,
) -> Result<AccessTokenCredentials, build_errors::Error> {
    match source {
        Source::ServiceAccount => service_account::Builder::new(json)
            .with_access_specifier(AccessSpecifier::from_scopes(scope))
            .build_access_token_credentials(),
        Source::External => external_account::Builder::new(json)
            .with_scopes(scope)
            .build_access_token_credentials(),
        Source::User => match scope {
            Some(scope) => user_account::Builder::new(json).with_scopes([scope]),
            None => user_account::Builder::new(json),
        }
        .build_access_token_credentials(),
    }
}

/// Whether a file is still the one that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    /// As the file is now; all that are not there look the same.
    pub(super) fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let there = std::fs::metadata(path).ok();
        Self(there.map(|there| {
            (
                there.dev(),
                there.ino(),
                there.size(),
                there.mtime(),
                there.mtime_nsec(),
            )
        }))
    }
}

#[cfg(test)]
#[path = "impersonated_tests.rs"]
mod impersonated_tests;
#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
