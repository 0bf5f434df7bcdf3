use super::{
    super::{
        super::{Verdict, fixture},
        facts::Refused,
        fixture::{Known, authority, denied, no},
        tests::{bent, expect, golden, skipped},
    },
    CheckId, KeyAlgorithm,
};
use crate::cas::Call;

#[test]
fn who_may_not_list_the_cas_is_told_what_their_certificates_say() {
    let mut known = Known::healthy();
    known.facts.authorities = Some(Err(denied(Call::ListCertificateAuthorities)));
    let report = known.judge();
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
    skipped(&report, CheckId::Authorities, "roles/privateca.auditor");
    skipped(
        &report,
        CheckId::AuthoritiesValidity,
        "a CA issues for another",
    );

    known.facts.chains = Some(Ok(Vec::new()));
    expect(
        &known.judge(),
        Verdict::Problem,
        CheckId::Authorities,
        "has no CA",
    );
}

#[test]
fn a_pool_without_an_enabled_ca_is_a_problem_that_names_the_states() {
    let mut known = Known::healthy();
    let contents = fixture::contents();
    let mut waiting = authority("new-ca", "AWAITING_USER_ACTIVATION", &contents);
    waiting.pem_ca_certificates.clear();
    let staged = authority("td-ca", "STAGED", &contents);
    known.facts.authorities = Some(Ok(vec![staged, waiting]));
    // The service says the same when it is asked; that is not said twice.
    let error = no(
        Call::ValidateCertificate,
        400,
        "FAILED_PRECONDITION",
        "no CA",
    );
    known.facts.creation = Some(Err(Refused::Call(error)));
    let report = known.judge();
    let states = "td-ca is STAGED, new-ca is AWAITING_USER_ACTIVATION";
    expect(&report, Verdict::Problem, CheckId::Authorities, states);
    skipped(&report, CheckId::MayCreate, "waits for authorities");
    golden("pool-none-enabled", &known);

    for state in ["DISABLED", "DELETED", "SOMETHING_NEW"] {
        bent(
            Verdict::Problem,
            CheckId::Authorities,
            "no CA of the pool issues",
            |known| {
                known.facts.authorities = Some(Ok(vec![authority("x", state, &contents)]));
            },
        );
    }
    bent(
        Verdict::Problem,
        CheckId::Authorities,
        "has no CA",
        |known| {
            known.facts.authorities = Some(Ok(Vec::new()));
        },
    );
}

#[test]
fn a_ca_that_ends_before_its_certificates_is_a_warning_and_one_that_has_ended_a_problem() {
    // The CAs of the fixture end with 2035.
    let validity = 86_400 * 365 * 10;
    bent(
        Verdict::Warning,
        CheckId::AuthoritiesValidity,
        "before the 3650 d",
        |known| {
            known.facts.plan.validity = std::time::Duration::from_secs(validity);
        },
    );
    let late = fixture::contents_with(&fixture::Leaf::default(), "Old Root", (2026, 11, 30));
    bent(
        Verdict::Warning,
        CheckId::AuthoritiesValidity,
        "above td-ca ends",
        |known| {
            known.facts.authorities = Some(Ok(vec![authority("td-ca", "ENABLED", &late)]));
        },
    );
    let ended = fixture::contents_with(&fixture::Leaf::default(), "Old Root", (2026, 11, 1));
    bent(
        Verdict::Problem,
        CheckId::AuthoritiesValidity,
        "expired",
        |known| {
            known.facts.authorities = Some(Ok(vec![authority("td-ca", "ENABLED", &ended)]));
        },
    );
    // One CA that lasts is enough.
    let mut known = Known::healthy();
    let both = vec![
        authority("old", "ENABLED", &ended),
        authority("td-ca", "ENABLED", &fixture::contents()),
    ];
    known.facts.authorities = Some(Ok(both));
    assert_eq!(known.judge().verdict(), Verdict::Healthy);
}

#[test]
fn an_rsa_key_below_an_ec_ca_and_the_reverse_are_flagged_as_the_guide_does() {
    let mut known = Known::healthy();
    known.facts.plan.algorithm = KeyAlgorithm::Rsa2048;
    let report = known.judge();
    let detail = "the issuing CA td-ca has EC_P256_SHA256, and keyAlgorithm asks for rsa-2048";
    expect(&report, Verdict::Warning, CheckId::KeyFamily, detail);
    golden("pool-key-family", &known);

    let mut rsa = authority("td-ca", "ENABLED", &fixture::contents());
    rsa.key_spec.algorithm = "RSA_PKCS1_2048_SHA256".to_owned();
    rsa.pem_ca_certificates.clear();
    bent(
        Verdict::Warning,
        CheckId::KeyFamily,
        "has RSA_PKCS1_2048_SHA256",
        |known| {
            known.facts.authorities = Some(Ok(vec![rsa]));
        },
    );
}
