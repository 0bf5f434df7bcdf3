//! The scalars of protobuf's JSON that are not JSON's own.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::SignedDuration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in protobuf's JSON form: seconds, at most nine decimals, then `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtoDuration(pub SignedDuration);

impl Serialize for ProtoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            return serializer.collect_str(&format_args!("{seconds}s"));
        }
        let sign = if self.0.is_negative() { "-" } else { "" };
        let decimals = format!("{:09}", nanos.unsigned_abs());
        let decimals = decimals.trim_end_matches('0');
        serializer.collect_str(&format_args!(
            "{sign}{}.{decimals}s",
            seconds.unsigned_abs()
        ))
    }
}

impl<'de> Deserialize<'de> for ProtoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).ok_or_else(|| {
            D::Error::custom("a duration is a number of seconds followed by \"s\", like \"86400s\"")
        })
    }
}

fn parse_duration(text: &str) -> Option<SignedDuration> {
    // The bound of protobuf's Duration: about 10,000 years.
    const MAX_SECONDS: i64 = 315_576_000_000;
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    let seconds: i64 = whole
        .parse()
        .ok()
        .filter(|seconds| *seconds <= MAX_SECONDS)?;
    let nanos: i32 = format!("{decimals:0<9}").parse().ok()?;
    let span = SignedDuration::new(seconds, nanos);
    Some(if negative { -span } else { span })
}

/// Bytes in base64: written in the standard alphabet, read in that and in the one for URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64Bytes(pub Vec<u8>);

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(&text).or_else(|_| URL_SAFE.decode(&text));
        bytes
            .map(Self)
            .map_err(|_error| D::Error::custom("Base64 decoding failed"))
    }
}

/// Enums may come by name or, as some of Google's own clients send them, by number.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum NameOrNumber {
    Name(String),
    Number(i64),
}

impl NameOrNumber {
    pub(crate) fn pick<T: Copy>(&self, known: &[(&str, T)]) -> Result<T, String> {
        let found = match self {
            Self::Name(name) => known.iter().find(|(known, _)| known == name),
            Self::Number(number) => usize::try_from(*number)
                .ok()
                .and_then(|index| known.get(index)),
        };
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            format!("the value is none of {}", names.join(", "))
        })
    }

    /// As [`pick`](Self::pick), for enums whose zero means "not said" and does not do.
    pub(crate) fn pick_specified<T: Copy>(&self, known: &[(&str, Option<T>)]) -> Result<T, String> {
        self.pick(known)?.ok_or_else(|| {
            let names: Vec<_> = known.iter().skip(1).map(|(name, _)| *name).collect();
            format!("the value must be one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_seconds_with_an_s() {
        for (text, seconds, nanos) in [
            ("86400s", 86400, 0),
            ("0s", 0, 0),
            ("1.5s", 1, 500_000_000),
            ("0.000000001s", 0, 1),
            ("-3s", -3, 0),
            ("-0.5s", 0, -500_000_000),
        ] {
            let read: ProtoDuration = serde_json::from_value(json!(text)).unwrap();
            assert_eq!(read.0, SignedDuration::new(seconds, nanos), "{text}");
            assert_eq!(serde_json::to_value(read).unwrap(), json!(text));
        }
        for bad in [
            "",
            "s",
            "1",
            "1m",
            "1 s",
            "+1s",
            "1.s",
            ".5s",
            "1.0000000001s",
            "1e3s",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(parse_duration("315576000001s"), None);
        assert_eq!(parse_duration("99999999999999999999s"), None);
    }
}
