use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::{Verdict, fixture, golden},
    Anchoring, Report,
    facts::Refused,
    fixture::{Known, authority, denied, failure, no, nobody},
    report::CheckId,
};
use crate::{
    cas::{Call, Reason},
    google::{IdentityError, Origin, Shown},
};

#[track_caller]
pub(super) fn expect(report: &Report, verdict: Verdict, cause: CheckId, detail: &str) {
    let found = report.cause().map(|(id, _)| id);
    let text = report.to_text();
    assert_eq!((report.verdict(), found), (verdict, Some(cause)), "{text}");
    let (_, told) = report.cause().unwrap();
    assert!(told.contains(detail), "no \"{detail}\" in: {told}");
    assert!(!report.next_steps.is_empty(), "no next step:\n{text}");
}

/// The verdict on a healthy pool but for what `bend` does.
#[track_caller]
pub(super) fn bent(
    verdict: Verdict,
    cause: CheckId,
    detail: &str,
    bend: impl FnOnce(&mut Known),
) -> Report {
    let mut known = Known::healthy();
    bend(&mut known);
    let report = known.judge();
    expect(&report, verdict, cause, detail);
    report
}

pub(super) fn golden(name: &str, known: &Known) {
    for (form, text) in known.forms() {
        golden::compare(name, form, &text);
    }
}

pub(super) fn skipped(report: &Report, id: CheckId, detail: &str) {
    let check = report.checks.iter().find(|check| check.id == id).unwrap();
    let told = check.finding.detail();
    assert!(told.contains(detail), "no \"{detail}\" in: {told}");
}

#[test]
fn a_pool_that_would_issue_is_healthy() {
    let known = Known::healthy();
    assert_eq!(known.judge().exit_code(), 0);
    golden("pool-healthy", &known);
}

#[test]
fn without_a_configuration_nothing_is_said_of_what_one_would_decide() {
    let mut known = Known::healthy();
    known.wanted.paths.clear();
    known.anchoring = Anchoring::Unasked;
    let report = known.judge();
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
    skipped(&report, CheckId::KeyFamily, "no configuration");
    skipped(&report, CheckId::Anchored, "inspect config");
}

#[test]
fn an_endpoint_where_nobody_answers_as_ca_service_does_is_unknown() {
    let mut known = Known::healthy();
    known.facts.pool = Err(nobody());
    known.facts.clocks = None;
    (known.facts.authorities, known.facts.chains) = (None, None);
    known.facts.creation = None;
    let report = known.judge();
    expect(&report, Verdict::Unknown, CheckId::Endpoint, "refused");
    assert_eq!(report.exit_code(), 2);
    golden("pool-unreachable", &known);

    for reason in [
        Reason::TooLarge,
        Reason::NotUnderstood {
            http: 200,
            excerpt: "<html>".to_owned(),
        },
        Reason::Answer {
            http: 404,
            status: None,
            message: "<html>".to_owned(),
            permission: None,
        },
    ] {
        bent(
            Verdict::Unknown,
            CheckId::Endpoint,
            "GetCaPool: ",
            |known| {
                known.facts.pool = Err(failure(Call::GetCaPool, reason));
            },
        );
    }
}

#[test]
fn a_pool_that_is_not_there_is_a_problem_and_all_the_rest_waits_for_it() {
    let mut known = Known::healthy();
    known.facts.pool = Err(no(Call::GetCaPool, 404, "NOT_FOUND", "no such pool"));
    (known.facts.authorities, known.facts.chains) = (None, None);
    known.facts.creation = None;
    expect(
        &known.judge(),
        Verdict::Problem,
        CheckId::Pool,
        "no such pool",
    );
    golden("pool-missing", &known);
}

#[test]
fn a_service_that_is_busy_or_broken_is_unknown() {
    for (http, status) in [
        (429, "RESOURCE_EXHAUSTED"),
        (503, "UNAVAILABLE"),
        (500, "INTERNAL"),
    ] {
        bent(Verdict::Unknown, CheckId::Pool, status, |known| {
            known.facts.pool = Err(no(Call::GetCaPool, http, status, ""));
        });
        bent(Verdict::Unknown, CheckId::MayCreate, status, |known| {
            let error = no(Call::ValidateCertificate, http, status, "");
            known.facts.creation = Some(Err(Refused::Call(error)));
        });
    }
}

