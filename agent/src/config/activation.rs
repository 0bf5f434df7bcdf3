//! What a source of the configuration says becomes what certificates are issued by: the source
//! may be files, or objects of a cluster.
use std::sync::Arc;

use certagent_core::config::{Config, Problem, Settings, Source};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{ActiveConfig, BadConfig, Found, changes, last_good};
use crate::{admin::Metrics, volume::StateDir};

/// More problems than this are not written to the log.
const MAX_LOGGED: usize = 20;

/// Makes active what is good, keeps it for the next start, and says what is wrong with the rest.
pub(crate) struct Activation {
    keeper: Keeper,
    metrics: Arc<Metrics>,
    sender: watch::Sender<Arc<ActiveConfig>>,
    seen: Seen,
    in_force: Vec<Source>,
}

/// The newest content that was looked at: nothing is said or done about it again.
struct Seen {
    sources: Vec<Source>,
    problems: Vec<Problem>,
}

impl Activation {
    /// Begins with what a source says first. With errors in it, the last good configuration of an
    /// earlier process is used; if there is none, the errors are given back, and a source that
    /// expects better may try again with what it says next.
    pub(crate) fn start(
        settings: &Settings,
        keeper: Keeper,
        metrics: Arc<Metrics>,
        found: Found,
    ) -> Result<(Self, watch::Receiver<Arc<ActiveConfig>>), BadConfig> {
        let Found {
            sources,
            problems,
            config,
        } = found;
        let (config, in_force) = match config {
            Some(config) => {
                keeper.keep(&sources);
                (config, sources.clone())
            }
            None => match keeper.earlier(settings) {
                Some(earlier) => earlier,
                None => return Err(BadConfig { problems }),
            },
        };
        let problem = problem(&problems);
        say_problems(&problems);
        if problem.is_some() {
            error!(
                "THE CONFIGURATION HAS ERRORS: the last good one, of an earlier start, is used \
                instead; the errors above say what to correct"
            );
        }
        let seen = Seen { sources, problems };
        Ok(Self::begin(
            keeper, metrics, config, in_force, problem, seen,
        ))
    }

    /// Begins with the last good configuration of an earlier process because the source, for the
    /// reason `why`, says nothing yet. None if there is no such configuration.
    pub(crate) fn resume(
        settings: &Settings,
        keeper: Keeper,
        metrics: Arc<Metrics>,
        why: &str,
    ) -> Option<(Self, watch::Receiver<Arc<ActiveConfig>>)> {
        let (config, in_force) = keeper.earlier(settings)?;
        warn!("the last good configuration, of an earlier start, is used meanwhile: {why}");
        let seen = Seen {
            sources: Vec::new(),
            problems: Vec::new(),
        };
        Some(Self::begin(
            keeper,
            metrics,
            config,
            in_force,
            Some(why.to_owned()),
            seen,
        ))
    }

    fn begin(
        keeper: Keeper,
        metrics: Arc<Metrics>,
        config: Config,
        in_force: Vec<Source>,
        problem: Option<String>,
        seen: Seen,
    ) -> (Self, watch::Receiver<Arc<ActiveConfig>>) {
        metrics.config_valid(problem.is_none());
        let (sender, receiver) = watch::channel(Arc::new(ActiveConfig {
            config: Arc::new(config),
            problem,
            version: 1,
        }));
        let activation = Self {
            keeper,
            metrics,
            sender,
            seen,
            in_force,
        };
        (activation, receiver)
    }

    /// What the active configuration was made of.
    pub(crate) fn in_force(&self) -> &[Source] {
        &self.in_force
    }

    /// This is what was looked at last.
    pub(crate) fn has_seen(&self, found: &Found) -> bool {
        found.sources == self.seen.sources && found.problems == self.seen.problems
    }

