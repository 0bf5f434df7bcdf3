//! `certagent quickstart`: an embedded CA and one volume that rotates, in one directory.
use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use certagent_emulator::EmulatorConfig;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    agent::{self, AgentOptions, RunningAgent},
    emulator::{self, LOCATION, PROJECT},
    quickstart_place::{Place, settings, write_objects},
    quickstart_view,
};
use crate::{
    cas::Endpoint,
    cli::{Exit, QuickstartArgs, print},
    clock::SharedClock,
    config::ConfigFiles,
    google::IdentityChoice,
    logging::LogOutput,
    shutdown,
    status::VolumeStatus,
};

/// Builds everything in order, shows it, and ends it. `live` is the log if there is a terminal.
pub(super) async fn run(
    args: QuickstartArgs,
    clock: SharedClock,
    live: Option<LogOutput>,
) -> Result<Exit> {
    let signals = shutdown::on_signals().context("cannot wait for signals")?;
    let place = Place::prepare(&args.dir)?;
    let cancel = CancellationToken::new();
    // First the CA, whose directory only one process can hold: another's objects stay as they are.
    let (endpoint, ca) = start_ca(&place, cancel.clone()).await?;
    let remark = write_objects(&place, &args)?;
    let options = AgentOptions {
        config: ConfigFiles::new(vec![place.config()], settings(&place, args.lift_minimums)),
        endpoint: Endpoint::parse(&endpoint)?,
        identity: IdentityChoice::None,
        ca_bundle: None,
        state_dir: place.state(),
        allow_disk: true,
        admin: args.admin,
        clock: Arc::clone(&clock),
    };
    let running = agent::start(options, cancel.child_token()).await?;
    print::stdout(&introduction(
        &place,
        remark.as_deref(),
        &endpoint,
        running.admin(),
    ))?;

    let ended_by_itself = show(&running, &args, &clock, &signals, live).await;
    let volumes = Arc::clone(running.volumes());
    running.stop().await;
    let statuses = volumes.statuses();
    cancel.cancel();
    ca.await.context("the embedded CA was stopped")??;
    print::stdout(&closing(&place, &args, &statuses, clock.now()))?;
    let is_valid = statuses.iter().all(|status| status.is_valid(clock.now()));
    Ok(if ended_by_itself && !is_valid {
        Exit::Problem
    } else {
        Exit::Ok
    })
}

/// The embedded CA on a free port, with its keys in `ca/`.
async fn start_ca(
    place: &Place,
    cancel: CancellationToken,
) -> Result<(
    String,
    tokio::task::JoinHandle<Result<(), certagent_emulator::EmulatorError>>,
)> {
    let config = EmulatorConfig::guide(PROJECT, LOCATION)?;
    let emulator = emulator::build(config, Some(place.ca())).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("cannot listen on 127.0.0.1")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let serve = certagent_emulator::serve(emulator, listener, cancel.cancelled_owned());
    Ok((endpoint, tokio::spawn(serve)))
}

/// Shows the volumes until a signal (false) or the end of `--for` (true).
async fn show(
    running: &RunningAgent,
    args: &QuickstartArgs,
    clock: &SharedClock,
    signals: &CancellationToken,
    live: Option<LogOutput>,
) -> bool {
    let end = async {
        match args.run_for {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    let view = async {
        match live {
            Some(log) => quickstart_view::show(|| running.statuses(), clock, &log).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.cancelled() => false,
        () = end => true,
        () = view => false,
    }
}

/// What this is, and what to try next.
fn introduction(
    place: &Place,
    remark: Option<&str>,
    endpoint: &str,
    admin: Option<std::net::SocketAddr>,
) -> String {
    let quoted = |path: PathBuf| print::shell_quoted(&path);
    let (certificates, volume) = (quoted(place.certificates()), quoted(place.volume()));
    let state = quoted(place.state());
    let leaf = quoted(place.volume().join("certificates.pem"));
    let remark = remark.map_or_else(String::new, |remark| format!("{remark}\n"));
    let admin = admin.map_or_else(String::new, |address| {
        format!("  curl http://{address}/metrics\n")
    });
    let program = program();
    format!(
        "\
certagent keeps {volume} supplied with a SPIFFE certificate
from an embedded CA at {endpoint} (for trying things, never for production).
{remark}
Try, in another terminal:
  $EDITOR {certificates}    # takes effect at the next renewal
  {program} inspect {volume} --state-dir {state}
  openssl x509 -in {leaf} -noout -text
{admin}
Ctrl-C ends it; a second start continues where it was.

"
    )
}

/// How this program was called, so that the lines can be pasted.
fn program() -> String {
    std::env::args_os()
        .next()
        .map(PathBuf::from)
        .filter(|path| path.components().count() > 1)
        .map_or_else(|| "certagent".to_owned(), |path| print::shell_quoted(&path))
}

/// What was, and where it is.
fn closing(
    place: &Place,
    args: &QuickstartArgs,
    statuses: &[VolumeStatus],
    now: Timestamp,
) -> String {
    let rotations: u64 = statuses.iter().map(|status| status.rotations).sum();
    let certificate = statuses
        .iter()
        .find_map(|status| status.certificate.as_ref());
    let left = match certificate {
        Some(certificate) if certificate.not_after > now => {
            format!(
                "The last certificate is valid until {:.0}",
                certificate.not_after
            )
        }
        Some(certificate) => format!("The last certificate ended at {:.0}", certificate.not_after),
        None => "There is no certificate".to_owned(),
    };
    let times = if rotations == 1 { "once" } else { "times" };
    let rotated = if rotations == 1 {
        times.to_owned()
    } else {
        format!("{rotations} {times}")
    };
    format!(
        "Ended. The certificate was rotated {rotated}. {left}, in {}.\nStart again with: {} quickstart --dir {}\n",
        print::shell_quoted(&place.volume()),
        program(),
        print::shell_quoted(&args.dir),
    )
}
