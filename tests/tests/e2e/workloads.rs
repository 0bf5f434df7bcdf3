//! Several workloads in one agent.
use certagent_tests::{Lab, all_ready, until, workload};

use crate::support::{
    abandoned, attempt, creates, eventually, failed, forward, frozen, heal, sold, status, supplied,
};

#[tokio::test]
async fn workloads_are_added_and_removed_by_edits_and_each_has_its_own_credential() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    lab.write_workload("b");
    let agent = lab.agent().await;
    until(&agent, |statuses| {
        statuses.len() == 2 && all_ready(statuses)
    })
    .await;
    lab.write_workload("c");
    until(&agent, |statuses| {
        statuses.len() == 3 && all_ready(statuses)
    })
    .await;
    let serials: std::collections::BTreeSet<String> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            let there = lab.read(name);
            assert!(
                there
                    .spiffe_id()
                    .to_string()
                    .ends_with(&format!("/sa/{name}"))
            );
            there.chain().leaf().serial_hex()
        })
        .collect();
    assert_eq!(serials.len(), 3);

    // The files of one that is removed stay, and nobody asks for more.
    let left = frozen(&lab.volume("b"));
    std::fs::remove_file(lab.config_dir().join("workload-b.yaml")).unwrap();
    let statuses = until(&agent, |statuses| statuses.len() == 2).await;
    assert!(statuses.iter().all(|status| !status.path.ends_with("b")));
    let last = statuses
        .iter()
        .map(|status| status.certificate.as_ref().unwrap().renew_at)
        .max();
    forward(&lab, last.unwrap());
    until(&agent, |statuses| {
        statuses.iter().all(|status| status.rotations == 1)
    })
    .await;
    assert_eq!(frozen(&lab.volume("b")), left);
    assert_eq!((creates(&lab), sold(&lab)), (5, 5));
    agent.stop().await;
}

#[tokio::test]
async fn a_workload_that_changes_its_service_account_gets_the_new_identity_in_its_volume() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &crate::support::an_hour()).await;
    let edited = workload("a", &lab.volume("a")).replace("serviceAccount: a", "serviceAccount: z");
    lab.write_config("workload-a.yaml", &edited);
    let statuses = until(&agent, |statuses| statuses[0].rotations == 1).await;
    assert!(statuses[0].spiffe_id.ends_with("/sa/z"));
    assert!(lab.read("a").spiffe_id().to_string().ends_with("/sa/z"));
    agent.stop().await;
}

#[tokio::test]
async fn a_missing_directory_harms_its_own_workload_only_and_heals_when_it_appears() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    lab.write_workload("b");
    std::fs::remove_dir(lab.volume("a")).unwrap();
    let agent = lab.agent().await;
    until(&agent, |statuses| {
        status(statuses, "b").certificate.is_some()
    })
    .await;
    failed(&agent, "does not exist; create the directory").await;
    attempt(&lab, &agent).await;
    attempt(&lab, &agent).await;
    assert!(status(&agent.statuses(), "a").certificate.is_none());
    assert_eq!(status(&agent.statuses(), "b").failures, 0);

    std::fs::create_dir(lab.volume("a")).unwrap();
    heal(&lab, &agent).await;
    assert!(lab.read("a").spiffe_id().to_string().ends_with("/sa/a"));
    agent.stop().await;
}

#[tokio::test]
async fn a_volume_that_was_taken_away_is_supplied_again_with_the_same_certificate() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &crate::support::an_hour()).await;
    std::fs::remove_dir_all(lab.volume("a")).unwrap();
    crate::support::due(&lab, &agent);
    failed(&agent, "volume").await;
    attempt(&lab, &agent).await;
    failed(&agent, "does not exist").await;
    std::fs::create_dir(lab.volume("a")).unwrap();
    heal(&lab, &agent).await;
    assert_eq!(
        lab.read("a").chain().leaf().serial_hex(),
        lab.emulator.sold_serials()[1]
    );
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    agent.stop().await;
}

#[tokio::test]
async fn a_volume_that_another_agent_holds_is_told_and_taken_over_when_that_one_ends() {
    let lab = Lab::new().await;
    let first = supplied(&lab, &crate::support::an_hour()).await;
    let config = lab.path().join("config-of-another");
    std::fs::create_dir(&config).unwrap();
    for entry in std::fs::read_dir(lab.config_dir()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), config.join(entry.file_name())).unwrap();
    }
    let options = || {
        let mut options = lab.options();
        options.config = certagent::config::ConfigFiles::new(vec![config.clone()], lab.settings());
        options.state_dir = lab.path().join("state-of-another");
        options
    };
    // An agent none of whose volumes can be used does not start.
    let stop = tokio_util::sync::CancellationToken::new();
    let refused = certagent::run::agent::start(options(), stop.clone()).await;
    assert!(refused.is_err());
    stop.cancel();

    std::fs::create_dir(lab.volume("b")).unwrap();
    std::fs::write(
        config.join("workload-b.yaml"),
        workload("b", &lab.volume("b")),
    )
    .unwrap();
    eventually(|| certagent::volume::StateDir::open(&options().state_dir, true).is_ok()).await;
    let second = lab.agent_with(options()).await;
    failed(&second, "is held by another running agent; end that one").await;
    until(&second, |statuses| {
        status(statuses, "b").certificate.is_some()
    })
    .await;
    first.stop().await;
    heal(&lab, &second).await;
    assert_eq!(creates(&lab), 2, "its certificate is taken over, too");
    second.stop().await;
}

