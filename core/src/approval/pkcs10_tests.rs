use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};

use super::{testing::*, *};

macro_rules! testdata {
    ($name:literal) => {
        include_str!(concat!("../../../testdata/csr/", $name, ".pem"))
    };
}

#[test]
fn every_one_of_the_five_kinds_of_keys_is_accepted_whoever_wrote_the_request() {
    for (pem, algorithm) in [
        (testdata!("rsa-2048"), KeyAlgorithm::Rsa2048),
        (testdata!("rsa-2048-sha384"), KeyAlgorithm::Rsa2048),
        (testdata!("rsa-2048-sha512"), KeyAlgorithm::Rsa2048),
        (testdata!("rsa-3072"), KeyAlgorithm::Rsa3072),
        (testdata!("rsa-4096"), KeyAlgorithm::Rsa4096),
    ] {
        assert_eq!(check(&csr_of(pem)).unwrap().algorithm(), algorithm);
    }
    for (signature, algorithm) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyAlgorithm::EcdsaP256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyAlgorithm::EcdsaP384),
    ] {
        for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
            let key = KeyPair::generate_for(signature).unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = is_ca;
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, UID);
            params.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyEncipherment,
            ];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            let request = params.serialize_request(&key).unwrap();
            let wanted = check(&csr_of(request.pem().unwrap())).unwrap();
            assert_eq!(wanted.algorithm(), algorithm);
            assert_eq!(wanted.public_key(), key.subject_public_key_info());
        }
    }
}

#[test]
fn small_differences_of_form_that_mean_nothing_are_accepted() {
    let good = Parts::default().pem();
    for pem in [
        good.replace('\n', "\r\n"),
        format!("\n \t{good}\r\n\n"),
        good.trim_end().to_owned(),
    ] {
        check(&csr_of(pem)).unwrap();
    }
    for twist in [
        |parts: &mut Parts| parts.subject = sequence(&[&set(&[&printable_name()])]),
        |parts: &mut Parts| parts.beside(extension(BASIC_CONSTRAINTS, &[0x30, 3, 1, 1, 0])),
        |parts: &mut Parts| {
            let critical = tlv(0x01, &[&[0xff]]);
            let usage = tlv(0x04, &[&[3, 2, 7, 0x80]]);
            parts.beside(sequence(&[&oid(KEY_USAGE), &critical, &usage]));
        },
    ] {
        check(&csr(twist)).unwrap();
    }
}

fn printable_name() -> Vec<u8> {
    sequence(&[&oid(COMMON_NAME), &tlv(0x13, &[UID.as_bytes()])])
}

#[test]
fn a4_the_request_is_one_block_of_pem_and_of_bounded_size() {
    let good = Parts::default().pem();
    let base64 = "-----BEGIN CERTIFICATE REQUEST-----\n%%%%\n-----END CERTIFICATE REQUEST-----";
    for (pem, snippet) in [
        (String::new(), "one PEM block"),
        (format!("{good}{good}"), "more than one PEM block"),
        (format!("{good}x"), "nothing around it"),
        (format!("Certificate Request:\n{good}"), "nothing around it"),
        (
            good.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
            "one PEM block",
        ),
        (
            good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
            "one PEM block",
        ),
        (
            good.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1),
            "not base64",
        ),
        (good.replacen('\n', "\n ", 1), "not base64"),
        (base64.to_owned(), "not base64"),
        (
            format!("{good}{}", "\n".repeat(MAX_REQUEST_BYTES)),
            "at most 16384 are read",
        ),
        ("x".repeat(1 << 20), "has 1048576 bytes"),
    ] {
        denied(&csr_of(pem), Reason::BadRequest, snippet);
    }
    denied(&csr_of([0xff; 100]), Reason::BadRequest, "is not text");
}

