use proptest::prelude::*;

use super::*;
use crate::names::SubjectNames;
use crate::test_pki::{ID, now, plan};

const CSR: &str = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";

fn pool(id: &str) -> CaPoolName {
    format!("//privateca.googleapis.com/projects/shop-prod/locations/us-central1/caPools/{id}")
        .parse()
        .unwrap()
}

fn prepared(form: RequestForm, algorithm: KeyAlgorithm) -> PreparedRequest {
    PreparedRequest::new(plan(algorithm), pool("issuing"), form, b"key", CSR, now())
}

fn sample() -> PreparedRequest {
    prepared(RequestForm::Config, KeyAlgorithm::EcdsaP256)
}

fn body_of(request: &PreparedRequest) -> serde_json::Value {
    serde_json::from_str(&request.body).unwrap()
}

#[test]
fn the_ids_of_a_pool_and_a_key_are_the_same_for_ever() {
    // Pinned: a program that derived other ids would buy again what an older one has bought.
    let request = sample();
    assert_eq!(
        request.certificate_id,
        "certagent-99612120f38ee415ffbce63afc86eec9b47cd38f"
    );
    assert_eq!(request.request_id, "642553c1-114a-5cd8-8727-1642e589adcc");
}

#[test]
fn the_ids_depend_on_pool_and_key_and_on_nothing_else() {
    let ids =
        |request: &PreparedRequest| (request.certificate_id.clone(), request.request_id.clone());
    let first = sample();
    let mut other_plan = plan(KeyAlgorithm::Rsa4096);
    other_plan.validity *= 2;
    other_plan.rotation_window_percentage = 10;
    let later = PreparedRequest::new(
        other_plan,
        pool("issuing"),
        RequestForm::PemCsr,
        b"key",
        "another",
        now() + REPLAY_WINDOW,
    );
    assert_eq!(ids(&first), ids(&later));

    for (pool_id, key) in [("other", b"key"), ("issuing", b"yek")] {
        let other = PreparedRequest::new(
            plan(KeyAlgorithm::EcdsaP256),
            pool(pool_id),
            RequestForm::Config,
            key,
            CSR,
            now(),
        );
        assert_ne!(other.certificate_id, first.certificate_id);
        assert_ne!(other.request_id, first.request_id);
    }
}

#[test]
fn a_config_request_for_an_ec_key_has_exactly_this_body() {
    let request = sample();
    assert_eq!(
        body_of(&request),
        json!({
            "lifetime": "3600s",
            "config": {
                "subjectConfig": {"subject": {}, "subjectAltName": {"uris": [ID]}},
                "x509Config": {
                    "keyUsage": {
                        "baseKeyUsage": {"digitalSignature": true, "keyEncipherment": false},
                        "extendedKeyUsage": {"serverAuth": true, "clientAuth": true},
                    },
                    "caOptions": {"isCa": false},
                },
                "publicKey": {
                    "format": "PEM",
                    "key": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUFBPQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K",
                },
            },
        })
    );
    assert_eq!(sample().body, request.body);
}

#[test]
fn names_stand_in_a_config_request_and_in_nothing_that_is_kept_without_them() {
    let names = SubjectNames {
        common_name: Some("db".to_owned()),
        dns_names: vec!["db.example.org".to_owned(), "localhost".to_owned()],
    };
    let request = |plan| {
        PreparedRequest::new(
            plan,
            pool("issuing"),
            RequestForm::Config,
            b"key",
            CSR,
            now(),
        )
    };
    let asked = request(plan(KeyAlgorithm::EcdsaP256).with_names(names));
    let mut expected = body_of(&sample());
    expected["config"]["subjectConfig"] = json!({
        "subject": {"commonName": "db"},
        "subjectAltName": {"uris": [ID], "dnsNames": ["db.example.org", "localhost"]},
    });
    assert_eq!(body_of(&asked), expected);
    let kept = serde_json::to_value(&asked).unwrap();
    assert_eq!(
        serde_json::from_value::<PreparedRequest>(kept).unwrap(),
        asked
    );
    // Requests of versions without names read back, and are written as those wrote them.
    let kept = serde_json::to_value(sample()).unwrap();
    assert!(kept["plan"].get("names").is_none(), "{kept}");
    assert_eq!(
        serde_json::from_value::<PreparedRequest>(kept).unwrap(),
        sample()
    );
}

#[test]
fn a_config_request_for_an_rsa_key_adds_key_encipherment_and_nothing_else() {
    for algorithm in [
        KeyAlgorithm::Rsa2048,
        KeyAlgorithm::Rsa3072,
        KeyAlgorithm::Rsa4096,
    ] {
        let mut expected = body_of(&sample());
        expected["config"]["x509Config"]["keyUsage"]["baseKeyUsage"]["keyEncipherment"] =
            json!(true);
        assert_eq!(body_of(&prepared(RequestForm::Config, algorithm)), expected);
    }
}

