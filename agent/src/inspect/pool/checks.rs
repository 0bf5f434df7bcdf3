//! The checks of a pool: what its answers mean. Pure.
use certagent_core::{issued::MAX_CLOCK_SKEW, pool::CaPoolName};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        report::{Finding, Findings, Skip},
        text::span,
    },
    Anchoring, authorities,
    facts::{Clocks, Facts, Refused, Wanted},
    policy,
    report::{Asked, Check, CheckId, Evidence},
    trouble::Trouble,
};
use crate::cas::{CallError, wire::Tier};

/// Clocks that differ by more are worth a word.
const CLOCK_IS_OFF: SignedDuration = SignedDuration::from_secs(5);

/// An inspection under way.
pub(super) struct Inspection<'a> {
    pub(super) pool: &'a CaPoolName,
    pub(super) facts: &'a Facts,
    pub(super) wanted: &'a Wanted,
    pub(super) is_configured: bool,
    pub(super) now: Timestamp,
    pub(super) found: Findings<CheckId>,
}

/// Runs every check. Those that could not run are in the list too, skipped, with the reason.
pub(super) fn run(
    pool: &CaPoolName,
    endpoint: &str,
    facts: &Facts,
    wanted: &Wanted,
    anchoring: &Anchoring,
    now: Timestamp,
) -> (Vec<Check>, Evidence) {
    let mut inspection = Inspection {
        pool,
        facts,
        wanted,
        is_configured: wanted.is_configured(),
        now,
        found: Findings::new(),
    };
    let skew = facts.clocks.map(skew);
    let trouble = facts.pool.as_ref().err().map(Trouble::of);
    let is_silent = matches!(trouble, Some(Trouble::Endpoint | Trouble::NoToken { .. }));
    let mut evidence = Evidence {
        endpoint: endpoint.to_owned(),
        exists: match trouble {
            None => Some(true),
            Some(trouble) => (trouble == Trouble::Missing).then_some(false),
        },
        tier: None,
        policy: None,
        asked: Asked::of(&facts.plan, wanted),
        authorities: Vec::new(),
        roots: Vec::new(),
        service_time: facts.clocks.map(|clocks| clocks.service),
        clock_ahead_seconds: skew.map(|skew| skew.as_secs()),
        latency_milliseconds: u64::try_from(facts.latency.as_millis())
            .ok()
            .filter(|_| !is_silent),
        may_create: match &facts.creation {
            Some(Ok(())) => Some(true),
            Some(Err(Refused::Call(error))) => {
                (Trouble::of(error) == Trouble::Denied).then_some(false)
            }
            _ => None,
        },
    };
    if let Ok(answer) = &facts.pool {
        inspection.reached();
        let tier = match answer.tier {
            Tier::Enterprise => "ENTERPRISE",
            Tier::Devops => "DEVOPS",
            Tier::Unknown => "unknown",
        };
        inspection
            .found
            .passed(CheckId::Pool, &format!("a pool of tier {tier}"));
        evidence.tier = Some(tier);
        evidence.policy = Some(policy::describe(&answer.issuance_policy));
        policy::checks(&mut inspection, &answer.issuance_policy);
    } else if let Err(error) = &facts.pool {
        inspection.without_pool(error);
    }
    evidence.authorities = authorities::states(&mut inspection);
    evidence.roots = authorities::roots(&mut inspection);
    inspection.anchored(anchoring);
    inspection.may_create();
    (inspection.found.finish(), evidence)
}