#[test]
fn a4_it_is_one_pkcs10_request_of_version_1() {
    let good = Parts::default().der();
    let mut cut = good.clone();
    cut.pop();
    // The same length in a longer spelling: BER, not DER.
    let mut long = good.clone();
    long.splice(1..4, [0x83, 0, good[2], good[3]]);
    for (der, snippet) in [
        ([good.as_slice(), &[0]].concat(), "PEM block (1 bytes)"),
        ([good.as_slice(), &good].concat(), "holds something behind"),
        (Vec::new(), "not a PKCS#10"),
        (cut, "not a PKCS#10"),
        (long, "not a PKCS#10"),
        (sequence(&[&good]), "not a PKCS#10"),
    ] {
        denied(&csr_of(pem(&der)), Reason::BadRequest, snippet);
    }
    for version in [vec![2, 1, 1], vec![2, 2, 0, 0], vec![5, 0]] {
        let csr = csr(|parts| parts.version = version);
        denied(&csr, Reason::BadRequest, "of another version than 1");
    }
}

#[test]
fn a4_its_signature_verifies_and_cannot_be_forged() {
    let changed = csr(|parts| {
        parts.signature = |signature| {
            let last = signature.last_mut().unwrap();
            *last ^= 1;
        };
    });
    denied(
        &changed,
        Reason::BadRequest,
        "its own public key does not verify",
    );
    let stolen = csr(|parts| {
        parts.public_key = KeyPair::generate().unwrap().subject_public_key_info();
    });
    denied(
        &stolen,
        Reason::BadRequest,
        "its own public key does not verify",
    );
    for (pem, name) in [
        (testdata!("rsa-2048-md5"), "RSA and MD5"),
        (testdata!("rsa-2048-sha1"), "RSA and SHA-1"),
        (testdata!("rsa-2048-pss"), "RSA-PSS"),
        (testdata!("ec-p256-sha1"), "ECDSA and SHA-1"),
    ] {
        denied(
            &csr_of(pem),
            Reason::BadRequest,
            &format!("is signed with {name};"),
        );
    }
}

#[test]
fn a4_a_caller_whose_library_verifies_more_does_not_widen_the_rule() {
    const SHA1_WITH_RSA: &[u8] = &[
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
    ];
    let sha1 = Gullible {
        key: alg_id::RSA_ENCRYPTION,
        signature: AlgorithmIdentifier::from_slice(SHA1_WITH_RSA),
    };
    let denial = check_request(&csr_of(testdata!("rsa-2048-sha1")), &settings(), &[&sha1]);
    let denial = denial.unwrap().unwrap_err();
    assert!(denial.message().contains("RSA and SHA-1"));

    let rsa = Gullible {
        key: alg_id::RSA_ENCRYPTION,
        signature: alg_id::RSA_PKCS1_SHA256,
    };
    for (pem, snippet) in [
        (testdata!("rsa-1024"), "1024 bits"),
        (testdata!("rsa-2048-e3"), "exponent is 3"),
    ] {
        let denial = check_request(&csr_of(pem), &settings(), &[&rsa]);
        let denial = denial.unwrap().unwrap_err();
        assert!(denial.message().contains(snippet), "{}", denial.message());
    }

    let ecdsa = Gullible {
        key: alg_id::ECDSA_P256,
        signature: alg_id::ECDSA_SHA256,
    };
    let spki = key().subject_public_key_info();
    let point = &spki[spki.len() - 65..];
    for point in [
        [&[2 + (point[64] & 1)], &point[1..33]].concat(),
        [&[6 + (point[64] & 1)], &point[1..]].concat(),
        [point, &[0]].concat(),
        vec![0],
        vec![],
    ] {
        let compressed = csr(|parts| {
            let algorithm = sequence(&[&oid("1.2.840.10045.2.1"), &oid("1.2.840.10045.3.1.7")]);
            parts.public_key = sequence(&[&algorithm, &tlv(0x03, &[&[0], &point])]);
        });
        let denial = check_request(&compressed, &settings(), &[&ecdsa]);
        let denial = denial.unwrap().unwrap_err();
        assert!(denial.message().contains("not uncompressed"));
    }
}

#[test]
fn a4_the_key_is_of_one_of_the_five_kinds() {
    for (pem, snippet) in [
        (testdata!("rsa-1024"), "an RSA key of 1024 bits"),
        (testdata!("rsa-2047"), "an RSA key of 2047 bits"),
        (
            testdata!("rsa-2048-e3"),
            "public exponent is 3; it has to be 65537",
        ),
        (testdata!("ec-p521"), "an ECDSA key on another curve"),
        (testdata!("ed25519"), "a key that is of another kind"),
    ] {
        denied(&csr_of(pem), Reason::BadRequest, snippet);
    }
}
