use certagent_emulator::{CaKey, Code, CreateQuery, ProtoDuration, Subject};
use jiff::SignedDuration;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData, RsaKeySize};
use serde_json::{Value, json};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

use crate::support::*;

fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    x509_parser::parse_x509_certificate(der).unwrap().1
}

#[test]
fn certificates_of_all_five_algorithms_verify() {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    let (emulator, clock) = emulator();
    for key in [
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        rsa(RsaKeySize::_2048),
        rsa(RsaKeySize::_3072),
        rsa(RsaKeySize::_4096),
    ] {
        let csr = CertificateParams::new([])
            .unwrap()
            .serialize_request(&key)
            .unwrap();
        let by_spki = body_for(&key.public_key_pem());
        let by_csr = body_for(&csr.pem().unwrap());
        for body in [by_spki, by_csr] {
            let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body).unwrap();
            verify(&emulator, &issued, clock.now()).unwrap();
            let der = leaf_der(&issued);
            assert_eq!(parsed(&der).public_key().raw, key.subject_public_key_info());
        }
    }
}

#[test]
fn an_rsa_key_may_come_as_pkcs1() {
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    // aws-lc keeps RSA public keys in PKCS#1; that is what rcgen puts into the SPKI.
    let mut pem = "-----BEGIN RSA PUBLIC KEY-----\n".to_owned();
    pem.push_str(&base64(key.der_bytes()));
    pem.push_str("\n-----END RSA PUBLIC KEY-----\n");
    let (emulator, _) = emulator();
    let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body_for(&pem)).unwrap();
    let der = leaf_der(&issued);
    assert_eq!(parsed(&der).public_key().raw, key.subject_public_key_info());
}

#[test]
fn cas_of_every_kind_of_key_sign() {
    for kind in [CaKey::EcP384, CaKey::Rsa2048] {
        let (emulator, clock) = build(guide().with_ca_key(kind), None).unwrap();
        let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap();
        verify(&emulator, &issued, clock.now()).unwrap();
    }
}

#[test]
fn a_leaf_has_the_shape_of_the_services_leaves() {
    let (emulator, clock) = emulator();
    let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap();
    let der = leaf_der(&issued);
    let leaf = parsed(&der);

    assert!(leaf.subject().iter().next().is_none(), "an empty subject");
    let sans = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(
        sans.critical,
        "the SAN is critical when the subject is empty"
    );
    assert!(matches!(
        sans.value.general_names.as_slice(),
        [GeneralName::URI(ID)]
    ));
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert!(usage.value.digital_signature() && usage.value.key_encipherment());
    assert!(!usage.value.key_agreement() && !usage.value.key_cert_sign());
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.code_signing);
    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);

    let parent_der = crate::support::der(&issued.pem_certificate_chain[0]);
    let parent = parsed(&parent_der);
    let mut seen = 0;
    for extension in leaf.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                let subject_id = parent.extensions().iter().find_map(|extension| {
                    match extension.parsed_extension() {
                        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                        _ => None,
                    }
                });
                assert_eq!(id.key_identifier.as_ref().map(|id| id.0), subject_id);
                seen += 1;
            }
            ParsedExtension::SubjectKeyIdentifier(_) => seen += 1,
            ParsedExtension::AuthorityInfoAccess(access) => {
                let urls: Vec<_> = access.iter().collect();
                assert_eq!(urls.len(), 1);
                assert_eq!(urls[0].access_method.to_id_string(), "1.3.6.1.5.5.7.48.2");
                let GeneralName::URI(url) = urls[0].access_location else {
                    panic!()
                };
                assert_eq!(
                    issued.certificate_description.aia_issuing_certificate_urls,
                    [url]
                );
                seen += 1;
            }
            _ => {}
        }
    }
    assert_eq!(seen, 3, "AKI, SKI and AIA");

    let start = clock.now().as_second();
    assert_eq!(leaf.validity().not_before.timestamp(), start);
    assert_eq!(leaf.validity().not_after.timestamp(), start + 3600 - 1);

    let description = &issued.certificate_description.subject_description;
    let hex = leaf.raw_serial_as_string().replace(':', "");
    let hex = hex.strip_prefix("00").unwrap_or(&hex).to_owned();
    assert_eq!(description.hex_serial_number, hex);
    assert_eq!(hex.len(), 32, "128 bits");
    assert_eq!(description.not_before_time.as_second(), start);
    assert_eq!(description.not_after_time.as_second(), start + 3599);
    assert_eq!(description.subject_alt_name.uris, [ID]);
    assert_eq!(emulator.sold_serials(), [hex]);
}

