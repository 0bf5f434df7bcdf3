use std::collections::BTreeSet;

use super::*;
use crate::faults::FaultRule;

/// Every parameter with its greatest or last value.
fn extreme(entry: &CatalogueEntry) -> Arguments {
    let value = |parameter: &Parameter| match parameter.allowed {
        Allowed::Number { most, .. } => Value::from(most),
        Allowed::Text { most } => Value::from("x".repeat(most)),
        Allowed::OneOf(words) => Value::from(*words.last().unwrap()),
    };
    let fields = entry
        .parameters
        .iter()
        .map(|parameter| (parameter.name.to_owned(), value(parameter)));
    Arguments(fields.collect())
}

fn presets(entry: &CatalogueEntry) -> Arguments {
    let fields = entry.parameters.iter().filter_map(|parameter| {
        let value = match parameter.preset? {
            Preset::Number(number) => Value::from(number),
            Preset::Text(text) => Value::from(text),
        };
        Some((parameter.name.to_owned(), value))
    });
    Arguments(fields.collect())
}

#[test]
fn every_entry_makes_the_fault_of_its_name_and_arguments() {
    for entry in CATALOGUE {
        for arguments in [presets(entry), extreme(entry)] {
            let fault = entry.make(&arguments);
            assert_eq!(fault.name(), entry.name);
            assert_eq!(fault.arguments(), arguments, "{}", entry.name);
        }
    }
}

#[test]
fn names_are_unique_and_in_kebab_case() {
    let names: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
    let is_kebab = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    assert!(names.iter().all(|name| is_kebab(name)));
    // What a rule itself says, and no fault may say otherwise.
    let taken: Vec<&str> = FaultRule::fields().iter().map(|field| field.name).collect();
    assert_eq!(
        taken,
        [
            "fault",
            "on",
            "pool",
            "times",
            "forSeconds",
            "percent",
            "seed"
        ]
    );
    for entry in CATALOGUE {
        let mut seen: BTreeSet<&str> = taken.iter().copied().collect();
        assert!(
            entry
                .parameters
                .iter()
                .all(|parameter| seen.insert(parameter.name)),
            "{}",
            entry.name
        );
    }
}

#[test]
fn the_faults_that_a_ca_client_must_survive_are_all_there() {
    let names: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
    for name in [
        "latency",
        "error",
        "reset-before",
        "reset-after",
        "lost-reply",
        "slow-body",
        "huge-body",
        "html",
        "go-away",
        "hang",
        "other-key",
        "other-spiffe-id",
        "second-uri",
        "is-ca",
        "chain-reversed",
        "crlf",
        "expired",
        "not-yet-valid",
        "unknown-root",
        "truncated-lifetime",
        "drop-san",
        "key-cert-sign",
        "no-digital-signature",
        "subject",
        "no-client-auth",
        "empty-chain",
        "no-certificate",
    ] {
        assert!(names.contains(name), "{name}");
    }
    assert_eq!(names.len(), 27);
}
