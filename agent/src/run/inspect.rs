//! `certagent inspect`: what is wrong with a credential directory, and what to do about it.
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::SignedDuration;

use crate::{
    cli::{Exit, InspectArgs, Output, WaitArgs, print},
    clock::SharedClock,
    inspect::{self, RenewalHint},
    volume::{StateDir, VolumeId},
};

/// Inspects, prints, and gives the verdict as exit code.
pub(super) fn inspect(args: &InspectArgs, clock: &SharedClock) -> Result<Exit> {
    let renewal = renewal(&args.dir, args.state_dir.as_deref());
    let report = inspect::directory(&args.dir, clock.now(), renewal.as_ref());
    match args.output {
        Output::Text => print::stdout(&report.to_text())?,
        Output::Json => print::stdout(&report.to_json())?,
    }
    Ok(match report.exit_code() {
        0 => Exit::Ok,
        1 => Exit::Problem,
        _ => Exit::NotChecked,
    })
}

/// `certagent wait`: until the directory holds a valid credential.
pub(super) async fn wait(args: WaitArgs, clock: SharedClock) -> Result<Exit> {
    super::wait::wait(&args.dir, args.timeout, clock).await?;
    Ok(Exit::Ok)
}

/// The agent's record of the volume, where one can be found: in the state directory that was
/// named, in the usual one, or in the quickstart's beside the volume.
fn renewal(volume: &Path, state_dir: Option<&Path>) -> Option<RenewalHint> {
    let canonical = volume.canonicalize().ok()?;
    let id = VolumeId::of(&canonical);
    let usual = StateDir::default_location(None, |name| std::env::var_os(name)).ok();
    let quickstart = canonical.parent().map(|parent| parent.join("state"));
    let candidates: Vec<PathBuf> = match state_dir {
        Some(named) => vec![named.to_owned()],
        None => usual.into_iter().chain(quickstart).collect(),
    };
    let record = candidates
        .iter()
        .find_map(|state| StateDir::peek_record(state, &id).ok().flatten())?;
    Some(RenewalHint {
        volume: id.as_str().to_owned(),
        serial: record.serial,
        issued_at: record.issued_at,
        validity: SignedDuration::from_secs(i64::try_from(record.validity_seconds).ok()?),
        window_percentage: record.rotation_window_percentage,
    })
}
