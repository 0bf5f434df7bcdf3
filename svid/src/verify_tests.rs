use rcgen::{CertificateParams, KeyPair};
use spiffe::TrustDomain;
use webpki::ALL_VERIFICATION_ALGS;

use super::*;
use crate::testing::{Ca, ID, bundle, extension, key, now, validity};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

fn check(chain: &[&Certificate], roots: &[&Ca]) -> Result<VerifiedPath, VerifyError> {
    check_at(chain, roots, now())
}

fn check_at(
    chain: &[&Certificate],
    roots: &[&Ca],
    now: Timestamp,
) -> Result<VerifiedPath, VerifyError> {
    let chain = Chain::order(chain.iter().map(|one| (*one).clone()).collect()).unwrap();
    path(&chain, &bundle(roots), ALL_VERIFICATION_ALGS, now)
}

fn expired(params: &mut CertificateParams) {
    validity(params, now() - YEAR, now() - HOUR);
}

fn to_come(params: &mut CertificateParams) {
    validity(params, now() + HOUR, now() + YEAR);
}

fn ending_in(hours: i64) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        validity(
            params,
            now() - HOUR,
            now() + SignedDuration::from_hours(hours),
        );
    }
}

#[test]
fn a_chain_verifies_to_its_own_root_among_others() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other"));
    let sub = root.subordinate("Issuing");
    let leaf = sub.leaf();
    for roots in [[&root, &other], [&other, &root]] {
        let path = check(&[&leaf, &sub.certificate], &roots).unwrap();
        assert_eq!(path.root(), &root.certificate);
        assert_eq!(path.effective_not_after(), leaf.not_after());
    }
    let direct = root.leaf();
    assert_eq!(
        check(&[&direct], &[&root]).unwrap().root(),
        &root.certificate
    );
}

#[test]
fn chains_of_every_signature_algorithm_verify() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let root = Ca::root_with("Root", KeyPair::generate_for(algorithm).unwrap(), |_| {});
        let leaf = root.leaf();
        assert_eq!(check(&[&leaf], &[&root]).unwrap().root(), &root.certificate);
    }
}

#[test]
fn the_first_end_on_the_path_counts_whosever_it_is() {
    for (leaf, sub, root) in [(1, 2, 3), (2, 1, 3), (3, 2, 1)] {
        let root = Ca::root_with("Root", key(), ending_in(root));
        let sub = root.subordinate_with("Issuing", ending_in(sub));
        let leaf = sub.leaf_with(ending_in(leaf));
        let path = check(&[&leaf, &sub.certificate], &[&root]).unwrap();
        assert_eq!(path.effective_not_after(), now() + HOUR);
    }
}

#[test]
fn a_bundle_without_roots_verifies_nothing() {
    let leaf = Ca::root("Root").leaf();
    assert_eq!(
        check(&[&leaf], &[]),
        Err(VerifyError::NoRoots {
            trust_domain: "example.org".to_owned()
        })
    );
}

#[test]
fn an_expired_leaf_is_named_by_its_id() {
    let root = Ca::root("Root");
    let leaf = root.leaf_with(expired);
    let error = check(&[&leaf], &[&root]).unwrap_err();
    assert_eq!(
        error,
        VerifyError::Expired {
            subject: ID.to_owned(),
            not_after: now() - HOUR,
            ago: Age(3600),
        }
    );
    assert!(
        error
            .to_string()
            .ends_with("expired at 2026-11-21T11:00:00Z, 3600 s ago"),
        "{error}"
    );
}

#[test]
fn an_expired_ca_is_named_by_its_subject() {
    let root = Ca::root("Root");
    let sub = root.subordinate_with("Issuing", expired);
    let leaf = sub.leaf();
    let result = check(&[&leaf, &sub.certificate], &[&root]);
    assert!(
        matches!(&result, Err(VerifyError::Expired { subject, .. }) if subject == "CN=Issuing"),
        "{result:?}"
    );
}

#[test]
fn an_expired_root_vouches_for_nobody() {
    let root = Ca::root_with("Root", key(), expired);
    let leaf = root.leaf();
    let result = check(&[&leaf], &[&root]);
    assert!(
        matches!(&result, Err(VerifyError::Expired { subject, .. }) if subject == "CN=Root"),
        "{result:?}"
    );
}

#[test]
fn what_has_not_begun_is_refused_leaf_ca_and_root() {
    let root = Ca::root("Root");
    let leaf = root.leaf_with(to_come);
    let error = check(&[&leaf], &[&root]).unwrap_err();
    assert_eq!(
        error,
        VerifyError::NotYetValid {
            subject: ID.to_owned(),
            not_before: now() + HOUR,
            ahead: Age(3600),
        }
    );
    assert!(error.to_string().contains("clock"), "{error}");

    let sub = root.subordinate_with("Issuing", to_come);
    let result = check(&[&sub.leaf(), &sub.certificate], &[&root]);
    assert!(
        matches!(&result, Err(VerifyError::NotYetValid { subject, .. }) if subject == "CN=Issuing")
    );

    let root = Ca::root_with("Root", key(), to_come);
    let result = check(&[&root.leaf()], &[&root]);
    assert!(
        matches!(&result, Err(VerifyError::NotYetValid { subject, .. }) if subject == "CN=Root")
    );
}

