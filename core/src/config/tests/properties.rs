//! Whatever the text is, reading ends with an answer.

use proptest::prelude::*;

use super::guide::{params, pool};
use super::*;
use crate::algorithm::KeyAlgorithm;
use crate::config::{GuideParams, render_trust_config, render_workload_certificate_config};

/// Either a configuration or an error, and every problem is one line that can be shown.
fn reads_sanely(text: &str) {
    let loaded = load_text(text);
    let has_errors = loaded.problems.iter().any(Problem::is_error);
    assert_eq!(loaded.config.is_none(), has_errors);
    assert!(loaded.problems.len() <= 101);
    for problem in &loaded.problems {
        let shown = problem.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

/// Pieces that mean something to YAML or to us.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[-?:,\\[\\]{}#&*!|>'\"%@` \t\n\r]{1,3}",
        "[ ]{0,6}",
        Just("\n".to_owned()),
        Just("---\n".to_owned()),
        Just("kind: TrustConfig\n".to_owned()),
        Just("kind: Workload\n".to_owned()),
        Just("apiVersion: security.cloud.google.com/v1\n".to_owned()),
        Just("spec:\n".to_owned()),
        Just("  trustStores:\n".to_owned()),
        Just("  - trustDomain: x\n".to_owned()),
        Just("metadata: {name: default}\n".to_owned()),
        "[a-zA-Z0-9]{1,4}",
        any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_gets_an_answer(text in any::<String>()) {
        reads_sanely(&text);
    }

    #[test]
    fn any_text_of_yaml_pieces_gets_an_answer(pieces in prop::collection::vec(piece(), 0..60)) {
        reads_sanely(&pieces.concat());
    }

    #[test]
    fn a_good_text_with_any_passage_replaced_gets_an_answer(
        start in 0..GOOD.len(),
        length in 0_usize..40,
        pieces in prop::collection::vec(piece(), 0..4),
    ) {
        let end = (start + length).min(GOOD.len());
        reads_sanely(&format!("{}{}{}", &GOOD[..start], pieces.concat(), &GOOD[end..]));
    }

    #[test]
    fn what_is_rendered_means_what_was_asked_for(
        algorithm in prop::sample::select(KeyAlgorithm::ALL.to_vec()),
        validity_seconds in 60_u64..=315_360_000,
        rotation_window_percentage in 1_u8..=99,
        id in "[a-zA-Z0-9_-]{1,63}",
    ) {
        let params = GuideParams {
            algorithm,
            validity_seconds,
            rotation_window_percentage,
            issuing_pool: pool("us-central1", &id),
            ..params()
        };
        let sources = [
            source("a", &render_workload_certificate_config(&params)),
            source("b", &render_trust_config(&params)),
        ];
        let loaded = load(&sources, &Settings::default());
        let window = validity_seconds * u64::from(rotation_window_percentage);
        prop_assert_eq!(loaded.config.is_some(), window >= 1000, "{:?}", loaded.problems);
        if let Some(config) = loaded.config {
            prop_assert_eq!(config.certificates.algorithm, algorithm);
            prop_assert_eq!(config.certificates.validity.as_secs(), validity_seconds);
            prop_assert_eq!(config.certificates.rotation_window_percentage, rotation_window_percentage);
            prop_assert_eq!(&config.certificates.pools[..], &[params.issuing_pool][..]);
        }
    }
}
