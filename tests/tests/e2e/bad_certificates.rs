//! A CA that sends something else than what was asked for.
use certagent_emulator::{CertificateFault, Fault, FaultRule};
use certagent_tests::Lab;
use jiff::SignedDuration;

use crate::support::{
    abandoned, an_hour, attempt, balanced, certificate, creates, due, failed, frozen, heal, renew,
    sold, state_of, status, supplied,
};

fn next(fault: CertificateFault) -> [FaultRule; 1] {
    [FaultRule::next(1, Fault::Certificate(fault))]
}

#[tokio::test]
async fn each_certificate_that_is_not_ours_is_refused_and_the_credential_stays_as_it_was() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let other = "spiffe://demo-project.svc.id.goog/ns/default/sa/other".to_owned();
    for (fault, text) in [
        (CertificateFault::OtherKey, "for another public key"),
        (
            CertificateFault::OtherSpiffeId(other.clone()),
            "/sa/other, not for spiffe://",
        ),
        (CertificateFault::SecondUri(other), "URI"),
        (CertificateFault::IsCa, "CA"),
        (CertificateFault::KeyCertSign, "sign"),
        (CertificateFault::NoDigitalSignature, "digitalSignature"),
        (
            CertificateFault::Subject("a name".to_owned()),
            "the subject \"CN=a name\", which was not asked for",
        ),
        (CertificateFault::NoClientAuth, "client"),
        (CertificateFault::Expired, "expired"),
    ] {
        let (before, lost) = (frozen(&lab.volume("a")), abandoned(&agent).await);
        lab.faults(next(fault.clone()));
        due(&lab, &agent);
        let failure = failed(&agent, text).await;
        let said = failure.last_error.clone().unwrap();
        assert!(
            said.starts_with(&format!("{} sent a certificate", Lab::pool("issuing-pool"))),
            "{said}"
        );
        assert_eq!(frozen(&lab.volume("a")), before, "{fault:?}");
        assert_eq!(abandoned(&agent).await, lost + 1, "{fault:?}");
        assert!(!state_of(&lab, &failure).join("pending/key.pem").exists());
        heal(&lab, &agent).await;
        balanced(&lab, &agent).await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_chain_out_of_order_or_with_crlf_is_put_right() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    for fault in [CertificateFault::ChainReversed, CertificateFault::Crlf] {
        lab.faults(next(fault));
        renew(&lab, &agent).await;
        let there = lab.read("a");
        let path = there.verify(webpki::ALL_VERIFICATION_ALGS, lab.now());
        path.unwrap();
        let pem = std::fs::read_to_string(lab.volume("a").join("certificates.pem")).unwrap();
        assert!(!pem.contains('\r'));
    }
    assert_eq!(abandoned(&agent).await, 0);
    balanced(&lab, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_lifetime_that_was_cut_is_accepted_and_its_real_end_drives_the_renewal() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    lab.faults(next(CertificateFault::Truncated(
        SignedDuration::from_mins(20),
    )));
    let cut = renew(&lab, &agent).await;
    let life = cut.not_after.duration_since(cut.issued_at);
    assert_eq!(life.as_secs(), 20 * 60 - 1);
    let age = cut.renew_at.duration_since(cut.issued_at).as_secs();
    assert!((599..=720).contains(&age), "{age}");
    let after = renew(&lab, &agent).await;
    assert_eq!(
        after.not_after.duration_since(after.issued_at).as_secs(),
        3599
    );
    balanced(&lab, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_certificate_of_the_future_is_not_lost_but_taken_when_the_clock_is_right() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let before = frozen(&lab.volume("a"));
    let ahead = SignedDuration::from_mins(10);
    lab.faults(next(CertificateFault::NotYetValid(ahead)));
    due(&lab, &agent);
    failed(
        &agent,
        "this machine's clock is 600 s behind the CA's: the certificate is valid from",
    )
    .await;
    assert_eq!(frozen(&lab.volume("a")), before);
    heal(&lab, &agent).await;
    assert_eq!(
        lab.read("a").chain().leaf().serial_hex(),
        lab.emulator.sold_serials()[1]
    );
    assert_eq!((sold(&lab), abandoned(&agent).await), (2, 0));
    agent.stop().await;
}

#[tokio::test]
async fn a_chain_from_an_unknown_root_is_asked_for_again_while_trust_may_catch_up_then_given_up() {
    for fault in [CertificateFault::UnknownRoot, CertificateFault::EmptyChain] {
        let lab = Lab::new().await;
        let agent = supplied(&lab, &an_hour()).await;
        let before = frozen(&lab.volume("a"));
        let budget = certificate(&agent);
        lab.faults(next(fault));
        due(&lab, &agent);
        failed(&agent, "does not verify to the trust bundle").await;
        let budget = budget.not_after.duration_since(lab.now()) / 4;
        let start = lab.now();
        while abandoned(&agent).await == 0 {
            assert_eq!(sold(&lab), 2, "the same certificate comes again");
            attempt(&lab, &agent).await;
            assert_eq!(frozen(&lab.volume("a")), before);
        }
        assert!(lab.now().duration_since(start) >= budget);
        heal(&lab, &agent).await;
        assert_eq!((sold(&lab), abandoned(&agent).await), (3, 1));
        balanced(&lab, &agent).await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_answer_without_a_certificate_is_asked_for_again_once_and_then_given_up() {
    let lab = Lab::new().await;
    let agent = supplied(&lab, &an_hour()).await;
    let before = frozen(&lab.volume("a"));
    lab.faults(next(CertificateFault::NoCertificate));
    due(&lab, &agent);
    failed(&agent, "answered without a certificate").await;
    assert_eq!(abandoned(&agent).await, 0);
    attempt(&lab, &agent).await;
    failed(&agent, "it is given up, the next attempt uses a new key").await;
    assert_eq!(frozen(&lab.volume("a")), before);
    attempt(&lab, &agent).await;
    assert_eq!(status(&agent.statuses(), "a").failures, 0);
    assert_eq!((creates(&lab), sold(&lab)), (4, 3));
    assert_eq!(abandoned(&agent).await, 1);
    agent.stop().await;
}
