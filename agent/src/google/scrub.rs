//! Texts from outside without the tokens that we sent: a service may quote what it was shown, or
//! a part of it.
use std::collections::HashSet;

/// So many characters of a token in a row are no accident, and fewer are of no use to anybody.
const SHORTEST: usize = 12;

const LEFT_OUT: &str = "(left out)";

/// `text` without any piece of `secret`. It should be short: each of its characters is looked at
/// with those that follow.
pub(super) fn without(text: &str, secret: &str) -> String {
    let bytes = text.as_bytes();
    let pieces: HashSet<&[u8]> = secret.as_bytes().windows(SHORTEST).collect();
    let mut hidden = vec![false; bytes.len()];
    for (at, piece) in bytes.windows(SHORTEST).enumerate() {
        if pieces.contains(piece) {
            let found = hidden.iter_mut().skip(at).take(SHORTEST);
            found.for_each(|one| *one = true);
        }
    }
    let mut shown = String::with_capacity(text.len());
    let mut was_hidden = false;
    for (at, c) in text.char_indices() {
        let is_hidden = hidden.get(at).copied().unwrap_or(false);
        match (was_hidden, is_hidden) {
            (_, false) => shown.push(c),
            (false, true) => shown.push_str(LEFT_OUT),
            (true, true) => {}
        }
        was_hidden = is_hidden;
    }
    shown
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
                "Unable to parse (left out): é",
            ),
            ("the part \"QRSTUVWXYZ01\"", "the part \"(left out)\""),
            ("é ghijklmnop.Q, UVWXYZ012345", "é (left out), (left out)"),
        ] {
            assert_eq!(without(text, token), expected);
        }
        assert_eq!(without("any text", ""), "any text");
    }

    proptest! {
        #[test]
        fn no_12_characters_of_a_token_remain(
            token in "[A-Za-z0-9_.-]{0,60}", around in "\\PC{0,30}", from in 0..60_usize,
            length in 0..60_usize,
        ) {
            let quoted: String = token.chars().skip(from).take(length).collect();
            let shown = without(&format!("{around}{quoted}{around}"), &token);
            for piece in token.as_bytes().windows(SHORTEST) {
                prop_assert!(!shown.contains(str::from_utf8(piece).unwrap()), "{}", shown);
            }
        }
    }
}