#[test]
fn who_has_no_identity_is_told_so() {
    let no_token = |is_permanent| {
        let error = IdentityError {
            is_permanent,
            ..IdentityError::passing("the file is broken".to_owned())
        };
        failure(Call::GetCaPool, Reason::NoToken(error))
    };
    let stranger = Reason::Unauthenticated {
        shown: Shown::Nobody,
        message: "who?".to_owned(),
    };
    let stranger = failure(Call::GetCaPool, stranger);
    for (error, verdict) in [
        (no_token(true), Verdict::Problem),
        (no_token(false), Verdict::Unknown),
        (stranger, Verdict::Problem),
    ] {
        bent(verdict, CheckId::Identity, "", |known| {
            known.facts.pool = Err(error);
        });
    }
}

#[test]
fn the_next_steps_without_a_token_follow_from_who_gave_none() {
    let audience =
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";
    let steps = |origin: Origin, reflected: bool| {
        let error = IdentityError {
            origin,
            ..IdentityError::permanent("no".to_owned())
        };
        let report = bent(Verdict::Problem, CheckId::Identity, "no", |known| {
            known.facts.pool = Err(failure(Call::GetCaPool, Reason::NoToken(error)));
            if reflected {
                known.facts.asked_as.token_file = Some("token".into());
                known.facts.asked_as.flags = vec![("--sts-audience", audience.to_owned())];
            }
        });
        assert_eq!(report.summary(), "there is no access token to ask with");
        let steps = report.next_steps.iter().map(|step| step.command.as_str());
        steps.collect::<Vec<_>>().join("\n")
    };
    let url = || "https://sts.example".to_owned();
    for reflected in [false, true] {
        let told = steps(Origin::Service(url()), reflected);
        assert!(
            told.starts_with("curl -sS -i https://sts.example "),
            "{told}"
        );
        assert!(!told.contains("jq") && !told.contains("metadata"), "{told}");
    }
    let told = steps(Origin::Refused(url()), true);
    let first = format!(
        "gcloud iam workload-identity-pools providers describe {}\njq -R",
        &audience[21..]
    );
    assert!(told.starts_with(&first), "{told}");
    let told = steps(Origin::Credential, true);
    assert!(
        told.starts_with("ls -lL --full-time token; date -u\njq -R"),
        "{told}"
    );
    let stranger = Reason::Unauthenticated {
        shown: Shown::Nobody,
        message: "who?".to_owned(),
    };
    let report = bent(Verdict::Problem, CheckId::Identity, "", |known| {
        known.facts.pool = Err(failure(Call::GetCaPool, stranger));
    });
    let [step] = report.next_steps.as_slice() else {
        panic!("one step is enough: {:?}", report.next_steps)
    };
    assert!(step.command.ends_with(" --identity direct"), "{step:?}");
    let told = steps(Origin::Credential, false);
    assert!(
        told.starts_with("ls -l \"$GOOGLE_APPLICATION_CREDENTIALS\""),
        "{told}"
    );
}

#[test]
fn who_may_create_but_not_look_is_warned_with_the_permission_and_its_role() {
    let look = |known: &mut Known| {
        known.facts.pool = Err(denied(Call::GetCaPool));
        known.facts.authorities = Some(Err(denied(Call::ListCertificateAuthorities)));
        known.facts.chains = Some(Err(denied(Call::FetchCaCerts)));
    };
    let report = bent(
        Verdict::Warning,
        CheckId::Pool,
        "privateca.caPools.get: grant it roles/privateca.poolReader",
        look,
    );
    assert!(
        report.next_steps[0]
            .command
            .contains("--role=roles/privateca.poolReader")
    );
    skipped(&report, CheckId::KeyType, "may not be looked at");
    skipped(&report, CheckId::Authorities, "roles/privateca.auditor");

    // Whoever may not create has the worse problem.
    bent(
        Verdict::Problem,
        CheckId::MayCreate,
        "privateca.certificates.create",
        |known| {
            look(known);
            let error = denied(Call::ValidateCertificate);
            known.facts.creation = Some(Err(Refused::Call(error)));
        },
    );
}

