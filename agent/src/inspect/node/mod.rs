//! A node's driver: does kubelet know it, may it work, and how are its volumes.
//!
//! [`facts`] looks and asks; everything after that is pure. It runs beside the driver, changes
//! nothing, and reads no key.
mod checks;
mod facts;
mod next;
mod report;
mod text;
mod volume;

use ::kube::Client;
use jiff::Timestamp;

use crate::clock::SharedClock;

use facts::Facts;
pub(crate) use facts::Wanted;
pub(crate) use report::Report;

/// Looks at the driver and its volumes. Without a client, the reason for that is told.
pub(crate) async fn inspect(
    wanted: &Wanted,
    client: Result<Client, String>,
    clock: &SharedClock,
) -> Report {
    let facts = facts::gather(wanted, client).await;
    judge(wanted, &facts, clock.now())
}

/// From here on everything is pure.
fn judge(wanted: &Wanted, facts: &Facts, now: Timestamp) -> Report {
    let (checks, evidence) = checks::run(wanted, facts, now);
    let next = |cause: &_, evidence: &_| next::steps(wanted, cause, evidence);
    let root = wanted.places.root().to_string_lossy();
    Report::new(&root, now, checks, evidence, next)
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod volume_tests;
