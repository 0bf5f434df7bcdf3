use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOON: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOON.parse().unwrap()
}

/// A token that says this of itself, and that nobody signed.
pub(crate) fn jwt(payload: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.c2lnbmF0dXJl",
        part(&json!({ "alg": "RS256", "kid": "k" })),
        part(payload)
    )
}

#[test]
fn a_projected_token_is_read_with_what_it_says_of_itself() {
    let text = jwt(&json!({
        "iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:default:web",
        "aud": ["demo.svc.id.goog", "x\u{1b}[2J"], "exp": now().as_second() + 600,
    }));
    let subject = parse(&format!("{text}\n"), now()).unwrap();
    assert_eq!(subject.token.expose(), text);
    let claims = &subject.claims;
    assert_eq!(
        claims.issuer.as_deref(),
        Some("https://kubernetes.default.svc")
    );
    assert_eq!(
        claims.subject.as_deref(),
        Some("system:serviceaccount:default:web")
    );
    assert_eq!(
        claims.audience.as_deref(),
        Some("demo.svc.id.goog, x\u{fffd}[2J")
    );
    let in_ten_minutes = now() + jiff::SignedDuration::from_mins(10);
    assert_eq!(claims.expires_at, Some(in_ten_minutes));
    assert!(!format!("{subject:?}").contains(&text[..40]), "{subject:?}");

    let other = parse(&jwt(&json!({})), now()).unwrap();
    assert_ne!(other.digest, subject.digest);
    assert_eq!(other.claims, Claims::default());
}

#[test]
fn a_token_whose_time_is_over_is_not_shown_to_anybody() {
    let expiring = |exp: Value| parse(&jwt(&json!({ "exp": exp })), now());
    let noon = now().as_second();
    for exp in [json!(noon), json!(noon - 90), json!(0), json!(1.5)] {
        let error = expiring(exp).unwrap_err().to_string();
        assert!(error.contains("its token expired"), "{error}");
    }
    let text = expiring(json!(noon - 90)).unwrap_err().to_string();
    assert!(
        text.starts_with("its token expired 90 s ago, at 2026-11-21T11:58:30Z; check"),
        "{text}"
    );
    for exp in [
        json!(noon + 1),
        json!(1e300),
        json!("soon"),
        json!(null),
        json!(i64::MAX),
    ] {
        assert!(expiring(exp.clone()).is_ok(), "{exp}");
    }
}

#[test]
fn what_is_no_token_is_told_with_the_file_and_never_with_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let good = jwt(&json!({ "sub": "SECRET" }));
    let (head, rest) = good.split_once('.').unwrap();
    for (content, fault) in [
        (String::new(), "it is empty; check"),
        (" \n\t".to_owned(), "it is empty; check"),
        ("SECRET".to_owned(), "it holds no token"),
        (format!("{good}\n{good}"), "it holds no token"),
        (format!("{good}.x"), "it holds no token"),
        (good.replace(".c2lnbmF0dXJl", "."), "it holds no token"),
        (format!("SECRET.{rest}"), "it holds no token"),
        (format!("{head}.SECRET.c2ln"), "it holds no token"),
        (format!("Bearer {good}"), "it holds no token"),
        ("SECRET".repeat(4000), "larger than 16384 bytes"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = read(&path, now()).unwrap_err();
        let text = error.to_string();
        let begin = format!("the token file {}: ", path.display());
        assert!(text.starts_with(&begin) && text.contains(fault), "{text}");
        assert!(!format!("{text} {error:?}").contains("SECRET"), "{error:?}");
    }
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(
        read(&path, now())
            .unwrap_err()
            .to_string()
            .contains("no token")
    );
    let missing = read(&dir.path().join("none"), now())
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("none: no such file or directory; check tokenFile"),
        "{missing}"
    );
    let directory = read(dir.path(), now()).unwrap_err().to_string();
    assert!(directory.contains("not a file"), "{directory}");
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in "[A-Za-z0-9._-]{0,80}|\\PC{0,40}", payload in "\\PC{0,60}", number in any::<f64>(),
    ) {
        drop(parse(&text, now()));
        let dotted = format!("eyJhbGciOiJub25lIn0.{}.x", URL_SAFE_NO_PAD.encode(&payload));
        drop(parse(&dotted, now()));
        let odd = json!({ "exp": number, "aud": [payload, number], "iss": payload });
        let claims = parse(&jwt(&odd), now()).map(|subject| subject.claims);
        if let Ok(claims) = claims {
            prop_assert!(claims.issuer.is_none_or(|text| text.chars().count() <= LONGEST_CLAIM + 1));
        }
    }
}