impl Inspection<'_> {
    /// CA Service answered, and did not ask who we are.
    fn reached(&mut self) {
        self.found
            .passed(CheckId::Endpoint, "CA Service, or its emulator, answers");
        self.found
            .passed(CheckId::Identity, "the identity in use is accepted");
        let finding = self.facts.clocks.map_or_else(
            || Finding::Skipped(Skip::Minor, "the answers have no date".to_owned()),
            clock,
        );
        self.found.record(CheckId::Clock, finding);
    }

    /// The pool could not be looked at.
    fn without_pool(&mut self, error: &CallError) {
        let detail = told(error);
        match Trouble::of(error) {
            Trouble::Endpoint => self.found.skipped(CheckId::Endpoint, Skip::Unable, &detail),
            Trouble::NoToken { is_permanent } => {
                let nothing = "CA Service is not asked without an access token";
                self.found.skipped(CheckId::Endpoint, Skip::Minor, nothing);
                self.found.skipped(CheckId::Clock, Skip::Minor, nothing);
                let finding = if is_permanent {
                    Finding::Failed(detail)
                } else {
                    Finding::Skipped(Skip::Unable, detail)
                };
                self.found.record(CheckId::Identity, finding);
            }
            Trouble::Stranger => {
                self.reached();
                self.found.failed(CheckId::Identity, &error.to_string());
            }
            Trouble::Denied => {
                self.reached();
                self.found.warned(CheckId::Pool, &error.to_string());
                for check in [
                    CheckId::KeyType,
                    CheckId::Lifetime,
                    CheckId::Backdating,
                    CheckId::Issuance,
                    CheckId::Names,
                    CheckId::Usages,
                ] {
                    let why = "the pool's issuance policy may not be looked at";
                    self.found.skipped(check, Skip::Minor, why);
                }
            }
            Trouble::Away => {
                self.reached();
                self.found.skipped(CheckId::Pool, Skip::Unable, &detail);
            }
            Trouble::Missing | Trouble::Refused => {
                self.reached();
                self.found.failed(CheckId::Pool, &error.to_string());
            }
        }
    }

    /// A call after the first failed.
    pub(super) fn call_failed(&mut self, check: CheckId, error: &CallError) {
        let finding = match Trouble::of(error) {
            Trouble::Endpoint | Trouble::Away | Trouble::NoToken { .. } => {
                Finding::Skipped(Skip::Unable, told(error))
            }
            // Whoever may create certificates need not be allowed to see this.
            Trouble::Denied => Finding::Skipped(Skip::Minor, error.to_string()),
            Trouble::Stranger | Trouble::Missing | Trouble::Refused => {
                Finding::Failed(error.to_string())
            }
        };
        self.found.record(check, finding);
    }

    fn anchored(&mut self, anchoring: &Anchoring) {
        let id = CheckId::Anchored;
        if self.facts.chains().is_none() {
            return;
        }
        match anchoring {
            Anchoring::Unasked => {
                let why = "only `certagent inspect config` knows the trust anchors";
                self.found.skipped(id, Skip::Minor, why);
            }
            Anchoring::Unknown(why) => self.found.skipped(id, Skip::Unable, why),
            Anchoring::Leads(where_to) => self.found.passed(id, where_to),
            Anchoring::Astray(why) => self.found.failed(id, why),
        }
    }

    fn may_create(&mut self) {
        let id = CheckId::MayCreate;
        let plan = &self.facts.plan;
        let error = match &self.facts.creation {
            None => return,
            Some(Ok(())) => {
                let detail = format!(
                    "the pool would issue to {} ({}, {})",
                    plan.spiffe_id,
                    plan.algorithm,
                    span(signed(plan.validity))
                );
                return self.found.passed(id, &detail);
            }
            Some(Err(Refused::NoKey(why))) => {
                return self.found.skipped(id, Skip::Unable, why);
            }
            Some(Err(Refused::OtherWorkload(why))) => return self.found.failed(id, why),
            Some(Err(Refused::Call(error))) => error,
        };
        match Trouble::of(error) {
            Trouble::Denied => self.found.failed(id, &error.to_string()),
            // What the other checks say already is not said twice.
            Trouble::Missing | Trouble::Refused if self.found.blocks(CheckId::Authorities) => {}
            Trouble::Missing | Trouble::Refused => {
                let detail = format!(
                    "the pool would refuse a certificate for {} ({}, {}): {}",
                    plan.spiffe_id,
                    plan.algorithm,
                    span(signed(plan.validity)),
                    error.reason
                );
                self.found.failed(id, &detail);
            }
            _ => self.call_failed(id, error),
        }
    }
}

/// What happened, without the advice of the agent's log: an inspection asks once.
fn told(error: &CallError) -> String {
    format!("{}: {}", error.call, error.reason)
}

/// How far this machine's clock is ahead, at least: a `Date` is cut to whole seconds, and the
/// answer was on its way for a while.
fn skew(clocks: Clocks) -> SignedDuration {
    let Clocks {
        service,
        before,
        after,
    } = clocks;
    let ahead = before.duration_since(service) - SignedDuration::from_secs(1);
    let behind = service.duration_since(after);
    if ahead.is_positive() {
        ahead
    } else if behind.is_positive() {
        -behind
    } else {
        SignedDuration::ZERO
    }
}

fn clock(clocks: Clocks) -> Finding {
    let skew = skew(clocks);
    let (off, service) = (span(skew), clocks.service);
    let which = if skew.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    if skew.abs() > MAX_CLOCK_SKEW {
        let harm = if skew.is_negative() {
            "new certificates look as if they were not valid yet, and are refused"
        } else {
            "certificates are renewed too early, and other machines refuse what is valid here"
        };
        Finding::Failed(format!(
            "this machine's clock is {off} {which} CA Service's, which says {service}: {harm}"
        ))
    } else if skew.abs() > CLOCK_IS_OFF {
        Finding::Warned(format!(
            "this machine's clock is {off} {which} CA Service's, which says {service}: from {} on \
             certificates are refused",
            span(MAX_CLOCK_SKEW)
        ))
    } else {
        Finding::Passed("this machine's clock and CA Service's agree".to_owned())
    }
}

/// A span as [`span`] takes it.
pub(super) fn signed(duration: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
