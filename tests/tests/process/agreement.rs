//! OpenSSL's own programs agree with us on certificates of all algorithms.
use std::{path::Path, process::Command};

use certagent_core::algorithm::KeyAlgorithm;
use certagent_emulator::CaKey;
use certagent_svid::layout;

use crate::site::Site;

#[test]
#[ignore = "needs the program openssl"]
fn openssl_verifies_and_reads_what_we_wrote_with_every_algorithm() {
    for (algorithm, ca) in KeyAlgorithm::ALL.into_iter().zip([
        CaKey::EcP256,
        CaKey::EcP384,
        CaKey::Rsa2048,
        CaKey::Rsa3072,
        CaKey::Rsa4096,
    ]) {
        let site = Site::with(algorithm, ca);
        site.provide();
        agree(&site, algorithm);
    }
}

fn agree(site: &Site, algorithm: KeyAlgorithm) {
    let volume = site.volume();
    let snapshot = site.read();
    let leaf = snapshot.chain().leaf();

    let said = openssl(
        &volume,
        &[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            layout::CA_CERTIFICATES,
            "-untrusted",
            layout::CERTIFICATES,
            layout::CERTIFICATES,
        ],
    );
    assert_eq!(said.trim(), "certificates.pem: OK", "{algorithm}");
    let said = openssl(
        &volume,
        &[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-CAfile",
            layout::CA_CERTIFICATES,
            "-untrusted",
            layout::CERTIFICATES,
            layout::CERTIFICATES,
        ],
    );
    assert_eq!(said.trim(), "certificates.pem: OK", "{algorithm}");

    let x509 = |what: &[&str]| {
        openssl(
            &volume,
            &[&["x509", "-noout", "-in", layout::CERTIFICATES], what].concat(),
        )
    };
    let serial = x509(&["-serial"])
        .trim()
        .replace("serial=", "")
        .to_lowercase();
    assert_eq!(serial, leaf.serial_hex(), "{algorithm}");
    let dates = x509(&["-dates", "-dateopt", "iso_8601"]).replace(' ', "T");
    assert!(
        dates.contains(&format!("notBefore={}", leaf.not_before())),
        "{algorithm}: {dates}"
    );
    assert!(
        dates.contains(&format!("notAfter={}", leaf.not_after())),
        "{algorithm}: {dates}"
    );
    let names = x509(&["-ext", "subjectAltName"]);
    assert!(
        names.contains("X509v3 Subject Alternative Name: critical"),
        "{algorithm}: {names}"
    );
    assert!(
        names.contains(&format!("URI:{}\n", snapshot.spiffe_id())),
        "{algorithm}: {names}"
    );
    assert_eq!(x509(&["-subject"]).trim(), "subject=", "{algorithm}");
    let text = x509(&["-text"]);
    let kind = match algorithm {
        KeyAlgorithm::EcdsaP256 => "Public-Key: (256 bit)",
        KeyAlgorithm::EcdsaP384 => "Public-Key: (384 bit)",
        KeyAlgorithm::Rsa2048 => "Public-Key: (2048 bit)",
        KeyAlgorithm::Rsa3072 => "Public-Key: (3072 bit)",
        KeyAlgorithm::Rsa4096 => "Public-Key: (4096 bit)",
    };
    assert!(text.contains(kind), "{algorithm}: {text}");
    assert!(!text.contains("CA:TRUE"), "{algorithm}: {text}");

    // The key belongs to the certificate, also the one in the bundle.
    let public = x509(&["-pubkey"]);
    for file in [layout::PRIVATE_KEY, layout::CREDENTIAL_BUNDLE] {
        let ours = openssl(&volume, &["pkey", "-in", file, "-pubout"]);
        assert_eq!(ours, public, "{algorithm}: {file}");
    }
    openssl(
        &volume,
        &["pkey", "-in", layout::PRIVATE_KEY, "-check", "-noout"],
    );
}

#[track_caller]
fn openssl(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output();
    let output = output.expect("this test needs the program openssl");
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}