#[test]
fn who_may_look_but_not_create_has_a_problem_with_the_permission_and_its_role() {
    let mut known = Known::healthy();
    let error = denied(Call::ValidateCertificate);
    known.facts.creation = Some(Err(Refused::Call(error)));
    let role = "roles/privateca.certificateRequester";
    expect(&known.judge(), Verdict::Problem, CheckId::MayCreate, role);
    golden("pool-create-denied", &known);
}

#[test]
fn what_the_pool_would_refuse_is_a_problem_in_its_own_words() {
    bent(
        Verdict::Problem,
        CheckId::MayCreate,
        "CEL says no",
        |known| {
            let error = no(
                Call::ValidateCertificate,
                400,
                "INVALID_ARGUMENT",
                "CEL says no",
            );
            known.facts.creation = Some(Err(Refused::Call(error)));
        },
    );
}

#[test]
fn a_pool_that_leads_to_no_anchor_is_a_problem_and_one_whose_anchors_are_away_unknown() {
    bent(Verdict::Problem, CheckId::Anchored, "no root of", |known| {
        known.anchoring = Anchoring::Astray("which is no root of example.org".to_owned());
    });
    bent(Verdict::Unknown, CheckId::Anchored, "away", |known| {
        known.anchoring = Anchoring::Unknown("the root pool is away".to_owned());
    });
}

#[test]
fn clocks_may_differ_by_5_seconds_and_must_not_by_5_minutes() {
    for (ahead, verdict, detail) in [
        (0, None, ""),
        (6, None, ""),
        (-5, None, ""),
        (7, Some(Verdict::Warning), "6 s ahead of"),
        (-6, Some(Verdict::Warning), "6 s behind"),
        (301, Some(Verdict::Warning), "5 min ahead of"),
        (-300, Some(Verdict::Warning), "5 min behind"),
        (302, Some(Verdict::Problem), "5 min 1 s ahead of"),
        (-301, Some(Verdict::Problem), "5 min 1 s behind"),
    ] {
        let shift = SignedDuration::from_secs(ahead);
        let mut known = Known::healthy();
        let clocks = known.facts.clocks.as_mut().unwrap();
        clocks.before += shift;
        clocks.after = clocks.before;
        match verdict {
            None => assert_eq!(known.judge().verdict(), Verdict::Healthy, "{ahead}"),
            Some(verdict) => expect(&known.judge(), verdict, CheckId::Clock, detail),
        }
    }
    // A slow answer says nothing about the clocks.
    let mut known = Known::healthy();
    let clocks = known.facts.clocks.as_mut().unwrap();
    clocks.before -= SignedDuration::from_mins(10);
    assert_eq!(known.judge().verdict(), Verdict::Healthy);
    known.facts.clocks = None;
    assert_eq!(known.judge().verdict(), Verdict::Healthy);
}

fn is_printable(text: &str) -> bool {
    text.chars()
        .all(|c| c == '\n' || !(c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn hostile_texts_are_cut_and_cannot_steer_a_terminal(
        text in any::<String>(), times in 1..300_usize, status in 400_u16..600,
    ) {
        let text = format!("\u{1b}[2J\u{202e}\r{text}").repeat(times);
        let mut known = Known::healthy();
        known.policy(&json!({
            "allowedKeyTypes": [{ "ellipticCurve": { "signatureAlgorithm": text } }],
            "identityConstraints": {
                "celExpression": { "expression": text }, "allowSubjectAltNamesPassthrough": true,
            },
            "passthroughExtensions": { "knownExtensions": vec![text.clone(); 50] },
        }));
        let mut ca = authority(&text, "STAGED", &fixture::contents());
        ca.key_spec.algorithm.clone_from(&text);
        known.facts.authorities = Some(Ok(vec![ca; 30]));
        let error = Reason::Answer {
            http: status,
            status: Some("X".to_owned()),
            message: crate::cas::error::printable(&text, 200),
            permission: None,
        };
        let error = failure(Call::ValidateCertificate, error);
        known.facts.creation = Some(Err(Refused::Call(error)));
        let report = known.judge();
        prop_assert!(is_printable(&report.to_text()));
        prop_assert!(report.to_text().len() < 120_000);
        prop_assert!(serde_json::from_str::<Value>(&report.to_json()).is_ok());
    }
}
