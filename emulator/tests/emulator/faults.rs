use std::time::Duration;

use certagent_emulator::{
    ApiError, CertificateFault, CertificateJson, Code, CreateQuery, Fault, FaultRule, Method,
};
use jiff::SignedDuration;
use rcgen::PublicKeyData;
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::support::*;

async fn post(server: &Server, client: &reqwest::Client) -> reqwest::Result<reqwest::Response> {
    let url = server.url(&format!("{ISSUING}/certificates?requestId={}", uuid(1)));
    client.post(url).json(&body()).send().await
}

#[tokio::test]
async fn an_error_on_demand_has_code_headers_and_details_and_ends() {
    let server = Server::start().await;
    let client = http2();
    let retry = Duration::from_millis(7500);
    server.emulator.set_faults(vec![
        FaultRule::next(
            1,
            Fault::Error {
                error: ApiError::new(Code::ResourceExhausted, "Quota exceeded.")
                    .with_retry_info(retry),
                retry_after: Some(retry),
            },
        ),
        FaultRule::next(
            1,
            Fault::error(ApiError::permission_denied(
                "privateca.certificates.create",
                ISSUING,
            )),
        ),
    ]);
    let answer = post(&server, &client).await.unwrap();
    assert_eq!(answer.status().as_u16(), 429);
    assert_eq!(answer.headers()["retry-after"], "8");
    let json: Value = answer.json().await.unwrap();
    assert_eq!(
        json["error"]["details"],
        json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s" }])
    );
    let answer = post(&server, &client).await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
    let json: Value = answer.json().await.unwrap();
    let message = json["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("'privateca.certificates.create' denied"),
        "{message}"
    );
    assert_eq!(server.emulator.stats().total_sold(), 0);
    assert_eq!(post(&server, &client).await.unwrap().status().as_u16(), 200);
    assert_eq!(
        server.emulator.stats().requests(Method::CreateCertificate),
        3
    );
    server.stop().await;
}

#[tokio::test]
async fn html_and_ten_megabytes_come_on_demand() {
    let server = Server::start().await;
    let client = http1();
    server.emulator.set_faults(vec![
        FaultRule::next(1, Fault::Html { status: 502 }),
        FaultRule::next(1, Fault::HugeBody { bytes: 10 << 20 }),
    ]);
    let answer = post(&server, &client).await.unwrap();
    assert_eq!(answer.status().as_u16(), 502);
    assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    let answer = post(&server, &client).await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len(), 10 << 20);
    assert_eq!(server.emulator.stats().total_sold(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_is_closed_before_or_after_the_work() {
    for client in [http1(), http2()] {
        let server = Server::start().await;
        for (fault, sold) in [(Fault::CloseBefore, 0), (Fault::CloseAfter, 1)] {
            server
                .emulator
                .set_faults(vec![FaultRule::always(fault).on(Method::CreateCertificate)]);
            // A closed connection is an error of the request, not an answer.
            post(&server, &client).await.unwrap_err();
            assert_eq!(server.emulator.stats().total_sold(), sold);
        }
        server.emulator.set_faults(Vec::new());
        let answer: CertificateJson = post(&server, &client).await.unwrap().json().await.unwrap();
        let serial = answer
            .certificate_description
            .subject_description
            .hex_serial_number;
        assert_eq!(
            server.emulator.sold_serials(),
            [serial],
            "the lost reply comes again"
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn a_request_may_hang_and_the_server_still_stops() {
    for client in [http1(), http2()] {
        let server = Server::start().await;
        server
            .emulator
            .set_faults(vec![FaultRule::always(Fault::Hang)]);
        let emulator = std::sync::Arc::clone(&server.emulator);
        let url = server.url(ISSUING);
        let hanging = tokio::spawn(async move { client.get(url).send().await });
        while emulator.stats().requests(Method::GetCaPool) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!hanging.is_finished());
        server.stop().await;
        hanging.await.unwrap().unwrap_err();
    }
}

/// Issues one certificate with a fault and hands it to `check`.
fn with_fault(
    fault: CertificateFault,
    check: impl FnOnce(&CertificateJson, &X509Certificate<'_>, Result<(), webpki::Error>),
) {
    let (emulator, clock) = emulator();
    emulator.set_faults(vec![FaultRule::next(1, Fault::Certificate(fault))]);
    let issued = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap();
    let der = leaf_der(&issued);
    let leaf = x509_parser::parse_x509_certificate(&der).unwrap().1;
    check(&issued, &leaf, verify(&emulator, &issued, clock.now()));
    let healed = create(&emulator, ISSUING, &CreateQuery::default(), &body()).unwrap();
    verify(&emulator, &healed, clock.now()).unwrap();
}

fn uris<'a>(leaf: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let sans = leaf.subject_alternative_name().unwrap().unwrap().value;
    let uri = |name: &GeneralName<'a>| match name {
        GeneralName::URI(uri) => *uri,
        _ => panic!(),
    };
    sans.general_names.iter().map(uri).collect()
}

#[test]
fn certificates_with_wrong_content_come_on_demand() {
    with_fault(CertificateFault::OtherKey, |_, leaf, verified| {
        assert_ne!(leaf.public_key().raw, key().subject_public_key_info());
        verified.unwrap();
    });
    let other = "spiffe://example.org/ns/evil/sa/cart";
    with_fault(
        CertificateFault::OtherSpiffeId(other.to_owned()),
        |_, leaf, verified| {
            assert_eq!(uris(leaf), [other]);
            verified.unwrap();
        },
    );
    with_fault(
        CertificateFault::SecondUri(other.to_owned()),
        |_, leaf, verified| {
            assert_eq!(uris(leaf), [ID, other]);
            verified.unwrap();
        },
    );
    with_fault(CertificateFault::DropSan, |issued, leaf, _| {
        assert!(leaf.subject_alternative_name().unwrap().is_none());
        let names = &issued
            .certificate_description
            .subject_description
            .subject_alt_name;
        assert!(names.uris.is_empty(), "as when the policy drops them");
    });
    with_fault(CertificateFault::IsCa, |_, leaf, _| {
        assert!(leaf.basic_constraints().unwrap().unwrap().value.ca);
    });
    with_fault(CertificateFault::KeyCertSign, |_, leaf, verified| {
        let usage = leaf.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.digital_signature());
        verified.unwrap();
    });
    with_fault(CertificateFault::NoDigitalSignature, |_, leaf, verified| {
        assert!(!leaf.key_usage().unwrap().unwrap().value.digital_signature());
        verified.unwrap();
    });
    with_fault(
        CertificateFault::Subject("cart".to_owned()),
        |_, leaf, verified| {
            let name = leaf.subject().iter_common_name().next().unwrap();
            assert_eq!(name.as_str().unwrap(), "cart");
            verified.unwrap();
        },
    );
    with_fault(CertificateFault::NoClientAuth, |_, leaf, verified| {
        let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.server_auth && !purposes.client_auth);
        verified.unwrap_err();
    });
}

#[test]
fn certificates_with_wrong_dates_come_on_demand() {
    let now = HandClock::new().now().as_second();
    let dates = |leaf: &X509Certificate<'_>| {
        let validity = leaf.validity();
        (
            validity.not_before.timestamp() - now,
            validity.not_after.timestamp() - now,
        )
    };
    with_fault(CertificateFault::Expired, |_, leaf, verified| {
        assert_eq!(dates(leaf), (-7200, -3601));
        verified.unwrap_err();
    });
    let ahead = SignedDuration::from_secs(400);
    with_fault(CertificateFault::NotYetValid(ahead), |_, leaf, verified| {
        assert_eq!(dates(leaf), (400, 3999));
        verified.unwrap_err();
    });
    with_fault(CertificateFault::Truncated(ahead), |_, leaf, verified| {
        assert_eq!(dates(leaf), (0, 399));
        verified.unwrap();
    });
}

