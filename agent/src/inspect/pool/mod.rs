//! A CA pool: does it issue what certagent asks for, and if not, why, and what to do next.
//!
//! [`facts`] asks the pool; everything after that is pure. No certificate is bought: the one create
//! request is only validated.
mod authorities;
mod checks;
mod facts;
mod next;
mod policy;
mod report;
mod text;
mod trouble;

use certagent_core::pool::CaPoolName;
use jiff::Timestamp;

use crate::{cas::CasClient, clock::SharedClock, google::Caller};

pub(crate) use facts::{Facts, Wanted, gather};
pub(crate) use report::{Pool, Report};
pub(super) use trouble::Trouble;

/// Where the pool's CAs lead, as a configuration sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Anchoring {
    /// There is no configuration to ask.
    Unasked,
    /// The anchors are not known, and why.
    Unknown(String),
    /// To an anchor of every trust domain that matters.
    Leads(String),
    /// To none, and what to do about it.
    Astray(String),
}

/// Asks the pool everything, and judges the answers.
pub(crate) async fn inspect(
    client: &CasClient,
    pool: &CaPoolName,
    wanted: &Wanted,
    caller: &Caller,
    clock: &SharedClock,
) -> Report {
    let facts = gather(client, pool, wanted, caller, clock).await;
    let endpoint = client.endpoint().to_string();
    let anchoring = Anchoring::Unasked;
    judge(pool, &endpoint, &facts, wanted, &anchoring, clock.now())
}

/// From here on everything is pure.
pub(crate) fn judge(
    pool: &CaPoolName,
    endpoint: &str,
    facts: &Facts,
    wanted: &Wanted,
    anchoring: &Anchoring,
    now: Timestamp,
) -> Report {
    let (checks, evidence) = checks::run(pool, endpoint, facts, wanted, anchoring, now);
    let next = |cause: &_, evidence: &_| next::steps(pool, facts, wanted, cause, evidence);
    Report::new(&pool.to_string(), now, checks, evidence, next)
}

#[cfg(test)]
#[cfg(feature = "emulator")]
mod emulator_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
