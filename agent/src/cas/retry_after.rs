//! What headers say of time: the server's clock, and `Retry-After` in both of its forms
//! (RFC 9110, section 10.2.3).
use std::time::Duration;

use http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

use super::wire::LONGEST_WAIT;

/// No date is longer; neither is any wait that is meant.
const LONGEST_TEXT: usize = 40;

/// How long the server wants to be left alone, at most [`LONGEST_WAIT`]: as seconds, or as a date,
/// which is reckoned by the server's own clock, from the `Date` of the same answer.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = text(headers, &RETRY_AFTER)?;
    let wait = if text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean the longest wait as well.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let now = service_clock(headers)?;
        Duration::try_from(date(text)?.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The server's own clock, in whole seconds, by the header `Date`, which every server has to send
/// (RFC 9110, section 6.6.1).
pub(crate) fn service_clock(headers: &HeaderMap) -> Option<Timestamp> {
    date(text(headers, &DATE)?)
}

fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (1..=LONGEST_TEXT).contains(&text.len()).then_some(text)
}

fn date(text: &str) -> Option<Timestamp> {
    const PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NOON: &str = "Sat, 21 Nov 2026 12:00:00 GMT";

    fn told(retry_after: &[u8], date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(retry_after) {
            headers.insert(RETRY_AFTER, value);
        }
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        }
        wait(&headers)
    }

    #[test]
    fn both_forms_are_read_and_none_is_believed_to_mean_more_than_an_hour() {
        for (text, date, seconds) in [
            ("0", None, Some(0)),
            (" 17 ", None, Some(17)),
            ("3601", None, Some(3600)),
            ("99999999999999999999999999", None, Some(3600)),
            ("Sat, 21 Nov 2026 12:01:30 GMT", Some(NOON), Some(90)),
            ("Sat, 21 Nov 2026 11:00:00 GMT", Some(NOON), Some(0)),
            ("Sun, 22 Nov 2026 12:00:00 GMT", Some(NOON), Some(3600)),
            ("Sat, 21 Nov 2026 12:01:30 GMT", None, None),
            ("Sat, 21 Nov 2026 12:01:30 GMT", Some("noon"), None),
            ("soon", Some(NOON), None),
            ("-5", Some(NOON), None),
            ("1.5", Some(NOON), None),
            ("", Some(NOON), None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(told(text.as_bytes(), date), expected, "{text:?} {date:?}");
        }
        assert_eq!(wait(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic_or_wait_for_long(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            text in "[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{1,9} [A-Z+0-9]{1,5}",
        ) {
            for value in [&bytes[..], text.as_bytes()] {
                prop_assert!(told(value, Some(NOON)).is_none_or(|wait| wait <= LONGEST_WAIT));
            }
        }
    }
}
