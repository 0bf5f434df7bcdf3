//! Nobody else does the same: looked at before anything is done to a cluster.
use std::sync::Arc;

use ::kube::Client;
use anyhow::{Context as _, Result, bail};
use jiff::SignedDuration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ENDED_BADLY;
use crate::{
    clock::SharedClock,
    kube::{Verdict, crds},
};

/// The API server is waited for so long before the driver serves.
const PATIENCE: SignedDuration = SignedDuration::from_secs(1);
/// So often it is asked after that, until it answers.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// Refuses to run beside another driver of the same name, or by objects whose form is another's.
///
/// The API server is waited for only shortly: pods that run must go on, and those that end must go,
/// also while it does not answer. The task that is given back then goes on asking, and ends the
/// driver if it has to.
pub(super) async fn alone(
    client: Client,
    driver: String,
    clock: &SharedClock,
    cancel: &CancellationToken,
) -> Result<Option<JoinHandle<Result<()>>>> {
    let (asking, cancel) = (Arc::clone(clock), cancel.clone());
    let mut task = tokio::spawn(async move {
        let refused = refuse_foreign(&client, &driver, &asking);
        let result = cancel.run_until_cancelled(refused).await.unwrap_or(Ok(()));
        if result.is_err() {
            cancel.cancel();
        }
        result
    });
    let patience = clock.now().saturating_add(PATIENCE).unwrap_or_default();
    tokio::select! {
        ended = &mut task => ended.context(ENDED_BADLY)?.map(|()| None),
        () = clock.sleep_until(patience) => Ok(Some(task)),
    }
}

pub(super) async fn refuse_foreign(
    client: &Client,
    driver: &str,
    clock: &SharedClock,
) -> Result<()> {
    let mut is_told = false;
    loop {
        match crds::check(client.clone(), driver).await {
            Verdict::Ours => return Ok(()),
            Verdict::Foreign(foreign) => bail!("{foreign}"),
            Verdict::Unknown { message } => {
                if !is_told {
                    warn!(
                        "whether the definitions and the CSIDriver object in this cluster are ours is not known yet: {message}"
                    );
                }
                is_told = true;
                let again = clock.now().saturating_add(AGAIN).unwrap_or_default();
                clock.sleep_until(again).await;
            }
        }
    }
}
