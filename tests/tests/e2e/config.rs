//! The configuration follows its files.
use std::os::unix::fs::symlink;

use certagent_svid::PublicKeyKind;
use certagent_tests::{Lab, Policy, all_ready, until};

use crate::support::{admin, an_hour, certificate, configured, creates, frozen, renew, supplied};

fn p384() -> Policy {
    Policy {
        key_algorithm: "{ecdsa: {curve: P384}}".to_owned(),
        ..an_hour()
    }
}

#[tokio::test]
async fn a_bad_edit_keeps_the_last_good_config_and_says_so_until_a_good_one_comes() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let before = (frozen(&lab.volume("a")), certificate(&agent).renew_at);
    lab.write_policy(&Policy {
        rotation_window: 100,
        ..p384()
    });
    configured(&agent, |active| active.problem.is_some()).await;
    let problem = agent.config().borrow().problem.clone().unwrap();
    assert!(problem.contains("rotationWindowPercentage"), "{problem}");
    assert!(
        problem.contains("WorkloadCertificateConfig.yaml:"),
        "{problem}"
    );
    let (_, metrics) = admin(&agent, "/metrics").await;
    assert!(metrics.contains("certagent_config_valid 0"), "{metrics}");
    assert_eq!(
        (frozen(&lab.volume("a")), certificate(&agent).renew_at),
        before
    );

    // Renewals go on by the last good one.
    assert_eq!(renew(&lab, &agent).await.key, PublicKeyKind::EcP256);

    lab.write_policy(&p384());
    configured(&agent, |active| active.problem.is_none()).await;
    assert_eq!(renew(&lab, &agent).await.key, PublicKeyKind::EcP384);
    assert_eq!(creates(&lab), 3);
    agent.stop().await;
}

#[tokio::test]
async fn a_config_map_is_followed_through_the_swap_of_its_data_link() {
    let lab = Lab::new().await;
    lab.write_policy(&an_hour());
    lab.write_workload("a");
    // As the kubelet mounts a ConfigMap: the names lead through `..data`.
    let map = lab.path().join("map");
    let generation = |name: &str| {
        let directory = map.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        for entry in std::fs::read_dir(lab.config_dir()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
        }
        symlink(name, map.join("..data_tmp")).unwrap();
        std::fs::rename(map.join("..data_tmp"), map.join("..data")).unwrap();
    };
    generation("..2026_11_21_12_00_00.1");
    for name in [
        "WorkloadCertificateConfig.yaml",
        "TrustConfig.yaml",
        "workload-a.yaml",
    ] {
        symlink(format!("..data/{name}"), map.join(name)).unwrap();
    }
    let mut options = lab.options();
    options.config = certagent::config::ConfigFiles::new(vec![map.clone()], lab.settings());
    let agent = lab.agent_with(options).await;
    until(&agent, all_ready).await;
    assert_eq!(certificate(&agent).key, PublicKeyKind::EcP256);

    lab.write_policy(&p384());
    generation("..2026_11_21_12_01_00.2");
    configured(&agent, |active| {
        active.config.certificates.algorithm.to_string() == "ecdsa-p384"
    })
    .await;
    assert_eq!(renew(&lab, &agent).await.key, PublicKeyKind::EcP384);
    agent.stop().await;
}
