//! Text from outside in messages of ours.

/// Longest text from outside that a message repeats, in characters.
const LONGEST: usize = 200;

/// The beginning of `text` without control characters, quotes escaped.
pub(crate) fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars
        .by_ref()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt("plain"), "plain");
        assert_eq!(excerpt("a\r\nb\"\u{1b}[0m"), "a\\r\\nb\\\"\\u{1b}[0m");
        assert_eq!(excerpt(&"x".repeat(500)).chars().count(), LONGEST + 1);
    }
}
