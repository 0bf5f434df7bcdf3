use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::{Rule, Severity};

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + second, 123_000_000).unwrap()
}

fn ready(generation: i64) -> Statement {
    Statement::ready("TrustConfig", generation)
}

fn broken(generation: i64) -> Statement {
    Statement::not_ready("InvalidValidity", "too short".to_owned(), generation)
}

fn problem(severity: Severity, rule: Rule, message: &str) -> Problem {
    Problem {
        severity,
        rule,
        file: "WorkloadCertificateConfig/default".to_owned(),
        line: 0,
        column: 0,
        object: None,
        field: Some("spec.validityDurationSeconds".to_owned()),
        message: message.to_owned(),
        allowed: Some("60 to 315360000".to_owned()),
    }
}

#[test]
fn the_first_statement_is_as_the_guide_prints_it() {
    let conditions = follow(&[], &[ready(4)], &[WARNING], at(0)).unwrap();
    assert_eq!(
        Value::from(conditions),
        json!([{
            "type": "Ready",
            "status": "True",
            "reason": "ConfigReady",
            "message": "TrustConfig is ready",
            "observedGeneration": 4,
            "lastTransitionTime": "2027-01-15T08:00:00Z",
        }])
    );
}

#[test]
fn the_same_again_changes_nothing_and_the_time_follows_the_status_only() {
    let first = follow(&[], &[ready(1)], &[], at(0)).unwrap();
    assert_eq!(follow(&first, &[ready(1)], &[WARNING], at(60)), None);

    let time = |conditions: &[Value]| conditions[0]["lastTransitionTime"].clone();
    let second = follow(&first, &[ready(2)], &[], at(60)).unwrap();
    assert_eq!(second[0]["observedGeneration"], 2);
    assert_eq!(time(&second), time(&first));

    let third = follow(&second, &[broken(3)], &[], at(120)).unwrap();
    assert_eq!(time(&third), "2027-01-15T08:02:00Z");
    assert_eq!(told(&third, READY), Some(("False", "InvalidValidity")));
    let other = Statement::not_ready("InvalidKeyAlgorithm", "x".to_owned(), 3);
    let fourth = follow(&third, &[other], &[], at(180)).unwrap();
    assert_eq!(time(&fourth), time(&third));
    assert_eq!(told(&fourth, READY), Some(("False", "InvalidKeyAlgorithm")));
}

#[test]
fn what_others_say_stays_as_it_is() {
    let foreign = json!({"type": "Synced", "status": "Unknown", "extra": [1]});
    let ours = json!({"type": "Ready", "status": "True", "since": "v2", "lastTransitionTime": "t"});
    let old = [foreign.clone(), ours, json!("odd")];
    let new = follow(&old, &[ready(1)], &[WARNING], at(0)).unwrap();
    assert_eq!(new.len(), 3);
    assert_eq!(new[0], foreign);
    assert_eq!(
        (&new[1]["since"], &new[1]["lastTransitionTime"]),
        (&json!("v2"), &json!("t"))
    );
    assert_eq!(new[2], "odd");
}

#[test]
fn a_condition_without_a_time_gets_one() {
    let old = [json!({"type": "Ready", "status": "True"})];
    let new = follow(&old, &[ready(1)], &[], at(0)).unwrap();
    assert_eq!(new[0]["lastTransitionTime"], "2027-01-15T08:00:00Z");
}

#[test]
fn a_warning_goes_when_nobody_repeats_it() {
    let warning = Statement::warning("KeyFamilyMismatch", "look".to_owned(), 1);
    let with = follow(&[], &[ready(1), warning.clone()], &[], at(0)).unwrap();
    assert_eq!(told(&with, WARNING), Some(("True", "KeyFamilyMismatch")));
    assert_eq!(follow(&with, &[ready(1), warning], &[], at(9)), None);
    let without = follow(&with, &[ready(1)], &[WARNING], at(9)).unwrap();
    assert_eq!(told(&without, WARNING), None);
    assert_eq!(without.len(), 1);
}

#[test]
fn errors_are_told_with_field_allowed_values_next_step_and_what_stays_in_force() {
    let problems = [
        problem(Severity::Error, Rule::InvalidValidity, "5 s is too short"),
        problem(Severity::Warning, Rule::RotationWindowShort, "late"),
        problem(Severity::Error, Rule::UnknownField, "no such field"),
    ];
    let said = judge(&problems, InForce::Generation(3), 4);
    let [not_ready, warning] = said.as_slice() else {
        panic!("{said:?}");
    };
    assert_eq!((not_ready.r#type, not_ready.status), (READY, Status::False));
    assert_eq!(not_ready.reason, "InvalidValidity");
    assert_eq!(not_ready.observed_generation, 4);
    assert_eq!(
        not_ready.message,
        "spec.validityDurationSeconds: 5 s is too short (allowed: 60 to 315360000)\n\
         spec.validityDurationSeconds: no such field (allowed: 60 to 315360000)\n\
         Correct the object and apply it again; until then generation 3 stays in force"
    );
    assert_eq!(
        (warning.r#type, warning.reason),
        (WARNING, "RotationWindowShort")
    );
    assert!(warning.message.contains("late"));

    let alone = judge(&problems[1..2], InForce::This, 4);
    assert_eq!(alone.len(), 1, "a warning alone leaves the object as it is");
    assert_eq!(judge(&[], InForce::This, 4), []);
    let nothing = &judge(&problems, InForce::Nothing, 4)[0].message;
    assert!(nothing.ends_with("no certificates are issued"), "{nothing}");
}

#[test]
fn of_too_many_problems_the_end_is_still_told() {
    let long = "é".repeat(300);
    let many = vec![problem(Severity::Error, Rule::WrongType, &long); 100];
    let message = &judge(&many, InForce::Earlier, 1)[0].message;
    assert!(message.len() <= LONGEST_MESSAGE, "{}", message.len());
    assert!(message.len() > LONGEST_MESSAGE - 8, "{}", message.len());
    assert!(message.ends_with("…\nCorrect the object and apply it again; until then the last good configuration stays in force"), "{message}");
}

fn conditions() -> impl Strategy<Value = Vec<Value>> {
    let text = prop::sample::select(vec!["Ready", "Warning", "True", "False", "Other", ""]);
    let condition = (text.clone(), text.clone(), text).prop_map(|(r#type, status, time)| {
        json!({"type": r#type, "status": status, "lastTransitionTime": time})
    });
    prop::collection::vec(
        prop_oneof![condition, Just(json!(null)), Just(json!([]))],
        0..6,
    )
}

proptest! {
    #[test]
    fn whatever_was_there_once_said_is_enough(
        old in conditions(),
        message in ".{0,2000}",
        first in any::<bool>(),
        second in 0_i64..1_000_000,
    ) {
        let said = [
            if first { ready(1) } else { Statement::not_ready("Why", message.clone(), 1) },
            Statement::warning("Look", message, 1),
        ];
        let new = follow(&old, &said, &[], at(0)).unwrap();
        prop_assert!(new.iter().all(|one| one["message"].as_str().unwrap_or("").len() <= LONGEST_MESSAGE));
        prop_assert_eq!(follow(&new, &said, &[], at(second)), None);
        let is_other = |one: &&Value| one["type"] != READY && one["type"] != WARNING;
        let others = |list: &[Value]| list.iter().filter(is_other).cloned().collect::<Vec<_>>();
        prop_assert_eq!(others(&old), others(&new));
    }
}
