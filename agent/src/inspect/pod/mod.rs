//! A pod of a cluster: does it have its certificate, and if not, where does it hang on the way from
//! its volume to the driver, the controller, the CA and back.
//!
//! [`facts`] asks the API server, with the rights of whoever runs it, and `objects` reads what
//! comes back; everything after that is pure. It changes nothing, and reads no Secret.
mod checks;
mod facts;
mod next;
mod objects;
mod report;
mod requests;
mod text;
mod view;

use ::kube::Client;
use jiff::Timestamp;

use crate::clock::SharedClock;

use facts::Facts;
pub(crate) use facts::Wanted;
pub(crate) use report::Report;

/// Looks at the pod and at what is on its way. Without a client, the reason for that is told.
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
    let next = |cause: &_, evidence: &_| next::steps(wanted, facts, cause, evidence);
    Report::new(&wanted.pod(), now, checks, evidence, next)
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
