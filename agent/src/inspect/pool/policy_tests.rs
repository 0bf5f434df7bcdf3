use certagent_core::names::SubjectNames;
use serde_json::{Value, json};

use super::{
    super::{
        super::{Verdict, report::CheckName as _},
        fixture::Known,
        tests::{bent, golden, skipped},
    },
    CheckId,
};

#[test]
fn a_policy_that_refuses_the_plan_is_a_problem_before_anything_is_asked_for() {
    for (policy, cause, detail) in [
        (
            json!({ "allowedKeyTypes": [{ "rsa": { "minModulusSize": "3072" } }] }),
            CheckId::KeyType,
            "signs no ecdsa-p256 keys, only RSA from 3072 bits",
        ),
        (
            json!({ "maximumLifetime": "3600s" }),
            CheckId::Lifetime,
            "at most 3600s",
        ),
        (
            json!({ "allowedIssuanceModes": {} }),
            CheckId::Issuance,
            "neither",
        ),
    ] {
        let report = bent(Verdict::Problem, cause, detail, |known| {
            known.policy(&policy);
            known.facts.creation = None;
        });
        let waits = format!("waits for {}", cause.as_str());
        skipped(&report, CheckId::MayCreate, &waits);
    }
}

#[test]
fn a_policy_that_would_spoil_certificates_is_a_problem() {
    let base = |usages: Value| json!({ "baselineValues": { "keyUsage": usages } });
    for (policy, cause, detail) in [
        (
            json!({ "backdateDuration": "80000s" }),
            CheckId::Backdating,
            "more than 90%",
        ),
        (
            json!({ "identityConstraints": {} }),
            CheckId::Names,
            "drops the names",
        ),
        (
            json!({ "passthroughExtensions": { "knownExtensions": ["EXTENDED_KEY_USAGE"] } }),
            CheckId::Usages,
            "BASE_KEY_USAGE",
        ),
        (
            json!({ "baselineValues": { "caOptions": { "isCa": true } } }),
            CheckId::Usages,
            "every certificate a CA's",
        ),
        (
            base(json!({ "baseKeyUsage": { "digitalSignature": true, "certSign": true } })),
            CheckId::Usages,
            "sign certificates",
        ),
        (
            base(json!({ "baseKeyUsage": { "keyEncipherment": true } })),
            CheckId::Usages,
            "without digitalSignature",
        ),
        (
            base(json!({ "extendedKeyUsage": { "serverAuth": true } })),
            CheckId::Usages,
            "serverAuth and clientAuth",
        ),
    ] {
        bent(Verdict::Problem, cause, detail, |known| {
            known.policy(&policy);
        });
    }
}

#[test]
fn names_that_workloads_ask_for_and_the_pool_drops_are_a_problem() {
    let named = |common_name: Option<&str>, dns_names: &[&str]| SubjectNames {
        common_name: common_name.map(str::to_owned),
        dns_names: dns_names.iter().map(|&name| name.to_owned()).collect(),
    };
    let policy = json!({ "identityConstraints": { "allowSubjectAltNamesPassthrough": true } });
    let with = |names: SubjectNames, policy: &Value| {
        let mut known = Known::healthy();
        known.facts.plan.names = names;
        known.policy(policy);
        known.judge()
    };
    let with_asking = |policy: &Value| {
        let mut known = Known::healthy();
        known.facts.plan.names = named(Some("db"), &[]);
        known.wanted.named.common_name = vec!["spiffe://example.org/ns/shop/sa/m2".to_owned()];
        known.policy(policy);
        known.judge()
    };
    bent(
        Verdict::Problem,
        CheckId::Names,
        "identityConstraints.allowSubjectPassthrough is not true",
        |known| {
            known.facts.plan.names = named(Some("db"), &[]);
            known.policy(&policy);
        },
    );
    let report = with_asking(&policy);
    let text = report.to_text();
    assert_eq!(report.summary(), "the pool drops the common name");
    assert!(!text.contains("drops the SPIFFE ID"), "{text}");
    for told in [
        "Asked for by spiffe://example.org/ns/shop/sa/m2",
        "commonName for spiffe://example.org/ns/shop/sa/m2",
        "set allowSubjectPassthrough of its identityConstraints to true",
    ] {
        assert!(text.contains(told), "no \"{told}\" in: {text}");
    }
    let text = with_asking(&json!({ "identityConstraints": {} })).to_text();
    for told in [
        "the pool drops the SPIFFE ID",
        "set allowSubjectAltNamesPassthrough and allowSubjectPassthrough of its",
    ] {
        assert!(text.contains(told), "no \"{told}\" in: {text}");
    }
    let healthy = |names, policy| with(names, policy).verdict() == Verdict::Healthy;
    assert!(healthy(named(None, &["localhost"]), &policy));
    assert!(healthy(named(Some("db"), &["localhost"]), &json!({})));
}

#[test]
fn a_policy_that_is_odd_but_works_is_a_warning_or_nothing() {
    bent(
        Verdict::Warning,
        CheckId::Backdating,
        "so 9 h 46 min",
        |known| {
            known.policy(&json!({ "backdateDuration": "51200s" }));
        },
    );
    bent(Verdict::Warning, CheckId::Issuance, "CSRs only", |known| {
        known.policy(&json!({ "allowedIssuanceModes": { "allowCsrBasedIssuance": true } }));
    });
    let mut known = Known::healthy();
    known.policy(&json!({
        "allowedKeyTypes": [{ "ellipticCurve": { "signatureAlgorithm": "ECDSA_P256" } }],
        "maximumLifetime": "86400s", "backdateDuration": "3600s",
        "allowedIssuanceModes": { "allowConfigBasedIssuance": true },
        "identityConstraints": {
            "celExpression": { "expression": "subject_alt_names.all(san, san.type == URI)" },
            "allowSubjectAltNamesPassthrough": true,
        },
        "passthroughExtensions": { "knownExtensions": ["CA_OPTIONS"] },
        "baselineValues": { "keyUsage": {
            "baseKeyUsage": { "digitalSignature": true },
            "extendedKeyUsage": { "serverAuth": true, "clientAuth": true },
        }},
    }));
    assert_eq!(known.judge().verdict(), Verdict::Healthy);
    golden("pool-policy", &known);
}
