//! Hostile YAML: every text is answered, and none takes more memory than is promised.

use std::fmt::Write as _;

use certagent_core::config::{MAX_BYTES, Settings, Source, load};

/// Start of a text and the piece that fills the rest of the largest one that is read.
const HOSTILE: [(&str, &str); 34] = [
    ("", "["),
    ("", "{"),
    ("[", "a,"),
    ("[", "[],"),
    ("[", ": ,"),
    ("{", "a: b,"),
    ("", "- "),
    ("", "? "),
    ("", "a: "),
    ("", "a:\n"),
    ("", "- a: b\n"),
    ("", "---\n"),
    ("", "---\n[\n"),
    ("", "---\n@\n"),
    ("", "---\nkind: Workload\nspec: {volume: {}}\n"),
    ("kind: List\nitems:\n", "- {kind: Workload}\n"),
    ("kind: TrustConfig\nspec:\n  trustStores:\n", "  - a: b\n"),
    ("", "&a "),
    ("", "*a "),
    ("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [", "*b,"),
    ("", "!a "),
    ("\"", "a"),
    ("\"", "\\u0041"),
    ("", "'"),
    ("|\n", " a\n"),
    (">\n", " a\n\n"),
    ("", "#\n"),
    ("", "%a b\n"),
    ("", "\t"),
    ("", "\n\t"),
    ("", "\r"),
    ("", "\0"),
    ("? ", "a"),
    ("", "😀"),
];

#[test]
fn no_text_of_a_mebibyte_takes_more_than_64_mebibytes() {
    let before = peak_kib();
    let texts = HOSTILE.iter().map(|(start, piece)| filled(start, piece));
    for text in texts.chain(std::iter::once_with(different_keys)) {
        let start: String = text.chars().take(30).collect();
        let source = Source {
            name: "hostile.yaml".to_owned(),
            text,
        };
        let loaded = load(&[source], &Settings::default());
        assert!(loaded.config.is_none(), "{start:?}");
        assert!((1..=101).contains(&loaded.problems.len()), "{start:?}");
    }
    if let (Some(before), Some(after)) = (before, peak_kib()) {
        assert!(after - before < 64 * 1024, "{} KiB", after - before);
    }
}

fn filled(start: &str, piece: &str) -> String {
    format!(
        "{start}{}",
        piece.repeat((MAX_BYTES - start.len()) / piece.len())
    )
}

fn different_keys() -> String {
    let mut text = String::new();
    for index in 0..100_000 {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "k{index}:");
    }
    text
}

/// The highest resident memory of this process so far, in KiB, where the system tells it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