#[test]
fn the_chain_runs_from_the_issuer_with_pathlen_zero_to_the_root() {
    let (emulator, _) = emulator();
    let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap();
    let ders: Vec<_> = issued
        .pem_certificate_chain
        .iter()
        .map(|pem| der(pem))
        .collect();
    let [parent, root] = ders.as_slice() else {
        panic!("issuer, then root")
    };
    let (parent, root) = (parsed(parent), parsed(root));
    assert_eq!(parent.issuer(), root.subject());
    assert_eq!(root.issuer(), root.subject());
    let constraints = parent.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let fetched = emulator.fetch_ca_certs(ISSUING).unwrap();
    assert_eq!(
        fetched.ca_certs[0].certificates,
        issued.pem_certificate_chain
    );
    let root_pool = emulator.fetch_ca_certs(ROOT).unwrap();
    assert_eq!(
        root_pool.ca_certs[0].certificates,
        issued.pem_certificate_chain[1..]
    );
}

#[test]
fn a_csr_brings_its_own_subject_names_and_usages() {
    let (emulator, clock) = emulator();
    let mut params = CertificateParams::new(["a.example.org".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "cart");
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let csr = params.serialize_request(key()).unwrap().pem().unwrap();
    let body = json!({ "lifetime": "60s", "pemCsr": csr });
    let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body).unwrap();
    verify(&emulator, &issued, clock.now()).unwrap();
    let description = &issued.certificate_description.subject_description;
    assert_eq!(description.subject.common_name, "cart");
    assert_eq!(description.subject_alt_name.dns_names, ["a.example.org"]);
    let der = leaf_der(&issued);
    let leaf = parsed(&der);
    assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature());
    assert!(
        !leaf.subject_alternative_name().unwrap().unwrap().critical,
        "there is a subject"
    );
}

#[test]
fn a_csr_whose_signature_is_broken_is_refused() {
    let (emulator, _) = emulator();
    let csr = CertificateParams::new([])
        .unwrap()
        .serialize_request(key())
        .unwrap();
    let mut broken = csr.der().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        base64(&broken)
    );
    for body in [json!({ "lifetime": "60s", "pemCsr": pem }), body_for(&pem)] {
        let error = create(&emulator, ISSUING, &CreateQuery::default(), &body).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(error.message.contains("signature"), "{error}");
    }
}

#[test]
fn a_backdating_pool_moves_both_ends_into_the_past() {
    let (emulator, clock) =
        build(with_policy(json!({ "backdateDuration": "600s" })), None).unwrap();
    let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap();
    let description = issued.certificate_description.subject_description;
    assert_eq!(description.not_before_time, clock.now() - secs(600));
    assert_eq!(description.not_after_time, clock.now() + secs(3000 - 1));
    assert_eq!(description.lifetime, ProtoDuration(secs(3600)));
}

#[test]
fn a_lifetime_is_cut_to_the_shortest_of_the_chain() {
    let mut config = guide();
    // The root is the shorter one, and cuts the subordinate already.
    config.pools[0].ca.lifetime = secs(1000);
    let (emulator, clock) = build(config, None).unwrap();
    let end = clock.now() + secs(999);
    clock.step(secs(400));
    let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap();
    let description = issued.certificate_description.subject_description.clone();
    assert_eq!(description.not_after_time, end);
    assert_eq!(description.lifetime, ProtoDuration(secs(600)));
    assert_eq!(
        issued.lifetime,
        ProtoDuration(secs(3600)),
        "as it was asked"
    );
    verify(&emulator, &issued, end).unwrap();
    clock.step(secs(600));
    let error = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
}

#[test]
fn names_that_the_policy_does_not_pass_through_are_dropped_silently() {
    let mut asked = body();
    asked["config"]["subjectConfig"]["subject"]["commonName"] = json!("cart");
    for (constraints, subject, uris) in [
        (json!({}), "", vec![]),
        (json!({ "allowSubjectPassthrough": true }), "cart", vec![]),
        (
            json!({ "allowSubjectAltNamesPassthrough": true }),
            "",
            vec![ID.to_owned()],
        ),
    ] {
        let config = with_policy(json!({ "identityConstraints": constraints }));
        let (emulator, _) = build(config, None).unwrap();
        let issued = create(&emulator, ISSUING, &CreateQuery::default(), &asked).unwrap();
        let description = &issued.certificate_description.subject_description;
        let expected = Subject {
            common_name: subject.to_owned(),
            ..Subject::default()
        };
        assert_eq!(description.subject, expected);
        assert_eq!(description.subject_alt_name.uris, uris);
        let der = leaf_der(&issued);
        let leaf = parsed(&der);
        assert_eq!(
            leaf.subject_alternative_name().unwrap().is_some(),
            !uris.is_empty()
        );
        assert_eq!(
            leaf.subject().iter_common_name().next().is_some(),
            !subject.is_empty()
        );
    }
}

