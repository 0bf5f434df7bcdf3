//! What a service that gives tokens says when it gives none.
use serde::Deserialize;
use serde_json::Value;

use crate::cas::error::{LONGEST_TEXT, excerpt, printable};

/// The longest word of somebody else's text that is repeated. Tokens are longer.
const LONGEST_WORD: usize = 80;

/// The shapes of errors: OAuth's (RFC 6749, section 5.2) and Google's.
#[derive(Deserialize)]
struct ErrorAnswer {
    error: Value,
    error_description: Option<String>,
}

/// A refusal in words: its status, and its reason as far as it is one. Nothing in it can be a
/// token, and it can be printed.
pub(super) fn describe(status: u16, body: &[u8]) -> String {
    let said = serde_json::from_slice::<ErrorAnswer>(body)
        .ok()
        .and_then(|answer| reason(&answer));
    match said {
        Some(reason) => format!("HTTP {status}, \"{reason}\""),
        None if body.is_empty() => format!("HTTP {status}"),
        None => {
            // Cut afterwards: the beginning of a token would not look like one.
            let clean = scrub(&String::from_utf8_lossy(body));
            format!("HTTP {status}, \"{}\"", excerpt(clean.as_bytes()))
        }
    }
}

fn reason(answer: &ErrorAnswer) -> Option<String> {
    let text = match (&answer.error, &answer.error_description) {
        (Value::String(code), Some(description)) => format!("{code}: {description}"),
        (Value::String(code), None) => code.clone(),
        (Value::Object(error), _) => {
            let part = |name| error.get(name).and_then(Value::as_str);
            match (part("status"), part("message")) {
                (Some(status), Some(message)) => format!("{status}: {message}"),
                (_, message) => message?.to_owned(),
            }
        }
        _ => return None,
    };
    Some(printable(&scrub(&text), LONGEST_TEXT))
}

/// The text without what could be a token: a word that is too long for any other, or that begins
/// as Google's access tokens or JWTs do. Signs around it do not hide it.
pub(super) fn scrub(text: &str) -> String {
    let is_of_a_token = |c: char| c.is_ascii_alphanumeric() || "-_.~+/=".contains(c);
    let mut clean = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = if is_of_a_token(first) {
            rest.find(|c| !is_of_a_token(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(end);
        let is_secret =
            word.len() > LONGEST_WORD || ["ya29.", "eyJ"].iter().any(|begin| word.contains(begin));
        clean.push_str(if is_secret { "(left out)" } else { word });
        rest = after;
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_services_own_words() {
        for (body, expected) in [
            ("", "HTTP 400"),
            (
                r#"{"error":"invalid_grant","error_description":"Bad audience."}"#,
                r#"HTTP 400, "invalid_grant: Bad audience.""#,
            ),
            (
                r#"{"error":"invalid_grant"}"#,
                r#"HTTP 400, "invalid_grant""#,
            ),
            (
                r#"{"error":{"code":403,"message":"Denied on sa@p.iam.","status":"PERMISSION_DENIED"}}"#,
                r#"HTTP 400, "PERMISSION_DENIED: Denied on sa@p.iam.""#,
            ),
            (r#"{"error":7}"#, r#"HTTP 400, "{"error":7}""#),
            (
                "<html>\n<title>Not\u{7} here</title>",
                "HTTP 400, \"<html> <title>Not\u{fffd} here</title>\"",
            ),
        ] {
            assert_eq!(describe(400, body.as_bytes()), expected);
        }
    }

    #[test]
    fn no_token_gets_through_whatever_it_stands_in() {
        let long = "a".repeat(81);
        for token in [
            "ya29.c.b0Aaek",
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln",
            &long,
        ] {
            for body in [
                format!(r#"{{"error":"invalid_grant","error_description":"of {token}."}}"#),
                format!(r#"{{"error":{{"message":"<{token}>"}}}}"#),
                format!("<p title='{token}'>"),
                format!("token={token}&x"),
                format!(r#"{{"error":"{}{token}"}}"#, "word ".repeat(35)),
                format!("{}{token}", "<br> ".repeat(20)),
            ] {
                let said = describe(400, body.as_bytes());
                assert!(!said.contains(&token[..8]), "{said}");
                assert!(said.contains("(left out)"), "{said}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_answer_has_a_short_description(body in proptest::collection::vec(any::<u8>(), 0..600)) {
            let said = describe(500, &body);
            prop_assert!(said.chars().count() < 2000);
            prop_assert!(said.chars().all(|c| !c.is_control()));
        }
    }
}
