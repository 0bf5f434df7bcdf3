use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::errors::Code;
use crate::faults::CertificateFault;

fn read(rules: &Value) -> Result<Vec<FaultRule>, ApiError> {
    parse(json!({ "rules": rules }).to_string().as_bytes())
}

#[test]
fn rules_are_read_as_the_library_makes_them() {
    let refusal = ApiError::new(Code::Internal, "no").with_retry_info(Duration::from_secs(4));
    let rules = read(&json!([
        { "fault": "lost-reply", "on": "CreateCertificate", "times": 3 },
        { "fault": "error", "code": "INTERNAL", "message": "no", "retryInfoSeconds": 4,
          "retryAfterSeconds": 5, "forSeconds": 60 },
        { "fault": "go-away", "percent": 30, "seed": 7 },
        { "fault": "hang" },
        { "fault": "second-uri", "uri": "spiffe://a/b" },
        { "fault": "latency", "delayMillis": 20, "times": 2, "percent": 50 },
        { "fault": "hang", "pool": "a" },
        { "fault": "expired", "pool": "projects/p/locations/l/caPools/a", "times": 1 },
        { "fault": "hang", "on": "GetCertificateAuthority",
          "pool": "//privateca.googleapis.com/projects/p/locations/l/caPools/a" },
    ]))
    .unwrap();
    let uri = CertificateFault::SecondUri("spiffe://a/b".to_owned());
    let name = PoolSelector::from(PoolName::new("p", "l", "a").unwrap());
    assert_eq!(
        rules,
        [
            FaultRule::next(3, Fault::LostReply).on(Method::CreateCertificate),
            FaultRule::during(
                SignedDuration::from_secs(60),
                Fault::Error {
                    error: refusal,
                    retry_after: Some(Duration::from_secs(5)),
                }
            ),
            FaultRule::always(Fault::GoAway).share(30, 7),
            FaultRule::always(Fault::Hang),
            FaultRule::always(Fault::Certificate(uri)),
            FaultRule::next(2, Fault::Latency(Duration::from_millis(20))).share(50, 0),
            FaultRule::always(Fault::Hang).at("a".parse().unwrap()),
            FaultRule::next(1, Fault::Certificate(CertificateFault::Expired)).at(name.clone()),
            FaultRule::always(Fault::Hang)
                .on(Method::GetCertificateAuthority)
                .at(name),
        ]
    );
    assert_eq!(read(&json!([])).unwrap(), []);
}

#[test]
fn every_fault_of_the_catalogue_is_read_by_its_name_and_shown_so_that_it_can_be_read_again() {
    for entry in Fault::catalogue() {
        let rules = read(&json!([{ "fault": entry.name, "times": 2, "percent": 9 }])).unwrap();
        assert_eq!(rules[0].fault().name(), entry.name);
        assert_eq!(read(&show(&rules)["rules"]).unwrap(), rules);
    }
    assert!(read(&catalogue()["faults"]).is_err());
    let faults = &catalogue()["faults"];
    assert_eq!(faults.as_array().unwrap().len(), Fault::catalogue().len());
}

fn refused(rules: &Value, field: &str, text: &str) {
    let error = read(rules).unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.starts_with(&format!("{field}: ")), "{error}");
    assert!(error.message.contains(text), "{error}");
    assert_eq!(error.details[0]["fieldViolations"][0]["field"], field);
}

#[test]
fn a_wrong_pool_is_refused_with_what_to_write_instead() {
    for (rules, field, text) in [
        (
            json!([{ "fault": "hang", "pool": "a pool" }]),
            "rules[0].pool",
            "\"a pool\": this is not the name of a CA pool; write its id, or projects/",
        ),
        (
            json!([{ "fault": "hang", "pool": ["a"] }]),
            "rules[0].pool",
            "[\"a\"] is not allowed; write 1 to 512 printable",
        ),
        (
            json!([{ "fault": "hang", "pools": "a" }]),
            "rules[0].pools",
            "unknown field; allowed are fault, on, pool,",
        ),
        (
            json!([{ "fault": "hang", "on": "ExchangeToken", "pool": "a" }]),
            "rules[0].pool",
            "ExchangeToken is about no pool; leave it out",
        ),
        (
            json!([{ "fault": "hang", "on": "CreateCaPool", "pool": "a" }]),
            "rules[0].pool",
            "CreateCaPool is about no pool",
        ),
    ] {
        refused(&rules, field, text);
    }
}

