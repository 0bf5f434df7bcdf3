//! What `onRotate` names, run by the real agent beside its work.
use std::path::PathBuf;

use certagent::run::agent::RunningAgent;
use certagent_emulator::{Fault, FaultRule, Method};
use certagent_tests::{Lab, all_ready, until, workload};

use crate::support::{
    admin, an_hour, attempt, due, eventually, failed, guarded, renew, state_of, status, supplied,
};

/// Writes the workload `name` with a hook that runs this script by `/bin/sh`.
fn write_workload(lab: &Lab, name: &str, script: &str) {
    std::fs::create_dir_all(lab.volume(name)).unwrap();
    let hook = format!("  onRotate:\n  - exec: [/bin/sh, -c, '{script}']\n  volume:\n");
    let plain = workload(name, &lab.volume(name));
    let hooked = plain.replace("  volume:\n", &hook);
    lab.write_config(&format!("workload-{name}.yaml"), &hooked);
}

/// A script that writes down the serial that it is told, if that is the one in the volume.
fn tells(lab: &Lab, name: &str) -> String {
    let told = told_in(lab, name);
    // What a program reads now is what it is told of.
    format!(
        "test \"$(readlink $CERTAGENT_VOLUME/..data)\" = $CERTAGENT_GENERATION && echo $CERTAGENT_SERIAL >> {}",
        told.display()
    )
}

fn told_in(lab: &Lab, name: &str) -> PathBuf {
    lab.path().join(format!("told-{name}"))
}

