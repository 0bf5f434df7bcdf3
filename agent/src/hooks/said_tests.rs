use std::fmt::Write as _;

use rcgen::{CertificateParams, KeyPair};

use super::*;

struct Pair {
    pem: String,
    certificate: String,
    der: Vec<u8>,
    secret: Secret,
}

fn pair() -> Pair {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default()
        .self_signed(&key)
        .unwrap()
        .pem();
    Pair {
        secret: Secret::new(key.serialize_pem().as_bytes(), certificate.as_bytes()),
        pem: key.serialize_pem(),
        der: key.serialize_der(),
        certificate,
    }
}

/// The number that is the key: its place in a PKCS#8 key of P-256.
fn scalar(pair: &Pair) -> &[u8] {
    &pair.der[36..68]
}

fn hex(bytes: &[u8], between: &str) -> String {
    let mut text = String::new();
    for (place, byte) in bytes.iter().enumerate() {
        let break_before = if place > 0 && place % 15 == 0 {
            "\n    "
        } else {
            ""
        };
        write!(text, "{break_before}{byte:02x}{between}").unwrap();
    }
    text
}

fn says(pieces: &[&str], pair: &Pair) -> Option<String> {
    let mut said = Said::default();
    for piece in pieces {
        said.add(piece.as_bytes());
    }
    shown(
        [&Said::default(), &said],
        std::slice::from_ref(&pair.secret),
    )
}

#[test]
fn a_key_is_known_without_its_label_in_base64_and_in_hex() {
    let pair = pair();
    let lines: Vec<_> = pair.pem.lines().collect();
    let scalar = scalar(&pair);
    let shifted = [b"xy".as_slice(), scalar].concat();
    for leak in [
        lines[1..].join("\n"),
        lines[1].to_owned(),
        lines[2].to_owned(),
        STANDARD.encode(&pair.der),
        STANDARD.encode(shifted),
        hex(scalar, ":"),
        hex(scalar, ""),
        hex(scalar, " ").to_uppercase(),
        pair.pem.clone(),
        "Private-Key: (256 bit)".to_owned(),
        "priv:\n    00:01".to_owned(),
    ] {
        let text = format!("before\n{leak}\nafter");
        assert_eq!(
            says(&[&text], &pair).as_deref(),
            Some("(a private key, not shown)"),
            "{text}"
        );
    }
}

#[test]
fn a_label_that_comes_in_two_reads_is_one_and_what_is_public_is_shown() {
    let pair = pair();
    let half = ["-----BEGIN PRIV", "ATE KEY-----"];
    assert!(says(&half, &pair).unwrap().contains("not shown"));
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let public = hex(&certificate, ":");
    for harmless in [&*pair.certificate, &*public, "reloaded"] {
        assert_eq!(says(&[harmless], &pair).as_deref(), Some(harmless.trim()));
    }
    let other = self::pair();
    let body = other.pem.lines().nth(1).unwrap();
    assert!(!pair.secret.is_in(hex(scalar(&other), ":").as_bytes()));
    assert!(other.secret.is_in(body.as_bytes()));
}
