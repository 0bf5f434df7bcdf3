use proptest::prelude::*;

use super::*;

const GOOD: &str =
    "//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/root-pool";

fn message(text: &str) -> String {
    text.parse::<CaPoolName>().unwrap_err().to_string()
}

#[test]
fn a_good_name_keeps_its_text_and_shows_its_parts() {
    let name: CaPoolName = GOOD.parse().unwrap();
    assert_eq!(name.to_string(), GOOD);
    assert_eq!(name.project(), "demo-project");
    assert_eq!(name.location(), "us-central1");
    assert_eq!(name.id(), "root-pool");
    assert_eq!(
        name.resource_name(),
        "projects/demo-project/locations/us-central1/caPools/root-pool"
    );
    assert_eq!(serde_json::to_value(&name).unwrap(), GOOD);
    assert_eq!(
        serde_json::from_value::<CaPoolName>(GOOD.into()).unwrap(),
        name
    );
}

#[test]
fn project_numbers_scoped_projects_and_mixed_case_pools_are_names_too() {
    for (project, location, pool) in [
        ("123456789012", "europe-west10", "Pool_1"),
        ("example.com:demo-project", "northamerica-northeast1", "a"),
    ] {
        let text = format!("//{SERVICE}/projects/{project}/locations/{location}/caPools/{pool}");
        assert_eq!(text.parse::<CaPoolName>().unwrap().to_string(), text);
    }
}

#[test]
fn each_near_miss_is_told_what_to_do() {
    let bare = GOOD.trim_start_matches('/');
    let cases = [
        (String::new(), "a CA pool name is missing"),
        (bare.to_owned(), "the leading `//` is missing"),
        (format!("/{bare}"), "the leading `//` is missing"),
        (format!("https:{GOOD}"), "remove `https:`"),
        (
            bare.replace("privateca.googleapis.com/", ""),
            "write //privateca.googleapis.com/",
        ),
        (
            GOOD.replace("privateca.", "private-ca."),
            "the service is `private-ca.",
        ),
        (format!("{GOOD}/"), "remove the slash at the end"),
        (
            GOOD.replace("caPools", "caPool"),
            "found `caPool` where `caPools` belongs",
        ),
        (
            GOOD.replace("caPools", "capools"),
            "found `capools` where `caPools` belongs",
        ),
        (
            GOOD.replace("locations", "regions"),
            "found `regions` where `locations` belongs",
        ),
        (
            format!("{GOOD}/certificateAuthorities/ca-1"),
            "name its pool: //privateca",
        ),
        (
            format!("{GOOD}/certificates/c"),
            "end it there: //privateca",
        ),
        (
            GOOD.replace("demo-project", "PROJECT_ID"),
            "PROJECT cannot be `PROJECT_ID`",
        ),
        (GOOD.replace("us-central1", "us-central1-a"), "not a zone"),
        (
            GOOD.replace("root-pool", "root pool"),
            "POOL cannot be `root pool`",
        ),
        (GOOD.replace("/root-pool", ""), "the name has no POOL"),
        (GOOD.replace("demo-project", ""), "the name has no PROJECT"),
        (format!("//{SERVICE}"), "the name has no projects"),
        (GOOD.replace("root-pool", &"p".repeat(64)), "1 to 63"),
    ];
    for (text, expected) in cases {
        let message = message(&text);
        assert!(message.contains(expected), "{text}: {message}");
        assert!(
            message.contains("caPools/"),
            "{text}: no form in: {message}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_or_kept_exactly(text in "(//privateca.googleapis.com/)?[a-zA-Z0-9:./_-]{0,80}") {
        if let Ok(name) = text.parse::<CaPoolName>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn nothing_panics(text in any::<String>()) {
        drop(text.parse::<CaPoolName>());
    }
}
