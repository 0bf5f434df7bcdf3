//! A workload's own token becomes an access token of Google's: taken from its file or its pod,
//! exchanged once, kept until it is old.
//!
//! Whatever asks in the agent's name (which roots a pool has, which policy) does so with the token
//! of the first workload whose exchange works, or as a service account that this workload may
//! impersonate. A certificate is always asked for with the workload's own: CA Service takes the
//! name from it.
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certagent_core::backoff;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex as AsyncMutex;
use tracing::{debug, warn};

use super::{
    Audience, Caller, IAM_CREDENTIALS, IdentityError, STS, ServiceAccount, Shown, SubjectToken,
    Token,
    impersonation::{Impersonation, Target},
    sts::{Granted, Sts},
    subject::{self, Subject},
};
use crate::{
    cas::{ClientError, Endpoint, Roots, transport::Timeouts},
    clock::SharedClock,
};

/// An access token is replaced so long before its end, or an eighth of its life if that is less.
const MARGIN: SignedDuration = SignedDuration::from_mins(4);

/// After a failure the same token is not shown again for at most so long, whoever asks. The
/// schedule of whoever asks is slower.
const LONGEST_REST: SignedDuration = SignedDuration::from_secs(5);

/// So many tokens may be refused in one search for a workload that can speak for the agent.
const MOST_REFUSED: usize = 4;

/// With more tokens than this known, those that are not in use are forgotten.
const MOST_TOKENS: usize = 4096;

/// Where tokens are exchanged, and for what.
#[derive(Clone, Debug)]
pub struct ExchangeOptions {
    /// Google's Security Token Service.
    pub sts: Endpoint,
    /// The pool of identities, and the provider in it.
    pub audience: Audience,
    /// Who the agent is where it asks for itself; a workload otherwise.
    pub impersonate: Option<Impersonate>,
}

/// A service account, and where its tokens are made.
#[derive(Clone, Debug)]
pub struct Impersonate {
    /// The service account.
    pub account: ServiceAccount,
    /// Google's IAM Service Account Credentials API.
    pub iamcredentials: Endpoint,
}

/// Where the tokens of the workloads come from that there are now, in their order.
pub type SubjectTokens = Arc<dyn Fn() -> Vec<SubjectToken> + Send + Sync>;

/// Exchanges the workloads' own tokens. Clones share what they know.
#[derive(Clone)]
pub struct Exchange(Arc<Shared>);

struct Shared {
    sts: Sts,
    impersonation: Option<Impersonation>,
    clock: SharedClock,
    workloads: SubjectTokens,
    slots: Mutex<HashMap<SubjectToken, Arc<AsyncMutex<Slot>>>>,
    /// Of the service account.
    agent: AsyncMutex<Slot>,
}

/// What is known of one workload's token. Whoever holds the lock is the one who asks.
#[derive(Default)]
struct Slot {
    kept: Option<Kept>,
    failure: Option<Failure>,
}

struct Kept {
    basis: Basis,
    token: Token,
    fresh_until: Timestamp,
    expires_at: Timestamp,
}

struct Failure {
    digest: [u8; 32],
    error: IdentityError,
    /// Failures in a row.
    count: u32,
    until: Timestamp,
    /// The part of the wait that the service asked for.
    asked_until: Option<Timestamp>,
}

/// What an access token was made of.
#[derive(Clone, Default, PartialEq, Eq)]
struct Basis {
    digest: [u8; 32],
    issuer: Option<String>,
    subject: Option<String>,
}

/// Why one workload's token brought no access token.
enum NoToken {
    /// There is none to show.
    Missing(IdentityError),
    /// It was shown a moment ago.
    Resting(IdentityError),
    /// It was shown now.
    Refused(IdentityError),
}

impl Exchange {
    /// Asks the services of `options`, each of which has to prove itself under `roots` unless it
    /// is on this machine.
    pub fn new(
        options: &ExchangeOptions,
        roots: &Roots,
        clock: SharedClock,
        workloads: SubjectTokens,
    ) -> Result<Self, ClientError> {
        Self::with_timeouts(options, roots, clock, workloads, Timeouts::default())
    }

    pub(crate) fn with_timeouts(
        options: &ExchangeOptions,
        roots: &Roots,
        clock: SharedClock,
        workloads: SubjectTokens,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        let impersonation = options.impersonate.as_ref().map(|one| {
            let target = Target::of_flags(&one.iamcredentials, &one.account);
            Impersonation::new(target, roots, timeouts)
        });
        Ok(Self(Arc::new(Shared {
            sts: Sts::new(&options.sts, roots, options.audience.clone(), timeouts)?,
            impersonation: impersonation.transpose()?,
            clock,
            workloads,
            slots: Mutex::default(),
            agent: AsyncMutex::default(),
        })))
    }

    /// The access token of a caller. A workload's own token is looked at each time, so that a new
    /// one counts at once.
    pub async fn token(&self, caller: &Caller) -> Result<Token, IdentityError> {
        match caller {
            Caller::Workload(token) => {
                let token = self.0.of_workload(token).await;
                token.map_err(NoToken::into_error)
            }
            Caller::Agent => self.0.of_agent().await,
        }
    }

