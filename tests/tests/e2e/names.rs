//! Names beside the SPIFFE ID: exactly those that a workload asks for, or no certificate.
use certagent::volume::{StateDir, VolumeId};
use certagent_emulator::{
    ApiError, Code, Fault, FaultRule, IdentityConstraints, IssuanceModes, IssuancePolicy, Method,
};
use certagent_svid::{Certificate, PublicKeyKind};
use certagent_tests::{Lab, Policy, all_ready, until, workload};
use jiff::SignedDuration;

use crate::support::{
    abandoned, an_hour, attempt, certificate, creates, due, failed, frozen, guide_with, heal,
    renew, sold, status, supplied,
};

/// Both kinds of names, as YAML.
const NAMES: &str = "commonName: app_user\n  dnsNames: [db.example.com, localhost]";

/// Writes the workload `a` with these lines in its spec.
fn write_workload(lab: &Lab, lines: &str) {
    std::fs::create_dir_all(lab.volume("a")).unwrap();
    let plain = workload("a", &lab.volume("a"));
    let named = plain.replace("  volume:\n", &format!("  {lines}\n  volume:\n"));
    lab.write_config("workload-a.yaml", &named);
}

fn leaf(lab: &Lab) -> Certificate {
    lab.read("a").chain().leaf().clone()
}

fn has_names(leaf: &Certificate) -> bool {
    let mut dns = leaf.names().dns.clone();
    dns.sort();
    leaf.common_name() == Some("app_user")
        && dns == ["db.example.com", "localhost"]
        && leaf.names().uris == ["spiffe://demo-project.svc.id.goog/ns/default/sa/a"]
        && leaf.names().others == 0
}

/// What the agent's record tells whoever inspects the volume.
fn asked_names(lab: &Lab) -> serde_json::Value {
    let id = VolumeId::of(&lab.volume("a").canonicalize().unwrap());
    let record = StateDir::peek_record(&lab.state_dir(), &id).unwrap();
    serde_json::to_value(record.unwrap().asked_names).unwrap()
}

fn constraints(subject: bool, names: bool) -> IssuancePolicy {
    IssuancePolicy {
        identity_constraints: Some(IdentityConstraints {
            allow_subject_passthrough: subject,
            allow_subject_alt_names_passthrough: names,
        }),
        ..IssuancePolicy::default()
    }
}

#[tokio::test]
async fn the_certificate_has_exactly_the_names_asked_for_whatever_the_key_and_the_form_of_request()
{
    let by_csr = IssuancePolicy {
        allowed_issuance_modes: Some(IssuanceModes {
            allow_csr_based_issuance: true,
            allow_config_based_issuance: false,
        }),
        ..constraints(true, true)
    };
    for policy in [IssuancePolicy::default(), constraints(true, true), by_csr] {
        for (algorithm, kind) in [
            ("{ecdsa: {curve: P256}}", PublicKeyKind::EcP256),
            ("{rsa: {modulusSize: 2048}}", PublicKeyKind::Rsa(2048)),
        ] {
            let lab = Lab::with(guide_with(policy.clone())).await;
            lab.write_policy(&Policy {
                key_algorithm: algorithm.to_owned(),
                ..an_hour()
            });
            write_workload(&lab, NAMES);
            let agent = lab.agent().await;
            until(&agent, all_ready).await;
            renew(&lab, &agent).await;
            assert!(has_names(&leaf(&lab)), "{:?}", leaf(&lab));
            assert_eq!(leaf(&lab).public_key_kind(), kind);
            assert_eq!(sold(&lab), 2);
            agent.stop().await;

            // They are what is asked for, so a restart asks for nothing.
            let agent = lab.agent().await;
            until(&agent, all_ready).await;
            due(&lab, &agent);
            until(&agent, |statuses| statuses[0].rotations == 1).await;
            assert_eq!(sold(&lab), 3);
            agent.stop().await;
        }
    }
}

#[tokio::test]
async fn a_pool_that_drops_names_is_not_asked_and_the_error_names_its_setting() {
    for (policy, setting) in [
        (
            constraints(false, true),
            "identityConstraints.allowSubjectPassthrough",
        ),
        (
            constraints(true, false),
            "identityConstraints.allowSubjectAltNamesPassthrough is not true in its issuancePolicy; set it: without it the SPIFFE ID is dropped, too",
        ),
    ] {
        let lab = Lab::with(guide_with(policy)).await;
        write_workload(&lab, NAMES);
        let agent = lab.agent().await;
        failed(&agent, setting).await;
        assert_eq!((creates(&lab), sold(&lab)), (0, 0));
        assert!(status(&agent.statuses(), "a").is_hopeless);
        agent.stop().await;
    }
}

