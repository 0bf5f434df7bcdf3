use proptest::prelude::*;

use super::*;
use crate::{
    cas::lab::{domain, now},
    trust::lab::some_roots,
};

fn grace() -> Grace {
    Grace {
        since: now(),
        length: SignedDuration::from_hours(24),
    }
}

fn kept() -> Kept {
    let remembered = |index: usize, leaving| {
        let root = some_roots()[index].clone();
        let anchors = if leaving {
            BTreeSet::new()
        } else {
            BTreeSet::from(["//pool".to_owned(), "pemCertificate".to_owned()])
        };
        let leaving = leaving.then(grace);
        (
            root.fingerprint(),
            Remembered {
                root,
                anchors,
                leaving,
            },
        )
    };
    let memory = |roots: Vec<_>, rebuilding| DomainMemory {
        roots: roots.into_iter().collect(),
        rebuilding,
    };
    Kept {
        memory: Memory {
            domains: BTreeMap::from([
                (
                    domain("a"),
                    memory(
                        vec![remembered(0, false), remembered(1, true)],
                        Rebuilding::No,
                    ),
                ),
                (domain("b"), memory(Vec::new(), Rebuilding::UntilKnown)),
                (
                    domain("c"),
                    memory(vec![remembered(2, false)], Rebuilding::Leaving(grace())),
                ),
            ]),
        },
        sequences: BTreeMap::from([("https://example.org/b?x".to_owned(), u64::MAX)]),
    }
}

#[test]
fn what_is_kept_reads_back() {
    for kept in [kept(), Kept::default()] {
        assert_eq!(decode(&encode(&kept).unwrap()).unwrap(), kept);
    }
}

#[test]
fn anything_else_is_refused_with_the_reason() {
    let good = encode(&kept()).unwrap();
    let der = STANDARD.encode(some_roots()[0].der());
    for (text, expected) in [
        (String::new(), "does not parse"),
        (good[..good.len() / 2].to_owned(), "does not parse"),
        ("{}".to_owned(), "does not parse"),
        (
            good.replace("\"version\": 1", "\"version\": 2"),
            "has version 2",
        ),
        (
            good.replace("\"version\": 1", "\"version\": 1, \"x\": 1"),
            "does not parse",
        ),
        (good.replace("\"a\": {", "\"A a\": {"), "not a trust domain"),
        (good.replace(&der, "%"), "not base64"),
        (good.replace(&der, "AAAA"), "cannot be read"),
        (good.replace("2026-11-21", "2026-13-21"), "does not parse"),
    ] {
        let message = decode(&text).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(cut in 0..4000_usize, byte in any::<u8>(), noise in "\\PC{0,40}") {
        let mut text = encode(&kept()).unwrap().into_bytes();
        if let Some(at) = text.get_mut(cut) {
            *at = byte;
        }
        if let Ok(text) = String::from_utf8(text) {
            drop(decode(&text));
        }
        drop(decode(&noise));
    }
}