#[test]
fn a_request_by_csr_has_lifetime_and_csr_and_nothing_else() {
    let request = prepared(RequestForm::PemCsr, KeyAlgorithm::EcdsaP256);
    assert_eq!(
        body_of(&request),
        json!({"lifetime": "3600s", "pemCsr": CSR})
    );
}

#[test]
fn a_reflected_request_says_so_and_leaves_the_names_to_the_service() {
    let reflected = |form| {
        let plan = plan(KeyAlgorithm::EcdsaP256).with_subject_mode(SubjectMode::ReflectedSpiffe);
        let request = PreparedRequest::new(plan, pool("issuing"), form, b"key", CSR, now());
        body_of(&request)
    };
    let mut expected = body_of(&sample());
    expected["subjectMode"] = json!("REFLECTED_SPIFFE");
    expected["config"]["subjectConfig"] = json!({"subject": {}, "subjectAltName": {}});
    assert_eq!(reflected(RequestForm::Config), expected);
    assert_eq!(
        reflected(RequestForm::PemCsr),
        json!({"lifetime": "3600s", "pemCsr": CSR, "subjectMode": "REFLECTED_SPIFFE"})
    );
}

#[test]
fn a_request_that_names_its_subject_is_kept_as_it_was_before_there_was_another_way() {
    let text = serde_json::to_string(&sample()).unwrap();
    assert!(!text.contains("subject_mode"), "{text}");
    let read: PreparedRequest = serde_json::from_str(&text).unwrap();
    assert_eq!(read.plan.subject_mode, SubjectMode::Default);
}

#[test]
fn a_request_may_be_replayed_for_55_minutes_and_after_the_clock_was_stepped_back() {
    let request = sample();
    let second = SignedDuration::from_secs(1);
    assert_eq!(REPLAY_WINDOW, SignedDuration::from_secs(3300));
    assert!(request.may_be_replayed(now()));
    assert!(request.may_be_replayed(now() + REPLAY_WINDOW - second));
    assert!(!request.may_be_replayed(now() + REPLAY_WINDOW));
    assert!(request.may_be_replayed(now() - REPLAY_WINDOW * 10));
    assert!(request.may_be_replayed(Timestamp::MIN));
    assert!(!request.may_be_replayed(Timestamp::MAX));
}

#[test]
fn a_record_with_a_wrong_identity_or_pool_does_not_read() {
    let good = serde_json::to_value(sample()).unwrap();
    for (pointer, value) in [
        ("/plan/spiffe_id", json!("https://example.org/")),
        ("/pool", json!("projects/p")),
        ("/plan/algorithm", json!("dsa")),
        ("/created_at", json!("yesterday")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(
            serde_json::from_value::<PreparedRequest>(bad).is_err(),
            "{pointer}"
        );
    }
}

proptest! {
    #[test]
    fn ids_always_have_the_syntax_that_the_service_asks_for(key in any::<Vec<u8>>(), form: bool) {
        let form = if form { RequestForm::Config } else { RequestForm::PemCsr };
        let algorithm = KeyAlgorithm::EcdsaP256;
        let request =
            PreparedRequest::new(plan(algorithm), pool("p"), form, &key, CSR, now());
        prop_assert!((1..=63).contains(&request.certificate_id.len()));
        prop_assert!(
            request
                .certificate_id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        );
        let uuid = Uuid::parse_str(&request.request_id).unwrap();
        prop_assert_eq!(uuid.get_version_num(), 5);
        prop_assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        prop_assert!(!uuid.is_nil());
        prop_assert_eq!(uuid.hyphenated().to_string(), request.request_id);
    }

    #[test]
    fn a_request_reads_back_as_it_was_written(
        algorithm in prop::sample::select(&KeyAlgorithm::ALL),
        config: bool,
        key in any::<Vec<u8>>(),
        csr in any::<String>(),
        validity in 1..u64::from(u32::MAX),
        percentage in 1_u8..100,
        nanos in 0..i64::MAX,
        unknown: bool,
        reflected: bool,
    ) {
        let mut plan = plan(algorithm);
        if reflected {
            plan.subject_mode = SubjectMode::ReflectedSpiffe;
        }
        plan.validity = std::time::Duration::from_secs(validity);
        plan.rotation_window_percentage = percentage;
        let form = if config { RequestForm::Config } else { RequestForm::PemCsr };
        let created = Timestamp::from_nanosecond(nanos.into()).unwrap();
        let mut request =
            PreparedRequest::new(plan, pool("issuing"), form, &key, &csr, created);
        request.outcome_unknown = unknown;
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(serde_json::from_str::<PreparedRequest>(&text).unwrap(), request);
    }
}
