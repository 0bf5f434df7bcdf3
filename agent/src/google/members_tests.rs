use serde_json::json;

use super::*;

const HUNTER: &str = "hunter2";

fn user() -> Value {
    json!({ "type": "authorized_user", "client_id": "c", "client_secret": HUNTER,
        "refresh_token": HUNTER })
}

fn external(source: &Value) -> Value {
    json!({ "type": "external_account", "audience": "//iam.googleapis.com/projects/1",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token", "credential_source": source })
}

fn impersonated(source: &Value) -> Value {
    json!({ "type": "impersonated_service_account", "source_credentials": source,
        "service_account_impersonation_url": url("a@p.iam.gserviceaccount.com") })
}

fn url(account: &str) -> String {
    format!(
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    )
}

#[test]
fn an_executable_is_refused_wherever_it_is_named() {
    let source = external(&json!({ "executable": { "command": HUNTER } }));
    for json in [source.clone(), impersonated(&source)] {
        let Fault { what, next } = Members::of(json).err().unwrap();
        let said = "\"credential_source\" names an executable, and executables are not run";
        assert!(what.ends_with(said), "{what}");
        assert!(
            next.unwrap()
                .starts_with("have that program write its token to a file")
        );
    }
    let said = Members::of(external(&json!({ "certificate": {} })))
        .err()
        .unwrap()
        .what;
    assert!(
        said.contains("has neither a \"file\" nor a \"url\""),
        "{said}"
    );
    for source in [
        json!({ "file": "/token" }),
        json!({ "url": "http://169.254.169.254/" }),
    ] {
        assert_eq!(
            Members::of(external(&source)).unwrap().source,
            Source::External
        );
    }
}

#[test]
fn what_is_wrong_inside_is_told_with_its_place() {
    let mut no_texts = user();
    no_texts["refresh_token"] = Value::Null;
    let mut odd = impersonated(&user());
    odd["service_account_impersonation_url"] = "https://iamcredentials.googleapis.com/v1/x".into();
    let mut empty = impersonated(&user());
    empty["source_credentials"].take();
    let mut delegates = impersonated(&user());
    delegates["delegates"] = json!([7]);
    for (json, expected) in [
        (
            impersonated(&no_texts),
            "in \"source_credentials\": no text \"refresh_token\", which authorized_user has",
        ),
        (
            impersonated(&impersonated(&user())),
            "\"source_credentials\" impersonate, too",
        ),
        (empty, "in \"source_credentials\": no member \"type\""),
        (
            json!({ "type": "impersonated_service_account",
                "service_account_impersonation_url": url("a") }),
            "no \"source_credentials\"",
        ),
        (
            odd,
            "\"service_account_impersonation_url\" is not like https://iamcredentials",
        ),
        (delegates, "\"delegates\" is no list of texts"),
    ] {
        let said = Members::of(json).err().unwrap().what;
        assert!(said.contains(expected) && !said.contains(HUNTER), "{said}");
    }
}

#[test]
fn the_library_is_given_nothing_to_impersonate() {
    let mut federated = external(&json!({ "file": "/token" }));
    federated["service_account_impersonation_url"] = url("inner").into();
    for (json, source, targets) in [
        (user(), Source::User, 0),
        (impersonated(&user()), Source::User, 1),
        (federated.clone(), Source::External, 1),
        (impersonated(&federated), Source::External, 2),
    ] {
        let members = Members::of(json).unwrap();
        assert_eq!((members.source, members.targets.len()), (source, targets));
        assert_eq!(members.json.get(IMPERSONATION_URL), None);
    }
}