#[test]
fn a_wrong_rule_is_refused_with_its_field_and_what_is_allowed() {
    let lots: Vec<Value> = vec![json!({ "fault": "hang" }); 65];
    for (rules, field, text) in [
        (json!({}), "rules", "{} is no list of rules"),
        (json!(lots), "rules", "at most 64"),
        (json!([1]), "rules[0]", "1 is no JSON object"),
        (
            json!([{}]),
            "rules[0].fault",
            "missing; allowed are error, html,",
        ),
        (
            json!([{ "fault": "x" }]),
            "rules[0].fault",
            "\"x\" is not allowed; allowed are error,",
        ),
        (
            json!([{ "fault": "hang" }, { "fault": "hang", "times": 0 }]),
            "rules[1].times",
            "0 is not allowed; write a whole number from 1 to 4294967295",
        ),
        (
            json!([{ "fault": "hang", "times": 1.5 }]),
            "rules[0].times",
            "1.5 is not",
        ),
        (
            json!([{ "fault": "hang", "times": 1, "forSeconds": 1 }]),
            "rules[0].forSeconds",
            "not both",
        ),
        (
            json!([{ "fault": "hang", "percent": 101 }]),
            "rules[0].percent",
            "from 0 to 100",
        ),
        (
            json!([{ "fault": "hang", "seed": 1 }]),
            "rules[0].seed",
            "percent",
        ),
        (
            json!([{ "fault": "hang", "status": 500 }]),
            "rules[0].status",
            "unknown field; allowed are fault, on, pool, times, forSeconds, percent, seed",
        ),
        (
            json!([{ "fault": "hang", "on": "Get" }]),
            "rules[0].on",
            "CreateCertificate, Get",
        ),
        (
            json!([{ "fault": "expired", "on": "GetCaPool" }]),
            "rules[0].on",
            "allowed are CreateCertificate.",
        ),
        (
            json!([{ "fault": "html", "status": 99 }]),
            "rules[0].status",
            "200 to 599",
        ),
        (
            json!([{ "fault": "error", "code": "OK" }]),
            "rules[0].code",
            "allowed are INVALID_ARGUMENT,",
        ),
        (
            json!([{ "fault": "subject", "commonName": "ü" }]),
            "rules[0].commonName",
            "ASCII",
        ),
        (
            json!([{ "fault": "subject", "commonName": "x".repeat(100) }]),
            "rules[0].commonName",
            "x… is not allowed",
        ),
    ] {
        refused(&rules, field, text);
    }
    for body in ["", "{}", "[]", "{", "null", r#"{"rules":[],"more":1}"#] {
        assert!(parse(body.as_bytes()).is_err(), "{body}");
    }
}

/// JSON that is often nearly a body of rules.
fn nearly() -> impl Strategy<Value = Value> {
    let names: Vec<&str> = Fault::catalogue().iter().map(|entry| entry.name).collect();
    let parameters = Fault::catalogue()
        .iter()
        .flat_map(|entry| entry.parameters)
        .map(|parameter| parameter.name);
    let keys: Vec<&str> = [
        "on",
        "pool",
        "times",
        "forSeconds",
        "percent",
        "seed",
        "more",
    ]
    .into_iter()
    .chain(parameters)
    .collect();
    let value = prop_oneof![
        any::<u64>().prop_map(Value::from),
        (0..700_u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
        Just(json!("CreateCertificate")),
        Just(json!("UNAVAILABLE")),
        Just(json!("projects/p/locations/l/caPools/a")),
        Just(Value::Null),
        Just(json!([{}])),
    ];
    let fields = proptest::collection::btree_map(proptest::sample::select(keys), value, 0..4);
    let rule = (proptest::sample::select(names), fields).prop_map(|(name, fields)| {
        let mut rule = json!({ "fault": name });
        for (key, value) in fields {
            rule[key] = value;
        }
        rule
    });
    proptest::collection::vec(rule, 0..4).prop_map(|rules| json!({ "rules": rules }))
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&body));
    }

    #[test]
    fn what_is_read_can_be_shown_and_read_again(body in nearly()) {
        match parse(body.to_string().as_bytes()) {
            Ok(rules) => {
                let again = show(&rules).to_string();
                prop_assert_eq!(parse(again.as_bytes()).unwrap(), rules);
            }
            Err(error) => prop_assert!(error.message.len() < 2_000, "{}", error.message),
        }
    }
}
