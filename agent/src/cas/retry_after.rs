//! The header `Retry-After` in both of its forms (RFC 9110, section 10.2.3).
use std::time::Duration;

use http::{HeaderMap, header::RETRY_AFTER};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

use super::wire::LONGEST_WAIT;

/// No date is longer; neither is any wait that is meant.
const LONGEST_TEXT: usize = 40;

/// How long the server wants to be left alone, at most [`LONGEST_WAIT`]: as seconds, or as a date,
/// which is reckoned from `now` by the server's own clock, the `Date` of the same answer.
pub(super) fn wait(headers: &HeaderMap, now: Option<Timestamp>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !(1..=LONGEST_TEXT).contains(&text.len()) {
        return None;
    }
    let wait = if text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean the longest wait as well.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(date.duration_since(now?)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn noon() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn told(retry_after: &[u8], now: Option<Timestamp>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(retry_after) {
            headers.insert(RETRY_AFTER, value);
        }
        wait(&headers, now)
    }

    #[test]
    fn both_forms_are_read_and_none_is_believed_to_mean_more_than_an_hour() {
        let noon = Some(noon());
        for (text, now, seconds) in [
            ("0", None, Some(0)),
            (" 17 ", None, Some(17)),
            ("3601", None, Some(3600)),
            ("99999999999999999999999999", None, Some(3600)),
            ("Sat, 21 Nov 2026 12:01:30 GMT", noon, Some(90)),
            ("Sat, 21 Nov 2026 11:00:00 GMT", noon, Some(0)),
            ("Sun, 22 Nov 2026 12:00:00 GMT", noon, Some(3600)),
            ("Sat, 21 Nov 2026 12:01:30 GMT", None, None),
            ("soon", noon, None),
            ("-5", noon, None),
            ("1.5", noon, None),
            ("", noon, None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(told(text.as_bytes(), now), expected, "{text:?} {now:?}");
        }
        assert_eq!(wait(&HeaderMap::new(), noon), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic_or_wait_for_long(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            text in "[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{1,9} [A-Z+0-9]{1,5}",
        ) {
            for value in [&bytes[..], text.as_bytes()] {
                prop_assert!(told(value, Some(noon())).is_none_or(|wait| wait <= LONGEST_WAIT));
            }
        }
    }
}