#[test]
fn wrong_chains_come_on_demand() {
    with_fault(CertificateFault::UnknownRoot, |issued, _, verified| {
        assert_eq!(issued.pem_certificate_chain.len(), 2);
        assert_eq!(verified.unwrap_err(), webpki::Error::UnknownIssuer);
    });
    with_fault(CertificateFault::ChainReversed, |issued, leaf, _| {
        let last = der(&issued.pem_certificate_chain[1]);
        let last = x509_parser::parse_x509_certificate(&last).unwrap().1;
        assert_eq!(last.subject(), leaf.issuer());
    });
    with_fault(CertificateFault::Crlf, |issued, _, verified| {
        let pems = issued
            .pem_certificate
            .iter()
            .chain(&issued.pem_certificate_chain);
        for pem in pems {
            assert_eq!(pem.matches('\n').count(), pem.matches("\r\n").count());
            assert!(pem.contains("\r\n"));
        }
        verified.unwrap();
    });
    with_fault(CertificateFault::EmptyChain, |issued, _, verified| {
        assert!(issued.pem_certificate_chain.is_empty());
        verified.unwrap_err();
    });
}

#[test]
fn a_certificate_that_the_answer_lacks_is_kept_whole_and_found_by_its_name() {
    let dir = tempfile::TempDir::new().unwrap();
    let withheld = || FaultRule::next(1, Fault::Certificate(CertificateFault::NoCertificate));
    let query = CreateQuery {
        certificate_id: Some("cart".to_owned()),
        ..request(1)
    };
    let (first, clock) = build(guide(), Some(dir.path())).unwrap();
    for (pool, query) in [(ISSUING, request(2)), (ROOT, query.clone())] {
        first.set_faults(vec![withheld()]);
        let issued = create(&first, pool, &query, &body()).unwrap();
        assert_eq!(issued.pem_certificate, None);
        assert!(!issued.pem_certificate_chain.is_empty());
        let again = create(&first, pool, &query, &body()).unwrap();
        assert_eq!(again, issued, "a repetition gets the first answer");
    }
    assert_eq!(
        first.stats().total_sold(),
        2,
        "they were signed, only not handed over"
    );
    let kept = first.get_certificate(&format!("{ROOT}/certificates/cart"));
    let kept = kept.unwrap();
    let der = leaf_der(&kept);
    let leaf = x509_parser::parse_x509_certificate(&der).unwrap().1;
    assert_eq!(leaf.public_key().raw, key().subject_public_key_info());
    drop(first);

    let (second, _) = build(guide(), Some(dir.path())).unwrap();
    assert_eq!(second.get_certificate(&kept.name).unwrap(), kept);
    assert_eq!(create(&second, ROOT, &query, &body()).unwrap(), kept);
    let issued = create(&second, ISSUING, &request(2), &body()).unwrap();
    verify(&second, &issued, clock.now()).unwrap();
}
