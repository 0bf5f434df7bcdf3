//! What the admin server says.
use certagent_emulator::{Fault, FaultRule, Method};
use certagent_tests::{Lab, until};

use crate::support::{admin, certificate, failed, forward, heal};

#[tokio::test]
async fn ready_means_that_every_workload_has_a_valid_credential() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    lab.faults([FaultRule::always(Fault::CloseBefore).on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    failed(&agent, "broke before the answer").await;
    assert_eq!(admin(&agent, "/healthz").await, (200, "ok\n".to_owned()));
    let (code, text) = admin(&agent, "/readyz").await;
    assert_eq!(code, 503);
    assert!(text.contains("broke before the answer"), "{text}");
    assert!(text.contains("\"ready\":false"), "{text}");

    lab.faults([]);
    heal(&lab, &agent).await;
    let (code, text) = admin(&agent, "/readyz").await;
    assert_eq!(code, 200, "{text}");

    // It stays ready while a renewal fails, until the certificate has ended.
    lab.faults([FaultRule::always(Fault::CloseBefore).on(Method::CreateCertificate)]);
    forward(&lab, certificate(&agent).renew_at);
    failed(&agent, "broke before the answer").await;
    assert_eq!(admin(&agent, "/readyz").await.0, 200);
    lab.step(60);
    until(&agent, |statuses| statuses[0].failures > 1).await;
    assert_eq!(admin(&agent, "/readyz").await.0, 503);
    agent.stop().await;
}

#[tokio::test]
async fn the_metrics_have_their_names_and_count_what_happened() {
    let lab = Lab::new().await;
    lab.write_workload("a");
    lab.faults([FaultRule::next(1, Fault::CloseAfter).on(Method::CreateCertificate)]);
    let agent = lab.agent().await;
    failed(&agent, "broke before the answer").await;
    heal(&lab, &agent).await;
    let (code, text) = admin(&agent, "/metrics").await;
    assert_eq!(code, 200);
    for line in [
        "certagent_volumes{state=\"ready\"} 1",
        "certagent_volumes{state=\"waiting\"} 0",
        "certagent_certificates_issued_total 1",
        "certagent_issue_failures_total{reason=\"unknown\"} 1",
        "certagent_certificates_abandoned_total 0",
        "certagent_issue_seconds_count 1",
        "certagent_config_valid 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("certagent_nearest_expiry_seconds "));
    assert!(text.contains("certagent_build_info{version="));
    agent.stop().await;
}
