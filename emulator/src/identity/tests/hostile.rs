//! Whatever comes from outside: an error, never a panic.

use proptest::prelude::*;

use super::issuer::base64url;
use super::*;

/// One for all cases, which change nothing in it.
fn shared() -> &'static Identities {
    static SHARED: OnceLock<Identities> = OnceLock::new();
    SHARED.get_or_init(identities)
}

proptest! {
    #[test]
    fn no_token_makes_the_parser_panic(token in "[eyJA-Za-z0-9_.=-]{0,80}|\\PC{0,80}") {
        let identities = shared();
        let header = format!("Bearer {token}");
        prop_assert!(identities.authenticate(Some(&header), at(0)).is_err());
        prop_assert!(exchange(identities, &exchange_json(GENERIC, &token), at(0)).is_err());
    }

    #[test]
    fn no_json_in_a_token_makes_the_parser_panic(
        header in "\\{\"alg\":\"(RS|ES|HS)(256|384)\"(,\"kid\":[0-9nul\"]{0,6})?\\}|\\PC{0,30}",
        claims in "\\{(\"(iss|sub|aud|exp|iat|nbf)\":[0-9eE.\"\\[\\]+-]{0,8},?){0,6}\\}|\\PC{0,30}",
        signature in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let token = [header.as_bytes(), claims.as_bytes(), &signature].map(base64url).join(".");
        let keys = shared().providers[GENERIC].keys.clone();
        let outcome = Jwt::parse(&token).and_then(|jwt| jwt.verify(&keys));
        prop_assert!(outcome.is_err());
    }

    #[test]
    fn no_body_makes_the_token_service_panic(
        body in "\\{(\"[a-zA-Z_]{1,12}\":(\"[a-z]{0,5}\"|[0-9]{1,3}|\\[\\]),?){0,5}\\}\
            |([a-z_]{0,12}=[a-zA-Z%0-9+]{0,10}&?){0,40}|\\PC{0,60}",
    ) {
        for content_type in ["application/json", "application/x-www-form-urlencoded"] {
            if let Ok(request) = TokenRequest::parse(Some(content_type), body.as_bytes()) {
                prop_assert!(shared().exchange(&request, at(0)).is_err());
            }
        }
        let _answered = shared().generate_access_token(
            ACCOUNT, Some("Bearer a-made-up-admin-token"), body.as_bytes(), at(0),
        );
    }

    #[test]
    fn no_path_makes_the_metadata_server_panic(path in "/[a-zA-Z0-9/?%.-]{0,60}", query in "\\PC{0,40}") {
        let path = format!("{}{path}", metadata::PREFIX);
        let _answered = shared().metadata(&path, &query, at(0));
    }

    #[test]
    fn no_audience_makes_the_provider_panic(
        audience in "(identitynamespace:|//iam.googleapis.com/projects/)?[a-z0-9:/._-]{0,80}|\\PC{0,40}",
    ) {
        prop_assert!(!provider::is_audience(&audience));
    }
}
