//! One function per command, and the one place where a command begins and ends.
pub mod agent;
mod alone;
mod cas;
pub mod controller;
mod controller_flags;
#[cfg(feature = "emulator")]
mod emulator;
mod engine;
mod identity;
mod inspect;
pub mod node;
mod node_flags;
mod once;
#[cfg(feature = "emulator")]
mod quickstart;
#[cfg(feature = "emulator")]
mod quickstart_place;
#[cfg(feature = "emulator")]
mod quickstart_view;
mod validate;
pub mod wait;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _};
use tokio::runtime::{Builder, Runtime};

use crate::{
    cas::Endpoint,
    cli::{CaArgs, Cli, Command, CompletionsArgs, Exit, RunArgs, Shell, print},
    clock::{SharedClock, SystemClock},
    config::ConfigFiles,
    logging, shutdown,
    volume::StateDir,
};

/// Work on blocking threads (an RSA key) may last so long after everything else has ended.
const GRACE: Duration = Duration::from_millis(300);

/// What is told of a task that did not end as it should.
const ENDED_BADLY: &str = "a task ended badly";

/// The wrong command line for this build or this machine: exits with [`Exit::Usage`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// The program: reads the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // With nobody to print to, the exit code still tells.
            drop(error.print());
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            }
            .into();
        }
    };
    let exit = run(cli).unwrap_or_else(|error| {
        print::stderr(&print::error_chain(&error));
        if error.is::<UsageError>() {
            Exit::Usage
        } else {
            Exit::Problem
        }
    });
    exit.into()
}

fn run(cli: Cli) -> Result<Exit> {
    let is_live = matches!(cli.command, Command::Quickstart(_)) && io::stderr().is_terminal();
    // An inspection says everything in its report.
    let is_quiet = is_live || matches!(cli.command, Command::Inspect(_));
    let filter = if is_quiet {
        logging::QUIET_FILTER
    } else {
        logging::DEFAULT_FILTER
    };
    let log = logging::init(&cli.log, filter);
    let clock: SharedClock = Arc::new(SystemClock);
    match cli.command {
        Command::Run(args) => block_on(run_agent(*args, clock)),
        Command::Node(args) => block_on(node_flags::run(*args, clock)),
        Command::Controller(args) => block_on(controller_flags::run(*args, clock)),
        Command::Wait(args) => block_on(inspect::wait(args, clock)),
        Command::Inspect(args) => inspect::inspect(args, clock),
        Command::Validate(args) => validate::run(args),
        Command::Completions(args) => completions(&args),
        #[cfg(feature = "emulator")]
        Command::Emulator(args) => block_on(emulator::run(args)),
        #[cfg(feature = "emulator")]
        Command::Quickstart(args) => block_on(quickstart::run(args, clock, is_live.then_some(log))),
        #[cfg(not(feature = "emulator"))]
        Command::Emulator(_) | Command::Quickstart(_) => {
            drop(log);
            Err(UsageError(
                "this certagent was built without the embedded CA, as the container image is; \
                 build it with the default cargo features to have `quickstart` and `emulator`"
                    .to_owned(),
            )
            .into())
        }
    }
}

/// `certagent run`.
async fn run_agent(args: RunArgs, clock: SharedClock) -> Result<Exit> {
    let cancel = shutdown::on_signals().context("cannot wait for signals")?;
    let usage = |error: &dyn std::fmt::Display| UsageError(error.to_string());
    let endpoint = endpoint(&args.ca)?;
    let identity = identity::choice(&args.ca, &endpoint, &args.exchange)?;
    let options = agent::AgentOptions {
        roots: identity::roots(&args.ca, &endpoint, &identity)?,
        endpoint,
        identity,
        distrust: args.distrust.iter().copied().collect(),
        state_dir: StateDir::default_location(args.state_dir.clone(), |name| {
            std::env::var_os(name)
        })
        .map_err(|error| usage(&error))?,
        config: ConfigFiles::new(args.config.clone(), args.settings()),
        allow_disk: args.allow_disk,
        admin: args.admin,
        quota_share: args.quota_share,
        clock,
    };
    let running = agent::start(options, cancel).await?;
    if args.once {
        let result = running.once().await;
        running.stop().await;
        result?;
    } else {
        running.join().await;
    }
    Ok(Exit::Ok)
}

/// Where CA Service is.
fn endpoint(args: &CaArgs) -> Result<Endpoint, UsageError> {
    Endpoint::parse(&args.ca_endpoint)
        .map_err(|error| UsageError(format!("--ca-endpoint: {error}")))
}

fn completions(args: &CompletionsArgs) -> Result<Exit> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "certagent", &mut script);
    print::stdout(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// Runs a command to its end on a runtime of its own.
fn block_on(command: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    let runtime = runtime().context("cannot start the runtime")?;
    let ended = runtime.block_on(command);
    runtime.shutdown_timeout(GRACE);
    ended
}

/// The agent waits much more than it computes: two threads, however many cores the machine has.
/// Besides, there is one for each RSA key that may be made at once, and a few for files and names.
fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.min(2))
        .max_blocking_threads(cores + 4)
        .thread_name("certagent")
        .enable_all()
        .build()
}
