//! The log: lines on standard error, for people or for machines.
use std::{
    io::{self, IsTerminal as _, Write},
    sync::{Arc, PoisonError, RwLock},
};

use indicatif::MultiProgress;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::cli::{LogArgs, LogFormat};

/// What is logged when nobody asked for anything: ours at `info`, libraries from `warn`. What
/// kube's client says of a failed call is said by whoever called, with what it was about.
pub(crate) const DEFAULT_FILTER: &str = "warn,certagent=info,kube_client=off";

/// What is logged while a live view shows everything else: troubles, and what became of an edit.
pub(crate) const QUIET_FILTER: &str = "warn,certagent::config=info";

/// Starts the log of this process. A second call changes nothing.
pub(crate) fn init(args: &LogArgs, default_filter: &str) -> LogOutput {
    let output = LogOutput::default();
    // The command line was checked when it was parsed.
    let filter =
        EnvFilter::builder().parse_lossy(args.log_level.as_deref().unwrap_or(default_filter));
    // Nobody may be reading standard error any more; then there is nobody to complain to, and the
    // subscriber's own complaint would panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output.clone())
        .log_internal_errors(false);
    let started = match args.log_format {
        LogFormat::Text => builder
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_ansi(false)
            .try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "the log runs already");
    }
    output
}

/// Where log lines go: to standard error, and above a live view if one is shown there.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogOutput {
    view: Arc<RwLock<Option<MultiProgress>>>,
}

impl LogOutput {
    /// From now on lines are written above `view`, or plainly again.
    #[cfg(feature = "emulator")]
    pub(crate) fn show_above(&self, view: Option<MultiProgress>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

impl<'a> MakeWriter<'a> for LogOutput {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter {
            view: self
                .view
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

/// Writes one log line. Errors are dropped: there is no other place to report them.
#[derive(Debug)]
pub(crate) struct LogWriter {
    view: Option<MultiProgress>,
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let write = || drop(io::stderr().lock().write_all(line));
        match &self.view {
            Some(view) => view.suspend(write),
            None => write(),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