#[test]
fn the_pools_policy_refuses_modes_keys_and_lifetimes() {
    for (policy, message) in [
        (
            json!({ "allowedIssuanceModes": { "allowCsrBasedIssuance": true } }),
            "Config-based",
        ),
        (json!({ "allowedKeyTypes": [{ "rsa": {} }] }), "ECDSA_P256"),
        (json!({ "maximumLifetime": "3599s" }), "3599 s"),
    ] {
        let (emulator, _) = build(with_policy(policy), None).unwrap();
        let error = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(error.message.contains(message), "{error}");
        assert_eq!(emulator.stats().total_sold(), 0);
    }
}

#[test]
fn a_wrong_request_is_refused_with_the_reason() {
    type Edit = fn(&mut Value);
    let rows: [(Edit, &str); 21] = [
        (
            |b| b["lifetime"] = Value::Null,
            "certificate.lifetime is required",
        ),
        (
            |b| b["lifetime"] = json!("0s"),
            "certificate.lifetime is required",
        ),
        (
            |b| b["lifetime"] = json!("-60s"),
            "certificate.lifetime is required",
        ),
        (
            |b| b["lifetime"] = json!("1h"),
            "a duration is a number of seconds",
        ),
        (|b| b["lifetime"] = json!(60), "invalid type"),
        (
            |b| b["lifetmie"] = json!("60s"),
            "Unknown name \"lifetmie\"",
        ),
        (
            |b| b["config"]["x509Config"]["ku"] = json!({}),
            "Unknown name \"ku\"",
        ),
        (|b| b["config"] = Value::Null, "Exactly one"),
        (|b| b["pemCsr"] = json!("x"), "Exactly one"),
        (
            |b| b["config"]["publicKey"] = Value::Null,
            "public_key is required",
        ),
        (
            |b| b["config"]["publicKey"]["key"] = json!("!"),
            "Base64 decoding failed",
        ),
        (
            |b| b["config"]["publicKey"]["key"] = json!(base64("no PEM")),
            "not one block of PEM",
        ),
        (|b| b["config"]["publicKey"]["format"] = json!("DER"), "PEM"),
        (
            |b| b["config"]["publicKey"]["format"] = json!(0),
            "format must be PEM",
        ),
        (
            |b| b["subjectMode"] = json!("REFLECTED_SPIFFE"),
            "knows no identities",
        ),
        (|b| b["subjectMode"] = json!(2), "knows no identities"),
        (|b| b["subjectMode"] = json!("reflected"), "none of"),
        (
            |b| b["config"]["x509Config"]["caOptions"]["isCa"] = json!(true),
            "its own path length is 0",
        ),
        (
            |b| b["requestedNotBeforeTime"] = json!("2026-01-01T00:00:00Z"),
            "not allowed",
        ),
        (
            |b| b["config"]["subjectConfig"]["subjectAltName"]["uris"] = json!(["spiffe://ü"]),
            "cannot be a subject alternative name",
        ),
        (
            |b| b["config"]["subjectConfig"]["subjectAltName"]["ipAddresses"] = json!(["1.2"]),
            "cannot be a subject alternative name",
        ),
    ];
    let (emulator, _) = emulator();
    for (edit, message) in rows {
        let mut body = body();
        edit(&mut body);
        let error = create(&emulator, ISSUING, &request(1), &body).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{body}");
        assert!(error.message.contains(message), "{body}: {error}");
    }
    for garbage in ["", "[", "[]", "null", "{}", "\u{0}"] {
        let result = emulator.create_certificate(ISSUING, &request(1), garbage.as_bytes());
        assert_eq!(
            result.unwrap_err().code,
            Code::InvalidArgument,
            "{garbage:?}"
        );
    }
    assert_eq!(emulator.stats().total_sold(), 0);
    create(&emulator, ISSUING, &request(1), &body()).unwrap();
}

#[test]
fn numbers_for_enums_and_the_default_subject_mode_are_accepted() {
    let (emulator, _) = emulator();
    let mut body = body();
    body["config"]["publicKey"]["format"] = json!(1);
    for mode in [json!(1), json!("DEFAULT"), json!(0)] {
        body["subjectMode"] = mode;
        create(&emulator, ISSUING, &CreateQuery::default(), &body).unwrap();
    }
}