fn told(lab: &Lab, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(told_in(lab, name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn serial(lab: &Lab, name: &str) -> String {
    lab.read(name).chain().leaf().serial_hex()
}

/// Waits until the hook of `a` was run for each of these.
async fn until_told(lab: &Lab, serials: &[String]) {
    eventually(|| told(lab, "a").len() >= serials.len()).await;
    assert_eq!(told(lab, "a"), serials);
}

/// Waits until the hooks of so many workloads fail, and gives the metrics.
async fn until_failing(agent: &RunningAgent, workloads: usize) -> String {
    let line = format!("certagent_hooks_failing {workloads}\n");
    guarded(async {
        loop {
            let (_, text) = admin(agent, "/metrics").await;
            if text.contains(&line) {
                return text;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn each_new_generation_is_told_the_first_the_renewed_and_that_with_other_trust() {
    let other = crate::support::pool(
        "other-root",
        None,
        certagent_emulator::IssuancePolicy::default(),
    );
    let lab = Lab::with(crate::support::guide_and([other])).await;
    write_workload(&lab, "a", &tells(&lab, "a"));
    lab.write_policy(&an_hour());
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    let first = serial(&lab, "a");
    until_told(&lab, std::slice::from_ref(&first)).await;
    renew(&lab, &agent).await;
    let second = serial(&lab, "a");
    until_told(&lab, &[first.clone(), second.clone()]).await;
    lab.write_trust_of(&["root-pool", "other-root"]);
    until(&agent, |_| lab.read("a").roots().len() == 2).await;
    until_told(&lab, &[first, second.clone(), second]).await;
    let state = state_of(&lab, &status(&agent.statuses(), "a"));
    let kept = move || std::fs::read_to_string(state.join("hooks.json")).unwrap_or_default();
    let generation = status(&agent.statuses(), "a").generation.unwrap();
    eventually(|| kept().contains(&generation)).await;
    agent.stop().await;

    // Nothing new is in place, so nobody is told anything.
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    guarded(agent.once()).await.unwrap();
    assert_eq!(told(&lab, "a").len(), 3);
    agent.stop().await;
}

#[tokio::test]
async fn a_hook_that_hangs_or_fails_holds_up_no_rotation_and_no_other_workload() {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    write_workload(&lab, "a", &tells(&lab, "a"));
    write_workload(
        &lab,
        "hangs",
        &format!(
            "echo $$ > {}; exec sleep 600",
            lab.path().join("pid").display()
        ),
    );
    write_workload(&lab, "fails", "exit 7");
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    for _ in 0..3 {
        let last = agent
            .statuses()
            .iter()
            .map(|status| status.certificate.as_ref().unwrap().renew_at)
            .max();
        let rotations: Vec<_> = agent.statuses().iter().map(|one| one.rotations).collect();
        crate::support::forward(&lab, last.unwrap());
        until(&agent, |statuses| {
            let all = statuses.iter().zip(&rotations);
            all.clone().all(|(now, before)| now.rotations > *before) && all_ready(statuses)
        })
        .await;
        let newest = serial(&lab, "a");
        eventually(|| told(&lab, "a").last() == Some(&newest)).await;
    }
    eventually(|| lab.path().join("pid").exists()).await;
    let text = until_failing(&agent, 1).await;
    assert!(
        !text.contains("certagent_hook_runs_total{result=\"failed\"} 0\n"),
        "{text}"
    );
    assert_eq!(
        admin(&agent, "/readyz").await.0,
        200,
        "the credentials are good"
    );
    let pid = std::fs::read_to_string(lab.path().join("pid")).unwrap();
    guarded(agent.stop()).await;
    let is_there = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    eventually(|| !is_there()).await;
}

#[tokio::test]
async fn hooks_that_are_added_corrected_and_removed_by_an_edit_change_nothing_else() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let first = serial(&lab, "a");
    write_workload(&lab, "a", "exit 1");
    until_failing(&agent, 1).await;
    write_workload(&lab, "a", &tells(&lab, "a"));
    until_told(&lab, std::slice::from_ref(&first)).await;
    until_failing(&agent, 0).await;
    lab.write_workload("a");
    crate::support::configured(&agent, |active| {
        active
            .config
            .workloads
            .iter()
            .all(|one| one.on_rotate.is_empty())
    })
    .await;
    renew(&lab, &agent).await;
    assert_eq!(told(&lab, "a"), [first]);
    assert_eq!(status(&agent.statuses(), "a").rotations, 1);
    agent.stop().await;
}

#[tokio::test]
async fn nothing_is_said_of_a_hook_that_failed_once_it_is_gone() {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    write_workload(&lab, "a", "exit 1");
    let agent = lab.agent().await;
    until_failing(&agent, 1).await;
    let state = state_of(&lab, &status(&agent.statuses(), "a"));
    let kept = move || std::fs::read_to_string(state.join("hooks.json")).unwrap_or_default();
    eventually(|| kept().contains("failing")).await;
    lab.write_workload("a");
    eventually(|| !kept().contains("failing")).await;
    until_failing(&agent, 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_renewal_that_fails_runs_no_hook() {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    write_workload(&lab, "a", &tells(&lab, "a"));
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    until_told(&lab, &[serial(&lab, "a")]).await;
    lab.faults([FaultRule::always(Fault::CloseBefore).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    failed(&agent, "broke before the answer").await;
    attempt(&lab, &agent).await;
    lab.faults([]);
    crate::support::heal(&lab, &agent).await;
    eventually(|| told(&lab, "a").len() == 2).await;
    assert_eq!(told(&lab, "a")[1], serial(&lab, "a"));
    agent.stop().await;
}

#[tokio::test]
async fn once_waits_for_the_hooks_and_fails_with_one() {
    let lab = Lab::new().await;
    write_workload(&lab, "a", &tells(&lab, "a"));
    write_workload(&lab, "b", "echo no such service >&2; exit 7");
    let agent = lab.agent().await;
    let error = guarded(agent.once()).await.unwrap_err().to_string();
    assert!(error.contains("a hook failed: b: exec /bin/sh:"), "{error}");
    assert!(
        error.contains("exit status: 7; it said \"no such service\""),
        "{error}"
    );
    assert_eq!(told(&lab, "a"), [serial(&lab, "a")]);
    agent.stop().await;
    write_workload(&lab, "b", "true");
    let agent = lab.agent().await;
    guarded(agent.once()).await.unwrap();
    assert_eq!(told(&lab, "a").len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_workload_that_is_removed_while_its_hook_runs_is_rid_of_it_and_one_copy_runs_when_it_is_back()
 {
    let lab = Lab::new().await;
    let script = format!(
        "echo $$ >> {}; echo no >&2; exec sleep 600",
        told_in(&lab, "a").display()
    );
    write_workload(&lab, "a", &script);
    lab.write_policy(&an_hour());
    let agent = lab.agent().await;
    for runs in 1..=3 {
        eventually(|| told(&lab, "a").len() == runs).await;
        // Every earlier copy is gone before the next one starts.
        let mut pids = told(&lab, "a");
        let last = pids.pop().unwrap();
        assert!(pids.iter().all(|pid| !runs_still(pid)), "{pids:?}");
        assert!(runs_still(&last), "it runs");
        std::fs::remove_file(lab.config_dir().join("workload-a.yaml")).unwrap();
        eventually(|| !runs_still(&last)).await;
        let text = until_failing(&agent, 0).await;
        assert!(
            text.contains("certagent_hook_runs_total{result=\"failed\"} 0\n"),
            "{text}"
        );
        write_workload(&lab, "a", &script);
    }
    agent.stop().await;
}

fn runs_still(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