#[tokio::test]
async fn an_edit_that_names_an_owner_who_is_not_there_leaves_the_volume_supplied_as_before() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &crate::support::an_hour()).await;
    let edited = workload("a", &lab.volume("a")).replace(
        "    allowDisk",
        "    owner: nobody-of-this-name\n    allowDisk",
    );
    lab.write_config("workload-a.yaml", &edited);
    crate::support::configured(&agent, |active| active.version > 1).await;
    lab.write_workload("b");
    until(&agent, |statuses| {
        statuses.len() == 2 && all_ready(statuses)
    })
    .await;
    crate::support::renew(&lab, &agent).await;
    assert_eq!(status(&agent.statuses(), "a").failures, 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_tightened_key_mode_applies_at_once_with_the_same_certificate() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new().await;
    lab.write_workload("a");
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    let key = lab.volume("a").join("private_key.pem");
    let mode = || std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    let serial = lab.read("a").chain().leaf().serial_hex();
    assert_eq!(mode(), 0o640);

    let path = lab.volume("a");
    let text = workload("a", &path).replace(
        "    allowDisk: true\n",
        "    allowDisk: true\n    keyMode: \"0600\"\n",
    );
    lab.write_config("workload-a.yaml", &text);
    until(&agent, |statuses| all_ready(statuses) && mode() == 0o600).await;
    assert_eq!(lab.read("a").chain().leaf().serial_hex(), serial);
    assert_eq!(lab.emulator.stats().total_sold(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn an_owner_that_nobody_knows_at_the_start_keeps_the_workload_unready_and_is_told() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    lab.write_workload("b");
    let path = lab.volume("a");
    let text = workload("a", &path).replace(
        "    allowDisk: true\n",
        "    allowDisk: true\n    owner: nobody-knows-me\n",
    );
    lab.write_config("workload-a.yaml", &text);
    let agent = lab.agent().await;
    let told = |statuses: &[certagent::status::VolumeStatus]| {
        statuses.iter().any(|status| {
            status.certificate.is_none()
                && status
                    .last_error
                    .as_deref()
                    .is_some_and(|error| error.contains("nobody-knows-me"))
        }) && statuses.iter().any(|status| status.certificate.is_some())
    };
    until(&agent, told).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_volume_that_is_replaced_under_the_agent_is_supplied_again_within_a_minute() {
    let lab = Lab::new().await;
    lab.write_policy(&certagent_tests::Policy {
        validity: 86_400,
        ..Default::default()
    });
    lab.write_workload("a");
    let agent = lab.agent().await;
    let first = until(&agent, all_ready).await[0]
        .certificate
        .clone()
        .unwrap();

    std::fs::remove_dir_all(lab.volume("a")).unwrap();
    std::fs::create_dir(lab.volume("a")).unwrap();
    lab.step(61);
    let second = |statuses: &[certagent::status::VolumeStatus]| {
        all_ready(statuses)
            && statuses[0]
                .certificate
                .as_ref()
                .is_some_and(|there| there.serial != first.serial)
    };
    until(&agent, second).await;
    let there = lab.read("a").chain().leaf().serial_hex();

    // A name that was taken away comes back, too.
    std::fs::remove_file(lab.volume("a").join("certificates.pem")).unwrap();
    lab.step(61);
    until(&agent, |statuses| {
        all_ready(statuses) && lab.volume("a").join("certificates.pem").exists()
    })
    .await;
    assert_eq!(lab.read("a").chain().leaf().serial_hex(), there);
    assert_eq!(lab.emulator.stats().total_sold(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_state_directory_that_is_taken_away_does_not_end_renewals() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    let agent = lab.agent().await;
    until(&agent, all_ready).await;
    std::fs::remove_dir_all(lab.state_dir()).unwrap();
    lab.step(45);
    until(&agent, |statuses| {
        all_ready(statuses) && statuses[0].rotations == 1
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn two_workloads_of_one_directory_are_told_of_each_other() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    std::os::unix::fs::symlink(lab.volume("a"), lab.volume("b")).unwrap();
    lab.write_config("workload-b.yaml", &workload("b", &lab.volume("b")));
    let agent = lab.agent().await;
    let statuses = until(&agent, all_ready).await;
    assert_eq!(statuses.len(), 1);
    assert!(statuses[0].spiffe_id.ends_with("/sa/a"));
    agent.stop().await;
}
