use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SanType};
use webpki::ALL_VERIFICATION_ALGS;

use super::*;
use crate::{
    algorithm::KeyAlgorithm,
    names::SubjectNames,
    test_pki::{ID, Pki, now, plan, uri, validity},
};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Checks an answer of `pki` at `now`, with all else as it should be.
fn check_raw(pki: &Pki, raw: &RawChain, now: Timestamp) -> Result<IssuedChain, CheckError> {
    IssuedChain::check(
        raw,
        &pki.public_key(),
        &plan(KeyAlgorithm::EcdsaP256),
        &pki.bundle(),
        ALL_VERIFICATION_ALGS,
        now,
    )
}

/// Checks the answer with a leaf that has this twist.
fn check(twist: impl FnOnce(&mut CertificateParams)) -> Result<IssuedChain, CheckError> {
    let pki = Pki::new();
    check_raw(&pki, &pki.answer(&pki.leaf(twist)), now())
}

fn leaf_error(twist: impl FnOnce(&mut CertificateParams)) -> LeafError {
    match check(twist) {
        Err(CheckError::Leaf(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_correct_answer_passes_without_remarks_and_loses_its_root() {
    let pki = Pki::new();
    let leaf = pki.leaf(|_| {});
    let issued = check_raw(&pki, &pki.answer(&leaf), now()).unwrap();
    assert_eq!(issued.chain().leaf(), &leaf);
    assert_eq!(
        issued.chain().intermediates(),
        std::slice::from_ref(&pki.issuing)
    );
    assert_eq!(issued.effective_not_after(), leaf.not_after());
    assert_eq!(issued.remarks(), []);
}

#[test]
fn crlf_blanks_and_a_leaf_sent_twice_do_not_matter() {
    let pki = Pki::new();
    let leaf = pki.leaf(|_| {});
    let raw = RawChain {
        certificate: format!("\r\n{}", leaf.to_pem().replace('\n', "\r\n")),
        chain: vec![leaf.to_pem(), pki.issuing.to_pem().trim_end().to_owned()],
    };
    let issued = check_raw(&pki, &raw, now()).unwrap();
    assert_eq!(
        issued.chain().to_pem(),
        leaf.to_pem() + &pki.issuing.to_pem()
    );
    assert_eq!(issued.remarks(), []);
}

#[test]
fn an_answer_without_a_certificate_is_refused() {
    let pki = Pki::new();
    for certificate in ["", " \n"] {
        let raw = RawChain {
            certificate: certificate.to_owned(),
            chain: Vec::new(),
        };
        assert_eq!(check_raw(&pki, &raw, now()), Err(CheckError::Nothing));
    }
}

#[test]
fn an_answer_that_is_no_chain_is_refused() {
    let pki = Pki::new();
    let raw = RawChain {
        certificate: "<html>hello</html>".to_owned(),
        chain: Vec::new(),
    };
    assert_eq!(
        check_raw(&pki, &raw, now()),
        Err(CheckError::Chain(ChainError::Empty))
    );

    let mut raw = pki.answer(&pki.leaf(|_| {}));
    raw.chain.push(Pki::new().leaf(|_| {}).to_pem());
    assert_eq!(
        check_raw(&pki, &raw, now()),
        Err(CheckError::Chain(ChainError::Leaves { count: 2 }))
    );
}

#[test]
fn a_certificate_for_another_key_is_refused() {
    let pki = Pki::new();
    let raw = pki.answer(&pki.leaf(|_| {}));
    let result = IssuedChain::check(
        &raw,
        &Pki::new().public_key(),
        &plan(KeyAlgorithm::EcdsaP256),
        &pki.bundle(),
        ALL_VERIFICATION_ALGS,
        now(),
    );
    assert_eq!(result, Err(CheckError::OtherKey));
}

#[test]
fn a_leaf_that_is_no_svid_is_refused_for_its_own_reason() {
    assert_eq!(
        leaf_error(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        LeafError::IsCa
    );
    assert_eq!(
        leaf_error(|leaf| leaf.subject_alt_names.clear()),
        LeafError::NoUri
    );
    assert_eq!(
        leaf_error(|leaf| leaf
            .subject_alt_names
            .push(uri("spiffe://example.org/ns/a/sa/b"))),
        LeafError::SeveralUris { count: 2 }
    );
    assert_eq!(
        leaf_error(|leaf| leaf.key_usages.clear()),
        LeafError::NoKeyUsage
    );
    assert_eq!(
        leaf_error(|leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        LeafError::NoDigitalSignature
    );
    assert_eq!(
        leaf_error(|leaf| leaf.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        LeafError::KeyCertSign
    );
    assert_eq!(
        leaf_error(|leaf| leaf.key_usages.push(KeyUsagePurpose::CrlSign)),
        LeafError::CrlSign
    );
    assert_eq!(
        leaf_error(|leaf| {
            leaf.extended_key_usages.pop();
        }),
        LeafError::ExtendedKeyUsage {
            missing: "clientAuth"
        }
    );
}

#[test]
fn a_certificate_for_another_identity_is_refused_with_both_ids() {
    for other in [
        "spiffe://example.org/ns/shop/sa/till",
        "spiffe://example.org/ns/shop/sa/Cart",
        "spiffe://other.org/ns/shop/sa/cart",
        "spiffe://example.org/ns/shop/sa/cart/x",
    ] {
        let error = check(|leaf| leaf.subject_alt_names = vec![uri(other)]).unwrap_err();
        assert_eq!(
            error,
            CheckError::OtherIdentity {
                asked: SpiffeId::new(ID).unwrap(),
                got: SpiffeId::new(other).unwrap(),
            }
        );
        assert_eq!(
            error.to_string(),
            format!("the certificate is for {other}, not for {ID}")
        );
    }
}

#[test]
fn an_identity_from_another_token_is_refused_with_both_and_where_to_look() {
    let pki = Pki::new();
    let plan = plan(KeyAlgorithm::EcdsaP256).with_subject_mode(SubjectMode::ReflectedSpiffe);
    for (other, advice) in [
        (
            "spiffe://example.org/ns/shop/sa/till",
            "the token is of namespace \"shop\" and service account \"till\", and the workload of \"shop\" and \"cart\": let tokenFile name",
        ),
        (
            "spiffe://other.org/ns/shop/sa/cart",
            "the token is of the trust domain other.org, and the workload of example.org: correct",
        ),
        (
            "spiffe://example.org/vm/7",
            "how the workload identity pool maps its tokens",
        ),
    ] {
        let leaf = pki.leaf(|leaf| leaf.subject_alt_names = vec![uri(other)]);
        let error = IssuedChain::check(
            &pki.answer(&leaf),
            &pki.public_key(),
            &plan,
            &pki.bundle(),
            ALL_VERIFICATION_ALGS,
            now(),
        )
        .unwrap_err();
        assert_eq!(
            error,
            CheckError::ReflectedIdentity {
                asked: SpiffeId::new(ID).unwrap(),
                got: SpiffeId::new(other).unwrap(),
            }
        );
        let text = error.to_string();
        let begin = format!("the certificate is for {other}, not for {ID}: CA Service took");
        assert!(text.starts_with(&begin) && text.contains(advice), "{text}");
    }
}

#[test]
fn a_subject_that_was_not_asked_for_is_refused() {
    let result = check(|leaf| leaf.distinguished_name.push(DnType::CommonName, "cart"));
    assert_eq!(
        result,
        Err(CheckError::Subject {
            subject: "CN=cart".to_owned()
        })
    );
}

#[test]
fn names_that_were_not_asked_for_are_refused() {
    let result = check(|leaf| {
        leaf.subject_alt_names.extend([
            SanType::DnsName("cart.example.org".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ]);
    });
    assert_eq!(result, Err(CheckError::ExtraNames { count: 2 }));
}

/// Checks the answer with a leaf that has this twist, for a plan with the common name `db` and two
/// DNS names.
fn check_named(twist: impl FnOnce(&mut CertificateParams)) -> Result<IssuedChain, CheckError> {
    let pki = Pki::new();
    let plan = plan(KeyAlgorithm::EcdsaP256).with_names(SubjectNames {
        common_name: Some("db".to_owned()),
        dns_names: vec!["db.example.org".to_owned(), "localhost".to_owned()],
    });
    let raw = pki.answer(&pki.leaf(twist));
    let algorithms = ALL_VERIFICATION_ALGS;
    IssuedChain::check(
        &raw,
        &pki.public_key(),
        &plan,
        &pki.bundle(),
        algorithms,
        now(),
    )
}

fn name(leaf: &mut CertificateParams, common_name: &str, dns: &[&str]) {
    leaf.distinguished_name
        .push(DnType::CommonName, common_name);
    for &name in dns {
        let name = SanType::DnsName(name.try_into().unwrap());
        leaf.subject_alt_names.push(name);
    }
}

#[test]
fn a_certificate_with_exactly_the_names_asked_for_passes_in_any_order_and_case() {
    for dns in [
        ["db.example.org", "localhost"],
        ["localhost", "DB.example.ORG"],
    ] {
        assert!(check_named(|leaf| name(leaf, "db", &dns)).is_ok());
    }
}

#[test]
fn a_common_name_that_was_dropped_or_changed_is_refused_by_the_pools_setting() {
    let both = ["db.example.org", "localhost"];
    let error = check_named(|leaf| {
        name(leaf, "db", &both);
        leaf.distinguished_name = rcgen::DistinguishedName::new();
    })
    .unwrap_err();
    let (asked, subject) = ("db".to_owned(), String::new());
    assert_eq!(error, CheckError::CommonName { asked, subject });
    let text = error.to_string();
    assert!(
        text.contains("identityConstraints.allowSubjectPassthrough"),
        "{text}"
    );

    for (other, organization) in [("DB", None), ("db2", None), ("db", Some("Example"))] {
        let error = check_named(|leaf| {
            name(leaf, other, &both);
            if let Some(name) = organization {
                leaf.distinguished_name.push(DnType::OrganizationName, name);
            }
        })
        .unwrap_err();
        let CheckError::CommonName { subject, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(subject.contains(other), "{subject}");
        assert!(
            error.to_string().contains("asks for \"db\" alone"),
            "{error}"
        );
    }
}

#[test]
fn dns_names_that_were_dropped_are_refused_by_the_pools_setting() {
    let lacks = |twist: &dyn Fn(&mut CertificateParams), missing: &[&str]| {
        let error = check_named(twist).unwrap_err();
        let missing = missing.iter().map(|&one| one.to_owned()).collect();
        assert_eq!(error, CheckError::DnsNames { missing });
        let text = error.to_string();
        let setting = "identityConstraints.allowSubjectAltNamesPassthrough";
        assert!(text.contains(setting), "{text}");
        // Taking them out would not help.
        assert!(!text.contains("out of the Workload"), "{text}");
    };
    lacks(
        &|leaf| name(leaf, "db", &["localhost"]),
        &["db.example.org"],
    );
    lacks(
        &|leaf| name(leaf, "db", &[]),
        &["db.example.org", "localhost"],
    );
    // The setting takes the SPIFFE ID with them.
    lacks(
        &|leaf| {
            name(leaf, "db", &[]);
            leaf.subject_alt_names.clear();
        },
        &["db.example.org", "localhost"],
    );
}

#[test]
fn names_beyond_those_asked_for_are_refused() {
    for (more, count) in [
        (&["other.example.org"][..], 1),
        (&["localhost"], 1),
        (&["a.b", "c.d"], 2),
    ] {
        let result = check_named(|leaf| {
            name(leaf, "db", &["db.example.org", "localhost"]);
            for &name in more {
                let name = SanType::DnsName(name.try_into().unwrap());
                leaf.subject_alt_names.push(name);
            }
        });
        assert_eq!(result, Err(CheckError::ExtraNames { count }));
    }
}

#[test]
fn a_certificate_of_the_near_future_passes_and_one_beyond_five_minutes_does_not() {
    let pki = Pki::new();
    let raw = pki.answer(&pki.leaf(|_| {}));
    let behind = |seconds: i64| check_raw(&pki, &raw, now() - SignedDuration::from_secs(seconds));
    assert_eq!(
        behind(1).unwrap().remarks(),
        [Remark::ClockBehind { seconds: 1 }]
    );
    assert_eq!(
        behind(300).unwrap().remarks(),
        [Remark::ClockBehind { seconds: 300 }]
    );
    let error = behind(301).unwrap_err();
    assert_eq!(
        error,
        CheckError::NotYetValid {
            seconds: 301,
            not_before: now()
        }
    );
    assert!(
        error.to_string().contains("clock is 301 s behind the CA's"),
        "{error}"
    );
}

#[test]
fn a_certificate_that_has_ended_is_refused() {
    let pki = Pki::new();
    let leaf = pki.leaf(|_| {});
    let raw = pki.answer(&leaf);
    assert!(check_raw(&pki, &raw, leaf.not_after()).is_ok());
    assert_eq!(
        check_raw(&pki, &raw, leaf.not_after() + SECOND * 7),
        Err(CheckError::Expired {
            seconds: 7,
            not_after: leaf.not_after()
        })
    );
}

#[test]
fn a_chain_that_does_not_lead_to_the_bundle_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let verify = |result: Result<IssuedChain, CheckError>| match result {
        Err(CheckError::Verify(error)) => error,
        other => panic!("{other:?}"),
    };

    let leaf = pki.leaf(|_| {});
    let alone = RawChain {
        certificate: leaf.to_pem(),
        chain: vec![pki.root.to_pem()],
    };
    let error = verify(check_raw(&pki, &alone, now()));
    assert!(
        matches!(error, VerifyError::UnknownIssuer { .. }),
        "{error:?}"
    );

    let result = IssuedChain::check(
        &pki.answer(&leaf),
        &pki.public_key(),
        &plan(KeyAlgorithm::EcdsaP256),
        &other.bundle(),
        ALL_VERIFICATION_ALGS,
        now(),
    );
    // The two roots have one name: only the signature tells them apart.
    assert!(matches!(verify(result), VerifyError::Other { .. }));

    let ended = Pki::lasting(now() + HOUR, now() - HOUR);
    let raw = ended.answer(&ended.leaf(|_| {}));
    let error = verify(check_raw(&ended, &raw, now()));
    assert!(matches!(error, VerifyError::Expired { .. }), "{error:?}");
}

#[test]
fn a_chain_out_of_order_is_put_right_with_a_remark() {
    let pki = Pki::new();
    let leaf = pki.leaf(|_| {});
    let raw = RawChain {
        certificate: pki.issuing.to_pem(),
        chain: vec![pki.root.to_pem(), leaf.to_pem()],
    };
    let issued = check_raw(&pki, &raw, now()).unwrap();
    assert_eq!(issued.remarks(), [Remark::Reordered]);
    assert_eq!(issued.chain().leaf(), &leaf);
}

#[test]
fn a_lifetime_that_was_cut_is_a_remark_whoever_cut_it() {
    let end = now() + HOUR / 2;
    let year = HOUR * 24 * 365;
    let (far, late) = (now() + year, now() + HOUR - SECOND);
    for (pki, leaf_until, ca, ca_until) in [
        (Pki::lasting(far + HOUR, far), end, "CN=Issuing", far),
        (Pki::lasting(far, end), late, "CN=Issuing", end),
        (Pki::lasting(end, far), late, "CN=Root", end),
    ] {
        let raw = pki.answer(&pki.leaf(|leaf| validity(leaf, now(), leaf_until)));
        let issued = check_raw(&pki, &raw, now()).unwrap();
        assert_eq!(issued.effective_not_after(), end);
        assert_eq!(
            issued.remarks(),
            [Remark::Truncated {
                asked: 3600,
                got: 1801,
                until: end,
                ca: ca.to_owned(),
                ca_until,
            }]
        );
    }
}

#[test]
fn a_lifetime_that_differs_by_a_second_or_is_backdated_is_not_cut() {
    let last = now() + SECOND * 3599;
    for (from, to) in [
        (now(), last + SECOND),
        (now(), last - SECOND),
        (now() - HOUR / 2, last - HOUR / 2),
        (now(), last + HOUR),
    ] {
        let issued = check(|leaf| validity(leaf, from, to)).unwrap();
        assert_eq!(issued.remarks(), []);
        assert_eq!(issued.effective_not_after(), to);
    }
}
