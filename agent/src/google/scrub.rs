//! Texts from outside, without tokens in them: a service may quote what it was sent.
use std::collections::HashSet;

/// So many characters of a token in a row are no accident, and no use to anybody if fewer.
const SHORTEST: usize = 12;

/// More of a text than this is not looked at, and not shown either.
const LONGEST: usize = 2048;

/// How the usual tokens begin: a JWT, an access token of Google's.
const BEGINNINGS: [&str; 2] = ["eyJ", "ya29."];

const HIDDEN: &str = "[token]";

/// The beginning of `text`, with every piece of one of `secrets`, and all else that looks like a
/// token, replaced.
pub(super) fn scrub(text: &str, secrets: &[&str]) -> String {
    let end = text
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at >= LONGEST);
    let text = end.and_then(|end| text.get(..end)).unwrap_or(text);
    let bytes = text.as_bytes();
    let mut hidden = vec![false; bytes.len()];
    let mut hide = |from: usize, to: usize| {
        hidden
            .iter_mut()
            .take(to)
            .skip(from)
            .for_each(|one| *one = true);
    };
    for secret in secrets {
        let pieces: HashSet<&[u8]> = secret.as_bytes().windows(SHORTEST).collect();
        for (at, piece) in bytes.windows(SHORTEST).enumerate() {
            if pieces.contains(piece) {
                hide(at, at + SHORTEST);
            }
        }
    }
    for beginning in BEGINNINGS {
        for (at, _) in text.match_indices(beginning) {
            let run = bytes.iter().skip(at).take_while(|b| is_token(**b)).count();
            hide(at, at + run);
        }
    }
    let mut shown = String::with_capacity(text.len());
    let mut was_hidden = false;
    for (at, c) in text.char_indices() {
        let is_hidden = hidden.get(at).copied().unwrap_or(false);
        match (was_hidden, is_hidden) {
            (_, false) => shown.push(c),
            (false, true) => shown.push_str(HIDDEN),
            (true, true) => {}
        }
        was_hidden = is_hidden;
    }
    shown
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=' | b'+' | b'/')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quoted_token_goes_and_the_sentence_around_it_stays() {
        let token = "abcdefghijklmnop.QRSTUVWXYZ0123456789";
        for (text, expected) in [
            ("no token here", "no token here"),
            ("", ""),
            (
                "Unable to parse abcdefghijklmnop.QRSTUVWXYZ0123456789: é",
                "Unable to parse [token]: é",
            ),
            ("the part \"QRSTUVWXYZ01\"", "the part \"[token]\""),
            ("ghijklmnop.Q and UVWXYZ012345", "[token] and [token]"),
            (
                "another eyJhbGciOiJub25lIn0.e30.x, or ya29.a0AfB_x",
                "another [token], or [token]",
            ),
            ("The audience in ID Token", "The audience in ID Token"),
        ] {
            assert_eq!(scrub(text, &[token]), expected);
        }
    }

    proptest! {
        #[test]
        fn no_12_characters_of_a_token_remain(
            token in "[A-Za-z0-9_.-]{0,60}", around in "\\PC{0,30}", from in 0..60_usize,
            length in 0..60_usize,
        ) {
            let quoted: String = token.chars().skip(from).take(length).collect();
            let shown = scrub(&format!("{around}{quoted}{around}"), &[&token]);
            for piece in token.as_bytes().windows(SHORTEST) {
                prop_assert!(!shown.contains(str::from_utf8(piece).unwrap()), "{}", shown);
            }
        }
    }
}