#[test]
fn ids_and_parents_are_checked() {
    let (emulator, _) = emulator();
    let query = |certificate: &str, request: &str, ca: &str| {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        CreateQuery {
            certificate_id: some(certificate),
            request_id: some(request),
            validate_only: false,
            issuing_certificate_authority_id: some(ca),
        }
    };
    let zero = "00000000-0000-0000-0000-000000000000";
    for (parent, query, code) in [
        (
            "projects/p/locations/l/caPools/none",
            query("", "", ""),
            Code::NotFound,
        ),
        ("caPools/issuing-pool", query("", "", ""), Code::NotFound),
        (ROOT, query("", "", ""), Code::InvalidArgument),
        (ROOT, query("a.b", "", ""), Code::InvalidArgument),
        (ISSUING, query("a.b", "", ""), Code::InvalidArgument),
        (ISSUING, query("", "1", ""), Code::InvalidArgument),
        (ISSUING, query("", zero, ""), Code::InvalidArgument),
        (ISSUING, query("", "", "another-ca"), Code::NotFound),
    ] {
        let error = create(&emulator, parent, &query, &body()).unwrap_err();
        assert_eq!(error.code, code, "{parent} {query:?}");
    }
    let issued = create(&emulator, ISSUING, &query("ignored", "", ""), &body()).unwrap();
    assert!(
        !issued.name.contains("ignored"),
        "a DEVOPS pool ignores the id"
    );
    let ca = issued
        .issuer_certificate_authority
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    create(&emulator, ISSUING, &query("", "", &ca), &body()).unwrap();
}

#[test]
fn the_same_request_id_buys_one_certificate_within_an_hour() {
    let (emulator, clock) = emulator();
    let first = create(&emulator, ISSUING, &request(1), &body()).unwrap();
    clock.step(secs(3600));
    let again = create(&emulator, ISSUING, &request(1), &body()).unwrap();
    assert_eq!(
        serde_json::to_string(&again).unwrap(),
        serde_json::to_string(&first).unwrap(),
        "the same bytes"
    );
    assert_eq!(emulator.stats().total_sold(), 1);
    assert_eq!(emulator.stats().replayed, 1);
    clock.step(secs(1));
    let later = create(&emulator, ISSUING, &request(1), &body()).unwrap();
    assert_ne!(later.pem_certificate, first.pem_certificate);
    let other = create(&emulator, ISSUING, &request(2), &body()).unwrap();
    assert_ne!(other.pem_certificate, later.pem_certificate);
    assert_eq!(emulator.sold().len(), 3);
    assert_eq!(emulator.sold()[2].request_id, Some(uuid(2)));
}

#[test]
fn two_threads_with_one_request_id_get_one_certificate() {
    let (emulator, _) = emulator();
    let issued: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| create(&emulator, ISSUING, &request(1), &body()).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(issued.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(emulator.stats().total_sold(), 1);
}

#[test]
fn an_enterprise_pool_keeps_certificates_and_their_ids() {
    let (emulator, _) = emulator();
    let query = |id: u32| CreateQuery {
        certificate_id: Some("cart".to_owned()),
        ..request(id)
    };
    let issued = create(&emulator, ROOT, &query(1), &body()).unwrap();
    assert_eq!(issued.name, format!("{ROOT}/certificates/cart"));
    assert_eq!(emulator.get_certificate(&issued.name).unwrap(), issued);
    assert_eq!(
        create(&emulator, ROOT, &query(1), &body()).unwrap(),
        issued,
        "a replay"
    );
    let error = create(&emulator, ROOT, &query(2), &body()).unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists);
    let missing = emulator
        .get_certificate(&format!("{ROOT}/certificates/other"))
        .unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
    let devops = emulator
        .get_certificate(&format!("{ISSUING}/certificates/cart"))
        .unwrap_err();
    assert_eq!(devops.code, Code::FailedPrecondition);
}

#[test]
fn validate_only_describes_and_sells_nothing() {
    let (emulator, _) = emulator();
    let query = CreateQuery {
        validate_only: true,
        ..request(1)
    };
    let described = create(&emulator, ISSUING, &query, &body()).unwrap();
    assert_eq!(described.pem_certificate, None);
    assert!(described.pem_certificate_chain.is_empty());
    assert_eq!(emulator.stats().total_sold(), 0);
    let issued = create(&emulator, ISSUING, &request(1), &body()).unwrap();
    assert!(issued.pem_certificate.is_some(), "the id was not used up");
}
