//! A region that takes requests and never answers them, and 1,000 workloads that begin meanwhile:
//! the time until each has its certificate from the pool of another region.
//!
//! The calls hang for as long as the agent lets them, in real time. CA Service has one address for
//! all regions, so a region that is away is a pool whose calls hang, on a connection that works for
//! the others.
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use certagent::run::agent::RunningAgent;
use certagent_emulator::{EmulatorConfig, PoolName};
use certagent_tests::{
    LOCATION, Lab, PROJECT, Policy,
    front::{Front, Outage},
    workload,
};
use jiff::SignedDuration;
use tokio::time::sleep;

use crate::goal;

const MANY: u32 = 1000;
/// Certificates a second of the second pool: one CA of the tier DEVOPS.
const RATE: f64 = 25.0;
/// Until the last of them has its certificate.
const GOAL: Duration = Duration::from_secs(120);
/// After this the benchmark gives up.
const LONGEST: Duration = Duration::from_secs(900);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs both kinds of outage.
pub(crate) async fn run() {
    println!("\na region that never answers, {MANY} workloads, and one CA in another region");
    scene("every call hangs", Outage::Silence).await;
    scene("only CreateCertificate hangs", Outage::SilentSales).await;
}

async fn scene(what: &str, outage: Outage) {
    let lab = laboratory().await;
    let clock = lab.clock.clone();
    let start = lab.now();
    let began = Instant::now();
    let running = tokio::spawn(async move {
        loop {
            sleep(LOOK / 10).await;
            clock.set(start + SignedDuration::try_from(began.elapsed()).unwrap());
        }
    });
    let front = Front::before(&lab, "issuing-pool").await;
    front.set(outage);
    let agent = lab.agent_with(front.options(&lab)).await;

    let mut supplied = Vec::new();
    while supplied.len() < MANY as usize {
        let now = began.elapsed();
        assert!(now < LONGEST, "{:#?}", agent.statuses());
        supplied.resize(have(&agent), now);
        sleep(LOOK).await;
    }
    running.abort();
    println!("  {what}:");
    for (place, name) in [(1, "first"), (500, "500th"), (990, "990th"), (1000, "last")] {
        println!("    {name:<6} {:>6.1} s", supplied[place - 1].as_secs_f64());
    }
    let last = supplied[MANY as usize - 1];
    let quota = (f64::from(MANY) - RATE) / RATE;
    let by = lab.emulator.sold();
    let elsewhere = by.iter().filter(|sold| sold.pool.id() == "second-pool");
    println!(
        "    of that {quota:.1} s are the quota of the second pool ({:.0}%); {}",
        100.0 * quota / last.as_secs_f64(),
        goal(last < GOAL, &format!("under {} s", GOAL.as_secs())),
    );
    println!(
        "    {} sold there; the silent one was asked {} times for a certificate and {} times for \
         anything else",
        elsewhere.count(),
        front.purchases(),
        front.looks(),
    );
    agent.stop().await;
}

/// How many have a certificate.
fn have(agent: &RunningAgent) -> usize {
    let statuses = agent.statuses();
    let there = statuses.iter().filter(|one| one.certificate.is_some());
    there.count()
}

async fn laboratory() -> Lab {
    let mut config = EmulatorConfig::guide(PROJECT, LOCATION).unwrap();
    let mut second = config.pools[1].clone();
    second.name = PoolName::new(PROJECT, LOCATION, "second-pool").unwrap();
    config.pools.push(second);
    let lab = Lab::with(config).await;
    lab.write_policy(&Policy {
        validity: 24 * 3600,
        fallbacks: vec!["second-pool".to_owned()],
        ..Policy::default()
    });
    let mut documents = String::new();
    for number in 0..MANY {
        let name = format!("w{number:04}");
        let volume = lab.volume(&name);
        std::fs::create_dir_all(&volume).unwrap();
        writeln!(documents, "---\n{}", workload(&name, &volume)).unwrap();
    }
    lab.write_config("workloads.yaml", &documents);
    lab
}