    /// Namespace and service account by a workload's token; none if it cannot be read or says
    /// nothing of the kind.
    pub(super) fn workload(&self, token: &SubjectToken) -> Option<(String, String)> {
        let path = match token {
            SubjectToken::File(path) => path,
            SubjectToken::Pod(pod) => return Some(pod.workload()),
        };
        let subject = subject::read(path, self.0.clock.now()).ok()?;
        let (namespace, service_account) = subject.claims.workload()?;
        Some((namespace.to_owned(), service_account.to_owned()))
    }

    /// The flags that make this one on a command line.
    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        let Shared {
            sts, impersonation, ..
        } = &*self.0;
        let mut flags = vec![
            ("--identity", "reflected".to_owned()),
            ("--sts-audience", sts.audience.to_string()),
            ("--sts-endpoint", sts.endpoint().to_string()),
        ];
        if let Some(impersonation) = impersonation {
            flags.push(("--impersonate", impersonation.account().to_owned()));
            flags.push((
                "--iamcredentials-endpoint",
                impersonation.endpoint().to_string(),
            ));
        }
        // What nobody has to say is left out.
        flags.retain(|(_, text)| text != STS && text != IAM_CREDENTIALS);
        flags
    }

    /// Whom a call of this caller shows itself as.
    pub(super) fn shown(&self, caller: &Caller) -> Shown {
        Shown::Exchanged(match (caller, &self.0.impersonation) {
            (Caller::Workload(token), _) => token.to_string(),
            (Caller::Agent, Some(impersonation)) => impersonation.account().to_owned(),
            (Caller::Agent, None) => "the first workload whose token could be exchanged".to_owned(),
        })
    }

    /// CA Service does not take this token any more: the next call has another.
    pub fn refused(&self, token: &Token) {
        self.0.forget(token);
    }
}

impl Shared {
    async fn of_agent(&self) -> Result<Token, IdentityError> {
        let Some(impersonation) = &self.impersonation else {
            return self.of_any_workload().await;
        };
        let mut slot = self.agent.lock().await;
        let now = self.clock.now();
        let ask = async {
            let federated = self.of_any_workload().await?;
            let granted = impersonation.token(&federated, self.clock.now()).await;
            if granted.as_ref().is_err_and(|error| error.is_permanent) {
                self.forget(&federated);
            }
            granted
        };
        let token = obtain(&mut slot, &Basis::default(), now, ask).await;
        token.map_err(NoToken::into_error)
    }

    /// The access token of the first workload that can get one. While the token service is away,
    /// asking it about the others is of no use.
    async fn of_any_workload(&self) -> Result<Token, IdentityError> {
        let mut first = None;
        let mut refused = 0;
        for token in (self.workloads)() {
            let failure = match self.of_workload(&token).await {
                Ok(token) => return Ok(token),
                Err(failure) => failure,
            };
            let is_over = match &failure {
                NoToken::Missing(_) | NoToken::Resting(_) => false,
                NoToken::Refused(error) => {
                    refused += 1;
                    !error.is_permanent || refused == MOST_REFUSED
                }
            };
            let first = first.get_or_insert_with(|| failure.into_error());
            if is_over {
                return Err(first.clone());
            }
        }
        Err(first.unwrap_or_else(|| {
            let detail = "no workload has a token yet: `certagent run` reads that of a Workload with a tokenFile, and to `certagent node` kubelet brings that of a pod with its volume";
            IdentityError::passing(detail.to_owned())
        }))
    }

    async fn of_workload(&self, source: &SubjectToken) -> Result<Token, NoToken> {
        let slot = self.slot(source);
        let mut slot = slot.lock().await;
        let now = self.clock.now();
        let subject = read(source, now).await.map_err(NoToken::Missing)?;
        let basis = Basis::of(&subject);
        let ask = async {
            let granted = self.sts.exchange(&subject, source).await?;
            debug!(%source, lifetime = ?granted.lifetime, "a workload's token was exchanged");
            Ok(granted)
        };
        obtain(&mut slot, &basis, now, ask).await
    }

    fn slot(&self, source: &SubjectToken) -> Arc<AsyncMutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(source) {
            return Arc::clone(slot);
        }
        // Nothing of a pod that is gone stays.
        slots.retain(|source, _| !matches!(source, SubjectToken::Pod(pod) if pod.is_last()));
        if slots.len() >= MOST_TOKENS {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(source.clone()).or_default())
    }

    /// A slot that somebody holds is getting another token already.
    fn forget(&self, token: &Token) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.values() {
            if let Ok(mut slot) = slot.try_lock() {
                slot.forget(token);
            }
        }
        if let Ok(mut slot) = self.agent.try_lock() {
            slot.forget(token);
        }
    }
}

