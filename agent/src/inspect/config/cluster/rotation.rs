//! How far a spread rotation is: every driver counts what it has still to renew, and the API server
//! passes the question on to it.
use std::{fmt, time::Duration};

use ::kube::{Api, Client, ResourceExt as _, api::ListParams};
use certagent_core::spread_rotation::SpreadRotation;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::{
    super::super::{
        cluster::{DRIVER_LABEL, NAMESPACE, Permission, Seen},
        report::{Findings, Skip},
        text::{clean, count, relative},
    },
    report::CheckId,
};
use crate::{
    admin::{TO_ROTATE, VOLUMES},
    kube::chain,
};

/// So many drivers are asked at once,
const AT_ONCE: usize = 16;
/// and each is given so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// More drivers than this are not asked.
const MOST_DRIVERS: u32 = 5000;

/// A renewal that is due takes so long where a pool's quota is short, or the driver was started
/// anew.
const LATE: SignedDuration = SignedDuration::from_mins(10);

/// What all drivers together say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    drivers: usize,
    volumes: usize,
    to_renew: usize,
    /// One of those that have something to renew.
    behind: Option<String>,
    /// Drivers that gave no answer.
    silent: usize,
    /// One of those, and why.
    silence: Option<String>,
}

/// What one driver says.
struct Counted {
    volumes: usize,
    to_renew: usize,
}

impl Progress {
    /// Asks every driver.
    pub(super) async fn look(client: &Client) -> Seen<Self> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let drivers = ListParams::default()
            .labels(DRIVER_LABEL)
            .limit(MOST_DRIVERS);
        let needed = Permission::of("list", "pods").within(NAMESPACE);
        let drivers = needed.ask(pods.list(&drivers)).await?.items;
        let answers = stream::iter(drivers.into_iter().map(|pod| ask(client, pod)));
        let mut answers = answers.buffer_unordered(AT_ONCE);
        let mut progress = Self::default();
        while let Some((name, answer)) = answers.next().await {
            progress.add(name, answer);
        }
        Ok(progress)
    }

    fn add(&mut self, name: String, answer: Result<Counted, String>) {
        self.drivers += 1;
        match answer {
            Ok(Counted { volumes, to_renew }) => {
                self.volumes = self.volumes.saturating_add(volumes);
                self.to_renew = self.to_renew.saturating_add(to_renew);
                if to_renew > 0 {
                    self.behind = self.behind.take().max(Some(name));
                }
            }
            Err(why) => {
                self.silent += 1;
                self.silence = self.silence.take().max(Some(format!("{name}: {why}")));
            }
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} renewed or issued since, according to {}",
            self.volumes.saturating_sub(self.to_renew),
            count(self.volumes, "volume"),
            count(self.drivers.saturating_sub(self.silent), "driver"),
        )?;
        match &self.silence {
            Some(silence) => write!(
                f,
                "; {} did not answer, such as {silence}",
                count(self.silent, "driver")
            ),
            None => Ok(()),
        }
    }
}

/// Judges what was found; `asked` is what the object asks for.
pub(super) fn judge(
    checks: &mut Findings<CheckId>,
    asked: Option<SpreadRotation>,
    progress: Option<&Seen<Progress>>,
    now: Timestamp,
) {
    let id = CheckId::Rotation;
    let Some(asked) = asked else {
        return checks.passed(id, "nothing has to be renewed ahead of its time");
    };
    let progress = match progress {
        Some(Ok(progress)) => progress,
        Some(Err(unseen)) => return checks.skipped(id, Skip::Minor, &unseen.text),
        None => return checks.skipped(id, Skip::Minor, "no driver was asked"),
    };
    let is_late = asked
        .until()
        .saturating_add(LATE)
        .is_ok_and(|late| late < now);
    match &progress.behind {
        Some(behind) if is_late => {
            let detail = format!(
                "{} not renewed, such as on {behind}, and the last was due {}; {}",
                count(progress.to_renew, "volume"),
                relative(asked.until(), now),
                progress
            );
            checks.warned(id, &detail);
        }
        _ => checks.passed(id, &progress.to_string()),
    }
}

async fn ask(client: &Client, pod: Pod) -> (String, Result<Counted, String>) {
    let name = pod.name_any();
    let answer = async {
        let port = port(&pod).ok_or("it has no port named admin")?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:{port}/proxy/metrics");
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let asked = tokio::time::timeout(PATIENCE, client.request_text(request));
        let text = asked
            .await
            .map_err(|_elapsed| format!("no answer within {} s", PATIENCE.as_secs()))?
            .map_err(|error| match error {
                ::kube::Error::Api(status) => format!("HTTP {}: {}", status.code, status.message),
                other => chain(&other),
            })?;
        counted(&text).ok_or_else(|| "it does not count what it has to renew".to_owned())
    };
    let answer = answer.await.map_err(|why| clean(&why));
    (clean(&name), answer)
}

fn port(pod: &Pod) -> Option<i32> {
    let containers = &pod.spec.as_ref()?.containers;
    let mut ports = containers.iter().flat_map(|one| one.ports.iter().flatten());
    let admin = ports.find(|port| port.name.as_deref() == Some("admin"))?;
    Some(admin.container_port)
}

/// Reads a driver's metrics.
fn counted(metrics: &str) -> Option<Counted> {
    let samples = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let name = series.split('{').next()?.strip_prefix("certagent_")?;
        Some((name, value.parse::<usize>().ok()?))
    });
    let mut counted = Counted {
        volumes: 0,
        to_renew: 0,
    };
    let mut is_known = false;
    for (name, value) in samples {
        if name == VOLUMES {
            counted.volumes = counted.volumes.saturating_add(value);
        } else if name == TO_ROTATE {
            is_known = true;
            counted.to_renew = value;
        }
    }
    is_known.then_some(counted)
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