#[tokio::test]
async fn names_that_were_dropped_unforeseen_are_seen_in_the_certificate() {
    let no = ApiError::new(Code::PermissionDenied, "not for you");
    for (policy, lines, said) in [
        (
            constraints(false, true),
            "commonName: app_user",
            "commonName asks for \"app_user\": the pool drops subjects unless identityConstraints.allowSubjectPassthrough",
        ),
        (
            constraints(true, false),
            "dnsNames: [localhost]",
            "lacks the DNS name that dnsNames asks for (localhost): the pool drops subject alternative names unless identityConstraints.allowSubjectAltNamesPassthrough",
        ),
    ] {
        let lab = Lab::with(guide_with(policy)).await;
        // Nobody can look at the pool's policy beforehand.
        lab.faults([FaultRule::always(Fault::error(no.clone())).on(Method::GetCaPool)]);
        write_workload(&lab, lines);
        let agent = lab.agent().await;
        failed(&agent, said).await;
        assert!(!lab.volume("a").join("certificates.pem").exists());
        assert_eq!((sold(&lab), abandoned(&agent).await), (1, 1));
        // Each attempt costs a certificate: there are few.
        let again = attempt(&lab, &agent).await;
        assert!(again.next_attempt >= lab.now() + SignedDuration::from_mins(10));
        agent.stop().await;
    }
}

/// The issuing pool drops subjects from now on.
async fn drop_subjects(lab: &Lab) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let pool = Lab::pool("issuing-pool");
    let pool = pool.trim_start_matches("//privateca.googleapis.com/");
    let url = format!("{}/v1/{pool}?updateMask=issuancePolicy", lab.endpoint());
    let policy = serde_json::json!({ "issuancePolicy": { "identityConstraints": {
        "allowSubjectPassthrough": false, "allowSubjectAltNamesPassthrough": true,
    }}});
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.patch(url).json(&policy).send().await.unwrap();
    assert!(
        answer.status().is_success(),
        "{}",
        answer.text().await.unwrap()
    );
}

#[tokio::test]
async fn the_policy_is_looked_at_again_before_other_names_are_asked_for() {
    let lab = Lab::with(guide_with(constraints(true, true))).await;
    let agent = supplied(&lab, &an_hour()).await;
    drop_subjects(&lab).await;
    write_workload(&lab, NAMES);
    failed(&agent, "identityConstraints.allowSubjectPassthrough").await;
    assert_eq!((creates(&lab), abandoned(&agent).await), (1, 0));
    agent.stop().await;
}

#[tokio::test]
async fn after_a_certificate_without_its_names_the_policy_is_looked_at_again() {
    let lab = Lab::with(guide_with(constraints(false, true))).await;
    let no = ApiError::new(Code::PermissionDenied, "not for you");
    lab.faults([FaultRule::next(1, Fault::error(no)).on(Method::GetCaPool)]);
    write_workload(&lab, NAMES);
    let agent = lab.agent().await;
    failed(&agent, "the pool drops subjects").await;
    let again = attempt(&lab, &agent).await.last_error.unwrap();
    assert!(
        again.contains("issues no certificate with commonName"),
        "{again}"
    );
    assert_eq!((sold(&lab), abandoned(&agent).await), (1, 1));
    agent.stop().await;
}

#[tokio::test]
async fn other_names_are_asked_for_at_once_and_the_certificate_before_stays_until_they_are_there() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    assert_eq!(leaf(&lab).common_name(), None);
    let before = frozen(&lab.volume("a"));

    let no = ApiError::new(Code::PermissionDenied, "no");
    lab.faults([FaultRule::always(Fault::error(no)).on(Method::CreateCertificate)]);
    write_workload(&lab, NAMES);
    failed(&agent, "no").await;
    assert_eq!(frozen(&lab.volume("a")), before);
    assert!(status(&agent.statuses(), "a").is_valid(lab.now()));
    assert_eq!(asked_names(&lab)["commonName"], "app_user");
    let once = agent.once().await.unwrap_err().to_string();
    assert!(
        once.contains("keeps a certificate with other names"),
        "{once}"
    );
    attempt(&lab, &agent).await;
    assert_eq!(frozen(&lab.volume("a")), before);

    lab.faults([]);
    heal(&lab, &agent).await;
    assert!(has_names(&leaf(&lab)), "{:?}", leaf(&lab));
    assert!(asked_names(&lab).is_null());
    let renews = certificate(&agent).renew_at;
    assert!(renews > lab.now(), "nothing more is to be done now");
    agent.stop().await;

    // Also while no agent runs; and names go as they come.
    write_workload(&lab, "dnsNames: [localhost]");
    let agent = lab.agent().await;
    until(&agent, |statuses| {
        all_ready(statuses) && statuses[0].rotations == 1
    })
    .await;
    assert_eq!(leaf(&lab).common_name(), None);
    assert_eq!(leaf(&lab).names().dns, ["localhost"]);
    lab.write_workload("a");
    until(&agent, |statuses| statuses[0].rotations == 2).await;
    assert_eq!(leaf(&lab).names().dns, Vec::<String>::new());
    agent.stop().await;
}

#[tokio::test]
async fn a_request_for_other_names_is_not_sent_again() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    lab.faults([FaultRule::always(Fault::CloseAfter).on(Method::CreateCertificate)]);
    due(&lab, &agent);
    failed(&agent, "broke before the answer").await;
    agent.stop().await;
    lab.faults([]);
    write_workload(&lab, NAMES);
    let agent = lab.agent().await;
    until(&agent, |statuses| statuses[0].rotations == 1).await;
    assert!(has_names(&leaf(&lab)));
    let requests = lab.emulator.create_requests();
    assert_eq!(requests.len(), 3);
    assert_ne!(requests[1].query, requests[2].query);
    assert_eq!((sold(&lab), abandoned(&agent).await), (3, 1));
    agent.stop().await;
}