/// A workload's own token as it is now.
async fn read(source: &SubjectToken, now: Timestamp) -> Result<Subject, IdentityError> {
    let detail = match source {
        SubjectToken::File(file) => {
            let file = Arc::clone(file);
            // Off the runtime: a file system may be slow.
            let read = tokio::task::spawn_blocking(move || subject::read(&file, now)).await;
            match read {
                Ok(Ok(subject)) => return Ok(subject),
                Ok(Err(error)) => error.to_string(),
                Err(_stopped) => "the process is ending".to_owned(),
            }
        }
        SubjectToken::Pod(pod) => match pod.subject(now) {
            Ok(subject) => return Ok(subject),
            Err(error) => error.to_string(),
        },
    };
    // Somebody brings another, and may do so at any moment; looking costs nothing.
    Err(IdentityError::passing(detail))
}

/// The token that is kept while it is fresh, else what `ask` brings; and while that fails for now,
/// the one that is kept until its very end.
async fn obtain(
    slot: &mut Slot,
    basis: &Basis,
    now: Timestamp,
    ask: impl Future<Output = Result<Granted, IdentityError>>,
) -> Result<Token, NoToken> {
    if let Some(token) = slot.fresh(basis, now) {
        return Ok(token);
    }
    let failure = if let Some(error) = slot.resting(basis, now) {
        NoToken::Resting(error)
    } else {
        match ask.await {
            Ok(granted) => return Ok(slot.keep(granted, basis.clone(), now)),
            Err(error) => {
                slot.fail(error.clone(), basis, now);
                NoToken::Refused(error)
            }
        }
    };
    let error = failure.error();
    match slot.kept_by(basis, now) {
        Some(kept) if !error.is_permanent => {
            if matches!(failure, NoToken::Refused(_)) {
                warn!(%error, until = %kept.expires_at, "the access token in use serves until its end");
            }
            Ok(kept.token.clone())
        }
        _ => Err(failure),
    }
}

impl Slot {
    fn fresh(&self, basis: &Basis, now: Timestamp) -> Option<Token> {
        let kept = self.kept.as_ref()?;
        (kept.basis.digest == basis.digest && now < kept.fresh_until).then(|| kept.token.clone())
    }

    /// The token in use, if it is of the same subject: whoever keeps the file fresh may have
    /// written a new token meanwhile.
    fn kept_by(&self, basis: &Basis, now: Timestamp) -> Option<&Kept> {
        let kept = self.kept.as_ref()?;
        let is_same = kept.basis.issuer == basis.issuer && kept.basis.subject == basis.subject;
        (is_same && now < kept.expires_at).then_some(kept)
    }

    fn keep(&mut self, granted: Granted, basis: Basis, now: Timestamp) -> Token {
        let Granted { token, lifetime } = granted;
        let after = |span| now.saturating_add(span).unwrap_or(now);
        self.failure = None;
        let kept = Kept {
            basis,
            token: token.clone(),
            fresh_until: after(lifetime - MARGIN.min(lifetime / 8)),
            expires_at: after(lifetime),
        };
        self.kept = Some(kept);
        token
    }

    fn fail(&mut self, error: IdentityError, basis: &Basis, now: Timestamp) {
        let after = |span| now.saturating_add(span).unwrap_or(now);
        let before = self.failure.take();
        let count = before.map_or(1, |failure| failure.count.saturating_add(1));
        let asked = error.retry_after.and_then(|wait| wait.try_into().ok());
        let asked_until = asked.map(|wait: SignedDuration| after(wait));
        let rest = after(backoff::first_issue(count).min(LONGEST_REST));
        self.failure = Some(Failure {
            digest: basis.digest,
            error,
            count,
            until: asked_until.map_or(rest, |asked| asked.max(rest)),
            asked_until,
        });
    }

    /// The failure of a moment ago, if the same token would be shown again. A clock that was set
    /// back does not make the rest longer.
    fn resting(&mut self, basis: &Basis, now: Timestamp) -> Option<IdentityError> {
        let failure = self.failure.as_mut()?;
        let left = failure.until.duration_since(now);
        let longest = failure.error.retry_after.unwrap_or_default();
        let longest = SignedDuration::try_from(longest).unwrap_or(LONGEST_REST);
        if failure.digest != basis.digest || !left.is_positive() || left > longest.max(LONGEST_REST)
        {
            return None;
        }
        let asked = failure.asked_until.map(|until| until.duration_since(now));
        Some(IdentityError {
            retry_after: asked.and_then(|left| Duration::try_from(left).ok()),
            ..failure.error.clone()
        })
    }

    fn forget(&mut self, token: &Token) {
        let is_it = |kept: &Kept| kept.token.expose() == token.expose();
        if self.kept.as_ref().is_some_and(is_it) {
            self.kept = None;
        }
    }
}

impl Basis {
    fn of(subject: &Subject) -> Self {
        Self {
            digest: subject.digest,
            issuer: subject.claims.issuer.clone(),
            subject: subject.claims.subject.clone(),
        }
    }
}

impl NoToken {
    fn error(&self) -> &IdentityError {
        match self {
            Self::Missing(error) | Self::Resting(error) | Self::Refused(error) => error,
        }
    }

    fn into_error(self) -> IdentityError {
        match self {
            Self::Missing(error) | Self::Resting(error) | Self::Refused(error) => error,
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sts = &self.0.sts;
        write!(f, "Exchange({}, {})", sts.endpoint(), sts.audience)
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
