//! The agent's own identity at Google, found where Google's own clients look for theirs
//! (cloud.google.com/docs/authentication/application-default-credentials): a file that
//! `GOOGLE_APPLICATION_CREDENTIALS` names, else gcloud's, else the metadata server.
use std::{ffi::OsString, fmt, path::PathBuf};

use certagent_core::backoff;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{
    IdentityError, Shown, Token,
    credentials::{CredentialFile, Stamp},
    metadata::{HOST_VARIABLE, MetadataServer},
};
use crate::{cas::Roots, clock::SharedClock};

/// The variable that names a credentials file.
const FILE_VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// A token of the metadata server is replaced so long before it ends, or an eighth of its life.
/// The server itself has a new one five minutes before.
const AHEAD: SignedDuration = SignedDuration::from_mins(4);

/// The library does not say for how long a token of a file is good. Ten minutes is the least that
/// Google gives, so it is replaced after half of that, and the file is read again with it. That of
/// an impersonation says it.
const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// Most are good for an hour; what ended earlier is refused with a 401, and then replaced.
const USABLE: SignedDuration = SignedDuration::from_mins(55);

/// At most once in this time a refused token is replaced before its time.
const BETWEEN_REPLACEMENTS: SignedDuration = SignedDuration::from_secs(60);
/// A refused token that nobody replaces is asked about again after this time.
const REFUSED: SignedDuration = SignedDuration::from_mins(5);

const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);

/// One identity, one token at a time, one question at a time.
pub struct Ambient {
    source: Source,
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Source {
    File(CredentialFile, Roots),
    Metadata(MetadataServer),
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// Failures in a row, and what came of the last.
    failures: u32,
    failed: Option<Failed>,
    /// The token that was replaced last because it was refused, and when.
    replaced: Option<(Token, Timestamp)>,
}

struct Held {
    token: Token,
    refresh_at: Timestamp,
    ends_at: Timestamp,
}

struct Failed {
    error: IdentityError,
    next_attempt: Timestamp,
    /// The credentials file, as it was then.
    file: Option<Stamp>,
}

impl Ambient {
    /// Looks for it once, in the environment as `variable` gives it. Whether a token is given shows
    /// with the first call; a file that cannot be one is an error at once.
    pub fn find(
        variable: impl Fn(&str) -> Option<OsString>,
        roots: &Roots,
        clock: SharedClock,
    ) -> Result<Self, IdentityError> {
        let source = if let Some(file) = file(&variable) {
            file.check()?;
            Source::File(file, roots.clone())
        } else {
            let host = variable(HOST_VARIABLE).filter(|host| !host.is_empty());
            // What is not UTF-8 is no host, either.
            let host = host.map(|host| host.to_string_lossy().into_owned());
            Source::Metadata(MetadataServer::new(host.as_deref())?)
        };
        info!("CA Service is called with {}", Self::shown_as(&source));
        Ok(Self {
            source,
            clock,
            state: Mutex::default(),
        })
    }

    /// The token for a call. A new one is fetched when it is time; while that fails, the old one is
    /// given for as long as it lives.
    pub(super) async fn token(&self) -> Result<Token, IdentityError> {
        // Whoever comes second waits for what the first one brings.
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        if let Some(held) = &state.held
            && now < held.refresh_at
        {
            return Ok(held.token.clone());
        }
        if state.may_ask(now, self.stamp()) {
            self.ask(&mut state, now).await;
        }
        let usable = state.held.as_ref().filter(|held| now < held.ends_at);
        match (usable, &state.failed) {
            (Some(held), _) => Ok(held.token.clone()),
            (None, Some(failed)) => Err(failed.error.clone()),
            (None, None) => Err(IdentityError::passing(format!(
                "{} has no token that is still good",
                self.shown()
            ))),
        }
    }