    /// Makes new content active, or says why not. What was seen already is passed over.
    pub(crate) fn take(&mut self, found: Found) {
        if self.has_seen(&found) {
            return;
        }
        let Found {
            sources,
            problems,
            config,
        } = found;
        let before = Arc::clone(&self.sender.borrow());
        say_problems(&problems);
        let problem = problem(&problems);
        self.metrics.config_valid(problem.is_none());
        if let Some(config) = config {
            self.keeper.keep(&sources);
            self.in_force.clone_from(&sources);
            self.activate(&before, config);
        } else {
            error!("the new configuration has errors, so the one before it stays active");
            self.sender.send_replace(Arc::new(ActiveConfig {
                problem,
                ..(*before).clone()
            }));
        }
        self.seen = Seen { sources, problems };
    }

    fn activate(&self, before: &ActiveConfig, config: Config) {
        let changes = changes(&before.config, &config);
        if !changes.is_empty() {
            info!(
                changes = changes.join("; "),
                "the configuration changed; a running certificate follows at its next renewal, unless the change asks for another at once or ahead of its time"
            );
        } else if before.problem.is_some() {
            info!("the configuration is good again, and as it was before");
        }
        let is_same = *before.config == config;
        if is_same && before.problem.is_none() {
            return;
        }
        let version = before.version + u64::from(!is_same);
        self.sender.send_replace(Arc::new(ActiveConfig {
            config: if is_same {
                Arc::clone(&before.config)
            } else {
                Arc::new(config)
            },
            problem: None,
            version,
        }));
    }
}

/// The errors in one text; none without errors.
fn problem(problems: &[Problem]) -> Option<String> {
    let errors: Vec<_> = problems
        .iter()
        .filter(|one| one.is_error())
        .map(ToString::to_string)
        .collect();
    (!errors.is_empty()).then(|| errors.join("\n"))
}

fn say_problems(problems: &[Problem]) {
    for problem in problems.iter().take(MAX_LOGGED) {
        if problem.is_error() {
            error!("{problem}");
        } else {
            warn!("{problem}");
        }
    }
    if let Some(more) = problems
        .len()
        .checked_sub(MAX_LOGGED)
        .filter(|more| *more > 0)
    {
        error!("{more} more problems, which show when these are corrected");
    }
}

/// Keeps the last good configuration in the state directory.
pub(crate) struct Keeper {
    state: Arc<StateDir>,
    /// What others have kept elsewhere, at least as new.
    elsewhere: Option<Vec<Source>>,
}

impl Keeper {
    pub(crate) fn new(state: &Arc<StateDir>, elsewhere: Option<Vec<Source>>) -> Self {
        Self {
            state: Arc::clone(state),
            elsewhere,
        }
    }

    fn kept(&self) -> Option<Vec<Source>> {
        match self.state.load_last_good() {
            Ok(text) => text.as_deref().and_then(last_good::decode),
            Err(error) => {
                warn!(%error, "the last good configuration of an earlier start cannot be read");
                None
            }
        }
    }

    /// What an earlier process kept, if it is still good.
    fn earlier(&self, settings: &Settings) -> Option<(Config, Vec<Source>)> {
        let good = |sources: Vec<Source>| {
            let found = Found::check(sources, settings);
            Some((found.config?, found.sources))
        };
        let elsewhere = self.elsewhere.clone().and_then(good);
        elsewhere.or_else(|| good(self.kept()?))
    }

    /// The agent works without, so a failure is only told.
    fn keep(&self, sources: &[Source]) {
        let text = match last_good::encode(sources) {
            Ok(text) => text,
            Err(error) => {
                warn!(%error, "the configuration cannot be kept for the next start");
                return;
            }
        };
        if self.state.load_last_good().ok().flatten().as_deref() == Some(&text) {
            return;
        }
        if let Err(error) = self.state.save_last_good(&text) {
            warn!(%error, "the configuration cannot be kept for the next start");
        }
    }
}

#[cfg(test)]
#[path = "activation_tests.rs"]
mod tests;
