//! Requests in six hours without the CA, for each workload.
use certagent::{run::agent::RunningAgent, status::VolumeStatus};
use certagent_core::backoff;
use certagent_emulator::{ApiError, Code, Fault, FaultRule, Method, Stats};
use certagent_tests::{Lab, Policy, all_ready, until};
use jiff::{SignedDuration, Timestamp};

use crate::goal;

/// As many as the quota of the pool lets through at once: no step of the clock is needed for it.
const MANY: u32 = 20;
const OUTAGE: SignedDuration = SignedDuration::from_hours(6);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Runs all scenes and prints a table.
pub(crate) async fn run() {
    println!("six hours without the CA, {MANY} workloads; for each workload");
    println!("                                attempts        certificates   all       bound");
    println!(
        "                                mean    most    asked for      requests  of attempts"
    );
    first().await.print("first certificate");
    renewal(SignedDuration::ZERO).await.print("renewal");
    // A minute is left for the renewal.
    let late = SignedDuration::from_mins(1);
    renewal(late).await.print("the last six of its life");
}

/// What was counted.
struct Count {
    attempts: Vec<u32>,
    creates: u64,
    requests: u64,
    bound: u32,
    in_time: bool,
}

impl Count {
    fn print(&self, what: &str) {
        let many = f64::from(MANY);
        let each = |count: u64| f64::from(u32::try_from(count).unwrap()) / many;
        let most = self.attempts.iter().copied().max().unwrap_or_default();
        println!(
            "{what:<30} {:>6.1} {most:>6} {:>12.1} {:>13.1} {:>8} ({:.0}%, {}{})",
            each(self.attempts.iter().copied().map(u64::from).sum()),
            each(self.creates),
            each(self.requests),
            self.bound,
            100.0 * f64::from(most) / f64::from(self.bound),
            goal(most <= self.bound, "no more"),
            if self.in_time {
                ""
            } else {
                "; NOT ALL WERE RENEWED IN TIME"
            },
        );
    }
}

/// None of them has a certificate yet.
async fn first() -> Count {
    let lab = laboratory().await;
    lab.faults([away()]);
    let agent = lab.agent().await;
    // The roots come first; without them nothing is asked for.
    let bound = bound(|failures, _| backoff::first_issue(failures));
    count(&lab, &agent, bound).await
}

/// All of them are due for a renewal, and the outage ends `before` the first certificate does;
/// with zero, it begins when the last one is due.
async fn renewal(before: SignedDuration) -> Count {
    let lab = laboratory().await;
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    let there = || agent.statuses().into_iter().filter_map(|s| s.certificate);
    let due = there().map(|one| one.renew_at).max().unwrap();
    let end = there().map(|one| one.not_after).min().unwrap();
    let start = if before.is_zero() {
        due
    } else {
        end - before - OUTAGE
    };
    lab.faults([away()]);
    lab.clock.set(start);
    let left = end.duration_since(start);
    let bound = bound(|failures, passed| backoff::renewal(failures, left - passed));
    count(&lab, &agent, bound).await
}

fn away() -> FaultRule {
    FaultRule::always(Fault::error(ApiError::new(Code::Unavailable, "away")))
}

async fn laboratory() -> Lab {
    let lab = Lab::new().await;
    lab.write_policy(&Policy {
        validity: DAY.as_secs().try_into().unwrap(),
        ..Policy::default()
    });
    for number in 0..MANY {
        lab.write_workload(&format!("w{number}"));
    }
    lab
}

/// Attempts in six hours by the rule of waits alone: no failure takes time, and nothing is spread.
fn bound(wait: impl Fn(u32, SignedDuration) -> SignedDuration) -> u32 {
    let (mut attempts, mut passed) = (0, SignedDuration::ZERO);
    while passed < OUTAGE {
        attempts += 1;
        passed += wait(attempts, passed);
    }
    attempts
}

/// Steps through the outage that has just begun, and lets them all get their certificates after
/// it.
async fn count(lab: &Lab, agent: &RunningAgent, bound: u32) -> Count {
    let (before, end) = (lab.emulator.stats(), lab.now() + OUTAGE);
    settled(lab, agent).await;
    while let Some(next) = next(&agent.statuses()).filter(|next| *next < end) {
        lab.clock.set(next.max(lab.now()));
        settled(lab, agent).await;
    }
    lab.clock.set(end.max(lab.now()));
    let attempts = agent.statuses().iter().map(|one| one.failures).collect();
    let after = lab.emulator.stats();
    let valid = |status: &VolumeStatus| status.certificate.is_none() || status.is_valid(lab.now());
    let mut in_time = agent.statuses().iter().all(valid);

    lab.faults([]);
    while !all_ready(&agent.statuses()) {
        let next = next(&agent.statuses()).unwrap();
        lab.clock.set(next.max(lab.now()));
        in_time &= agent.statuses().iter().all(valid);
        settled(lab, agent).await;
    }
    Count {
        attempts,
        creates: after.requests(Method::CreateCertificate)
            - before.requests(Method::CreateCertificate),
        requests: all(&after) - all(&before),
        bound,
        in_time,
    }
}

fn all(stats: &Stats) -> u64 {
    stats.requests.values().sum()
}

fn next(statuses: &[VolumeStatus]) -> Option<Timestamp> {
    statuses.iter().map(|status| status.next_attempt).min()
}

/// Waits until nothing is due any more.
async fn settled(lab: &Lab, agent: &RunningAgent) {
    until(agent, |statuses| {
        next(statuses).is_some_and(|next| next > lab.now())
    })
    .await;
}