    /// CA Service answered 401 to `token`. True if another one may be had, so that the same call is
    /// worth repeating.
    pub(super) async fn refused(&self, token: &Token) -> bool {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let State { held, replaced, .. } = &mut *state;
        let Some(current) = held.as_mut().filter(|held| held.token == *token) else {
            // Somebody else was told before.
            return true;
        };
        // A metadata server keeps tokens, too, and may give the same one again.
        let is_the_same = replaced.as_ref().is_some_and(|(other, _)| other == token);
        let is_soon = replaced
            .as_ref()
            .is_some_and(|(_, at)| now.duration_since(*at).abs() < BETWEEN_REPLACEMENTS);
        if is_the_same || is_soon {
            current.refresh_at = current.refresh_at.min(after(now, REFUSED));
            return false;
        }
        warn!(
            "CA Service refused the token of {}; a new one is fetched",
            self.shown()
        );
        *replaced = Some((token.clone(), now));
        *held = None;
        state.failed = None;
        true
    }

    /// Whom calls show themselves as.
    pub(super) fn shown(&self) -> Shown {
        Self::shown_as(&self.source)
    }

    fn shown_as(source: &Source) -> Shown {
        match source {
            Source::File(file, _) => Shown::File(file.to_string()),
            Source::Metadata(server) => Shown::Metadata(server.to_string()),
        }
    }

    async fn ask(&self, state: &mut State, now: Timestamp) {
        let file = self.stamp();
        let asked = match &self.source {
            Source::File(file, roots) => file.token(roots, now).await.map(|(token, life)| Held {
                token,
                refresh_at: after(now, life.map_or(FRESH, |life| FRESH.min(life / 2))),
                ends_at: after(now, life.unwrap_or(USABLE)),
            }),
            Source::Metadata(server) => server.token().await.map(|(token, life)| {
                let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::ZERO);
                let ends_at = after(now, life);
                Held {
                    token,
                    refresh_at: after(ends_at, -AHEAD.min(life / 8)),
                    ends_at,
                }
            }),
        };
        match asked {
            Ok(held) => {
                if state.failures > 0 {
                    info!("there is an access token again, of {}", self.shown());
                }
                state.held = Some(held);
                state.failures = 0;
                state.failed = None;
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                let wait = wait(state.failures, &error);
                warn!(wait = %format_args!("{wait:#}"), "{error}");
                state.failed = Some(Failed {
                    error,
                    next_attempt: after(now, wait),
                    file,
                });
            }
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        match &self.source {
            Source::File(file, _) => Some(Stamp::of(&file.path)),
            Source::Metadata(_) => None,
        }
    }
}

impl State {
    /// Whether it is time to ask, after a failure: a file that was changed is read at once.
    fn may_ask(&self, now: Timestamp, file: Option<Stamp>) -> bool {
        self.failed.as_ref().is_none_or(|failed| {
            let wait = failed.next_attempt.duration_since(now);
            // The clock may have been set back since.
            !wait.is_positive() || wait > LONGEST_WAIT || failed.file != file
        })
    }
}

/// 1 s, doubling, up to 5 minutes; where somebody has to change something first, from 5 s. Whoever
/// wants to be left alone for longer is.
fn wait(failures: u32, error: &IdentityError) -> SignedDuration {
    let wait = backoff::first_issue(failures);
    let wait = if error.is_permanent { wait * 5 } else { wait };
    let asked = error.retry_after.map(SignedDuration::try_from);
    let asked = asked.and_then(Result::ok).unwrap_or_default();
    wait.max(asked).min(LONGEST_WAIT)
}

fn after(now: Timestamp, span: SignedDuration) -> Timestamp {
    now.saturating_add(span).unwrap_or(now)
}

/// The credentials file that is to be used, if one is.
fn file(variable: impl Fn(&str) -> Option<OsString>) -> Option<CredentialFile> {
    let set = |name| variable(name).filter(|text| !text.is_empty());
    if let Some(path) = set(FILE_VARIABLE) {
        return Some(CredentialFile {
            path: path.into(),
            is_gclouds: false,
        });
    }
    let directory = set("CLOUDSDK_CONFIG").map(PathBuf::from).or_else(|| {
        let home = PathBuf::from(set("HOME")?);
        Some(home.join(".config/gcloud"))
    })?;
    let path = directory.join("application_default_credentials.json");
    path.exists().then_some(CredentialFile {
        path,
        is_gclouds: true,
    })
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambient")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "ambient_tests.rs"]
mod tests;
