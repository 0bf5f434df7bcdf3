use proptest::prelude::*;

use super::*;

const POOL: &str =
    "//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/p";

fn message(call: Call, reason: Reason, wait: Option<Duration>) -> String {
    let message = CallError::new(call, &POOL.parse().unwrap(), reason, wait).to_string();
    let start = format!("{call} at the CA pool {POOL}: ");
    message
        .strip_prefix(&start)
        .unwrap_or_else(|| panic!("{message}"))
        .to_owned()
}

fn answer(http: u16, status: &str, message: &str) -> Reason {
    let status = Some(status.to_owned()).filter(|status| !status.is_empty());
    Reason::Answer {
        http,
        status,
        message: message.to_owned(),
        permission: None,
    }
}

#[test]
fn each_message_says_what_happened_and_the_next_step() {
    use Call::{
        CreateCertificate, CreateCertificateForSelf, FetchCaCerts, GetCaPool, GetCertificate,
        ListCertificateAuthorities,
    };
    let seconds = |s| Some(Duration::from_secs(s));
    for (call, reason, wait, expected) in [
        (
            CreateCertificate,
            Reason::Timeout {
                endpoint: "http://127.0.0.1:1".to_owned(),
                after: Duration::from_secs(20),
            },
            None,
            "no answer from http://127.0.0.1:1 within 20s; it is asked again by itself; if this goes on, look at the CA and at the network on the way to it",
        ),
        (
            CreateCertificate,
            Reason::NoToken(IdentityError::passing("STS says no".to_owned())),
            None,
            "no access token: STS says no; nothing was sent to CA Service",
        ),
        (
            CreateCertificate,
            Reason::TooLarge,
            None,
            "the answer is more than 1 MiB; check that the endpoint is CA Service or its emulator and nothing in between",
        ),
        (
            CreateCertificate,
            answer(403, "PERMISSION_DENIED", "no"),
            None,
            "HTTP 403 PERMISSION_DENIED, \"no\"; the caller lacks privateca.certificates.create: grant it roles/privateca.certificateRequester on the pool, and check that the pool exists",
        ),
        (
            CreateCertificateForSelf,
            answer(403, "PERMISSION_DENIED", ""),
            None,
            "HTTP 403 PERMISSION_DENIED; the caller lacks privateca.certificates.createForSelf: grant it roles/privateca.workloadCertificateRequester on the pool, and check that the pool exists",
        ),
        (
            FetchCaCerts,
            answer(403, "PERMISSION_DENIED", ""),
            None,
            "HTTP 403 PERMISSION_DENIED; the caller lacks privateca.caPools.get: grant it roles/privateca.poolReader on the pool, and check that the pool exists",
        ),
        (
            GetCaPool,
            answer(404, "NOT_FOUND", "no"),
            None,
            "HTTP 404 NOT_FOUND, \"no\"; compare the name in the configuration with the pools that exist there",
        ),
        (
            ListCertificateAuthorities,
            answer(403, "PERMISSION_DENIED", ""),
            None,
            "HTTP 403 PERMISSION_DENIED; the caller lacks privateca.certificateAuthorities.list: grant it roles/privateca.auditor on the pool, and check that the pool exists",
        ),
        (
            GetCertificate,
            answer(404, "NOT_FOUND", ""),
            None,
            "HTTP 404 NOT_FOUND; the pool keeps no certificate under this id",
        ),
        (
            CreateCertificate,
            answer(429, "RESOURCE_EXHAUSTED", ""),
            seconds(7),
            "HTTP 429 RESOURCE_EXHAUSTED; a quota is used up, and the service asks to be left alone for 7s: a CA signs 7 certificates/s in an ENTERPRISE pool and 25/s in a DEVOPS pool, so add CAs or ask for longer lifetimes",
        ),
        (
            CreateCertificate,
            answer(400, "FAILED_PRECONDITION", ""),
            None,
            "HTTP 400 FAILED_PRECONDITION; look at the pool: it needs a CA that is enabled",
        ),
        (
            CreateCertificate,
            answer(409, "ABORTED", ""),
            None,
            "HTTP 409 ABORTED; it is asked again by itself; if this goes on, look at the CA and at the network on the way to it",
        ),
        (
            CreateCertificate,
            answer(503, "", "<html>away</html>"),
            None,
            "HTTP 503, \"<html>away</html>\"; it is asked again by itself; if this goes on, look at the CA and at the network on the way to it",
        ),
    ] {
        assert_eq!(message(call, reason, wait), expected);
    }
}

#[test]
fn the_permission_that_the_service_names_wins_over_the_one_that_the_call_needs() {
    let named = |permission: &str| {
        let reason = Reason::Answer {
            http: 403,
            status: None,
            message: String::new(),
            permission: Some(permission.to_owned()),
        };
        message(Call::CreateCertificate, reason, None)
    };
    assert!(
        named("privateca.certificates.createForSelf")
            .ends_with("grant it roles/privateca.workloadCertificateRequester on the pool, and check that the pool exists")
    );
    assert!(named("privateca.certificateTemplates.use").ends_with(
        "lacks privateca.certificateTemplates.use: grant it a role with that permission on the pool, and check that the pool exists"
    ));
}

#[test]
fn a_call_error_is_told_once_and_has_no_source_that_would_repeat_it() {
    let error = CallError::new(
        Call::GetCaPool,
        &POOL.parse().unwrap(),
        Reason::TooLarge,
        None,
    );
    assert!(std::error::Error::source(&error).is_none());
}

#[test]
fn runs_of_white_space_become_one_space() {
    assert_eq!(printable("  a\r\n\t b  c \n", 80), "a b c");
    assert_eq!(printable("abcdef", 3), "abc…");
    assert_eq!(printable("abc", 3), "abc");
    assert_eq!(excerpt(&[b'<', 0xff, 0, b'>']), "<\u{fffd}\u{fffd}>");
}

proptest! {
    #[test]
    fn no_text_from_outside_steers_a_terminal(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let text = excerpt(&bytes);
        prop_assert!(text.chars().all(|c| !c.is_control()));
        prop_assert!(text.chars().count() <= LONGEST_EXCERPT + 1);
    }
}
