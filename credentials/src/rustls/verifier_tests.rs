use std::path::Path;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::crypto::aws_lc_rs::default_provider;

use super::*;
use crate::{
    authorize,
    fixture::{Authority, Credential, ID, NOW},
};

const PEER: &str = "spiffe://example.org/ns/shop/sa/till";

fn open(directory: &Path, own: &Credential) -> Credentials {
    own.write(directory);
    Credentials::builder(directory)
        .clock(|| NOW.parse().unwrap())
        .crypto_provider(Arc::new(default_provider()))
        .open()
        .unwrap()
}

fn at(now: &str) -> UnixTime {
    let now: Timestamp = now.parse().unwrap();
    let seconds = u64::try_from(now.as_second()).unwrap();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

/// What a verifier of `own`, by `rule`, says of a client that presents `peer`.
fn judge_at(
    own: &Credential,
    rule: impl Authorize,
    peer: &Credential,
    now: &str,
) -> Result<SpiffeId, PeerError> {
    let dir = tempfile::tempdir().unwrap();
    let verifier = open(dir.path(), own).verifier(rule).unwrap();
    let chain = Certificate::parse_pem_list(peer.certificates.as_bytes()).unwrap();
    let (leaf, rest) = chain.split_first().unwrap();
    let rest: Vec<_> = rest.iter().map(|it| it.der().clone()).collect();
    verifier.peer(leaf.der(), &rest, KeyUsage::client_auth(), at(now))
}

fn judge(own: &Credential, peer: &Credential) -> Result<SpiffeId, PeerError> {
    judge_at(own, |_: &SpiffeId| true, peer, NOW)
}

#[test]
fn a_workload_of_the_own_trust_domain_is_who_it_says() {
    let home = Authority::new("example.org");
    let peer = judge(&home.issue(ID), &home.issue(PEER)).unwrap();
    assert_eq!(peer.to_string(), PEER);
}

#[test]
fn a_root_vouches_for_its_own_trust_domain_and_for_no_other() {
    let (home, abroad) = (
        Authority::new("example.org"),
        Authority::new("partner.example"),
    );
    let stranger = abroad.issue("spiffe://partner.example/ns/a/sa/b");
    let alone = home.issue(ID);
    let both = home.issue(ID).trusting(&[&home, &abroad]);

    let Err(PeerError::TrustDomain { known, .. }) = judge(&alone, &stranger) else {
        panic!("let in, or refused for another reason");
    };
    assert_eq!(known, ["example.org"]);
    judge(&both, &stranger).unwrap();

    // The partner's CA issues a certificate of ours; ours one of the partner's.
    for forged in [
        abroad.issue(PEER),
        home.issue("spiffe://partner.example/ns/a/sa/b"),
    ] {
        let error = judge(&both, &forged).unwrap_err();
        assert!(matches!(error, PeerError::Chain { .. }), "{error}");
    }
}

#[test]
fn what_is_no_certificate_of_a_workload_is_refused() {
    let home = Authority::new("example.org");
    let own = home.issue(ID);
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let bent: [(&str, Credential); 7] = [
        (
            "2 URIs",
            home.issue_bent(PEER, |leaf| leaf.subject_alt_names.push(uri(ID))),
        ),
        (
            "no URI",
            home.issue_bent(PEER, |leaf| leaf.subject_alt_names.clear()),
        ),
        (
            "not a SPIFFE ID",
            home.issue_bent(PEER, |leaf| {
                leaf.subject_alt_names = vec![uri("https://x/y")];
            }),
        ),
        (
            "CA:TRUE",
            home.issue_bent(PEER, |leaf| {
                leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
        ),
        (
            "keyCertSign",
            home.issue_bent(PEER, |leaf| {
                leaf.key_usages.push(KeyUsagePurpose::KeyCertSign);
            }),
        ),
        (
            "clientAuth",
            home.issue_bent(PEER, |leaf| {
                leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "serverAuth",
            home.issue_bent(PEER, |leaf| {
                leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
        ),
    ];
    for (said, peer) in bent {
        let error = judge(&own, &peer).unwrap_err();
        assert!(matches!(error, PeerError::Svid(_)), "{error}");
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}

#[test]
fn a_peer_that_is_expired_or_not_valid_yet_is_named() {
    let home = Authority::new("example.org");
    let (own, peer) = (home.issue(ID), home.issue(PEER));
    let all = || |_: &SpiffeId| true;
    let late = judge_at(&own, all(), &peer, "2026-12-01T00:00:01Z").unwrap_err();
    assert!(matches!(late, PeerError::Expired { .. }), "{late}");
    assert!(late.to_string().contains(PEER), "{late}");
    let early = judge_at(&own, all(), &peer, "2026-10-31T23:59:59Z").unwrap_err();
    assert!(matches!(early, PeerError::NotYetValid { .. }), "{early}");
}

#[test]
fn a_root_that_has_ended_vouches_for_nobody() {
    let home = Authority::new("example.org");
    let own = home.issue(ID);
    // Longer than its root.
    let peer = home.issue_bent(PEER, |leaf| {
        leaf.not_after = rcgen::date_time_ymd(2037, 1, 1);
    });
    let all = || |_: &SpiffeId| true;
    assert!(judge_at(&own, all(), &peer, NOW).is_ok());
    let error = judge_at(&own, all(), &peer, "2036-06-01T00:00:00Z").unwrap_err();
    assert!(matches!(error, PeerError::Chain { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("1 of these roots cannot be used: ended"),
        "{error}"
    );
    let error = judge_at(&own, all(), &peer, "2036-01-01T00:00:00Z");
    assert!(error.is_ok(), "at its last moment it does");
}

#[test]
fn who_is_not_authorised_is_named_and_so_is_who_refused() {
    let home = Authority::new("example.org");
    let rule = authorize::id("spiffe://example.org/ns/shop/sa/other").unwrap();
    let error = judge_at(&home.issue(ID), rule, &home.issue(PEER), NOW).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PeerError::NotAuthorized { .. }), "{text}");
    for part in [ID, PEER, "sa/other"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_stranger_is_refused_by_its_chain_before_the_rule_is_asked() {
    let home = Authority::new("example.org");
    let impostor = Authority::new("example.org").issue(PEER);
    let asked = |_: &SpiffeId| panic!("the rule was asked");
    let error = judge_at(&home.issue(ID), asked, &impostor, NOW).unwrap_err();
    assert!(matches!(error, PeerError::Chain { .. }), "{error}");
    assert!(error.to_string().contains("Root of example.org"), "{error}");
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let own = Authority::new("example.org").issue(ID);
    let verifier = open(dir.path(), &own)
        .verifier(authorize::same_trust_domain())
        .unwrap();
    let noise = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    let error = verifier
        .verify_client_cert(&noise, &[], at(NOW))
        .unwrap_err();
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        panic!("{error}");
    };
    let inner = other.0.downcast_ref::<PeerError>();
    assert!(
        matches!(inner, Some(PeerError::Certificate(_))),
        "{inner:?}"
    );
}