#[test]
fn both_ends_of_the_validity_belong_to_it() {
    let root = Ca::root("Root");
    let leaf = root.leaf();
    let second = SignedDuration::from_secs(1);
    assert!(check_at(&[&leaf], &[&root], leaf.not_before()).is_ok());
    assert!(check_at(&[&leaf], &[&root], leaf.not_after()).is_ok());
    let early = check_at(&[&leaf], &[&root], leaf.not_before() - second);
    assert!(matches!(early, Err(VerifyError::NotYetValid { .. })));
    let late = check_at(&[&leaf], &[&root], leaf.not_after() + second);
    assert!(matches!(late, Err(VerifyError::Expired { .. })));
}

#[test]
fn a_chain_to_a_root_that_is_not_in_the_bundle_is_refused_with_both_names() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other"));
    let sub = root.subordinate("Issuing");
    let leaf = sub.leaf();
    assert_eq!(
        check(&[&leaf, &sub.certificate], &[&other]),
        Err(VerifyError::UnknownIssuer {
            issuer: "CN=Root".to_owned(),
            trust_domain: "example.org".to_owned(),
            roots: "\"CN=Other\"".to_owned(),
        })
    );
}

#[test]
fn a_chain_without_its_intermediate_is_refused() {
    let root = Ca::root("Root");
    let leaf = root.subordinate("Issuing").leaf();
    let result = check(&[&leaf], &[&root]);
    assert!(
        matches!(&result, Err(VerifyError::UnknownIssuer { issuer, .. }) if issuer == "CN=Issuing")
    );
}

#[test]
fn a_root_with_the_right_name_and_another_key_is_refused() {
    let (root, look_alike) = (Ca::root("Root"), Ca::root("Root"));
    let leaf = root.leaf();
    assert!(matches!(
        check(&[&leaf], &[&look_alike]),
        Err(VerifyError::Other { .. })
    ));
    // Beside the right one it does no harm.
    for roots in [[&root, &look_alike], [&look_alike, &root]] {
        assert_eq!(check(&[&leaf], &roots).unwrap().root(), &root.certificate);
    }
}

#[test]
fn a_root_that_was_renewed_with_its_key_counts_as_the_one_that_is_valid() {
    let pair = key();
    let pem = pair.serialize_pem();
    let again = || KeyPair::from_pem(&pem).unwrap();
    let old = Ca::root_with("Root", again(), expired);
    let new = Ca::root_with("Root", again(), ending_in(2));
    let longer = Ca::root_with("Root", again(), to_come);
    let leaf = new.leaf();
    let path = check(&[&leaf], &[&old, &new, &longer]).unwrap();
    assert_eq!(path.root(), &new.certificate);
    assert_eq!(path.effective_not_after(), now() + HOUR * 2);
}

#[test]
fn another_rule_that_is_broken_is_said_in_the_verifier_s_words() {
    let root = Ca::root("Root");
    let narrow = root.subordinate_with("Narrow", |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    });
    let below = narrow.subordinate("Below");
    let result = check(
        &[&below.leaf(), &below.certificate, &narrow.certificate],
        &[&root],
    );
    assert!(
        matches!(&result, Err(VerifyError::Other { reason }) if reason.contains("PathLen")),
        "{result:?}"
    );

    let unknown = root.leaf_with(|params| {
        let mut strange = extension(99, &[0x05, 0x00]);
        strange.set_criticality(true);
        params.custom_extensions = vec![strange];
    });
    assert!(matches!(
        check(&[&unknown], &[&root]),
        Err(VerifyError::Other { .. })
    ));
}

#[test]
fn a_leaf_for_servers_only_is_no_leaf_for_mutual_tls() {
    let root = Ca::root("Root");
    let leaf = root.leaf_with(|params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(matches!(
        check(&[&leaf], &[&root]),
        Err(VerifyError::Other { .. })
    ));
}

#[test]
fn without_algorithms_nothing_verifies() {
    let root = Ca::root("Root");
    let chain = Chain::order(vec![root.leaf()]).unwrap();
    let result = path(&chain, &bundle(&[&root]), &[], now());
    assert!(
        matches!(result, Err(VerifyError::Other { .. })),
        "{result:?}"
    );
}

#[test]
fn roots_of_another_domain_do_not_vouch() {
    let (own, other) = (Ca::root("Own"), Ca::root("Other"));
    let bundles: crate::TrustBundles = [
        bundle(&[&own]),
        TrustBundle::new(
            TrustDomain::new("other.org").unwrap(),
            [other.certificate.clone()],
        ),
    ]
    .into_iter()
    .collect();
    let chain = Chain::order(vec![other.leaf()]).unwrap();
    let example = bundles
        .get(&TrustDomain::new("example.org").unwrap())
        .unwrap();
    let result = path(&chain, example, ALL_VERIFICATION_ALGS, now());
    assert!(matches!(result, Err(VerifyError::UnknownIssuer { .. })));
}
